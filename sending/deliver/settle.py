"""Settle: many results, one transaction: attempts, recipients, waiting rows, suppressions, signatures, events.

Fenced by the attempt id: only the attempt that holds a waiting row may move it. A late result (its lease ran out and the
row went on) is recorded all the same, and a late 250 makes the recipient accepted and ends its wait, even in mid-flight,
unless a report says otherwise. Settling the same results again (a commit whose answer got lost) changes nothing.
All transactions lock in one order: waiting rows by id, attempts by id, recipients by id, then what consequences.py says.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.conf import settings
from django.db import transaction
from django.db.backends.utils import CursorWrapper

from projects.events import EventKind, NewEvent, emit_many
from relay_project.db.bound import bound_cursor
from relay_project.db.ids import hours_after, id_floor
from relay_project.mail.classify import Outcome
from relay_project.mail.text import clean
from sending.deliver.consequences import draw_consequences
from sending.deliver.outcome import AttemptOutcome, RecipientOutcome, attempt_status, status_of
from sending.deliver.shape_counts import count_sends
from sending.models import AttemptStatus, RecipientStatus

MAX_TEXT = 2000  # characters of a reply that are kept

# What the holder of a waiting row may change; anything else was said by a report or by the project while it was in flight.
_OPEN = ("queued", "deferred")
# What a late 250 may override; a bounce that a report told of (it has feedback) is kept.
_OVERRIDABLE = (*_OPEN, "failed", "bounced", "cancelled")


@dataclass(frozen=True, slots=True)
class _Line:
    """One recipient's rows to be written."""

    attempt: AttemptOutcome
    recipient: RecipientOutcome
    recipient_id: int
    status: RecipientStatus
    text: str  # what was said, storable
    next_try: datetime | None
    is_holder: bool


def settle(outcomes: Sequence[AttemptOutcome], now: datetime) -> None:
    """Write what a batch of attempts brought, in one transaction."""
    outcomes = sorted(outcomes, key=lambda outcome: outcome.job.attempt_id)
    with transaction.atomic(), bound_cursor() as cursor:
        holders = _lock(cursor, [r.target.row.recipient_id for o in outcomes for r in o.recipients])
        lines = [_line(outcome, recipient, holders, now) for outcome in outcomes for recipient in outcome.recipients]
        _write_attempts(cursor, outcomes, lines)
        _forget(cursor, {line.attempt.job.attempt_id for line in lines if not line.is_holder}, now)
        _write_lines(cursor, lines)
        changing = _changing(lines)
        changed = _write_recipients(cursor, changing)
        _write_waiting(cursor, changing, changed)
        decided = [line for line in changing if line.recipient_id in changed]
        events = draw_consequences(cursor, _real(lines), _real(decided), now)
        _write_signatures(cursor, outcomes)
        count_sends(cursor, outcomes, now)
        emit_many(cursor, [event for line in decided for event in _events(line)] + events)


def _real(lines: Sequence[_Line]) -> list[_Line]:
    """Without those of test keys, which nobody was asked for: they teach nothing about addresses, sites or ours."""
    return [line for line in lines if not line.attempt.job.is_test]


def _lock(cursor: CursorWrapper, recipient_ids: Sequence[int]) -> dict[int, int | None]:
    """recipient id → the attempt that holds its waiting row, locked in order of id."""
    cursor.execute(
        "SELECT recipient_id, attempt_id FROM sending_waiting WHERE recipient_id = ANY(%s) "
        "ORDER BY recipient_id FOR UPDATE",
        [list(recipient_ids)],
    )
    return dict(cursor.fetchall())


def _line(outcome: AttemptOutcome, recipient: RecipientOutcome, holders: dict[int, int | None], now: datetime) -> _Line:
    row, is_deferred = recipient.target.row, recipient.verdict.outcome is Outcome.DEFERRED
    next_try = settings.RETRY_SCHEDULE.next_try(row.tries, now) if is_deferred else None
    return _Line(
        attempt=outcome,
        recipient=recipient,
        recipient_id=row.recipient_id,
        status=status_of(recipient, next_try is not None),
        text=clean(recipient.text, MAX_TEXT),
        next_try=next_try,
        is_holder=holders.get(row.recipient_id) == outcome.job.attempt_id,
    )


def _forget(cursor: CursorWrapper, attempt_ids: Collection[int], now: datetime) -> None:
    """Late attempts are written anew: what the sweeper, or a commit whose answer got lost, said of their recipients goes."""
    if attempt_ids:
        cursor.execute(
            "DELETE FROM sending_attemptrecipient WHERE attempt_id = ANY(%s) AND id BETWEEN %s AND %s",
            [list(attempt_ids), min(attempt_ids), hours_after(id_floor(now), 1)],
        )


