"""What receivers are told of an event: one body for webhooks, mailboxes and the live stream.

`event` and `payload` are the contract's, and of its eleven kinds the payload has the contract's keys; the others are ours.
A batch costs a handful of queries. What retention has taken since is told by what the event itself says of it; a recipient
is shown as the event left it, whatever happened to it after.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.db import DatabaseError

from projects.event_registry import REGISTRY
from projects.events import PAYLOAD_VERSION, EventKind
from projects.objects import timestamp
from relay_project.db.ids import by_day, hours_after, id_soon
from relay_project.mail.address import suppression_key
from sending.models import Attempt, AttemptRecipient, Send, Suppression
from sending.objects import attempt_object, send_objects
from sending.suppressions.objects import suppression_object
from webhooks.feed import FeedEvent

Object = dict[str, Any]
Payload = Mapping[str, Any]

log = structlog.get_logger(__name__)

EXAMPLE_ID = 6  # of what the example's payload has no object of
_RESULT_HOURS = 24  # an attempt's results are written when it is settled: within minutes, unless the database was away
_SENDS = (
    "id", "uuid", "project_id", "from_address", "from_name", "subject", "size_bytes", "message_date", "tags", "metadata",
    "is_test", "list", "forwarded_from",
)  # fmt: skip
# What an event of a recipient says of it.
_OF_RECIPIENT = ("address", "status", "try_count")
# What an event carries about its send: the send's own object shows it.
_LABELS = ("tags", "metadata", "is_test")


@dataclass(slots=True)
class _Known:
    """What was found of what a batch of events names."""

    sends: dict[int, Object] = field(default_factory=dict)
    lists: dict[int, str | None] = field(default_factory=dict)
    attempts: dict[int, Object] = field(default_factory=dict)
    suppressions: dict[str, list[Suppression]] = field(default_factory=dict)


def bodies(events: Sequence[FeedEvent]) -> list[Object]:
    """The body of each event, as plain values for JSON, in their order.

    An event whose body cannot be made is told by what it carries: all projects' webhooks would stand still behind it.
    """
    try:
        return _bodies(events)
    except DatabaseError:
        raise
    except Exception:
        if len(events) == 1:
            log.exception("webhooks.body_failed", event_id=events[0].id)
            return [body_of(events[0], events[0].payload)]
    middle = len(events) // 2
    return bodies(events[:middle]) + bodies(events[middle:])


def _bodies(events: Sequence[FeedEvent]) -> list[Object]:
    known = _Known()
    about_sends = [event for event in events if event.subject_kind == "send"]
    if about_sends:
        _read_sends(known, {event.subject_id for event in about_sends})
        _read_attempts(known, {number for event in about_sends if (number := _number(event, "attempt_id"))})
        _read_suppressions(known, [event for event in about_sends if event.kind == EventKind.SUPPRESSED])
    return [body_of(event, _payload(event, known)) for event in events]


def body_of(event: FeedEvent, payload: Payload) -> Object:
    """What is told of an event around its payload."""
    return {
        "event": event.kind,
        "payload": payload,
        "id": str(event.id),
        "created_at": timestamp(event.created_at),
        "project_id": event.project_id,
        "subject": {"kind": event.subject_kind, "id": event.subject_id},
        "version": event.version,
    }


def example_event(kind: EventKind, event_id: int, project_id: int) -> FeedEvent:
    """The event of the documentation's example, as if it had happened."""
    about, payload = REGISTRY[kind].subject, REGISTRY[kind].payload
    inside = payload.get(about)
    subject_id = inside["id"] if isinstance(inside, dict) else project_id if about == "project" else EXAMPLE_ID
    return FeedEvent(0, event_id, project_id, kind.value, about, subject_id, PAYLOAD_VERSION, payload)


def _payload(event: FeedEvent, known: _Known) -> Object:
    if event.subject_kind == "send":
        return _of_send(event, known)
    if event.kind in (EventKind.SUPPRESSION_CREATED, EventKind.SUPPRESSION_DELETED):
        told = {"id": event.subject_id, "created_at": timestamp(event.created_at), **event.payload}
        return {"suppression": told}
    return event.payload


# --- Sends ----------------------------------------------------------------------------------------------------------


def _of_send(event: FeedEvent, known: _Known) -> Object:
    told = event.payload
    recipient_id = _number(event, "recipient_id")
    send = known.sends.get(event.subject_id) or {"id": event.subject_id, **{k: told[k] for k in _LABELS if k in told}}
    if recipient_id is None:
        return {"send": send, **{key: value for key, value in told.items() if key not in _LABELS}}
    recipient = _recipient(send, recipient_id, told)
    payload = {"send": _with(send, recipient), "recipient": recipient}
    tell = _TELLING.get(event.kind)
    return payload | (tell(event, known) if tell else _rest(told))


