"""Expiry: what has waited longer than its lifetime is given up with the reason; staff's pauses do not count."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from ips.sites import pause_site, resume_site
from projects.models import Event
from queues.models import Pause, Queue
from queues.pause import pause, resume
from sending.backlog import expire
from sending.backlog.expire import Sweep, in_words
from sending.deliver.giveback import give_back
from sending.deliver.settle import settle
from sending.journey import read_journey
from sending.models import Attempt, AttemptRecipient, Recipient, Send, Waiting
from sending.retry import retry
from tests.sending.scene import LATER, Scene, answered, check_ledger, given_back, insert_waiting, later, nodes, plans


@pytest.fixture(autouse=True)
def _three_days(settings: Any) -> None:
    settings.MAIL_LIFETIME = timedelta(days=3)


def run(days: float) -> int:
    """The sweep as it would run so many days from now."""
    return Sweep().run(later(days=days), 60)


def test_mail_is_given_up_when_its_lifetime_is_over_and_not_before(scene: Scene) -> None:
    never_tried = scene.send("ann@one.example", "bob@one.example", "cat@two.example")
    assert run(2.9) == 0
    assert run(3.1) == 3
    assert scene.statuses(never_tried) == ["failed"] * 3
    assert scene.kinds(never_tried) == ["failed"] * 3
    attempts = Attempt.objects.filter(send_id=never_tried.send_id)
    assert {(a.domain, a.status) for a in attempts} == {("one.example", "failed"), ("two.example", "failed")}
    text = "Expired: it has waited for more than 3 days."
    assert {a.network_error for a in attempts} == {text}
    lines = AttemptRecipient.objects.filter(send_id=never_tried.send_id)
    assert {(line.rule, line.smtp_message) for line in lines} == {("expired", text)}
    payload = Event.objects.filter(subject_id=never_tried.send_id, kind="send.recipient.failed").earliest("id").payload
    assert (payload["address"], payload["smtp_message"]) == ("ann@one.example", text)
    check_ledger()
    assert run(9) == 0


def test_what_it_last_waited_for_is_named(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    reason = "20 a minute, since it said “450 4.2.1 bob@other.example”"
    give_back([given_back(scene.job(), wait_seconds=60, site="slow.example", reason=reason)], timezone.now())
    run(3.1)
    story = read_journey(Send.objects.get(pk=accepted.send_id), timezone.now()).recipients[0]
    assert "Last it waited for slow.example: 20 a minute." in story.sentence
    check_ledger()


def test_what_is_in_flight_is_left_to_its_settle(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    job = scene.job()
    assert run(9) == 0
    settle([answered(job, LATER)], timezone.now())
    assert run(9) == 1
    assert scene.statuses(accepted) == ["failed"]


def test_scheduled_mail_counts_from_its_time(scene: Scene) -> None:
    scene.send("ann@one.example", send_after=later(days=20))
    assert run(22) == 0
    assert run(23.1) == 1


def test_mail_that_is_retried_has_a_new_lifetime(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    run(3.1)
    send = Send.objects.get(pk=accepted.send_id)
    retry(send, later(days=10))
    assert run(12.9) == 0
    assert run(13.1) == 1


def test_time_in_a_paused_queue_does_not_count(scene: Scene) -> None:
    scene.send("ann@one.example")
    pause(scene.queue, reason="", actor=None, now=later(days=1))
    assert run(9) == 0, "nothing expires while it is paused"
    resume(scene.queue, actor=None, now=later(days=9))
    assert run(10.9) == 0
    assert run(11.1) == 1
    assert Pause.objects.count() == 1


def test_nothing_expires_at_a_site_that_staff_paused(scene: Scene) -> None:
    scene.send("ann@one.example")
    give_back([given_back(scene.job(), wait_seconds=60, site="slow.example", reason="paused")], timezone.now())
    pause_site("slow.example", reason="they asked", actor=None, now=later(days=1))
    assert run(9) == 0
    resume_site("slow.example", actor=None, now=later(days=9))
    assert run(10.9) == 0, "what hangs there has the time back"
    assert run(11.1) == 1


def test_what_was_tried_after_a_sites_pause_has_its_time_back_as_well(scene: Scene) -> None:
    """Else mail that waited out a pause was given up after its first try, by greylisting for one."""
    scene.send("ann@one.example")
    pause_site("slow.example", reason="they asked", actor=None, now=timezone.now())
    resume_site("slow.example", actor=None, now=later(days=8))
    settle([answered(scene.job(now=later(days=8)), LATER, site="slow.example")], later(days=8))
    assert run(8.1) == 0
    pause_site("slow.example", reason="again", actor=None, now=later(days=9))
    assert run(12) == 0, "nothing expires at a paused site"
    resume_site("slow.example", actor=None, now=later(days=9))
    assert run(11.1) == 1
    assert "slow.example" not in Attempt.objects.order_by("-id")[0].network_error, "it hung nowhere"


def test_the_walk_is_bounded_and_goes_on_where_its_time_ended(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expire, "ROWS", 2)
    sends = [scene.send(f"a{i}@one.example") for i in range(5)]
    sweep = Sweep()
    ticks = iter([0.0, 0.0, 9.0])
    monkeypatch.setattr(expire, "monotonic", lambda: next(ticks))
    assert sweep.run(later(days=4), 5) == 2
    assert sweep.after_id == Recipient.objects.order_by("id")[1].pk
    monkeypatch.setattr(expire, "monotonic", lambda: 0.0)
    assert sweep.run(later(days=4), 5) == 3
    assert sweep.after_id == 0
    assert all(scene.statuses(accepted) == ["failed"] for accepted in sends)


def test_old_mail_that_stays_is_walked_over_by_the_primary_key(scene: Scene) -> None:
    stopped = Queue.objects.create(name="stopped", paused_at=timezone.now())
    insert_waiting(scene, 20_000, queue_id=str(stopped.pk), lane=str(stopped.pk))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE sending_waiting")
    found = plans(lambda: run(4), words=("SELECT",))
    walks = [plan for sql, plan in found if "sending_waiting" in sql]
    assert len(walks) >= 8
    scans = [node for plan in walks for node in nodes(plan) if node.get("Relation Name") == "sending_waiting"]
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan"}
    assert Waiting.objects.count() == 20_000


def test_spans_in_words() -> None:
    spans = [timedelta(days=1), timedelta(hours=36), timedelta(minutes=90), timedelta(seconds=61)]
    assert [in_words(span) for span in spans] == ["1 day", "36 hours", "90 minutes", "61 seconds"]
