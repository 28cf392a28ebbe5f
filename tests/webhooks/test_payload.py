"""webhooks.payload: the bodies that receivers get, with the contract's keys, in a handful of queries."""

from typing import Any

import orjson
from django.db import connection
from django.utils import timezone

from projects.events import EventKind, NewEvent, emit, sequence_outbox
from relay_project.mail.reply import Reply
from sending.deliver.settle import settle
from sending.models import Attempt, Recipient, Send, Suppression
from sending.suppressions.objects import suppression_object
from tests.sending.conftest import scene  # noqa: F401
from tests.sending.scene import LATER, MISSING, OK, Scene, answered
from webhooks.feed import FeedEvent, read_feed
from webhooks.payload import bodies

SEND_KEYS = {
    "id", "uuid", "created_at", "from_address", "from_name", "subject", "size_bytes", "queued", "send_after",
    "recipients", "attempts", "feedback",
}  # fmt: skip
RECIPIENT_KEYS = {"id", "type", "address", "name", "status", "try_count"}


def told() -> list[dict[str, Any]]:
    """The bodies of all events so far, as a receiver reads them."""
    with connection.cursor() as cursor:
        sequence_outbox(cursor)
        made = bodies(read_feed(cursor, 0).events)
    return [orjson.loads(orjson.dumps(body)) for body in made]


def test_an_attempts_events_carry_send_recipient_and_attempt_as_the_contract(scene: Scene) -> None:  # noqa: F811
    accepted = scene.send("ann@one.example", "bob@one.example", "carol@one.example", tags=["spring"])
    settle([answered(scene.job(), OK, MISSING, LATER)], timezone.now())
    bodies_of = {body["event"]: body for body in told() if body["event"].startswith("send.recipient.")}
    assert set(bodies_of) == {f"send.recipient.{word}" for word in ("accepted", "bounced", "deferred")}
    for kind, body in bodies_of.items():
        assert list(body)[:2] == ["event", "payload"], "the contract's come first"
        assert list(body)[2:] == ["id", "created_at", "project_id", "subject", "version"]
        payload = body["payload"]
        assert list(payload) == ["send", "recipient", "attempt"]
        assert set(payload["send"]) >= SEND_KEYS
        assert (payload["send"]["id"], payload["send"]["attempts"], payload["send"]["feedback"]) == (
            accepted.send_id, [], []
        )  # fmt: skip
        assert set(payload["recipient"]) == RECIPIENT_KEYS
        assert payload["recipient"]["status"] == kind.rpartition(".")[2]
        assert len(payload["attempt"]["recipients"]) == 3
        assert (body["project_id"], body["id"].isdecimal()) == (scene.project.pk, True)
        assert (body["subject"], body["version"]) == ({"kind": "send", "id": accepted.send_id}, 1)


def test_a_recipient_is_shown_as_its_event_left_it(scene: Scene) -> None:  # noqa: F811
    scene.send("ann@one.example")
    settle([answered(scene.job(), LATER)], timezone.now())
    Recipient.objects.update(status="accepted", try_count=2)
    [payload] = [body["payload"] for body in told() if body["event"] == EventKind.DEFERRED]
    assert (payload["recipient"]["status"], payload["recipient"]["try_count"]) == ("deferred", 1)
    assert payload["send"]["recipients"] == [payload["recipient"]]


def test_a_suppressed_recipient_comes_with_what_suppresses_it(scene: Scene) -> None:  # noqa: F811
    row = Suppression.objects.create(project=scene.project, email="ann@one.example", reason="manual")
    hidden = Suppression.objects.create(email="bob@one.example", reason="manual", description="of staff")
    scene.send("Ann@one.example", "bob@one.example")
    ours, everybodys = (body["payload"] for body in told() if body["event"] == EventKind.SUPPRESSED)
    assert list(ours) == ["send", "recipient", "suppression"]
    assert ours["suppression"] == suppression_object(row)
    assert (everybodys["suppression"]["id"], everybodys["suppression"]["description"]) == (hidden.pk, None)
    Suppression.objects.all().delete()
    assert all(b["payload"]["suppression"] is None for b in told() if b["event"] == EventKind.SUPPRESSED)


def event(kind: str, subject_kind: str, subject_id: int, **payload: Any) -> FeedEvent:
    return FeedEvent(1, 7 << 40, 3, kind, subject_kind, subject_id, 1, payload)


def body_of(told_event: FeedEvent) -> dict[str, Any]:
    [body] = bodies([told_event])
    return body


def test_what_is_gone_is_told_by_what_the_event_says(scene: Scene) -> None:  # noqa: F811
    """Retention takes sends and attempts before their events, and mail that waited too long had no attempt."""
    gone = event(
        EventKind.FAILED, "send", 5 << 40, recipient_id=6 << 40, attempt_id=8 << 40, address="ann@one.example",
        status="failed", try_count=7, tags=["spring"],
    )  # fmt: skip
    assert body_of(gone)["payload"] == {
        "send": {"id": 5 << 40, "tags": ["spring"]},
        "recipient": {"id": 6 << 40, "address": "ann@one.example", "status": "failed", "try_count": 7},
        "attempt": {"id": 8 << 40},
    }
    assert (
        body_of(event(EventKind.FAILED, "send", 5 << 40, recipient_id=6, attempt_id=None))["payload"]["attempt"] is None
    )
    assert "recipient" not in body_of(event("send.other", "send", 5 << 40, recipient_id="six"))["payload"]


def test_reports_suppressions_and_our_own_kinds(scene: Scene) -> None:  # noqa: F811
    bounce = {"text": "No such mailbox", "status": "5.1.1"}
    of_report = event(EventKind.BOUNCED, "send", 5, recipient_id=6, attempt_id=7, bounce=bounce, smtp_code=550)
    assert list(body_of(of_report)["payload"]) == ["send", "recipient", "bounce"]
    complaint = {"text": "spam", "feedback_type": "abuse"}
    assert body_of(event(EventKind.COMPLAINED, "send", 5, recipient_id=6, complaint=complaint))["payload"]["complaint"] == complaint  # fmt: skip # noqa: E501
    cancelled = event(
        EventKind.CANCELLED, "send", 5, recipient_id=6, address="a@b.c", status="cancelled", reason="typo"
    )
    assert body_of(cancelled)["payload"]["reason"] == "typo"
    created = body_of(event(EventKind.SUPPRESSION_CREATED, "suppression", 9, email="a@b.c", reason="bounce"))
    assert created["payload"] == {
        "suppression": {"id": 9, "created_at": created["created_at"], "email": "a@b.c", "reason": "bounce"}
    }
    status = {"domain": {"id": 2}, "old_status": "pending", "new_status": "active", "dkim_result": {}}
    assert body_of(event(EventKind.DOMAIN_STATUS_CHANGED, "domain", 2, **status))["payload"] == status


def test_a_batch_costs_a_handful_of_queries(scene: Scene, django_assert_max_num_queries) -> None:  # noqa: F811
    for number in range(6):
        scene.send(f"ann{number}@one.example", f"bob{number}@two.example")
    settle([answered(job, *(Reply(250, "2.0.0", "ok") for _ in job.targets)) for job in scene.jobs()], timezone.now())
    emit(NewEvent(scene.project.pk, "domain.created", "domain", 1, {"domain": {}}))
    with connection.cursor() as cursor:
        sequence_outbox(cursor)
        events = read_feed(cursor, 0).events
        assert (len(events) >= 13, Send.objects.count(), Attempt.objects.count()) == (True, 6, 12)
        with django_assert_max_num_queries(6):
            bodies(events)
