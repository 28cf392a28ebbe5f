"""Rows that return without a result: given back with their tries, or swept after a loss that is written down."""

from collections.abc import Callable
from datetime import datetime, timedelta

import psycopg
import pytest
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from ips.models import HeldSite, Sender
from ips.senders import DEAD_SENDERS
from projects.models import Event
from relay_project.db import locks
from sending.backlog.ledger import read_ledger
from sending.backlog.upkeep import drop_free_held_sites, forget_senders
from sending.deliver.giveback import LOST_TEXT, give_back, promote, sweep
from sending.deliver.outcome import GiveBack
from sending.deliver.settle import settle
from sending.models import Attempt, AttemptRecipient, Phase, Recipient, Waiting
from tests.sending.scene import LATER, Scene, answered, check_ledger, insert_waiting, later, nodes, plans

Started = Callable[[datetime], None]


@pytest.fixture
def old_database(database_started: Started) -> None:
    """The database has been up for long enough to believe its locks."""
    database_started(later(hours=-1))


@pytest.fixture
def lock(scene: Scene):
    """The sender's lock, held on a connection of its own."""
    parameters = connection.get_connection_params()
    keys = ("dbname", "user", "password", "host", "port")
    with psycopg.connect(**{k: parameters[k] for k in keys if parameters.get(k)}, autocommit=True) as holding:
        holding.execute("SELECT pg_advisory_lock(%s, %s)", [locks.SENDER, scene.sender.pk])
        yield holding


def fall_silent(scene: Scene, seconds: float = 10) -> None:
    Sender.objects.filter(pk=scene.sender.pk).update(heartbeat_at=later(seconds=-seconds))


def dead() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(DEAD_SENDERS)
        return [row[0] for row in cursor.fetchall()]


# --- Giving back ---------------------------------------------------------------------------------------------------


def test_a_job_given_back_is_due_again_in_its_old_place_and_with_its_tries(scene: Scene) -> None:
    accepted = scene.send("ann@one.example", "bob@one.example")
    scene.send("carol@one.example")
    before = scene.waiting(accepted)
    first = scene.jobs()[0]
    give_back([GiveBack(first)], timezone.now())
    after = scene.waiting(accepted)
    for was, row in zip(before, after, strict=True):
        assert (row.phase, row.due_at, row.tries, row.lane) == (Phase.DUE, was.due_at, 0, scene.queue.pk)
        assert (row.attempt_id, row.sender_id, row.lease_until, row.source_ip_id) == (None,) * 4
    assert not Attempt.objects.exists(), "nothing was dialled"
    assert {event.kind for event in Event.objects.all()} == {"send.queued"}
    assert {row.send_id for row in scene.claim()} == {accepted.send_id}
    check_ledger()


