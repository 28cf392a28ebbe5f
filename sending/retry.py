"""Trying again: what waits is due now; recipients that were given up wait anew.

One transaction that locks in the order of all others (waiting rows by id, recipients by id) and leaves alone what is in
flight: only settle, give-back and the sweeper move that. No event: nothing has happened to a recipient yet, unless its
address was suppressed since: then it is final as `suppressed`, as when it were sent now.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from projects.events import NewEvent, emit_many
from projects.life import stop_of
from projects.models import Domain
from projects.models.domain import MAY_SEND
from relay_project import jobs
from relay_project.db.ids import MAX_ID, hours_after
from sending.accept.rules import MAX_AHEAD
from sending.models import TEST_LANE, Phase, RecipientStatus, Send
from sending.reschedule import move_date
from sending.suppress import suppressed_among

IN_THE_PAST = "You cannot schedule a retry in the past"
TOO_FAR = "You cannot schedule a retry more than 30 days ahead"
NONE_FAILED = "No failed recipients to retry"
NONE_MATCHES = "No matching failed recipients found for the provided IDs"
NO_CONTENT = "The content of this send is no longer kept"
MAY_NOT_SEND = "Domain {} is not allowed to send emails (status: {})"  # as accept() says it


class RetryRefused(ValueError):
    """There is nothing to try again, or not at that time; the text is the contract's."""


def retry(send: Send, now: datetime, send_after: int | None = None, recipient_ids: Sequence[int] | None = None) -> int:
    """Try a send again; returns how many failed recipients wait anew.

    While anything of the send still waits, that is due now, the other inputs are ignored and the answer is 0. Otherwise
    every failed recipient (of `recipient_ids`, when given) that is not suppressed by now waits from `send_after` (Unix
    seconds) or now on with its tries counted from 0, if their domain may send: one that staff suspended sends nothing
    again. Raises RetryRefused.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if _lock_waiting(cursor, send):
            retried, is_due = 0, _hurry(cursor, send, now) > 0
            if is_due and send.message_date > now:  # scheduled: a mail dated in the future scores as spam
                move_date(cursor, send, now)
        else:
            _check_project(send)
            _check_domain(send)
            _check_content(cursor, send)
            due_at = _due_at(send_after, now)
            retried, is_due = _revive(cursor, send, due_at, recipient_ids, now), due_at <= now
        if is_due:
            jobs.wake_on_commit(jobs.DRAIN, jobs.drain_queue(send.queue_id))
    return retried


def _check_project(send: Send) -> None:
    if stop := stop_of(send.project):
        raise RetryRefused(stop)


def _check_domain(send: Send) -> None:
    """What accept() asks of the sender's domain; mail of one that was deleted goes on its way."""
    domain = Domain.objects.filter(pk=send.domain_id).first()
    if domain is not None and domain.status not in MAY_SEND:
        raise RetryRefused(MAY_NOT_SEND.format(domain.domain, domain.status))


def _check_content(cursor: CursorWrapper, send: Send) -> None:
    """There is something to send, and until the commit nobody removes it: retention looks again once this is over."""
    cursor.execute("SELECT FROM sending_content WHERE id = %s FOR SHARE", [send.content_id])
    if cursor.rowcount == 0:
        raise RetryRefused(NO_CONTENT)


def _due_at(send_after: int | None, now: datetime) -> datetime:
    if send_after is None:
        return now
    if send_after <= now.timestamp():
        raise RetryRefused(IN_THE_PAST)
    if send_after > (now + MAX_AHEAD).timestamp():
        raise RetryRefused(TOO_FAR)
    return datetime.fromtimestamp(send_after, UTC)


def _lock_waiting(cursor: CursorWrapper, send: Send) -> bool:
    """Whether anything of the send waits."""
    cursor.execute("SELECT FROM sending_waiting WHERE send_id = %s ORDER BY recipient_id FOR UPDATE", [send.pk])
    return bool(cursor.rowcount > 0)


