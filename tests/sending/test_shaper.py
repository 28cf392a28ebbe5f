"""What one sender knows of all sites: whose word counts, what survives it, warm-up, and room for urgent mail."""

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from prometheus_client import REGISTRY

from ips import limits, sites, warmup
from ips.models import SendCount, SiteLimit, SourceIp
from ips.senders import ServedIp
from relay_project.mail.rates import Limits
from sending.deliver.claim import ANY_PRIORITY, URGENT, Ring
from sending.deliver.held import HeldMail
from sending.deliver.room import Room, Wanted
from sending.deliver.settle import settle
from sending.deliver.shape_counts import KEEP_DAYS, count_sends, forget_counts
from sending.deliver.shaper import Shaper, read_tables
from sending.deliver.take import Taker
from sending.models import Waiting
from tests.sending.scene import OK, Scene, answered, check_ledger, insert_waiting
from tests.sending.test_held import EVERYTHING, hold

SLOW_DOWN = "421 4.7.0 slow down"


def follow(scene: Scene, shaper: Shaper | None = None) -> Shaper:
    """A sender's shaper after it has read the tables."""
    shaper = shaper or Shaper({"hub.test"})
    shaper.obey(read_tables([scene.ip.id], timezone.now()), [scene.ip.id])
    return shaper


def now() -> datetime:
    return timezone.now()


def throttles(site: str) -> float:
    return REGISTRY.get_sample_value("relay_site_throttles_total", {"site": site}) or 0.0


# --- Whose word counts -----------------------------------------------------------------------------------------------


def test_the_ips_own_limits_go_over_everybodys_over_the_providers_over_the_settings(scene: Scene) -> None:
    mine = SourceIp.objects.get(pk=scene.ip.id)
    sites.set_limits("yahoo", Limits(per_minute=60, per_hour=900), actor=None, now=now())
    sites.set_limits("yahoo", Limits(per_minute=20), source_ip=mine, actor=None, now=now())
    rules = follow(scene).gate_of(scene.ip, "yahoo").rules
    assert rules.limits == Limits(5, 20, per_minute=20, per_hour=900)
    assert follow(scene).gate_of(scene.ip, "mx.example.com").rules.limits == Limits(10, 100)


def test_a_host_that_the_operator_named_has_staffs_limits_only(scene: Scene) -> None:
    sites.set_limits("hub.test", Limits(connections=3), actor=None, now=now())
    gate = follow(scene).gate_of(scene.ip, "hub.test")
    assert gate.rules.limits == Limits(3, 1000)
    assert not gate.learns


def test_what_staff_change_is_followed_by_gates_that_exist(scene: Scene) -> None:
    shaper = follow(scene)
    gate = shaper.gate(scene.ip, "one.example", "one")
    assert (gate.is_open, shaper.watched) == (True, {})
    sites.pause_site("one", reason="they asked us", actor=None, now=now())
    follow(scene, shaper)
    assert gate.room(time.monotonic()) == 0
    assert list(shaper.watched) == [(scene.ip.id, "one")]
    sites.resume_site("one", actor=None, now=now())
    follow(scene, shaper)
    assert (gate.is_open, shaper.watched) == (True, {})


# --- What survives a sender ------------------------------------------------------------------------------------------


def test_a_lesson_is_logged_counted_written_and_known_to_the_next_process(scene: Scene, caplog: Any) -> None:
    shaper = follow(scene)
    before = throttles("google"), throttles("other")
    for site in ("google", "mx.example.com"):
        shaper.throttled(scene.ip, shaper.gate_of(scene.ip, site), "421 4.7.0\nslow\0 down", time.monotonic())
    assert (throttles("google"), throttles("other")) == (before[0] + 1, before[1] + 1), "few labels"
    lessons = shaper.unsaved()
    limits.write_learned(lessons)
    shaper.saved(lessons)
    assert shaper.unsaved() == []
    assert SiteLimit.objects.get(site="google").learned_reply == SLOW_DOWN
    assert follow(scene, shaper).gate_of(scene.ip, "google").learned is not None, "its own row is no order of staff"
    successor = follow(scene).gate_of(scene.ip, "google")
    refusal = successor.enter(1, 1, time.monotonic())
    assert refusal is not None
    assert SLOW_DOWN in refusal.reason
    assert any("site.throttled" in str(record.msg) for record in caplog.records)


def test_what_staff_forget_is_forgotten_in_memory(scene: Scene) -> None:
    shaper = follow(scene)
    gate = shaper.gate_of(scene.ip, "google")
    shaper.throttled(scene.ip, gate, SLOW_DOWN, time.monotonic())
    limits.write_learned(shaper.unsaved())
    shaper.saved(shaper.unsaved())
    sites.forget_learned("google", actor=None, now=now())
    follow(scene, shaper)
    assert gate.learned is None
    assert gate.is_open


