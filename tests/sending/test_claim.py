"""Claim: fair, in order, exclusive, and the same cost whatever waits."""

import time
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from ips.models import SourceIp
from ips.senders import ServedIp
from queues.models import Queue
from queues.pause import pause, resume
from sending.deliver import claim as module
from sending.deliver.claim import RING_STEP, Ring, discover, lanes_of
from sending.deliver.giveback import promote
from sending.models import TEST_LANE, Phase, Waiting
from tests.sending.scene import Scene, check_ledger, elsewhere, in_threads, insert_waiting, later, nodes, plans


def test_a_claimed_row_is_in_flight_with_everything_that_the_ledger_asks_for(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    before = scene.waiting(accepted)[0]
    now = timezone.now()
    [row] = scene.claim(now=now)
    [after] = scene.waiting(accepted)
    assert (row.recipient_id, row.send_id, row.project_id) == (before.pk, accepted.send_id, scene.project.pk)
    assert (row.attempt_id, row.source_ip_id, row.tries, row.lost) == (after.attempt_id, scene.ip.id, 1, 0)
    assert row.due_at == before.due_at
    assert after.attempt_id is not None
    assert after.attempt_id > after.pk, "an attempt is never older than its recipient"
    assert (after.phase, after.sender_id, after.source_ip_id) == (Phase.LATER, scene.sender.pk, scene.ip.id)
    assert after.lease_until == after.due_at == now + timedelta(seconds=330)
    assert scene.claim() == [], "it is taken"
    check_ledger()


def test_one_project_is_served_first_come_first_served(scene: Scene) -> None:
    """Lesson P3: without an order old mail could starve."""
    insert_waiting(scene, 300, due_at="now() - interval '1 hour' + ((i * 7919) % 300) * interval '1 s'")
    wanted = list(Waiting.objects.order_by("due_at").values_list("pk", flat=True))
    taken = [sorted(scene.claim(100), key=lambda row: row.due_at) for _ in range(3)]
    assert [row.recipient_id for batch in taken for row in batch] == wanted


def test_one_mail_beside_another_projects_ten_thousand_is_in_the_next_claim(scene: Scene) -> None:
    """Lesson P11."""
    other = scene.other_project()
    insert_waiting(scene, 10_000)
    scene.claim(100)
    accepted = scene.send("ann@one.example", project=other)
    assert accepted.send_id in {row.send_id for row in scene.claim(100)}


@pytest.mark.parametrize("rows", [7, RING_STEP, RING_STEP + RING_STEP // 2, 200])
def test_every_project_has_its_turn_however_few_rows_a_claim_may_take(scene: Scene, rows: int) -> None:
    """Each of 120 projects is reached within ⌈120 / projects a claim⌉ claims, though the first ones never run dry."""
    insert_waiting(scene, 120 * 60, project_id="i % 120")
    served: Counter[int] = Counter()
    claims = -(-120 // min(rows, RING_STEP))
    for _ in range(claims):
        served.update({row.project_id for row in scene.ring.claim(scene.ip, rows, 330, timezone.now())})
    assert len(served) == 120
    assert set(served.values()) <= {1, 2}


def test_turns_survive_that_the_floors_are_forgotten(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that claims a few rows every few seconds must not serve the first projects of the list only."""
    monkeypatch.setattr(module, "FORGET_SECONDS", -1)
    insert_waiting(scene, 60 * 20, project_id="i % 60")
    served = [row.project_id for _ in range(12) for row in scene.ring.claim(scene.ip, 5, 330, timezone.now())]
    assert set(Counter(served).values()) == {1}


def test_turns_survive_a_claim_that_was_rolled_back(scene: Scene) -> None:
    insert_waiting(scene, 20 * 20, project_id="i % 20")
    scene.ring.claim(scene.ip, 5, 330, timezone.now())
    with transaction.atomic():
        scene.ring.claim(scene.ip, 5, 330, timezone.now())
        transaction.set_rollback(True)
    scene.ring.start_over()
    served = [row.project_id for _ in range(4) for row in scene.ring.claim(scene.ip, 5, 330, timezone.now())]
    assert len(set(served)) == 20


def test_recipients_of_one_domain_share_an_attempt_and_others_do_not(scene: Scene) -> None:
    accepted = scene.send("ann@one.example", "bob@one.example", "carol@two.example", "dan@one.example")
    other = scene.send("ann@one.example")
    rows = scene.claim(1)
    rows += scene.claim(100)
    groups: dict[int, set[tuple[int, str]]] = {}
    for row in rows:
        groups.setdefault(row.attempt_id, set()).add((row.send_id, row.domain))
    assert sorted(group for [group] in groups.values()) == sorted(
        [(accepted.send_id, "one.example"), (accepted.send_id, "two.example"), (other.send_id, "one.example")]
    )
    assert len(rows) == 5


def test_siblings_of_another_priority_or_not_yet_due_do_not_break_the_claim(scene: Scene) -> None:
    accepted = scene.send("ann@one.example", "bob@one.example", "carol@one.example")
    first, second, third = scene.waiting(accepted)
    Waiting.objects.filter(pk=second.pk).update(priority=5)
    Waiting.objects.filter(pk=third.pk).update(phase=Phase.LATER, due_at=later(hours=1))
    assert {row.recipient_id for row in scene.claim(1)} == {first.pk, second.pk}


def test_what_is_due_in_the_future_is_never_claimed(scene: Scene) -> None:
    accepted = scene.send("ann@one.example", send_after=later(minutes=5))
    [row] = scene.waiting(accepted)
    assert row.phase == Phase.LATER
    assert promote(timezone.now()) == 0
    assert scene.claim() == []
    Waiting.objects.update(phase=Phase.DUE)  # as a sender with a fast clock might do
    assert scene.claim() == []
    assert [taken.send_id for taken in scene.claim(now=later(minutes=6))] == [accepted.send_id]


def test_a_scheduled_mail_is_claimable_when_its_time_has_come(scene: Scene) -> None:
    accepted = scene.send("ann@one.example", send_after=later(minutes=5))
    assert promote(later(minutes=4)) == 0
    assert promote(later(minutes=6)) == 1
    assert [row.send_id for row in scene.claim(now=later(minutes=6))] == [accepted.send_id]


def test_a_paused_queue_is_left_alone_in_its_own_lane_and_in_sticky_ones(scene: Scene) -> None:
    scene.send("ann@one.example")
    sticky = scene.send("bob@one.example")
    Waiting.objects.filter(send_id=sticky.send_id).update(lane=-scene.ip.id)
    pause(scene.queue, reason="maintenance", actor=None, now=timezone.now())
    assert scene.claim() == []
    resume(scene.queue, actor=None, now=timezone.now())
    assert len(scene.claim()) == 2


def test_a_paused_queue_does_not_stop_the_other_one(scene: Scene) -> None:
    scene.send("ann@one.example")
    other = Queue.objects.get(name="distributional")
    scene.ip = ServedIp(scene.ip.id, scene.ip.address, scene.ip.bind_address, (scene.queue.pk, other.pk))
    pause(other, reason="maintenance", actor=None, now=timezone.now())
    insert_waiting(scene, 20, queue_id=str(other.pk), lane=str(other.pk))
    assert len(scene.claim()) == 1


def test_sticky_rows_are_taken_by_their_own_ip_only(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    other = SourceIp.objects.create(server_id=scene.sender.server_id, queue=scene.queue, address="192.0.2.9")
    Waiting.objects.filter(send_id=accepted.send_id).update(lane=-other.pk, source_ip_id=other.pk)
    assert scene.claim() == []
    its_ip = ServedIp(other.pk, "192.0.2.9", "192.0.2.9", (scene.queue.pk,))
    assert [row.send_id for row in scene.ring.claim(its_ip, 10, 330, timezone.now())] == [accepted.send_id]


def test_each_ip_of_a_sender_finds_its_sticky_rows_while_the_queue_they_share_is_busy(scene: Scene) -> None:
    insert_waiting(scene, 1000)
    other = ServedIp(scene.ip.id + 1, "192.0.2.9", "192.0.2.9", (scene.queue.pk,))
    insert_waiting(scene, 5, recipient_id="100000 + i", send_id="100000 + i", lane=str(-other.id))
    found = []
    for _ in range(3):
        scene.ring.claim(scene.ip, 50, 330, timezone.now())
        found += scene.ring.claim(other, 50, 330, timezone.now())
    assert len([row for row in found if row.recipient_id > 100_000]) == 5


def test_the_most_urgent_priority_goes_first(scene: Scene) -> None:
    insert_waiting(scene, 100)
    insert_waiting(scene, 5, recipient_id="1000 + i", send_id="1000 + i", priority="-1")
    assert {row.recipient_id for row in scene.claim(5)} == set(range(1001, 1006))
    assert len(scene.claim(50)) == 50


def test_concurrent_claimers_never_take_the_same_row(open_scene: Scene) -> None:
    insert_waiting(open_scene, 2000, send_id="i / 4", domain="'d' || i % 2 || '.example'")
    taken: list[list[int]] = []

    def claim(index: int) -> None:
        ring = Ring(open_scene.sender.pk)
        mine: list[int] = []
        while rows := open_scene.claim(40, ring=ring):
            mine += [row.recipient_id for row in rows]
        taken.append(mine)

    with in_threads(3) as run:
        run(claim)
    everything = [recipient_id for mine in taken for recipient_id in mine]
    assert sorted(everything) == list(range(1, 2001))
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*), count(DISTINCT attempt_id) FROM sending_waiting WHERE attempt_id IS NOT NULL")
        assert cursor.fetchone()[0] == 2000


def test_a_mail_whose_accept_committed_late_is_found_within_a_second(open_scene: Scene) -> None:
    """Its due time and ids lie behind what was claimed since (engine: the floors are hints)."""
    with elsewhere() as other_connection:

        def hold() -> int:
            transaction.set_autocommit(False)
            return open_scene.send("ann@late.example").send_id

        held = other_connection(hold)
        for _ in range(3):
            open_scene.send("bob@quick.example")
        ring = Ring(open_scene.sender.pk)
        assert len(ring.claim(open_scene.ip, 400, 330, timezone.now())) == 3
        other_connection(transaction.commit)
        other_connection(lambda: transaction.set_autocommit(True))
    started = time.monotonic()
    while not (rows := ring.claim(open_scene.ip, 400, 330, timezone.now())):
        assert time.monotonic() - started < 1.0
    assert [row.send_id for row in rows] == [held]


def test_a_row_behind_a_floor_is_found_once_the_floors_are_forgotten(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_waiting(scene, 200)
    scene.ring.claim(scene.ip, 10, 330, timezone.now())
    insert_waiting(scene, 1, recipient_id="5000", due_at="now() - interval '3 hours'")
    assert 5000 not in {row.recipient_id for row in scene.ring.claim(scene.ip, 10, 330, timezone.now())}
    monkeypatch.setattr(module, "FORGET_SECONDS", -1)
    assert 5000 in {row.recipient_id for row in scene.ring.claim(scene.ip, 10, 330, timezone.now())}


@pytest.mark.parametrize("analyzed", [False, True])
def test_claims_walk_their_index_however_much_waits(scene: Scene, analyzed: bool) -> None:
    """Lesson P3: a claim that scanned the table cost 105 ms behind a million rows."""
    insert_waiting(scene, 50_000, project_id="i % 10", send_id="i / 5")
    insert_waiting(scene, 20_000, recipient_id="100000 + i", send_id="i", phase="1", due_at="now() + interval '1 hour'")
    if analyzed:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE sending_waiting")
    discovered, claimed = plans(lambda: scene.claim(100))
    for _, plan in (discovered, claimed):
        on_waiting = [node for node in nodes(plan) if node.get("Relation Name") == "sending_waiting"]
        assert not [node for node in on_waiting if node["Node Type"] == "Seq Scan"]
    assert {node.get("Index Name") for node in nodes(discovered[1])} & {"waiting_due"}
    assert {node.get("Index Name") for node in nodes(claimed[1])} >= {"waiting_due", "waiting_send"}
    started = time.monotonic()
    scene.claim(200)
    assert time.monotonic() - started < 0.5, "a scan per row would take seconds"


def test_discovery_lists_every_lane_priority_and_project_once(scene: Scene) -> None:
    insert_waiting(
        scene, 600, project_id="i % 3", priority="i % 2", lane=f"CASE i % 5 WHEN 0 THEN -9 ELSE {scene.queue.pk} END"
    )
    insert_waiting(scene, 5, recipient_id="1000 + i", phase="1", project_id="50", due_at="now() + interval '1 hour'")
    found = discover((-9, scene.queue.pk, 4711))
    assert len(found) == len(set(found)) == 12
    assert set(lanes_of(scene.ip)) == {-scene.ip.id, scene.queue.pk, TEST_LANE}
