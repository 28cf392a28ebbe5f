"""Orders of staff over waiting mail: flush, reroute, purge. What is in flight is left, and counted; nothing is silent."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import DataError, connection, transaction
from django.utils import timezone

from accounts.models import AuditEntry
from ips.models import HeldSite
from projects.models import Event
from queues.models import Queue
from sending.backlog import orders, stretch
from sending.backlog.cancel import cancel_send
from sending.backlog.orders import By, Order, OrderRefused
from sending.backlog.stretch import Wanted, count
from sending.deliver.giveback import give_back
from sending.deliver.settle import settle
from sending.models import Operation, OperationKind, Phase, Recipient, Send, Waiting
from sending.retry import retry
from tests.sending.scene import (
    LATER,
    OK,
    Scene,
    answered,
    check_ledger,
    elsewhere,
    given_back,
    insert_waiting,
    later,
    plans,
)

SAM = By(label="sam")


def order(scene: Scene, kind: OperationKind, **fields: Any) -> Operation:
    """Give it and carry it out."""
    wanted = Wanted(scene.queue.pk, **{k: fields.pop(k) for k in ("project_id", "domain", "site") if k in fields})
    given = orders.give(Order(kind, wanted, fields.pop("reason", "because"), **fields), SAM, timezone.now())
    assert orders.run(given, 60)
    return given


@pytest.fixture
def other_queue(scene: Scene) -> Queue:
    return Queue.objects.get(name="distributional")


def deferred(scene: Scene, address: str = "ann@one.example", site: str = "one.example") -> Any:
    accepted = scene.send(address)
    settle([answered(scene.job(), LATER, site=site)], timezone.now())
    return accepted


def held(scene: Scene, address: str = "hal@held.example", site: str = "slow.example") -> Any:
    accepted = scene.send(address)
    give_back([given_back(scene.job(), wait_seconds=600, site=site, reason="busy")], timezone.now())
    return accepted


# --- Flush ---------------------------------------------------------------------------------------------------------


def test_a_flush_makes_retries_due_and_leaves_what_is_scheduled_or_in_flight(scene: Scene) -> None:
    retrying = deferred(scene)
    scheduled = scene.send("sue@one.example", send_after=later(hours=5))
    flying = scene.send("fay@one.example")
    scene.claim()
    done = order(scene, OperationKind.FLUSH)
    assert (done.done, done.left_scheduled, done.left_in_flight) == (1, 1, 1)
    assert scene.waiting(retrying)[0].phase == Phase.DUE
    assert scene.waiting(scheduled)[0].due_at > later(hours=4)
    assert scene.waiting(flying)[0].attempt_id
    assert [row.send_id for row in scene.claim()] == [retrying.send_id]
    check_ledger()


def test_a_flush_of_scheduled_mail_has_to_be_asked_for(scene: Scene) -> None:
    scheduled = scene.send("sue@one.example", send_after=later(hours=5))
    assert order(scene, OperationKind.FLUSH, with_scheduled=True).done == 1
    assert [row.send_id for row in scene.claim()] == [scheduled.send_id]
    dated = Send.objects.get(pk=scheduled.send_id).message_date
    assert dated <= timezone.now(), "a mail dated in the future scores as spam"
    assert dated.microsecond == 0


def test_a_flush_of_a_queue_opens_the_slots_of_its_held_sites_and_of_no_other_queue(
    scene: Scene, other_queue: Queue
) -> None:
    accepted = held(scene)
    other = HeldSite.objects.create(queue=other_queue, site="slow.example", reason="busy", next_slot=later(hours=1))
    assert order(scene, OperationKind.FLUSH, site="slow.example").done == 1
    [row] = scene.waiting(accepted)
    assert row.phase == Phase.HELD, "its mail follows at the site's pace"
    assert HeldSite.objects.get(pk=row.held_site_id).next_slot <= timezone.now()
    other.refresh_from_db()
    assert other.next_slot > later(minutes=50)


def test_a_flush_of_one_domain_takes_its_mail_off_the_held_site(scene: Scene) -> None:
    mine, others = held(scene), held(scene, "ida@else.example")
    assert order(scene, OperationKind.FLUSH, domain="held.example").done == 1
    assert [row.phase for row in scene.waiting(mine) + scene.waiting(others)] == [Phase.DUE, Phase.HELD]
    check_ledger()


# --- Reroute -------------------------------------------------------------------------------------------------------


def test_rerouted_mail_waits_in_the_other_queue_without_its_ip_and_keeps_its_time(
    scene: Scene, other_queue: Queue
) -> None:
    retrying, hanging = deferred(scene), held(scene)
    [before] = scene.waiting(retrying)
    assert before.lane == -scene.ip.id
    done = order(scene, OperationKind.REROUTE, target=other_queue)
    assert done.done == 2
    [row], [freed] = scene.waiting(retrying), scene.waiting(hanging)
    assert (row.queue_id, row.lane, row.source_ip_id) == (other_queue.pk, other_queue.pk, None)
    assert (row.phase, row.due_at, row.tries) == (Phase.LATER, before.due_at, 1)
    assert (freed.phase, freed.held_site_id, freed.lane) == (Phase.DUE, None, other_queue.pk)
    assert Send.objects.get(pk=retrying.send_id).queue_id == other_queue.pk
    check_ledger()


def test_a_retry_of_rerouted_mail_goes_the_same_way(scene: Scene, other_queue: Queue) -> None:
    accepted = scene.send("ann@one.example")
    order(scene, OperationKind.REROUTE, target=other_queue)
    Recipient.objects.filter(send_id=accepted.send_id).update(status="failed")
    Waiting.objects.all().delete()
    retry(Send.objects.get(pk=accepted.send_id), timezone.now())
    assert scene.waiting(accepted)[0].queue_id == other_queue.pk


def test_what_is_in_flight_is_not_rerouted(scene: Scene, other_queue: Queue) -> None:
    flying = scene.send("fay@one.example")
    job = scene.job()
    done = order(scene, OperationKind.REROUTE, target=other_queue)
    assert (done.done, done.left_in_flight) == (0, 1)
    assert scene.waiting(flying)[0].queue_id == scene.queue.pk
    settle([answered(job, OK)], timezone.now())
    assert scene.statuses(flying) == ["accepted"]


# --- Purge ---------------------------------------------------------------------------------------------------------


def test_purged_recipients_are_cancelled_with_their_event_and_what_flies_is_left(scene: Scene) -> None:
    waited = [deferred(scene), held(scene)]
    flying = scene.send("fay@one.example")
    job = scene.job()
    gone = [scene.send("ann@one.example", "bob@two.example"), *waited]
    done = order(scene, OperationKind.PURGE, reason="wrong link")
    assert (done.done, done.left_in_flight) == (4, 1)
    for accepted in gone:
        assert set(scene.statuses(accepted)) == {"cancelled"}
        assert scene.kinds(accepted)[-1] == "cancelled"
    payload = Event.objects.filter(subject_id=gone[0].send_id, kind="send.recipient.cancelled").earliest("id").payload
    assert payload["address"] == "ann@one.example"
    assert (payload["status"], payload["reason"]) == ("cancelled", "wrong link")
    check_ledger()
    settle([answered(job, OK)], timezone.now())
    assert scene.statuses(flying) == ["accepted"]
    assert not Waiting.objects.exists()


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        (lambda s: {"project_id": s.project.pk}, {"mine", "retrying", "held"}),
        (lambda s: {"domain": "one.example"}, {"mine", "retrying", "other"}),
        (lambda s: {"site": "slow.example"}, {"held"}),
        (lambda s: {"site": "mx.one.example"}, {"retrying"}),
        (lambda s: {"domain": "one.example", "project_id": s.project.pk}, {"mine", "retrying"}),
    ],
    ids=["project", "domain", "held site", "site of the last try", "both"],
)
def test_filters_choose_whose_mail_it_is(scene: Scene, filters: Callable[[Scene], Any], fits: set[str]) -> None:
    sends = {
        "retrying": deferred(scene, site="mx.one.example"),
        "held": held(scene),
        "mine": scene.send("ann@one.example"),
        "other": scene.send("bob@one.example", project=scene.other_project()),
    }
    wanted = Wanted(scene.queue.pk, **filters(scene))
    counted = count(wanted)
    assert counted is not None
    assert counted.waiting == len(fits)
    order(scene, OperationKind.PURGE, **filters(scene))
    assert {name for name, accepted in sends.items() if scene.statuses(accepted) == ["cancelled"]} == fits


def test_a_send_is_cancelled_as_far_as_it_has_not_left(scene: Scene) -> None:
    accepted = scene.send("ann@one.example", "bob@two.example")
    Waiting.objects.filter(send_id=accepted.send_id, domain="two.example").update(phase=1, due_at=later(hours=1))
    scene.claim()
    result = cancel_send(Send.objects.get(pk=accepted.send_id), "not any more")
    assert (result.cancelled, result.in_flight) == (1, 1)
    assert scene.statuses(accepted) == ["queued", "cancelled"]
    check_ledger()


# --- Orders --------------------------------------------------------------------------------------------------------


def test_mail_accepted_after_an_order_is_not_part_of_it(scene: Scene) -> None:
    old = scene.send("ann@one.example")
    given = orders.give(Order(OperationKind.PURGE, Wanted(scene.queue.pk), "old"), SAM, timezone.now())
    new = scene.send("bob@one.example")
    assert orders.carry_on(60)
    assert (scene.statuses(old), scene.statuses(new)) == (["cancelled"], ["queued"])
    given.refresh_from_db()
    assert given.ended_at


def test_an_order_goes_on_where_it_was_left(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretch, "LOCKED_ROWS", 2)
    sends = [scene.send(f"a{i}@one.example") for i in range(5)]
    given = orders.give(Order(OperationKind.PURGE, Wanted(scene.queue.pk), "test"), SAM, timezone.now())
    assert orders.step(given.pk, timezone.now())
    given.refresh_from_db()
    assert (given.done, given.after_id) == (2, Recipient.objects.order_by("id")[1].pk)
    assert not orders.run(given, -1), "one more step, then its time is over"
    assert orders.run(given, 60)
    assert given.done == 5
    assert all(scene.statuses(accepted) == ["cancelled"] for accepted in sends)
    assert not orders.step(given.pk, timezone.now())


def test_an_order_that_fails_keeps_no_other_from_being_carried_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.send("ann@one.example")
    wanted = Order(OperationKind.PURGE, Wanted(scene.queue.pk), "because")
    bad, good = (orders.give(wanted, SAM, timezone.now()) for _ in range(2))
    carry_out = orders.lock_stretch

    def fails_once(*args: Any) -> Any:
        monkeypatch.setattr(orders, "lock_stretch", carry_out)
        raise DataError("nobody foresaw this")

    monkeypatch.setattr(orders, "lock_stretch", fails_once)
    assert orders.carry_on(9), "nothing to be gone on with at once"
    for operation in (bad, good):
        operation.refresh_from_db()
    assert (bad.ended_at is None, good.ended_at is None) == (True, False)
    assert orders.carry_on(9)
    bad.refresh_from_db()
    assert bad.ended_at is not None


def test_the_rest_of_an_order_can_be_taken_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretch, "LOCKED_ROWS", 1)
    sends = [scene.send(f"a{i}@one.example") for i in range(3)]
    given = orders.give(Order(OperationKind.PURGE, Wanted(scene.queue.pk), "test"), SAM, timezone.now())
    orders.step(given.pk, timezone.now())
    assert orders.stop(given, SAM, timezone.now())
    assert not orders.stop(given, SAM, timezone.now())
    assert not orders.step(given.pk, timezone.now())
    assert [scene.statuses(accepted) for accepted in sends] == [["cancelled"], ["queued"], ["queued"]]
    last = AuditEntry.objects.order_by("-id")[0]
    assert (last.action, last.detail["done"]) == ("queue.order_stopped", 1)


def test_giving_and_ending_are_audited_with_filters_and_figures(scene: Scene) -> None:
    scene.send("ann@one.example")
    order(scene, OperationKind.PURGE, domain="one.example", reason="wrong link")
    given, ended = AuditEntry.objects.filter(subject_kind="queue").order_by("id")
    assert (given.action, given.actor_label, given.subject_id) == ("queue.purge_ordered", "sam", scene.queue.pk)
    assert given.detail["reason"] == "wrong link"
    assert (ended.action, ended.detail["domain"], ended.detail["done"]) == ("queue.purged", "one.example", 1)


@pytest.mark.parametrize(
    ("kind", "fields", "field"),
    [
        ("reroute", {}, "to"),
        ("reroute", {"target": "transactional"}, "to"),
        ("purge", {"target": "distributional"}, "to"),
        ("purge", {"reason": " "}, "reason"),
        ("purge", {"with_scheduled": True}, "scheduled"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_by_its_field(
    scene: Scene, kind: str, fields: dict[str, Any], field: str
) -> None:
    if "target" in fields:
        fields = {**fields, "target": Queue.objects.get(name=fields["target"])}
    with pytest.raises(OrderRefused) as refused:
        orders.give(
            Order(OperationKind(kind), Wanted(scene.queue.pk), fields.pop("reason", "why"), **fields), SAM, later()
        )
    assert refused.value.field == field
    assert not Operation.objects.exists()


# --- Beside everything else ------------------------------------------------------------------------------------------


def test_an_order_waits_for_a_settle_and_counts_what_it_then_finds(open_scene: Scene) -> None:
    """The row that a settle holds is purged when that deferred it: locked in the same order, neither crosses."""
    scene = open_scene
    accepted = scene.send("ann@one.example")
    job = scene.job()
    given = orders.give(Order(OperationKind.PURGE, Wanted(scene.queue.pk), "test"), SAM, timezone.now())
    with elsewhere() as there:
        there(lambda: settle([answered(job, LATER)], timezone.now()))
        assert orders.run(given, 60)
    assert scene.statuses(accepted) == ["cancelled"]
    check_ledger()


def test_a_claim_passes_by_what_an_order_holds(open_scene: Scene) -> None:
    scene = open_scene
    scene.send("ann@one.example")
    with elsewhere() as there, transaction.atomic(), connection.cursor() as cursor:
        found = stretch.lock_stretch(cursor, Wanted(scene.queue.pk), 0, 2**53, timezone.now())
        assert len(found.rows) == 1
        assert there(lambda: scene.claim()) == []


def test_no_statement_of_an_order_looks_at_more_than_its_stretch(scene: Scene) -> None:
    """With a backlog of others' mail in front, each step is bounded by the primary key."""
    insert_waiting(scene, 20_000, queue_id="-7", lane="-7")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE sending_waiting")
    found = plans(lambda: order(scene, OperationKind.FLUSH), words=("SELECT",))
    walks = [plan for sql, plan in found if "sending_waiting" in sql]
    assert walks
    for plan in walks:
        assert "Seq Scan" not in str(plan), plan
