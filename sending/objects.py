"""The contract's objects of this floor, as plain values for JSON; the API and webhooks show the same ones.

Every query carries a range of ids; a page of sends costs one query for recipients and one for what waits.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection

from projects.objects import timestamp
from relay_project.db.ids import id_time
from sending.backlog.why import attempts_of, read_waits, reasons_of, words_of
from sending.content import StoredMessage, readable
from sending.explain import Reason
from sending.feedback import feedback_of
from sending.models import Attempt, AttemptRecipient, Feedback, Priority, Recipient, Send
from sending.search import recipients_by_send


def send_objects(sends: Sequence[Send]) -> list[dict[str, Any]]:
    """Sends as lists and webhooks show them, without attempts and feedback; two queries."""
    recipients = recipients_by_send(sends)
    waits = earliest_due([send.pk for send in sends])
    return [send_object(send, recipients[send.pk], waits.get(send.pk)) for send in sends]


def full_send_object(send: Send, now: datetime) -> dict[str, Any]:
    """One send with its attempts, its priority, and why each recipient waits: our additions to the contract."""
    recipients = recipients_by_send([send])[send.pk]
    waits = read_waits(send, now)
    attempts, results = attempts_of(send)
    feedback = feedback_of(send)
    reasons = reasons_of(send, recipients, waits, words_of(attempts, results), now, feedback)
    due = min((wait.flight.began_at if wait.flight else wait.due_at for wait in waits.values()), default=None)
    return {
        **send_object(send, recipients, due),
        "priority": Priority(send.priority).name.lower(),
        "recipients": [{**recipient_object(r), "why": reason_object(reasons[r.pk])} for r in recipients],
        "attempts": attempt_objects(attempts, results),
        "feedback": [feedback_object(row) for row in feedback],
    }


def reason_object(reason: Reason) -> dict[str, Any]:
    """Why a recipient waits, or how it ended."""
    return {
        "kind": reason.kind.value,
        "text": reason.text,
        "next_at": timestamp(reason.next_at) if reason.next_at else None,
    }


def send_object(send: Send, recipients: Iterable[Recipient], waits_until: datetime | None) -> dict[str, Any]:
    """Send. `waits_until`: when the next of its recipients is due, None when none waits."""
    return {
        "id": send.pk,
        "uuid": str(send.uuid),
        "created_at": timestamp(id_time(send.pk)),
        "from_address": send.from_address,
        "from_name": send.from_name,
        "subject": send.subject,
        "size_bytes": send.size_bytes,
        "tags": list(send.tags or ()),
        "metadata": send.metadata or {},
        "is_test": send.is_test,
        "forwarded_from": send.forwarded_from,
        "queued": waits_until is not None,
        "send_after": timestamp(waits_until or send.message_date),
        "recipients": [recipient_object(recipient) for recipient in recipients],
        "attempts": [],
        "feedback": [],
    }


def recipient_object(recipient: Recipient) -> dict[str, Any]:
    """SendRecipient."""
    return {
        "id": recipient.pk,
        "type": str(recipient.type),
        "address": recipient.address,
        "name": recipient.name,
        "status": str(recipient.status),
        "try_count": recipient.try_count,
    }


def feedback_object(row: Feedback) -> dict[str, Any]:
    """SendFeedback; what follows the id of the mail that brought it is ours."""
    return {
        "id": row.id,
        "created_at": timestamp(id_time(row.id)),
        "type": str(row.type),
        "recipient_id": row.recipient_id,
        "debug_incoming_email_id": row.mail_id,
        "attempt_id": row.attempt_id,
        "class": row.bounce_class or None,
        "status": row.status or None,
        "text": row.reason,
        "is_proven": row.is_proven,
    }


def attempt_objects(attempts: Iterable[Attempt], results: Iterable[AttemptRecipient]) -> list[dict[str, Any]]:
    """A send's attempts, the newest first."""
    by_attempt: dict[int, list[AttemptRecipient]] = defaultdict(list)
    for row in results:
        by_attempt[row.attempt_id].append(row)
    newest = sorted(attempts, key=lambda attempt: -attempt.pk)
    return [attempt_object(attempt, by_attempt[attempt.pk]) for attempt in newest]


def attempt_object(attempt: Attempt, results: Iterable[AttemptRecipient]) -> dict[str, Any]:
    """SendAttempt."""
    return {
        "id": attempt.pk,
        "created_at": timestamp(id_time(attempt.pk)),
        "status": str(attempt.status),
        "try_count": attempt.try_count,
        "domain": attempt.domain,
        "resolved_mx_hosts": attempt.resolved_mx_hosts,
        "responded_mx_host": attempt.responded_mx_host,
        "smtp_conversations": attempt.smtp_conversations or _unspoken(attempt),
        "tls": attempt.tls,
        "duration_ms": attempt.duration_ms,
        "recipients": [_attempt_recipient_object(result) for result in results],
    }


def _unspoken(attempt: Attempt) -> dict[str, Any]:
    """Nobody was reached, or the sender died: one conversation without a step, under the domain, says what went wrong."""
    if not attempt.network_error:
        return {}
    return {
        attempt.domain: {
            "start_time": id_time(attempt.pk).isoformat(timespec="milliseconds"),
            "duration_ms": attempt.duration_ms,
            "network_error": attempt.network_error,
            "steps": [],
        }
    }


def _attempt_recipient_object(result: AttemptRecipient) -> dict[str, Any]:
    """SendAttemptRecipient."""
    return {
        "id": result.pk,
        "created_at": timestamp(id_time(result.pk)),
        "recipient_id": result.recipient_id,
        "recipient_status": str(result.recipient_status),
        "smtp_code": result.smtp_code,
        "smtp_enhanced_code": result.smtp_enhanced_code,
        "smtp_message": result.smtp_message,
        "is_suppressed": result.is_suppressed,
        "category": result.category,  # this and `rule` are our additions
        "rule": result.rule,
    }


def content_object(stored: StoredMessage, raw: bytes) -> dict[str, Any]:
    """SendContent. `raw` is text: only in a customer's own MIME may octets be no UTF-8."""
    stored = readable(stored)
    return {
        "body_html": stored.body_html,
        "body_text": stored.body_text,
        "headers": {name.lower(): value for name, value in stored.headers},
        "raw": raw.decode("utf-8", "replace"),
    }


_EARLIEST = """
SELECT send_id, min(CASE WHEN attempt_id IS NULL THEN due_at ELSE id_time(attempt_id) END)
  FROM sending_waiting WHERE send_id = ANY(%s) GROUP BY send_id
"""


def earliest_due(send_ids: Sequence[int]) -> Mapping[int, datetime]:
    """When the next recipient of each send is due; what is in flight was due when its attempt began."""
    if not send_ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_EARLIEST, [list(send_ids)])
        return dict(cursor.fetchall())
