"""Upkeep: sticky rows are freed from addresses that cannot carry them, small tables stay small, figures fall to zero."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from ips.models import HeldSite, SourceIp
from queues.models import Queue
from sending.backlog import upkeep
from sending.backlog.depth import read_depths
from sending.backlog.ledger import read_ledger
from sending.deliver.settle import settle
from sending.models import Recipient, Waiting
from tests.sending.scene import LATER, OK, Scene, answered, insert_waiting, later, nodes, plans


@pytest.fixture
def stuck(scene: Scene) -> Any:
    """A deferred mail that waits for its IP, and is due in a moment."""
    accepted = scene.send("ann@one.example")
    settle([answered(scene.job(), LATER)], timezone.now())
    Waiting.objects.update(due_at=later(minutes=1))
    return accepted


def lane(accepted: Any) -> int:
    return Waiting.objects.get(send_id=accepted.send_id).lane


def test_a_row_stays_with_an_ip_that_is_served(scene: Scene, stuck: Any) -> None:
    assert upkeep.unstick(timezone.now()) == 0
    assert lane(stuck) == -scene.ip.id


@pytest.mark.parametrize(
    "change",
    [
        {"is_enabled": False},
        {"gone_at": timezone.now()},
        {"queue": None},
        {"served_at": timezone.now() - timedelta(minutes=6), "served_by": None},
    ],
)
def test_a_row_is_freed_from_an_ip_that_cannot_carry_it(scene: Scene, stuck: Any, change: dict[str, Any]) -> None:
    SourceIp.objects.filter(pk=scene.ip.id).update(**change)
    assert upkeep.unstick(timezone.now()) == 1
    row = Waiting.objects.get(send_id=stuck.send_id)
    assert (row.lane, row.source_ip_id, row.tries) == (scene.queue.pk, None, 1)


def test_a_row_stays_with_an_ip_that_its_queue_borrows_from_the_other_default_queue(scene: Scene, stuck: Any) -> None:
    distributional = Queue.objects.get(name="distributional")
    SourceIp.objects.filter(pk=scene.ip.id).update(queue=distributional)
    assert upkeep.unstick(timezone.now()) == 0
    SourceIp.objects.create(server_id=scene.sender.server_id, address="192.0.2.7", queue=scene.queue)
    assert upkeep.unstick(timezone.now()) == 1, "its queue has an address of its own again"


def test_a_row_is_freed_from_an_ip_that_was_set_apart(scene: Scene, stuck: Any) -> None:
    SourceIp.objects.filter(pk=scene.ip.id).update(queue=Queue.objects.create(name="apart"))
    assert upkeep.unstick(timezone.now()) == 1


def test_a_row_has_time_until_it_is_due(scene: Scene, stuck: Any) -> None:
    """Its IP may come back; with a million such rows nobody looks at them all once a minute."""
    SourceIp.objects.filter(pk=scene.ip.id).update(is_enabled=False)
    Waiting.objects.update(due_at=later(minutes=10))
    assert upkeep.unstick(timezone.now()) == 0
    assert upkeep.unstick(later(minutes=9)) == 1


def test_rows_that_are_due_are_freed_by_their_lanes_whoever_they_are_of(scene: Scene) -> None:
    insert_waiting(scene, 30, lane="-4711", project_id="i % 3", priority="i % 2 * 10")
    insert_waiting(scene, 5, lane=f"-{scene.ip.id}", recipient_id="100 + i")
    assert upkeep.unstick(timezone.now()) == 30
    assert Waiting.objects.filter(lane=-scene.ip.id).count() == 5


def test_rows_that_hang_on_a_site_for_a_lost_ip_go_by_another(scene: Scene, stuck: Any) -> None:
    hanging = HeldSite.objects.create(
        queue=scene.queue, source_ip_id=scene.ip.id, site="slow.example", reason="busy", next_slot=later(hours=1)
    )
    Waiting.objects.update(phase=2, held_site_id=hanging.pk)
    assert upkeep.unstick(timezone.now()) == 0
    SourceIp.objects.filter(pk=scene.ip.id).update(is_enabled=False)
    assert upkeep.unstick(timezone.now()) == 1
    row = Waiting.objects.get(send_id=stuck.send_id)
    assert (row.phase, row.held_site_id, row.lane, row.source_ip_id) == (0, None, scene.queue.pk, None)


def test_the_look_for_lost_rows_does_not_grow_with_the_backlog(scene: Scene) -> None:
    insert_waiting(scene, 20_000, lane=f"-{scene.ip.id}", phase="i % 2", due_at="now() + interval '1 hour'")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE sending_waiting")
    found = plans(lambda: upkeep.unstick(timezone.now()))
    assert found
    scans = [node for _, plan in found for node in nodes(plan) if node.get("Relation Name") == "sending_waiting"]
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan", "ModifyTable"}


def test_what_is_in_flight_is_left_alone(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    Waiting.objects.update(lane=-scene.ip.id)
    scene.job()
    SourceIp.objects.filter(pk=scene.ip.id).update(is_enabled=False)
    assert upkeep.unstick(timezone.now()) == 0
    assert lane(accepted) == -scene.ip.id


def test_any_number_of_rows_is_freed_at_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "UNSTICK_ROWS", 100)
    insert_waiting(scene, 250, lane="-4711", phase="1")
    assert upkeep.unstick(timezone.now()) == 250
    assert not Waiting.objects.filter(lane=-4711).exists()


def test_a_queue_that_drained_says_zero(scene: Scene) -> None:
    """Lesson C20: the gauge stuck at its last value."""
    for _ in range(3):
        scene.send("ann@one.example")
    scene.send("ann@one.example", send_after=later(hours=1))
    depth = {d.queue_name: d for d in read_depths(later(seconds=60))}["transactional"]
    assert (depth.due, depth.later, depth.in_flight, depth.held) == (3, 1, 0, 0)
    assert 59 < depth.oldest_due_seconds < 62
    jobs = scene.jobs()
    assert {d.queue_name: d.in_flight for d in read_depths(timezone.now())} == {"distributional": 0, "transactional": 3}
    settle([answered(job, OK) for job in jobs], timezone.now())
    Waiting.objects.all().delete()
    assert [(d.due, d.later, d.in_flight, d.held, d.oldest_due_seconds) for d in read_depths(timezone.now())] == [
        (0, 0, 0, 0, 0.0)
    ] * 2


def test_the_ledger_sees_what_is_silent_stray_or_overdue(scene: Scene) -> None:
    first, second = scene.send("ann@one.example"), scene.send("bob@one.example")
    assert read_ledger().is_good
    Waiting.objects.filter(send_id=first.send_id).delete()
    assert (read_ledger().silent, read_ledger().stray) == (1, 0)
    Recipient.objects.filter(send_id=first.send_id).update(status="failed")
    assert read_ledger().is_good
    Recipient.objects.filter(send_id=second.send_id).update(status="accepted")
    assert (read_ledger().silent, read_ledger().stray) == (0, 1)
    Recipient.objects.filter(send_id=second.send_id).update(status="deferred")
    Waiting.objects.update(phase=1, due_at=later(minutes=-3))
    assert read_ledger().is_good
    assert read_ledger().overdue == 1, "no sender looks"
