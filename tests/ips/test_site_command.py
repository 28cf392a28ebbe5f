"""`manage.py site`: what staff order at receiving sites, from the machine."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import AuditEntry
from ips.models import HeldSite, Server, SiteLimit, SourceIp
from queues.models import Queue


@pytest.fixture
def source_ip(db: None) -> SourceIp:
    queue = Queue.objects.create(name="transactional", is_default=True)
    return SourceIp.objects.create(server=Server.objects.create(hostname="here"), queue=queue, address="192.0.2.7")


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("site", *arguments, stdout=out)
    return out.getvalue().strip()


def a_lesson(source_ip: SourceIp) -> SiteLimit:
    now = timezone.now()
    return SiteLimit.objects.create(
        site="slow.example", source_ip=source_ip, learned_per_minute=20, learned_ceiling=100, learned_at=now,
        raised_at=now, learned_reply="421 Slow down", back_off_seconds=600, back_off_until=now + timedelta(seconds=600),
    )  # fmt: skip


def test_the_list_tells_what_holds_mail_back(source_ip: SourceIp) -> None:
    assert run("list") == "No site is held, paused or limited."
    HeldSite.objects.create(queue_id=source_ip.queue_id, site="slow.example", reason="busy", next_slot=timezone.now())
    a_lesson(source_ip)
    run("pause", "google", "--reason", "they asked")
    run("limit", "google", "--per-minute", "20")
    kinds = [line.split()[0] for line in run("list").splitlines()]
    assert sorted(kinds) == ["held", "learned", "limited", "paused"]
    assert "they asked" in run("list")


def test_a_site_whose_slot_has_passed_is_held_no_more(source_ip: SourceIp) -> None:
    passed = timezone.now() - timedelta(minutes=1)
    HeldSite.objects.create(queue_id=source_ip.queue_id, site="slow.example", reason="paused", next_slot=passed)
    assert run("list") == "No site is held, paused or limited."


def test_a_name_that_nobody_knows_is_noted_and_obeyed(source_ip: SourceIp) -> None:
    notes = StringIO()
    call_command("site", "pause", "gogle", "--reason", "x", stdout=StringIO(), stderr=notes)
    assert notes.getvalue().startswith("Note: no provider, held site or limit is known by the name gogle. Did you mean")
    assert "google" in notes.getvalue()
    assert SiteLimit.objects.get().site == "gogle"
    notes = StringIO()
    call_command("site", "limit", "aspmx.l.google.com", "--per-hour", "9", stdout=StringIO(), stderr=notes)
    assert notes.getvalue().strip().endswith("Did you mean google?")
    HeldSite.objects.create(queue_id=source_ip.queue_id, site="slow.example", reason="x", next_slot=timezone.now())
    notes = StringIO()
    for name in ("google", "gogle", "slow.example"):
        call_command("site", "limit", name, "--per-hour", "9", stdout=StringIO(), stderr=notes)
    assert notes.getvalue() == ""


def test_a_site_is_paused_and_resumed_from_all_or_one(source_ip: SourceIp) -> None:
    assert run("pause", "Google", "--reason", "x") == "google from every source IP is paused."
    assert run("pause", "google", "--reason", "x") == "google from every source IP was already paused."
    assert run("pause", "google", "--ip", "192.0.2.7", "--reason", "x") == "google from 192.0.2.7 is paused."
    assert run("resume", "google") == "google from every source IP is resumed."
    assert run("resume", "google") == "google from every source IP was not paused."
    assert [row.source_ip for row in SiteLimit.objects.all()] == [source_ip]
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {"site.paused", "site.resumed"}


def test_limits_are_set_and_taken_back(source_ip: SourceIp) -> None:
    told = run("limit", "google", "--per-minute", "20", "--connections", "2")
    assert told == "google from every source IP: connections 2, per minute 20."
    assert run("limit", "google", "--per-minute", "20", "--connections", "2").endswith("nothing has changed.")
    assert run("limit", "google", "--none").endswith("no limits of its own.")
    assert not SiteLimit.objects.exists()


def test_a_back_off_is_ended_and_a_lesson_forgotten(source_ip: SourceIp) -> None:
    lesson = a_lesson(source_ip)
    assert run("flush", "slow.example") == "slow.example from every source IP: 1 pause ended."
    lesson.refresh_from_db()
    assert lesson.back_off_until <= timezone.now()
    assert lesson.learned_per_minute == 20
    assert run("flush", "slow.example").endswith("was not left alone after a reply.")
    assert run("forget", "slow.example") == "slow.example from every source IP: 1 lesson forgotten."
    assert run("forget", "slow.example").endswith("had taught nothing.")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["pause", "google", "--reason", " "], "--reason: say why"),
        (["pause", " ", "--reason", "x"], "SITE: name a provider or MX hosts"),
        (["pause", "google", "--ip", "192.0.2.9", "--reason", "x"], "--ip: there is no source IP '192.0.2.9'."),
        (["limit", "google"], "Name at least one limit"),
        (["limit", "google", "--none", "--per-hour", "3"], "Name at least one limit"),
        (["limit", "google", "--per-hour", "0"], "--per-hour: a limit is from 1 to 1,000,000"),
        (["limit", "google", "--per-hour", "2147483648"], "--per-hour: a limit is from 1 to 1,000,000"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(source_ip: Any, arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError) as refused:
        run(*arguments)
    assert str(refused.value).startswith(sentence)
    assert not SiteLimit.objects.exists()
