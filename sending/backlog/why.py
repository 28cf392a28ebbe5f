"""Why does it wait? The facts behind each recipient of a send, read from the tables; `sending.explain` says them.

A dozen small queries for a send with something that waits, one without; every look at a table of what happened carries a
range of ids. What lives in a sender's memory alone (who has a connection at this moment) is not known here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.backends.utils import CursorWrapper

from ips.carriers import carrier, carriers_of
from projects.events import EventKind
from projects.models import Domain, DomainStatus, Event
from projects.models.domain import MAY_SEND
from relay_project.db.ids import id_soon, id_time
from sending.explain import Ahead, Flight, Hold, LastWord, Pause, Reason, Wait, explain, reply_text
from sending.feedback import feedback_of, said
from sending.models import (
    TEST_LANE,
    Attempt,
    AttemptRecipient,
    Feedback,
    FeedbackType,
    Phase,
    Recipient,
    RecipientStatus,
    Send,
)

MOST_AHEAD = 1000  # counted; an index probe each

LastWords = Mapping[int, LastWord]  # by recipient


def why(send: Send, recipients: Sequence[Recipient], now: datetime, last: LastWords | None = None) -> dict[int, Reason]:
    """The present reason for each of a send's recipients. `last`: what the last attempts brought, when it is known."""
    last = words_of(*attempts_of(send)) if last is None else last
    return reasons_of(send, recipients, read_waits(send, now), last, now)


def reasons_of(
    send: Send,
    recipients: Iterable[Recipient],
    waits: Mapping[int, Wait],
    last: LastWords,
    now: datetime,
    feedback: Sequence[Feedback] | None = None,
) -> dict[int, Reason]:
    """The same from facts that were read already; of the feedback, where it was."""
    recipients = list(recipients)
    cancelled = _cancelled(send) if any(r.status == RecipientStatus.CANCELLED for r in recipients) else {}
    if feedback is None:
        feedback = feedback_of(send) if any(r.status == RecipientStatus.BOUNCED for r in recipients) else []
    reported = {row.recipient_id: said(row) for row in feedback if row.type == FeedbackType.BOUNCE}
    return {
        recipient.pk: explain(
            recipient.status,
            waits.get(recipient.pk),
            last.get(recipient.pk),
            settings.RETRY_SCHEDULE.max_tries,
            now,
            cancelled.get(recipient.pk, ""),
            reported.get(recipient.pk, ""),
        )
        for recipient in recipients
    }


# --- What the last attempts brought ----------------------------------------------------------------------------------


def attempts_of(send: Send) -> tuple[list[Attempt], list[AttemptRecipient]]:
    """A send's attempts and their results, the oldest first; two queries."""
    bounds = {"send_id": send.pk, "id__gte": send.pk, "id__lt": id_soon()}
    attempts = list(Attempt.objects.filter(**bounds).order_by("id"))
    return attempts, list(AttemptRecipient.objects.filter(**bounds).order_by("id")) if attempts else []


def words_of(attempts: Iterable[Attempt], results: Iterable[AttemptRecipient]) -> dict[int, LastWord]:
    """Of attempts that were read already, the oldest first."""
    by_id = {attempt.pk: attempt for attempt in attempts}
    words = {}
    for result in sorted(results, key=lambda result: (result.attempt_id, result.pk)):
        attempt = by_id.get(result.attempt_id)
        if attempt is not None:
            words[result.recipient_id] = _word(attempt, result)
    return words


def _word(attempt: Attempt, result: AttemptRecipient) -> LastWord:
    said = reply_text(result.smtp_code, result.smtp_enhanced_code, result.smtp_message, attempt.network_error)
    by = attempt.responded_mx_host or "" if result.smtp_code else ""
    return LastWord(by, said, attempt.try_count, result.is_suppressed, result.rule)


def _cancelled(send: Send) -> dict[int, str]:
    """Why recipients were taken back, as the events tell."""
    events = Event.objects.filter(
        subject_id=send.pk, id__gte=send.pk, id__lt=id_soon(), subject_kind="send", kind=EventKind.CANCELLED
    )
    payloads = events.values_list("payload", flat=True)
    return {payload["recipient_id"]: str(payload.get("reason", "")) for payload in payloads}


# --- The ledger ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """A waiting row with what it refers to."""

    recipient_id: int
    project_id: int
    queue_id: int
    lane: int
    priority: int
    phase: int
    due_at: datetime
    tries: int
    attempt_id: int | None
    lease_until: datetime | None
    sender_id: int | None
    server: str | None
    address: str | None
    queue: str | None
    paused_at: datetime | None
    pause_reason: str | None
    held_site_id: int | None
    site: str | None
    reason: str | None
    next_slot: datetime | None
    site_pause: str | None
    suspended_at: datetime | None
    suspend_reason: str | None

    @property
    def place(self) -> tuple[int, ...]:
        """Rows of one place have the same before them, but for each other."""
        return self.lane, self.priority, self.project_id, self.phase, self.held_site_id or 0


