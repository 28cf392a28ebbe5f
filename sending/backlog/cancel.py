"""Cancelling: recipients that wait end as `cancelled`, each with its event; what is in flight is left and counted.

One transaction that locks in the order of all others: waiting rows by id, recipients by id.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from projects.access import Caller, record_by
from projects.events import EventKind, NewEvent, emit_many
from relay_project.mail.text import clean
from sending.labels import NONE, Labels, labels_of
from sending.models import WAITING_STATUSES, RecipientStatus, Send

MAX_REASON = 255  # characters


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What became of the recipients that waited."""

    cancelled: int
    in_flight: int


def cancel_send(send: Send, reason: str) -> Cancelled:
    """Take back what of a send has not left."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT recipient_id, attempt_id IS NULL FROM sending_waiting WHERE send_id = %s "
            "ORDER BY recipient_id FOR UPDATE",
            [send.pk],
        )
        rows = cursor.fetchall()
        free = [recipient_id for recipient_id, is_free in rows if is_free]
        return Cancelled(cancel_locked(cursor, free, reason), len(rows) - len(free))


def cancel_by(send: Send, reason: str, caller: Caller) -> Cancelled:
    """The same as somebody of the project asks it, with its audit entry."""
    with transaction.atomic():
        found = cancel_send(send, reason)
        if found.cancelled:
            detail = {"cancelled": found.cancelled, "in_flight": found.in_flight, "reason": clean(reason, MAX_REASON)}
            record_by(caller, "send.cancelled", send, send.project, **detail)
    return found


def cancel_locked(cursor: CursorWrapper, recipient_ids: Sequence[int], reason: str) -> int:
    """End recipients whose waiting rows the caller has locked, in order, none of them in flight; returns how many."""
    if not recipient_ids:
        return 0
    ids = sorted(recipient_ids)
    cursor.execute(
        """WITH locked AS MATERIALIZED (
             SELECT id FROM sending_recipient WHERE id = ANY(%(ids)s) AND id BETWEEN %(low)s AND %(high)s
                AND status = ANY(%(open)s) ORDER BY id FOR UPDATE)
           UPDATE sending_recipient r SET status = %(cancelled)s FROM locked
            WHERE r.id = locked.id AND r.id BETWEEN %(low)s AND %(high)s
        RETURNING r.id, r.send_id, r.project_id, r.address, r.try_count""",
        {
            "ids": ids,
            "low": ids[0],
            "high": ids[-1],
            "open": [status.value for status in WAITING_STATUSES],
            "cancelled": RecipientStatus.CANCELLED.value,
        },
    )
    ended = sorted(cursor.fetchall())
    cursor.execute("DELETE FROM sending_waiting WHERE recipient_id = ANY(%s)", [ids])
    text = clean(reason, MAX_REASON).strip()
    known = labels_of(cursor, {row[1] for row in ended})
    emit_many(cursor, [_event(row, text, known.get(row[1], NONE)) for row in ended])
    return len(ended)


def _event(row: tuple[int, int, int, str, int], reason: str, known: Labels) -> NewEvent:
    recipient_id, send_id, project_id, address, try_count = row
    payload = {
        "recipient_id": recipient_id,
        "address": address,
        "status": RecipientStatus.CANCELLED.value,
        "try_count": try_count,
        "reason": reason,
        **known,
    }
    return NewEvent(project_id, EventKind.CANCELLED, "send", send_id, payload)
