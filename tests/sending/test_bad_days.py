"""What a bad day brings all at once: many held sites, many lessons, clocks that jump."""

import asyncio
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from ips import limits, sites
from ips.models import HeldSite, SiteLimit
from ips.senders import ServedIp
from relay_project.mail.rates import FORGET_AFTER, Limits, learn, went_well
from sending.deliver.claim import ANY_PRIORITY
from sending.deliver.gate import PATIENCE_SECONDS, Gate, Rules
from sending.deliver.held import HeldMail
from sending.deliver.settling import Batch, Settler
from sending.deliver.shaper import Shaper, exchange
from sending.models import Phase, Waiting
from tests.sending.scene import Scene, check_ledger, given_back, insert_waiting


def hold_many(scene: Scene, count: int, **columns: str) -> int:
    """One row on each of so many held sites; returns the first site's id less one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ips_heldsite (queue_id, site, reason, next_slot) "
            "SELECT %s, 'mx' || i || '.example', 'slow', now() FROM generate_series(1, %s) i",
            [scene.queue.pk, count],
        )
    before = HeldSite.objects.order_by("id").values_list("pk", flat=True)[0] - 1
    insert_waiting(scene, count, **{"phase": "2", "held_site_id": f"{before} + i", **columns})
    return before


def look(scene: Scene, mail: HeldMail, rows: int, ips: int = 1) -> list[int]:
    """What one look takes."""
    serving = [ServedIp(scene.ip.id + n, f"192.0.2.{n + 1}", f"192.0.2.{n + 1}", (scene.queue.pk,)) for n in range(ips)]
    mail.looked_at = -1e9
    taken = mail.take(serving, rows, scene.sender.pk, 330, timezone.now(), ANY_PRIORITY)
    mail.postpone(timezone.now())
    return [row.recipient_id for row in taken]


def test_many_held_sites_do_not_keep_a_sender_from_what_is_due(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an outage hundreds of sites open at once: each cost two statements for each IP, in one look."""
    hold_many(scene, 200)
    mail = HeldMail(Shaper())
    statements: list[str] = []
    with connection.execute_wrapper(lambda run, sql, *args: (statements.append(sql), run(sql, *args))[1]):
        started = time.monotonic()
        taken = look(scene, mail, 2000, ips=8)
        seconds = time.monotonic() - started
    assert taken
    assert seconds < 1.0
    assert len(statements) <= 2 * len(taken) + 5, "an IP does not ask for what another found to be gone"
    monkeypatch.setattr("sending.deliver.held.TAKE_SECONDS", 60.0)
    assert len(taken) + len(look(scene, mail, 2000)) == 200, "the others have their turn at the next look"


def test_urgent_mail_is_taken_before_bulk_of_other_held_sites(scene: Scene) -> None:
    hold_many(scene, 60, priority="CASE WHEN i = 31 THEN 0 ELSE 10 END")
    assert look(scene, HeldMail(Shaper()), 1) == [31]


# --- Lessons ---------------------------------------------------------------------------------------------------------


def teach(scene: Scene, shaper: Shaper, *names: str) -> None:
    """Sites say that we are too fast, and the tables know it."""
    for name in names:
        gate = shaper.gate_of(scene.ip, name)
        shaper.throttled(scene.ip, gate, "421 4.7.0 slow down", time.monotonic())
    follow(scene, shaper)


def follow(scene: Scene, shaper: Shaper) -> None:
    shaper.obey(exchange(shaper, [scene.ip.id], timezone.now()), [scene.ip.id])


def test_a_lesson_of_a_site_that_nobody_sends_to_is_in_the_tables_only_and_holds(scene: Scene) -> None:
    """A list of a million has thousands of dead hosts: each second asked every gate of theirs."""
    shaper = Shaper()
    teach(scene, shaper, "dead")
    shaper.gates[scene.ip.id, "dead"].used_at -= 3600
    shaper.tick()
    assert (shaper.gates, shaper.watched) == ({}, {})
    assert shaper.gate_of(scene.ip, "dead").room(time.monotonic()) == 0, "known again when it is asked for"


def test_a_lesson_names_nobody(scene: Scene) -> None:
    """It is shown wherever mail hangs on the site, and is about one project's mail."""
    shaper = Shaper()
    said = "421 4.7.1 <ann@other.example>: too many messages from app@shop.example"
    shaper.throttled(scene.ip, shaper.gate_of(scene.ip, "dead"), said, time.monotonic())
    follow(scene, shaper)
    assert SiteLimit.objects.get().learned_reply == "421 4.7.1 <>: too many messages from <>"