def _write_attempts(cursor: CursorWrapper, outcomes: Sequence[AttemptOutcome], lines: Sequence[_Line]) -> None:
    statuses: dict[int, list[RecipientStatus]] = {}
    for line in lines:
        statuses.setdefault(line.attempt.job.attempt_id, []).append(line.status)
    cursor.execute(
        """INSERT INTO sending_attempt (id, send_id, project_id, queue_id, source_ip_id, status, try_count, domain, site,
                  resolved_mx_hosts, responded_mx_host, smtp_conversations, tls, network_error, is_lost, duration_ms)
           SELECT a.id, a.send, a.project, a.queue, a.ip, a.status, a.tries, a.domain, a.site, a.hosts,
                  a.responded, a.conversations, a.tls, a.error, false, a.duration
             FROM jsonb_to_recordset(%s::jsonb)
               AS a(id bigint, send bigint, project bigint, queue bigint, ip bigint, status text, tries smallint,
                    domain text, site text, hosts jsonb, responded text, conversations jsonb, tls jsonb, error text,
                    duration int)
           ON CONFLICT (id) DO UPDATE SET  -- the sweeper had written it off as lost
              status = EXCLUDED.status, site = EXCLUDED.site, resolved_mx_hosts = EXCLUDED.resolved_mx_hosts,
              responded_mx_host = EXCLUDED.responded_mx_host, smtp_conversations = EXCLUDED.smtp_conversations,
              tls = EXCLUDED.tls, network_error = EXCLUDED.network_error, is_lost = false,
              duration_ms = EXCLUDED.duration_ms""",
        [_as_json(_attempt_row(o, attempt_status(statuses[o.job.attempt_id])) for o in outcomes)],
    )


def _write_lines(cursor: CursorWrapper, lines: Sequence[_Line]) -> None:
    cursor.execute(
        """INSERT INTO sending_attemptrecipient (attempt_id, send_id, recipient_id, recipient_status, smtp_code,
                  smtp_enhanced_code, smtp_message, category, rule, is_suppressed)
           SELECT * FROM jsonb_to_recordset(%s::jsonb)
                      AS r(attempt bigint, send bigint, recipient bigint, status text, code smallint, enhanced text,
                           message text, category text, rule text, suppressing bool)""",
        [_as_json(_recipient_row(line) for line in lines)],
    )


def _attempt_row(outcome: AttemptOutcome, status: AttemptStatus) -> dict[str, Any]:
    job = outcome.job
    return {
        "id": job.attempt_id,
        "send": job.send_id,
        "project": job.project_id,
        "queue": job.queue_id,
        "ip": job.source_ip_id,
        "status": status.value,
        "tries": job.tries,
        "domain": job.domain,
        "site": outcome.site,
        "hosts": outcome.resolved_hosts,
        "responded": outcome.responded_host,
        "conversations": outcome.conversations,
        "tls": outcome.tls,
        "error": clean(outcome.network_error, MAX_TEXT),
        "duration": outcome.duration_ms,
    }


def _recipient_row(line: _Line) -> dict[str, Any]:
    reply, verdict = line.recipient.reply, line.recipient.verdict
    return {
        "attempt": line.attempt.job.attempt_id,
        "send": line.attempt.job.send_id,
        "recipient": line.recipient_id,
        "status": line.status.value,
        "code": reply.code if reply else 0,
        "enhanced": reply.enhanced if reply else None,
        "message": line.text,
        "category": str(verdict.category),
        "rule": verdict.rule,
        "suppressing": verdict.suppress and line.status is RecipientStatus.BOUNCED and not line.attempt.job.is_test,
    }


def _changing(lines: Iterable[_Line]) -> list[_Line]:
    """The line that decides about each recipient, by id: a 250, be it late, else the holder's."""
    deciding: dict[int, _Line] = {}
    for line in lines:
        if line.status is RecipientStatus.ACCEPTED or (line.is_holder and line.recipient_id not in deciding):
            deciding[line.recipient_id] = line
    return [deciding[recipient_id] for recipient_id in sorted(deciding)]


