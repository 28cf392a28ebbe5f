"""Another time for a send that has not been tried: its rows, its Date and its DKIM `t=` move together.

One transaction that locks in the order of all others, waiting rows by id. A row that a sender took meanwhile is skipped by
nobody: it is seen here, and the wish is refused.
"""

from datetime import UTC, datetime

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from relay_project import jobs
from relay_project.db.ids import hours_after
from sending.accept.rules import MAX_AHEAD
from sending.models import Phase, RecipientStatus, Send

NOTHING_WAITS = "Nothing of this send waits any more"
WAS_TRIED = "This send has been tried already, so its time cannot be moved"
TOO_FAR = "A mail cannot be scheduled more than 30 days ahead."


class RescheduleRefused(ValueError):
    """The time cannot be moved, or not there."""


def reschedule(send: Send, send_after: int, now: datetime) -> int:
    """Let a send wait until `send_after` (Unix seconds; past: now). Returns how many recipients; raises RescheduleRefused."""
    if send_after > (now + MAX_AHEAD).timestamp():
        raise RescheduleRefused(TOO_FAR)
    due_at = max(now, datetime.fromtimestamp(max(send_after, 0), UTC))
    with transaction.atomic(), connection.cursor() as cursor:
        _check_untried(cursor, send)
        cursor.execute(
            "UPDATE sending_waiting SET phase = %s, due_at = %s, since = %s, held_site_id = NULL WHERE send_id = %s",
            [(Phase.DUE if due_at <= now else Phase.LATER).value, due_at, due_at, send.pk],
        )
        moved = int(cursor.rowcount)
        move_date(cursor, send, due_at)
        if due_at <= now:
            jobs.wake_on_commit(jobs.DRAIN, jobs.drain_queue(send.queue_id))
    return moved


def move_date(cursor: CursorWrapper, send: Send, moment: datetime) -> None:
    """Date and DKIM `t=`, for who knows that no conversation has shown them to anybody."""
    date = moment.replace(microsecond=0)
    cursor.execute("UPDATE sending_send SET message_date = %s WHERE id = %s", [date, send.pk])
    send.message_date = date


def _check_untried(cursor: CursorWrapper, send: Send) -> None:
    cursor.execute(
        "SELECT attempt_id IS NULL AND tries = 0 AND lost = 0 FROM sending_waiting WHERE send_id = %s "
        "ORDER BY recipient_id FOR UPDATE",
        [send.pk],
    )
    untried = [fresh for (fresh,) in cursor.fetchall()]
    if not untried:
        raise RescheduleRefused(NOTHING_WAITS)
    cursor.execute(
        """SELECT EXISTS (SELECT FROM sending_recipient WHERE send_id = %s AND id >= %s AND id < %s
                             AND (try_count > 0 OR NOT status = ANY(%s)))
               OR EXISTS (SELECT FROM sending_signature WHERE send_id = %s)""",
        [
            send.pk,
            send.pk,
            hours_after(send.pk, 1),
            [RecipientStatus.QUEUED.value, RecipientStatus.SUPPRESSED.value, RecipientStatus.CANCELLED.value],
            send.pk,
        ],
    )
    if not all(untried) or cursor.fetchone()[0]:
        raise RescheduleRefused(WAS_TRIED)