def test_a_restart_begins_without_the_burst_of_a_limit(scene: Scene) -> None:
    """What the former process sent in the last seconds is not known; of hours it is."""
    sites.set_limits("one", Limits(per_minute=600), actor=None, now=now())
    sites.set_limits("two", Limits(per_hour=600), actor=None, now=now())
    hour = now().replace(minute=0, second=0, microsecond=0)
    SendCount.objects.create(source_ip_id=scene.ip.id, site="two", window="hour", window_start=hour, count=57)
    shaper = follow(scene)
    [minute] = shaper.gate_of(scene.ip, "one").pacers
    [hourly] = shaper.gate_of(scene.ip, "two").pacers
    at = time.monotonic_ns()
    assert minute.room(at, at) < 5, "of sixty; some may have come since"
    assert hourly.room(at, at) == 60 - 57


def test_gates_that_nobody_uses_are_forgotten(scene: Scene) -> None:
    shaper = follow(scene)
    gate = shaper.gate_of(scene.ip, "one")
    shaper.tick()
    assert shaper.gates
    gate.used_at -= 3600
    shaper.tick()
    assert not shaper.gates


# --- Counts ----------------------------------------------------------------------------------------------------------


def test_messages_are_counted_with_the_settle_by_day_and_where_an_hour_is_limited(scene: Scene) -> None:
    for number in range(3):
        scene.send(f"ann{number}@one.example")
    jobs = scene.jobs()
    at = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
    settle([answered(job, OK, site="one", is_dialled=True, by_hour=job is jobs[0]) for job in jobs[:2]], at)
    settle([answered(jobs[2], OK, site="one", is_dialled=True)], at)
    settle([answered(jobs[2], OK, site="one")], at)
    day, hour = at.replace(hour=0, minute=0), at.replace(minute=0)
    counts = SendCount.objects.values_list("site", "window", "window_start", "count")
    assert set(counts) == {("", "day", day, 3), ("one", "hour", hour, 1)}
    check_ledger()


def test_nothing_is_written_where_nothing_was_dialled(scene: Scene, django_assert_num_queries: Any) -> None:
    scene.send("ann@one.example")
    with connection.cursor() as cursor, django_assert_num_queries(0):
        count_sends(cursor, [answered(SimpleNamespace(targets=[]))], now())


def test_old_counts_are_forgotten(scene: Scene) -> None:
    for age, window in ((timedelta(hours=1), "hour"), (timedelta(days=3), "hour"), (timedelta(days=3), "day"),
                        (KEEP_DAYS + timedelta(days=1), "day")):  # fmt: skip
        SendCount.objects.create(source_ip_id=scene.ip.id, window=window, window_start=now() - age, count=1)
    assert forget_counts(now()) == 2
    assert SendCount.objects.count() == 2


# --- Warm-up ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def cold(scene: Scene, settings: Any) -> Taker:
    """The scene's IP may begin five messages today, and has begun two."""
    settings.WARMUP_PLAN = (5, 10)
    source_ip = SourceIp.objects.get(pk=scene.ip.id)
    warmup.start(source_ip, actor=None, now=now())
    day = now().replace(hour=0, minute=0, second=0, microsecond=0)
    SendCount.objects.create(source_ip=source_ip, window="day", window_start=day, count=2)
    return Taker(Ring(scene.sender.pk), follow(scene))


def claim(taker: Taker, *ips: ServedIp) -> list[int]:
    """The source IPs of what a look takes, counted as the engine counts it."""
    taker.ring.forget()
    claimed = taker._claim_due(ips, 100, now(), ANY_PRIORITY)
    for row in claimed:
        taker.shaper.count(row.source_ip_id, 1)
    return [row.source_ip_id for row in claimed]


def test_an_ip_in_warm_up_begins_no_more_than_its_ceiling(scene: Scene, cold: Taker) -> None:
    insert_waiting(scene, 20)
    assert len(claim(cold, scene.ip)) == 3
    assert claim(cold, scene.ip) == []
    cold.shaper.count(scene.ip.id, -1)
    assert len(claim(cold, scene.ip)) == 1, "one was given back"
    assert Waiting.objects.filter(phase=0).count() == 16


def test_what_is_over_the_ceiling_goes_by_a_warm_ip_of_the_queue(scene: Scene, cold: Taker) -> None:
    insert_waiting(scene, 20)
    warm = ServedIp(scene.ip.id + 1, "192.0.2.9", "192.0.2.9", scene.ip.queue_ids)
    taken = claim(cold, scene.ip, warm)
    assert (taken.count(scene.ip.id), taken.count(warm.id)) == (3, 17)


