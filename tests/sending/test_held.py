"""Held mail: taken straight from where it hangs, in turn, as much as its gates let in, by whoever may carry it."""

import time
from collections import Counter

import pytest
from django.db import connection
from django.utils import timezone

from ips.models import HeldSite, SourceIp
from ips.senders import ServedIp
from queues.models import Queue
from queues.pause import pause
from relay_project.mail.rates import Limits
from sending.deliver.claim import ANY_PRIORITY, Claimed, Ring
from sending.deliver.gate import Gate, Rules
from sending.deliver.held import HeldMail, divert
from sending.deliver.room import Wanted
from sending.deliver.shaper import Shaper
from sending.deliver.take import Taker
from sending.models import Phase, Waiting
from tests.sending.scene import Scene, check_ledger, insert_waiting, later, nodes, plans

EVERYTHING = Wanted(400, 64 * 1024 * 1024, ANY_PRIORITY)


def hold(scene: Scene, count: int, site: str = "one", ip: int | None = None, **columns: str) -> HeldSite:
    """So many rows hang on a site whose slot has come."""
    held = HeldSite.objects.create(
        queue=scene.queue, source_ip_id=ip, site=site, reason="slow", next_slot=later(seconds=-1)
    )
    insert_waiting(scene, count, **{"phase": "2", "held_site_id": str(held.pk), **columns})
    return held


def take(scene: Scene, shaper: Shaper, rows: int = 400, up_to: int = ANY_PRIORITY, mail: HeldMail | None = None):
    mail = mail or HeldMail(shaper)
    mail.looked_at = -1e9
    taken = mail.take([scene.ip], rows, scene.sender.pk, 330, timezone.now(), up_to)
    mail.postpone(timezone.now())
    return taken


def shaped(scene: Scene, site: str = "one", **limits: int) -> tuple[Shaper, Gate]:
    """A shaper whose gate at the site has these limits."""
    shaper = Shaper()
    gate = shaper.gate_of(scene.ip, site)
    gate.obey(Rules(Limits(connections=10, **limits)), time.monotonic(), timezone.now())
    shaper._watch()
    return shaper, gate


def test_as_many_rows_are_taken_as_may_go_now_and_the_rest_hangs_on(scene: Scene) -> None:
    held = hold(scene, 1000)
    shaper, _ = shaped(scene, per_minute=60)  # six at once, one a second, and the next two seconds' are taken as well
    taken = take(scene, shaper)
    assert 6 <= len(taken) <= 8
    assert Waiting.objects.filter(phase=Phase.HELD, held_site_id=held.pk).count() == 1000 - len(taken)
    assert [row.recipient_id for row in taken] == list(range(1, len(taken) + 1)), "oldest first"
    held.refresh_from_db()
    assert held.next_slot > timezone.now(), "what still hangs always has a slot to come"
    assert held.reason == "one: 60 a minute from 192.0.2.1"
    row = Waiting.objects.get(pk=1)
    assert (row.phase, row.held_site_id, row.tries, row.sender_id) == (Phase.LATER, None, 1, scene.sender.pk)


def test_what_may_not_go_gets_its_next_slot_and_the_reason(scene: Scene) -> None:
    held = hold(scene, 10)
    shaper, gate = shaped(scene, per_minute=20)
    for key in range(9):
        gate.pace(key, time.monotonic())
    assert take(scene, shaper) == []
    held.refresh_from_db()
    assert held.next_slot > timezone.now()
    assert held.reason == "one: 20 a minute from 192.0.2.1"


def test_a_limit_that_vanished_lets_the_mail_go(scene: Scene) -> None:
    hold(scene, 30)
    assert len(take(scene, Shaper())) == 30
    check = Waiting.objects.filter(phase=Phase.HELD)
    assert not check.exists()


def test_held_mail_is_taken_in_turn_by_project_and_the_most_urgent_first(scene: Scene) -> None:
    """Lesson P11: one mail beside another project's thousand."""
    held = hold(scene, 1000, project_id="1", priority="10")
    hang = {"phase": "2", "held_site_id": str(held.pk)}
    insert_waiting(scene, 3, recipient_id="2000 + i", send_id="2000 + i", project_id="2", priority="10", **hang)
    insert_waiting(scene, 2, recipient_id="3000 + i", send_id="3000 + i", project_id="3", priority="0", **hang)
    shaper = Shaper()
    mail = HeldMail(shaper)
    assert {row.project_id for row in take(scene, shaper, 2, mail=mail)} == {3}
    assert Counter(row.project_id for row in take(scene, shaper, 4, mail=mail)) == {1: 2, 2: 2}
    assert [row.project_id for _ in range(3) for row in take(scene, shaper, 1, mail=mail)] in ([1, 2, 1], [2, 1, 1])


def test_bulk_stays_where_it_is_when_there_is_room_for_urgent_mail_only(scene: Scene) -> None:
    hold(scene, 10, priority="CASE WHEN i > 8 THEN 0 ELSE 10 END")
    assert {row.recipient_id for row in take(scene, Shaper(), up_to=0)} == {9, 10}