def test_one_mail_tries_a_site_whose_pause_ended_while_nobody_looked(scene: Scene) -> None:
    """Else all that waits goes at once to a site that was to be asked by one mail."""
    shaper = Shaper()
    teach(scene, shaper, "dead")
    long_ago = timezone.now() - timedelta(minutes=10)
    SiteLimit.objects.update(learned_at=long_ago, back_off_until=long_ago, raised_at=long_ago)
    successor = Shaper()
    follow(scene, successor)
    successor._taken_at[scene.ip.id] -= 3600  # what its predecessor sent in the last minute does not count any more
    assert successor.gate_of(scene.ip, "dead").room(time.monotonic()) == 1


def test_limits_are_read_again_only_when_somebody_changed_them(scene: Scene) -> None:
    """Twenty thousand lessons took half a second of every second."""
    rows = limits.SiteRows()
    ips = [scene.ip.id]
    lesson = learn(Limits(10), None, 5, "421 4.7.0 slow down", timezone.now())
    limits.write_learned([(scene.ip.id, f"mx{n}.example", lesson) for n in range(3)])
    first = rows.read(ips)
    assert len(first) == 3
    assert rows.read(ips) is first
    sites.pause_site("mx1.example", reason="they asked us", actor=None, now=timezone.now())
    assert len(rows.read(ips)) == 4
    sites.resume_site("mx1.example", actor=None, now=timezone.now())
    assert len(rows.read(ips)) == 3
    SiteLimit.objects.filter(site="mx2.example").update(learned_reply="another")
    assert rows.read(ips)[scene.ip.id, "mx2.example"].learned.reply == "another"
    assert rows.read([scene.ip.id + 1]) == {}


def test_lessons_that_nobody_hears_of_any_more_are_forgotten(scene: Scene) -> None:
    SiteLimit.objects.create(site="kept", per_minute=5)
    ages = {"old": FORGET_AFTER + timedelta(minutes=1), "new": timedelta(hours=1), "ahead": timedelta(days=-400)}
    for name, age in ages.items():
        lesson = learn(Limits(10), None, 5, "421 4.7.0 slow down", timezone.now() - age)
        limits.write_learned([(scene.ip.id, name, lesson)])
    assert limits.forget_lessons(timezone.now()) == 2
    assert set(SiteLimit.objects.values_list("site", flat=True)) == {"kept", "new"}


# --- Clocks and changes of pace --------------------------------------------------------------------------------------


def test_a_clock_that_was_set_back_neither_prolongs_a_pause_nor_keeps_a_lesson_for_ever() -> None:
    now = timezone.now()
    learned = learn(Limits(10), None, 100, "421 4.7.0 slow down", now + timedelta(days=365))
    assert not learned.is_backing_off(now)
    assert learned.is_backing_off(now + timedelta(days=365))
    gate = Gate("dead", "192.0.2.1", Rules(Limits(10), learned=learned))
    gate.start(1.0, now, lambda pacer: 0)
    assert gate.room(1.0) == 1
    raised = went_well(learned, Limits(10), 5, now)
    assert raised is not None
    assert (raised.per_minute > learned.per_minute, raised.raised_at) == (True, now)


def test_mail_that_entered_before_a_slow_pace_was_set_goes_back_instead_of_waiting_for_hours() -> None:
    """It slept with a connection in hand until its lease ran out, and counted as a lost attempt."""
    gate = Gate("one", "192.0.2.1", Rules(Limits(5)))
    gate.start(0.0, timezone.now(), lambda pacer: 0)

    async def go() -> list[float | None]:
        for key in range(5):
            assert gate.enter(key, 1, 0.0) is None
            assert await gate.connection(key, 0, 100.0, 0.0)
        gate.obey(Rules(Limits(5, per_hour=10)), 0.1, timezone.now())
        return [gate.pace(key, 0.2) for key in range(5)]

    first, *others = asyncio.run(go())
    assert first == 0.0
    assert others == [None] * 4
    assert gate.refusal(0.2).seconds > PATIENCE_SECONDS


def test_one_job_that_cannot_hang_on_its_site_takes_no_other_along(open_scene: Scene) -> None:
    """All that went back with it stayed in flight until the leases ran out, and counted as lost attempts."""
    for number in range(5):
        open_scene.send(f"ann@mx{number}.example")
    jobs = open_scene.jobs()
    returned = [given_back(job, wait_seconds=9, site="one", reason="slow") for job in jobs]
    bad = replace(returned[2], site="x" * 300)  # longer than the column
    Settler(0.05, 200).settle(Batch([(item, lambda job: None) for item in (*returned[:2], bad, *returned[3:])]))
    rows = Waiting.objects.order_by("recipient_id")
    assert [row.attempt_id for row in rows] == [None] * 5
    assert [row.tries for row in rows] == [0] * 5
    assert sorted(row.phase for row in rows) == [Phase.LATER, *[Phase.HELD] * 4]
    check_ledger()
