"""What staff order at sites, what senders read of it, and what they write down."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.utils import timezone

from accounts.models import AuditEntry
from ips import sites, warmup
from ips.limits import read_days, read_hours, read_site_rows, read_warmups, write_learned
from ips.models import HeldSite, SendCount, Server, SiteLimit, SourceIp
from queues.models import Queue
from relay_project.mail.rates import Limits, learn

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
SLOW_DOWN = "421 4.7.0 slow down"

pytestmark = pytest.mark.django_db


@pytest.fixture
def ip() -> SourceIp:
    server = Server.objects.create(hostname="here.test")
    queue = Queue.objects.create(name="transactional", is_default=True)
    return SourceIp.objects.create(server=server, queue=queue, address="192.0.2.7")


def lesson(times: int = 1):
    learned = None
    for _ in range(times):
        learned = learn(Limits(10), learned, 400, SLOW_DOWN, NOW)
    return learned


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


def test_a_lesson_is_read_as_it_was_written(ip: SourceIp) -> None:
    write_learned([(ip.pk, "google", lesson(3))])
    row = read_site_rows([ip.pk])[ip.pk, "google"]
    assert row.learned == lesson(3)
    assert (row.limits, row.paused) == (Limits(), None)
    write_learned([(ip.pk, "google", lesson(1)), (ip.pk, "yahoo", lesson(2))])
    rows = read_site_rows([ip.pk])
    assert rows[ip.pk, "google"].learned == lesson(1)
    assert read_site_rows([ip.pk + 1]) == {}, "lessons are one IP's"


def test_a_lesson_that_is_over_leaves_what_staff_said(ip: SourceIp) -> None:
    sites.set_limits("google", Limits(connections=3), source_ip=ip, actor=None, now=NOW)
    write_learned([(ip.pk, "google", lesson()), (ip.pk, "yahoo", lesson())])
    write_learned([(ip.pk, "google", None), (ip.pk, "yahoo", None)])
    rows = read_site_rows([ip.pk])
    assert list(rows) == [(ip.pk, "google")]
    assert rows[ip.pk, "google"].limits == Limits(connections=3)
    assert rows[ip.pk, "google"].learned is None


def test_a_site_is_paused_once_with_its_reason_and_resumed(ip: SourceIp) -> None:
    assert sites.pause_site(" Google ", reason="they asked\0 us", actor=None, now=NOW)
    assert not sites.pause_site("google", reason="another", actor=None, now=NOW)
    assert read_site_rows([ip.pk])[None, "google"].paused == "they asked us"
    assert sites.resume_site("google", actor=None, now=NOW)
    assert not sites.resume_site("google", actor=None, now=NOW)
    assert read_site_rows([ip.pk]) == {}
    assert actions() == ["site.paused", "site.resumed"]


def test_limits_are_whole_numbers_from_one_to_a_million() -> None:
    for number in (0, sites.MAX_LIMIT + 1):
        with pytest.raises(ValueError, match="pause it"):
            sites.set_limits("google", Limits(per_minute=number), actor=None, now=NOW)
    with pytest.raises(ValueError, match="Name a site"):
        sites.pause_site(" ", reason="", actor=None, now=NOW)
    assert not SiteLimit.objects.exists()
    assert not sites.set_limits("google", Limits(), actor=None, now=NOW)
    assert not SiteLimit.objects.exists()


def test_what_is_ordered_brings_the_held_sites_slot_to_now(ip: SourceIp) -> None:
    held = HeldSite.objects.create(queue=ip.queue, site="google", reason="421", next_slot=NOW + timedelta(hours=1))
    write_learned([(ip.pk, "google", lesson())])
    assert sites.flush("google", actor=None, now=NOW) == 1
    assert sites.flush("google", actor=None, now=NOW) == 0
    held.refresh_from_db()
    assert held.next_slot == NOW
    [row] = SiteLimit.objects.all()
    assert (row.back_off_until, row.learned_per_minute) == (NOW, 200)
    assert sites.forget_learned("google", source_ip=ip, actor=None, now=NOW) == 1
    assert not SiteLimit.objects.exists()
    assert actions() == ["site.flushed", "site.lesson_forgotten"]


def test_counts_are_read_of_this_hour_and_the_last_and_of_today(ip: SourceIp) -> None:
    hour = NOW.replace(minute=0)
    for site, window, start, count in (
        ("google", "hour", hour, 5), ("google", "hour", hour - timedelta(hours=1), 7),
        ("google", "hour", hour - timedelta(hours=2), 100), ("", "day", hour.replace(hour=0), 300),
        ("", "day", hour.replace(hour=0) - timedelta(days=1), 9000),
    ):  # fmt: skip
        SendCount.objects.create(source_ip=ip, site=site, window=window, window_start=start, count=count)
    assert read_hours([ip.pk], NOW) == {(ip.pk, "google"): 12}
    assert read_days([ip.pk], NOW.date()) == {ip.pk: 300}


# --- Warm-up -------------------------------------------------------------------------------------------------------


def test_the_ceiling_is_the_plans_day_and_there_is_none_after_it() -> None:
    plan, began = (50, 100, 200), date(2026, 11, 22)
    days = [warmup.ceiling(began, began + timedelta(days=n), plan) for n in range(4)]
    assert days == [50, 100, 200, None]
    assert warmup.ceiling(None, began, plan) is None
    assert warmup.ceiling(began, began - timedelta(days=1), plan) == 50, "a clock that is behind"
    assert warmup.ceiling(began, began, ()) is None


def test_a_warm_up_starts_once_and_is_stopped(ip: SourceIp) -> None:
    now = timezone.now()
    assert warmup.start(ip, actor=None, now=now)
    assert not warmup.start(ip, actor=None, now=now + timedelta(days=3)), "it goes on"
    assert read_warmups([ip.pk]) == {ip.pk: now.date()}
    assert warmup.start(ip, actor=None, now=now + timedelta(days=100)), "the plan was over"
    assert warmup.stop(ip, actor=None)
    assert not warmup.stop(ip, actor=None)
    assert read_warmups([ip.pk]) == {}