def test_retries_stay_on_their_ip_and_are_not_held_back(scene: Scene, cold: Taker) -> None:
    """Greylisting receivers asked to see the address again; they count, but no ceiling stops them."""
    insert_waiting(scene, 7, lane=str(-scene.ip.id))
    insert_waiting(scene, 7, recipient_id="100 + i", send_id="100 + i")
    assert len(claim(cold, scene.ip)) == 7
    assert claim(cold, scene.ip) == []


def test_held_mail_keeps_to_the_ceiling_as_well(scene: Scene, cold: Taker) -> None:
    hold(scene, 20)
    assert len(cold._claim_held([scene.ip], 100, now(), ANY_PRIORITY)) == 3


def test_a_look_at_many_held_sites_and_at_what_is_due_keeps_to_the_ceiling(scene: Scene, cold: Taker) -> None:
    """Each place of its own would give as much as is left of the day."""
    for number in range(1, 5):
        ids = f"{100 * number} + i"
        hold(scene, 2, site=f"site{number}", recipient_id=ids, send_id=ids)
    insert_waiting(scene, 20, recipient_id="1000 + i", send_id="1000 + i")
    assert len(cold.take([scene.ip], EVERYTHING, now())) == 3


def test_the_next_day_has_its_own_ceiling(scene: Scene, cold: Taker) -> None:
    warmth = cold.shaper.warm[scene.ip.id]
    today = now().date()
    days = [warmth.room(today + timedelta(days=n)) for n in range(3)]
    assert days == [3, 10, None]


# --- Room ------------------------------------------------------------------------------------------------------------


def job(rows: int, priority: int, octets: int = 1000) -> Any:
    return SimpleNamespace(targets=[None] * rows, priority=priority, size_bytes=octets)


def test_bulk_that_fills_the_room_leaves_some_to_urgent_mail(settings: Any) -> None:
    """Lesson P11."""
    settings.IN_FLIGHT_ROWS, settings.IN_FLIGHT_BYTES = 400, 1 << 26
    room = Room()
    assert room.wanted == Wanted(400, 1 << 26, ANY_PRIORITY)
    room.weigh(job(400, 10), 1)
    assert (room.is_free, room.is_free_for_urgent) == (False, True)
    assert room.wanted == Wanted(200, 1 << 25, URGENT)
    room.weigh(job(150, 0), 1)
    assert not room.is_free_for_urgent, "its own half is more than half full"
    room.weigh(job(400, 10), -1)
    assert room.wanted.up_to == ANY_PRIORITY


def test_urgent_mail_alone_claims_in_large_steps(settings: Any) -> None:
    settings.IN_FLIGHT_ROWS = 400
    room = Room()
    room.weigh(job(300, 0), 1)
    assert not room.is_free_for_urgent
    room.weigh(job(101, 0), -1)
    assert room.wanted.rows == 201


def test_bulk_is_left_where_it_is_when_only_urgent_mail_has_room(scene: Scene) -> None:
    scene.send("ann@one.example")
    Waiting.objects.update(priority=10)
    urgent = scene.send("bob@two.example")
    taker = Taker(Ring(scene.sender.pk), Shaper())
    jobs = taker.take([scene.ip], Wanted(10, 1 << 20, URGENT), now())
    assert [one.send_id for one in jobs] == [urgent.send_id]
    assert len(taker.take([scene.ip], EVERYTHING, now())) == 1


# --- What a held site costs --------------------------------------------------------------------------------------------


def test_a_held_site_costs_one_small_query_a_look_and_no_claim(scene: Scene, django_assert_num_queries: Any) -> None:
    hold(scene, 5000)
    sites.pause_site("one", reason="they asked us", actor=None, now=now())
    mail = HeldMail(follow(scene))

    def look() -> None:
        mail.looked_at = -1e9
        assert mail.take([scene.ip], 400, scene.sender.pk, 330, now(), ANY_PRIORITY) == []
        mail.postpone(now())

    with django_assert_num_queries(2):  # and once a minute its next slot
        look()
    for _ in range(3):
        with django_assert_num_queries(1):
            look()
    with django_assert_num_queries(0):
        mail.take([scene.ip], 400, scene.sender.pk, 330, now(), ANY_PRIORITY)


def test_new_mail_is_behind_nothing_once_all_that_hung_was_taken(scene: Scene) -> None:
    """Else a site that was held once would hold its new mail for half a second for ever."""
    hold(scene, 5)
    shaper = follow(scene)
    mail = HeldMail(shaper)
    assert len(mail.take([scene.ip], 400, scene.sender.pk, 330, now(), ANY_PRIORITY)) == 5
    assert shaper.hanging == set()