def test_a_sticky_row_stays_sticky_when_it_is_given_back(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    Waiting.objects.update(lane=-scene.ip.id, source_ip_id=scene.ip.id, tries=3)
    give_back([GiveBack(scene.job())], timezone.now())
    [row] = scene.waiting(accepted)
    assert (row.lane, row.source_ip_id, row.tries) == (-scene.ip.id, scene.ip.id, 3)


def test_a_job_given_back_with_a_wait_comes_back_after_it(scene: Scene) -> None:
    scene.send("ann@one.example")
    give_back([GiveBack(scene.job(), wait_seconds=60)], timezone.now())
    assert scene.claim() == []
    assert promote(later(seconds=59)) == 0
    assert promote(later(seconds=61)) == 1
    assert len(scene.claim(now=later(seconds=61))) == 1


def test_a_job_that_is_no_longer_ours_is_not_given_back(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    job = scene.job()
    Waiting.objects.update(due_at=later(seconds=-1))
    sweep(timezone.now())
    again = scene.job()
    give_back([GiveBack(job)], timezone.now())
    [row] = scene.waiting(accepted)
    assert (row.attempt_id, row.tries) == (again.attempt_id, 2)


def test_a_held_row_hangs_on_its_site_and_keeps_its_place(scene: Scene) -> None:
    accepted = scene.send("ann@one.example", "bob@one.example")
    now = timezone.now()
    before = scene.waiting(accepted)
    job = scene.job()
    give_back([GiveBack(job, 60, "one.example", "one.example: 20 a minute\0" + "x" * 600)], now)
    held = HeldSite.objects.get()
    assert (held.site, held.next_slot, len(held.reason)) == ("one.example", now + timedelta(seconds=60), 512)
    assert held.source_ip_id is None, "any IP of the queue may take it"
    for was, row in zip(before, scene.waiting(accepted), strict=True):
        assert (row.phase, row.held_site_id, row.due_at, row.tries) == (Phase.HELD, held.pk, was.due_at, 0)
    check_ledger()
    assert promote(later(hours=1)) == 0
    assert scene.claim(now=later(hours=1)) == [], "held rows cost claims nothing"


def test_a_retry_hangs_on_its_own_ip(scene: Scene) -> None:
    scene.send("ann@one.example")
    Waiting.objects.update(lane=-scene.ip.id, source_ip_id=scene.ip.id, tries=1)
    give_back([GiveBack(scene.job(), 60, "one", "busy")], timezone.now())
    assert HeldSite.objects.get().source_ip_id == scene.ip.id
    assert Waiting.objects.get().lane == -scene.ip.id


def test_the_earlier_slot_of_a_site_counts_and_one_that_has_passed_does_not(scene: Scene) -> None:
    now = timezone.now()
    for address in ("ann@one.example", "bob@one.example", "carol@one.example", "dan@one.example"):
        scene.send(address)
    jobs = scene.jobs()
    give_back([GiveBack(jobs[0], 90, "one", "a"), GiveBack(jobs[1], 30, "one", "b")], now)
    give_back([GiveBack(jobs[2], 60, "one", "c")], now)
    held = HeldSite.objects.get()
    assert (held.next_slot, held.reason) == (now + timedelta(seconds=30), "b")
    give_back([GiveBack(jobs[3], 10, "one", "d")], now + timedelta(seconds=31))
    held.refresh_from_db()
    assert (held.next_slot, held.reason) == (now + timedelta(seconds=41), "d")
    assert Waiting.objects.filter(phase=Phase.HELD, held_site_id=held.pk).count() == 4


def test_a_held_site_is_dropped_when_nothing_hangs_on_it_any_more(scene: Scene) -> None:
    free = HeldSite.objects.create(queue=scene.queue, site="free", reason="slow", next_slot=later(minutes=-10))
    busy = HeldSite.objects.create(queue=scene.queue, site="busy", reason="slow", next_slot=later(minutes=-10))
    soon = HeldSite.objects.create(queue=scene.queue, site="soon", reason="slow", next_slot=later(minutes=1))
    insert_waiting(scene, 1, phase="2", held_site_id=str(busy.pk))
    assert drop_free_held_sites(timezone.now()) == 1
    assert set(HeldSite.objects.all()) == {busy, soon}
    assert free.pk


def test_the_ledger_has_no_row_that_is_held_by_nothing(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    for phase, held in ((2, None), (0, 1), (1, 1)):
        with pytest.raises(IntegrityError), transaction.atomic():
            Waiting.objects.filter(send_id=accepted.send_id).update(phase=phase, held_site_id=held)
    Waiting.objects.update(phase=2, held_site_id=4711)
    assert not read_ledger().is_good, "its site is gone: nobody would ever release it"


def test_the_ledger_has_no_row_in_flight_without_a_lease(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    [row] = scene.waiting(accepted)
    wrong = (
        {"attempt_id": 1},
        {"attempt_id": 1, "sender_id": 1, "phase": 1},
        {"attempt_id": 1, "sender_id": 1, "lease_until": timezone.now(), "phase": 0},
        {"sender_id": 1},
    )
    for columns in wrong:
        with pytest.raises(IntegrityError), transaction.atomic():
            Waiting.objects.filter(pk=row.pk).update(**columns)


# --- Who is alive --------------------------------------------------------------------------------------------------


def test_a_sender_is_dead_when_its_lock_is_free_and_its_heart_stands_still(scene: Scene, old_database: None) -> None:
    assert dead() == [], "a free lock alone: its connection was cut, it beats on"
    fall_silent(scene, 3)
    assert dead() == []
    fall_silent(scene, 6)
    assert dead() == [scene.sender.pk]


def test_a_sender_that_holds_its_lock_lives_however_slow_it_is(
    scene: Scene, old_database: None, lock: psycopg.Connection
) -> None:
    fall_silent(scene, 600)
    assert dead() == []
    lock.close()
    for _ in range(200):
        if dead():
            break
    assert dead() == [scene.sender.pk]


def test_nobody_is_dead_while_the_database_itself_has_just_started(scene: Scene, database_started: Started) -> None:
    """A restart frees the locks of the living, and their hearts stood still with it."""
    fall_silent(scene, 60)
    database_started(later(seconds=-14))
    assert dead() == []
    database_started(later(seconds=-16))
    assert dead() == [scene.sender.pk]


# --- Sweeping ------------------------------------------------------------------------------------------------------


def test_the_rows_of_a_living_sender_are_never_swept(
    scene: Scene, old_database: None, lock: psycopg.Connection
) -> None:
    accepted = scene.send("ann@one.example")
    scene.job()
    assert sweep(timezone.now()) == 0
    fall_silent(scene)
    assert sweep(timezone.now()) == 0, "silent, but it holds its lock"
    assert scene.waiting(accepted)[0].attempt_id is not None


def test_the_rows_of_a_dead_sender_are_due_at_once_and_the_loss_is_written(scene: Scene, old_database: None) -> None:
    accepted = scene.send("ann@one.example", "bob@one.example")
    job = scene.job()
    fall_silent(scene)
    now = timezone.now()
    assert sweep(now) == 2
    assert sweep(now) == 0
    for row in scene.waiting(accepted):
        assert (row.phase, row.due_at, row.tries, row.lost) == (Phase.DUE, now, 1, 1)
        assert (row.attempt_id, row.sender_id, row.lease_until) == (None, None, None)
    [attempt] = Attempt.objects.filter(send_id=accepted.send_id)
    assert (attempt.pk, attempt.status, attempt.is_lost, attempt.try_count) == (job.attempt_id, "deferred", True, 1)
    assert attempt.network_error == LOST_TEXT
    assert AttemptRecipient.objects.filter(attempt_id=attempt.pk, rule="lost").count() == 2
    assert scene.statuses(accepted) == ["deferred", "deferred"]
    assert scene.kinds(accepted) == ["deferred", "deferred"]
    check_ledger()


def test_an_expired_lease_is_swept_though_its_sender_lives(scene: Scene) -> None:
    """Its conversation's deadline lies before the lease's end: whatever it still does is too late."""
    scene.send("ann@one.example")
    scene.job()
    assert sweep(later(seconds=329)) == 0
    assert sweep(later(seconds=331)) == 1


def test_the_rows_of_a_sender_whose_row_is_gone_are_swept(scene: Scene) -> None:
    scene.send("ann@one.example")
    scene.job()
    scene.sender.source_ips.update(served_by=None)
    scene.sender.delete()
    assert sweep(timezone.now()) == 1


def test_a_second_loss_backs_off_and_the_last_one_fails_with_the_reason(scene: Scene) -> None:
    """Nothing loops without back-off: a mail that kills its sender is tried as often as the schedule says."""
    accepted = scene.send("ann@one.example")
    now = timezone.now()
    waits = []
    for _ in range(settings.RETRY_SCHEDULE.max_tries):
        promote(now)
        assert scene.job(now)
        now += timedelta(seconds=331)
        assert sweep(now) == 1
        check_ledger()
        for row in scene.waiting(accepted):
            waits.append(row.due_at - now)
            now = row.due_at
    assert waits == [timedelta(0), *settings.RETRY_SCHEDULE.steps[1:]]
    assert scene.statuses(accepted) == ["failed"]
    assert scene.waiting(accepted) == []
    assert scene.kinds(accepted)[-1] == "failed"
    assert "Given up" in Event.objects.order_by("-id")[0].payload["smtp_message"]
    assert Recipient.objects.get().try_count == settings.RETRY_SCHEDULE.max_tries


def test_a_retry_that_was_lost_stays_on_its_ip(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    settle([answered(scene.job(), LATER)], timezone.now())
    promote(later(hours=1))
    scene.job(later(hours=1))
    sweep(later(hours=2))
    [row] = scene.waiting(accepted)
    assert (row.lane, row.source_ip_id, row.tries) == (-scene.ip.id, scene.ip.id, 2)


def test_looking_for_losses_and_dues_costs_nothing_per_retry_that_waits(scene: Scene) -> None:
    """Once a second and sender: no scan may grow with the backlog."""
    insert_waiting(scene, 30_000, phase="1", due_at="now() + interval '1 hour' + i * interval '1 s'")
    insert_waiting(scene, 10_000, recipient_id="100000 + i")
    insert_waiting(scene, 200, recipient_id="200000 + i", phase="1", attempt_id="i", sender_id=str(scene.sender.pk),
                   lease_until="now() + interval '5 minutes'", due_at="now() + interval '5 minutes'")  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE sending_waiting")

    def look() -> None:
        sweep(timezone.now())
        promote(timezone.now())

    lost, due = plans(look)
    for sql, plan in (lost, due):
        scans = [node for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
        assert not [node for node in scans if node["Relation Name"] == "sending_waiting"], sql
    assert "waiting_in_flight" in {node.get("Index Name") for node in nodes(lost[1])}
    assert "waiting_later" in {node.get("Index Name") for node in nodes(due[1])}


def test_dead_senders_are_forgotten_when_they_hold_nothing(scene: Scene, old_database: None) -> None:
    scene.send("ann@one.example")
    scene.job()
    fall_silent(scene, 25 * 3600)
    assert forget_senders(timezone.now()) == 0, "something is still in flight in its name"
    sweep(timezone.now())
    assert forget_senders(timezone.now()) == 1


def test_a_job_that_another_source_ip_must_carry_sticks_to_that_one(scene: Scene) -> None:
    """The receiver has no address of our family; the try is given back."""
    accepted = scene.send("ann@one.example", "bob@one.example")
    job = scene.job()
    give_back([GiveBack(job, move_to=4711)], timezone.now())
    rows = scene.waiting(accepted)
    assert {(row.lane, row.source_ip_id, row.tries, row.phase) for row in rows} == {(-4711, 4711, 0, Phase.DUE)}
    assert scene.claim() == []
    check_ledger()