def test_recipients_of_one_send_and_domain_come_along(scene: Scene) -> None:
    hold(scene, 8, send_id="i / 4")
    shaper, _ = shaped(scene, per_minute=10)
    taken = take(scene, shaper, 1)
    assert len({row.attempt_id for row in taken}) == 1
    assert {row.recipient_id for row in taken} == {1, 2, 3}


def test_retries_are_taken_by_their_own_ip_only(scene: Scene) -> None:
    other = SourceIp.objects.create(server_id=scene.sender.server_id, queue=scene.queue, address="192.0.2.9")
    hold(scene, 5, ip=other.pk, lane=str(-other.pk))
    assert take(scene, Shaper()) == []
    scene.ip = ServedIp(other.pk, "192.0.2.9", "192.0.2.9", (scene.queue.pk,))
    assert len(take(scene, Shaper())) == 5


def test_another_senders_ip_takes_what_ours_may_not(scene: Scene) -> None:
    """Nobody owns held rows: neither a sender that died, nor one whose IP was told to slow down, keeps them."""
    hold(scene, 5)
    shaper, gate = shaped(scene)
    gate.throttled("421 4.7.0 slow down", time.monotonic(), time.monotonic(), timezone.now())
    assert take(scene, shaper) == []
    scene.ip = ServedIp(scene.ip.id + 1, "192.0.2.9", "192.0.2.9", (scene.queue.pk,))
    assert len(take(scene, Shaper())) == 5


def test_a_paused_queues_held_mail_stays_and_has_a_slot_to_come(scene: Scene) -> None:
    held = hold(scene, 5)
    pause(scene.queue, reason="maintenance", actor=None, now=timezone.now())
    assert take(scene, Shaper()) == []
    held.refresh_from_db()
    assert held.next_slot > timezone.now()


def test_a_queue_that_none_of_our_ips_carries_is_left_alone(scene: Scene) -> None:
    hold(scene, 5)
    scene.ip = ServedIp(scene.ip.id, "192.0.2.1", "192.0.2.1", (Queue.objects.get(name="distributional").pk,))
    assert take(scene, Shaper()) == []


def test_new_mail_of_a_held_site_goes_to_it_before_anything_is_loaded(scene: Scene) -> None:
    taker = Taker(Ring(scene.sender.pk), Shaper())
    gate = taker.shaper.gate(scene.ip, "one.example", "one")
    gate.obey(Rules(Limits(connections=10), paused="they asked us"), time.monotonic(), timezone.now())
    taker.shaper._watch()
    for number in range(3):
        scene.send(f"ann{number}@one.example")
    scene.send("bob@two.example")
    jobs = taker.take([scene.ip], EVERYTHING, timezone.now())
    assert [job.domain for job in jobs] == ["two.example"]
    assert taker.diverted == 3
    held = HeldSite.objects.get()
    assert (held.site, held.reason) == ("one", "one is paused by staff: they asked us")
    rows = Waiting.objects.filter(domain="one.example")
    assert {(row.phase, row.held_site_id, row.tries) for row in rows} == {(Phase.HELD, held.pk, 0)}
    check_ledger()
    gate.obey(Rules(Limits(connections=10)), time.monotonic(), timezone.now())
    taker._held.looked_at = -1e9
    assert len(taker.take_held([scene.ip], EVERYTHING, timezone.now())) == 3


def test_new_mail_does_not_overtake_what_hangs_already(scene: Scene) -> None:
    shaper = Shaper(domains={"one.example": "one"}, hanging={(1, None, "one")})
    row = Claimed(1, 1, 1, 1, "one.example", 1, 1, 100, scene.ip.id, 0, timezone.now(), 0, 1)
    going, held = divert([row], shaper, time.monotonic())
    assert not going
    assert held[0][1].key == (1, None, "one")
    assert divert([row], Shaper(), time.monotonic()) == ([row], [])


def test_a_look_costs_the_same_however_much_hangs(scene: Scene) -> None:
    """Nor does any claim: held rows are in nobody's way (lesson P3)."""
    hold(scene, 100_000, project_id="1 + i % 50", priority="(i % 2) * 10")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE sending_waiting")
    shaper, _ = shaped(scene, per_minute=20)

    def work() -> None:
        take(scene, shaper)
        scene.claim(100)

    for sql, plan in plans(work):
        scans = [node for node in nodes(plan) if node.get("Relation Name") == "sending_waiting"]
        assert not [node for node in scans if node["Node Type"] == "Seq Scan"], sql
    started = time.monotonic()
    for _ in range(20):
        take(scene, shaper)
    assert (time.monotonic() - started) / 20 < 0.05


@pytest.mark.parametrize("rows", [1, 7, 50])
def test_everything_that_hangs_is_taken_in_the_end(scene: Scene, rows: int) -> None:
    hold(scene, 120, project_id="1 + i % 7", priority="(i % 3) * 5")
    shaper = Shaper()
    mail = HeldMail(shaper)
    taken: list[int] = []
    while got := take(scene, shaper, rows, mail=mail):
        taken += [row.recipient_id for row in got]
        assert len(got) <= rows
    assert sorted(taken) == list(range(1, 121))