def _write_recipients(cursor: CursorWrapper, lines: Sequence[_Line]) -> set[int]:
    """The holder's word counts; a late 250 overrides what a reply or a lost lease had said. Returns who changed."""
    if not lines:
        return set()
    cursor.execute(
        """UPDATE sending_recipient r SET status = v.status, try_count = greatest(r.try_count, v.tries)
             FROM jsonb_to_recordset(%s::jsonb) AS v(id bigint, status text, tries smallint, holder bool)
            WHERE r.id = v.id AND r.id BETWEEN %s AND %s
              AND r.status = ANY(CASE WHEN v.holder THEN %s::text[] ELSE %s::text[] END)
              AND NOT (r.status = 'bounced' AND EXISTS (SELECT FROM sending_feedback f WHERE f.type = 'bounce'
                       AND f.recipient_id = r.id AND f.recipient_id BETWEEN %s AND %s))
        RETURNING r.id""",
        [
            _as_json(
                {
                    "id": line.recipient_id,
                    "status": line.status.value,
                    "tries": line.recipient.target.row.tries,
                    "holder": line.is_holder,
                }
                for line in lines
            ),
            lines[0].recipient_id,
            lines[-1].recipient_id,
            list(_OPEN),
            list(_OVERRIDABLE),
            lines[0].recipient_id,
            lines[-1].recipient_id,
        ],
    )
    return {row[0] for row in cursor.fetchall()}


def _write_waiting(cursor: CursorWrapper, lines: Sequence[_Line], changed: set[int]) -> None:
    """Final recipients leave the ledger; deferred ones get their next time and their IP's lane.

    So does one that a report made final while it was in flight. A late 250 ends the wait whoever holds the row now: a
    conversation that is under way is a duplicate, and its result will be late in turn.
    """
    deferred = [w for w in lines if w.status is RecipientStatus.DEFERRED and w.recipient_id in changed]
    final = [w.recipient_id for w in lines if w.status is not RecipientStatus.DEFERRED or w.recipient_id not in changed]
    if final:
        cursor.execute("DELETE FROM sending_waiting WHERE recipient_id = ANY(%s)", [final])
    if deferred:
        cursor.execute(
            """UPDATE sending_waiting w SET phase = 1, due_at = d.due, attempt_id = NULL, sender_id = NULL,
                      lease_until = NULL, lane = CASE WHEN w.lane = 0 THEN 0 ELSE -w.source_ip_id END
                 FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[]) AS d(id, attempt, due)
                WHERE w.recipient_id = d.id AND w.attempt_id = d.attempt""",
            _transposed((w.recipient_id, w.attempt.job.attempt_id, w.next_try) for w in deferred),
        )


def _write_signatures(cursor: CursorWrapper, outcomes: Sequence[AttemptOutcome]) -> None:
    signed = {o.job.send_id: o.signature for o in outcomes if o.signature is not None and o.job.signature is None}
    if signed:
        cursor.execute(
            """INSERT INTO sending_signature (send_id, header_lines)
               SELECT g.send, convert_to(g.lines, 'UTF8') FROM jsonb_to_recordset(%s::jsonb) AS g(send bigint, lines text)
                ORDER BY g.send ON CONFLICT (send_id) DO NOTHING""",
            [_as_json({"send": send_id, "lines": lines.decode("ascii")} for send_id, lines in signed.items())],
        )


def _events(line: _Line) -> list[NewEvent]:
    """The outcome's; before it that the simulator gave it, which no real server stands behind."""
    job = line.attempt.job
    if not (job.is_test or job.domain == settings.SIMULATOR_DOMAIN):
        return [_event(line)]
    payload = {
        "recipient_id": line.recipient_id,
        "attempt_id": job.attempt_id,
        "address": line.recipient.target.address,
        "status": line.status.value,
        "try_count": line.recipient.target.row.tries,
        **job.labels,
    }
    return [NewEvent(job.project_id, EventKind.SIMULATED, "send", job.send_id, payload), _event(line)]


def _event(line: _Line) -> NewEvent:
    job, target, reply, status = line.attempt.job, line.recipient.target, line.recipient.reply, line.status.value
    return NewEvent(
        project_id=job.project_id,
        kind=f"send.recipient.{status}",
        subject_kind="send",
        subject_id=job.send_id,
        payload={
            "recipient_id": line.recipient_id,
            "attempt_id": job.attempt_id,
            "address": target.address,
            "status": status,
            "try_count": target.row.tries,
            "smtp_code": reply.code if reply else 0,
            "smtp_enhanced_code": reply.enhanced if reply else None,
            "smtp_message": line.text,
            "category": str(line.recipient.verdict.category),
            **job.labels,
        },
    )


def _as_json(rows: Iterable[dict[str, Any]]) -> str:
    """Rows for jsonb_to_recordset: one parameter, quoted in one go. As arrays, each text and each character in it that
    needs escaping cost Python time: 120 µs for an attempt, against 6."""
    return orjson.dumps(list(rows)).decode()


def _transposed(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows to columns, for unnest; at least one row."""
    return [list(column) for column in zip(*rows, strict=True)]