def _hurry(cursor: CursorWrapper, send: Send, now: datetime) -> int:
    """Make later rows due; held ones keep their place in their site's queue, whose next slot no wish brings nearer."""
    cursor.execute(
        """UPDATE sending_waiting SET phase = %s, due_at = least(due_at, %s)
            WHERE send_id = %s AND phase = %s AND attempt_id IS NULL""",
        [Phase.DUE.value, now, send.pk, Phase.LATER.value],
    )
    return int(cursor.rowcount)


_LOCK_FAILED = """
SELECT id, address FROM sending_recipient
 WHERE send_id = %(send)s AND id >= %(send)s AND id < %(top)s AND status = %(failed)s
   AND (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s::bigint[]))
 ORDER BY id FOR UPDATE
"""
_SUPPRESS = """
UPDATE sending_recipient SET status = %(suppressed)s WHERE id = ANY(%(ids)s) AND id >= %(send)s AND id < %(top)s
"""
_REVIVE = """
WITH revived AS (
  UPDATE sending_recipient SET status = %(queued)s, try_count = 0
   WHERE send_id = %(send)s AND id = ANY(%(ids)s) AND id >= %(send)s AND id < %(top)s
  RETURNING id, address)
INSERT INTO sending_waiting (recipient_id, send_id, project_id, queue_id, lane, priority, domain, size_bytes, phase,
                             due_at, tries, lost, since)
SELECT id, %(send)s, %(project)s, %(queue)s, %(lane)s, %(priority)s, substring(address from '[^@]*$'), %(size)s,
       %(phase)s, %(due)s, 0, 0, %(due)s
  FROM revived ORDER BY id
ON CONFLICT (recipient_id) DO NOTHING
"""


def _revive(
    cursor: CursorWrapper, send: Send, due_at: datetime, recipient_ids: Sequence[int] | None, now: datetime
) -> int:
    """Failed recipients wait again; two calls at once: the second finds them queued and refuses."""
    values: dict[str, Any] = {
        "send": send.pk,
        "top": hours_after(send.pk, 1),
        "failed": RecipientStatus.FAILED.value,
        "queued": RecipientStatus.QUEUED.value,
        "ids": None if recipient_ids is None else [i for i in recipient_ids if 0 < i <= MAX_ID],
    }
    cursor.execute(_LOCK_FAILED, values)
    failed: dict[int, str] = dict(cursor.fetchall())
    if not failed:
        raise RetryRefused(NONE_FAILED if recipient_ids is None else NONE_MATCHES)
    ids = _not_suppressed(cursor, send, failed, values)
    waiting: dict[str, Any] = {
        "project": send.project_id,
        "queue": send.queue_id,
        "lane": TEST_LANE if send.is_test else send.queue_id,
        "priority": send.priority,
        "size": send.size_bytes,
        "due": due_at,
        "phase": (Phase.DUE if due_at <= now else Phase.LATER).value,
    }
    cursor.execute(_REVIVE, {**values, **waiting, "ids": ids})
    return len(ids)


def _not_suppressed(cursor: CursorWrapper, send: Send, failed: dict[int, str], values: dict[str, Any]) -> list[int]:
    """Those of the recipients (id → address) that may be tried again; the others end as suppressed."""
    suppressed = suppressed_among(cursor, send.project_id, set(failed.values()), send.list)
    ended = [recipient_id for recipient_id, address in failed.items() if address in suppressed]
    if ended:
        cursor.execute(_SUPPRESS, {**values, "ids": ended, "suppressed": RecipientStatus.SUPPRESSED.value})
        emit_many(cursor, [_event(send, recipient_id, failed[recipient_id]) for recipient_id in ended])
    return [recipient_id for recipient_id, address in failed.items() if address not in suppressed]


def _event(send: Send, recipient_id: int, address: str) -> NewEvent:
    payload = {"recipient_id": recipient_id, "address": address, "status": RecipientStatus.SUPPRESSED.value}
    return NewEvent(send.project_id, "send.recipient.suppressed", "send", send.pk, payload)