def _recipient(send: Payload, recipient_id: int, told: Payload) -> Object:
    """The recipient as this event left it."""
    found = next((each for each in send.get("recipients", ()) if each["id"] == recipient_id), {"id": recipient_id})
    return {**found, **{key: told[key] for key in _OF_RECIPIENT if key in told}}


def _with(send: Object, recipient: Object) -> Object:
    """The send with its recipient as the event left it; the send's object is shared by a batch's events."""
    if "recipients" not in send:
        return send
    return {**send, "recipients": [recipient if each["id"] == recipient["id"] else each for each in send["recipients"]]}


def _attempt(event: FeedEvent, known: _Known) -> Object:
    """The attempt; null where there was none, as when mail waited too long."""
    attempt_id = _number(event, "attempt_id")
    return {"attempt": None if attempt_id is None else known.attempts.get(attempt_id, {"id": attempt_id})}


def _bounce(event: FeedEvent, known: _Known) -> Object:
    """By a report, or by a reply in a conversation."""
    told = event.payload
    return {"bounce": told["bounce"]} if "bounce" in told else _attempt(event, known)


def _complaint(event: FeedEvent, known: _Known) -> Object:
    return {"complaint": event.payload.get("complaint")}


def _suppression(event: FeedEvent, known: _Known) -> Object:
    """What the address is suppressed by; null where it is no more."""
    project_id, list_name = event.project_id, known.lists.get(event.subject_id)
    rows = known.suppressions.get(suppression_key(str(event.payload.get("address", ""))), [])
    for row in rows:  # those of all mail of the project come first, the installation's last
        if row.project_id == project_id or (row.list_project_id == project_id and row.list == list_name):
            return {"suppression": suppression_object(row)}
        if row.project_id is None and row.list_project_id is None:
            return {"suppression": suppression_object(row) | {"description": None}}  # that note is staff's own
    return {"suppression": None}


def _rest(told: Payload) -> Object:
    """Kinds of ours: what the event says that the objects do not."""
    hidden = {"recipient_id", "attempt_id", *_OF_RECIPIENT, *_LABELS}
    return {key: value for key, value in told.items() if key not in hidden}


# The third key of the contract's payloads.
_TELLING: Mapping[str, Callable[[FeedEvent, _Known], Object]] = {
    EventKind.ACCEPTED: _attempt,
    EventKind.DEFERRED: _attempt,
    EventKind.FAILED: _attempt,
    EventKind.BOUNCED: _bounce,
    EventKind.COMPLAINED: _complaint,
    EventKind.SUPPRESSED: _suppression,
}


# --- Reading --------------------------------------------------------------------------------------------------------


def _read_sends(known: _Known, send_ids: Iterable[int]) -> None:
    for ids in by_day(send_ids):
        sends = list(Send.objects.filter(id__in=ids, id__gte=ids[0], id__lte=ids[-1]).only(*_SENDS))
        known.sends.update((told["id"], told) for told in send_objects(sends))
        known.lists.update((send.pk, send.list) for send in sends)


def _read_attempts(known: _Known, attempt_ids: Iterable[int]) -> None:
    for ids in by_day(attempt_ids):
        attempts = Attempt.objects.filter(id__in=ids, id__gte=ids[0], id__lte=ids[-1])
        until = min(hours_after(ids[-1], _RESULT_HOURS), id_soon())
        results: dict[int, list[AttemptRecipient]] = defaultdict(list)
        for row in AttemptRecipient.objects.filter(attempt_id__in=ids, id__gte=ids[0], id__lt=until).order_by("id"):
            results[row.attempt_id].append(row)
        known.attempts.update((attempt.pk, attempt_object(attempt, results[attempt.pk])) for attempt in attempts)


def _read_suppressions(known: _Known, events: Sequence[FeedEvent]) -> None:
    if not events:
        return
    keys = {suppression_key(str(event.payload.get("address", ""))) for event in events}
    projects = {event.project_id for event in events}
    lists = {name for name in known.lists.values() if name is not None}
    found = Suppression.objects.filter(email__in=keys).order_by("id")
    # one after the other, as each has an index of its own
    for rows in (
        found.filter(project_id__in=projects),
        found.filter(list_project_id__in=projects, list__in=lists) if lists else (),
        found.filter(project__isnull=True, list_project__isnull=True),
    ):
        for row in rows:
            known.suppressions.setdefault(row.email, []).append(row)


def _number(event: FeedEvent, name: str) -> int | None:
    value = event.payload.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