_WAITS = """
SELECT w.recipient_id, w.project_id, w.queue_id, w.lane, w.priority, w.phase, w.due_at, w.tries, w.attempt_id,
       w.lease_until, w.sender_id, v.hostname, host(i.address), q.name, q.paused_at, q.pause_reason,
       w.held_site_id, h.site, h.reason, h.next_slot,
       (SELECT l.pause_reason FROM ips_sitelimit l WHERE l.site = h.site AND l.paused_at IS NOT NULL
           AND (l.source_ip_id IS NULL OR l.source_ip_id = h.source_ip_id) LIMIT 1),
       p.suspended_at, p.suspend_reason
  FROM sending_waiting w
  LEFT JOIN projects_project p ON p.id = w.project_id
  LEFT JOIN queues_queue q ON q.id = w.queue_id
  LEFT JOIN ips_heldsite h ON h.id = w.held_site_id
  LEFT JOIN ips_sourceip i ON i.id = w.source_ip_id
  LEFT JOIN ips_sender s ON s.id = w.sender_id
  LEFT JOIN ips_server v ON v.id = s.server_id
 WHERE w.send_id = %s ORDER BY w.due_at, w.recipient_id
"""


def read_waits(send: Send, now: datetime) -> dict[int, Wait]:
    """The rows of a send in the ledger, with what keeps each of them there."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITS, [send.pk])
        rows = [_Row(*row) for row in cursor.fetchall()]
        if not rows:
            return {}
        ahead = _ahead_by_place(cursor, rows)
    stopped, carriers = _stopped(send), {}
    waits = {}
    for row in rows:
        wait = _wait(row, ahead.get(row.place), stopped)
        if row.attempt_id is None and row.phase != Phase.LATER:
            if row.lane not in carriers:
                carriers[row.lane] = (
                    carriers_of(row.queue_id, now) if row.lane >= TEST_LANE else carrier(-row.lane, now)
                )
            wait = replace(wait, carriers=carriers[row.lane])
        waits[row.recipient_id] = wait
    return waits


def _wait(row: _Row, ahead: Ahead | None, stopped: str) -> Wait:
    return Wait(
        due_at=row.next_slot or row.due_at,
        tries=row.tries,
        is_due=row.phase == Phase.DUE,
        queue=row.queue or f"{row.queue_id}, which is gone,",
        priority=row.priority,
        flight=_flight(row),
        hold=_hold(row, ahead),
        pause=Pause(row.paused_at, row.pause_reason or "") if row.paused_at else None,
        suspension=Pause(row.suspended_at, row.suspend_reason or "") if row.suspended_at else None,
        is_sticky=row.lane < 0,
        ahead=ahead,
        stopped=stopped,
    )


def _flight(row: _Row) -> Flight | None:
    if row.attempt_id is None or row.lease_until is None:
        return None
    began = id_time(row.attempt_id)
    return Flight(row.attempt_id, began, row.lease_until, row.address or "", row.sender_id, row.server or "")


def _hold(row: _Row, ahead: Ahead | None) -> Hold | None:
    if row.phase != Phase.HELD or row.next_slot is None:
        return None
    return Hold(row.site or "", row.reason or "", row.next_slot, row.site_pause, ahead)


def _stopped(send: Send) -> str:
    """What forbids the From domain to send; empty when nothing does, or when it was deleted (the next try says so)."""
    domain = Domain.objects.filter(pk=send.domain_id).values_list("domain", "status").first()
    if domain is None or domain[1] in MAY_SEND or (send.is_test and domain[1] == DomainStatus.PENDING):
        return ""
    return f"The domain {domain[0]} is not allowed to send ({domain[1]})"


# --- What is before it -----------------------------------------------------------------------------------------------

_BEFORE_DUE = """
SELECT (SELECT count(*) FROM (
          SELECT FROM sending_waiting w WHERE w.lane = %(lane)s AND w.phase = 0 AND w.priority = %(priority)s
             AND w.project_id = %(project)s AND (w.due_at, w.recipient_id) < (%(due)s, %(id)s) LIMIT %(most)s) s),
       EXISTS (SELECT FROM sending_waiting w WHERE w.lane = %(lane)s AND w.phase = 0 AND w.priority < %(priority)s)
"""
_BEFORE_HELD = """
SELECT (SELECT count(*) FROM (
          SELECT FROM sending_waiting w WHERE w.held_site_id = %(held)s AND w.phase = 2 AND w.priority = %(priority)s
             AND w.project_id = %(project)s AND (w.due_at, w.recipient_id) < (%(due)s, %(id)s) LIMIT %(most)s) s),
       EXISTS (SELECT FROM sending_waiting w WHERE w.held_site_id = %(held)s AND w.phase = 2
                  AND w.priority < %(priority)s)
"""


def _ahead_by_place(cursor: CursorWrapper, rows: Iterable[_Row]) -> dict[tuple[int, ...], Ahead]:
    """Counted once for the first row of each place: a send's recipients stand next to each other."""
    found: dict[tuple[int, ...], Ahead] = {}
    for row in rows:
        if row.phase == Phase.LATER or row.place in found:
            continue
        values: dict[str, Any] = {"lane": row.lane, "priority": row.priority, "project": row.project_id}
        values |= {"held": row.held_site_id, "due": row.due_at, "id": row.recipient_id, "most": MOST_AHEAD + 1}
        cursor.execute(_BEFORE_DUE if row.phase == Phase.DUE else _BEFORE_HELD, values)
        count, has_urgent = cursor.fetchone()
        found[row.place] = Ahead(min(count, MOST_AHEAD), count > MOST_AHEAD, has_urgent)
    return found
