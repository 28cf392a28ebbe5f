"""Settle: many results, one transaction: attempts, recipients, waiting rows, suppressions, signatures, events.

Fenced by the attempt id: only the attempt that holds a waiting row may move it. A late result (its lease ran out and the
row went on) is recorded all the same, and a late 250 still makes the recipient accepted unless a report says otherwise.
All transactions lock in one order: waiting rows by id, recipients by id, suppressions sorted.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from projects.events import NewEvent, emit_many
from relay_project.mail.text import clean
from sending.deliver.outcome import AttemptOutcome, RecipientOutcome, attempt_status, status_of
from sending.models import RecipientStatus, SuppressionReason
from sending.suppress import NewSuppression, suppress_many

MAX_TEXT = 2000  # characters of a reply that are kept

# What a late 250 may override; a report's bounce is `bounced` with feedback and is kept (the reports come with inbound).
_OVERRIDABLE = ("queued", "deferred", "failed", "bounced")


@dataclass(frozen=True, slots=True)
class _Line:
    """One recipient's rows to be written."""

    attempt: AttemptOutcome
    recipient: RecipientOutcome
    status: RecipientStatus
    next_try: datetime | None
    is_holder: bool

    @property
    def recipient_id(self) -> int:
        return self.recipient.target.row.recipient_id

    @property
    def is_suppressing(self) -> bool:
        return self.recipient.verdict.suppress and self.status is RecipientStatus.BOUNCED


def settle(outcomes: Sequence[AttemptOutcome], now: datetime) -> None:
    """Write what a batch of attempts brought, in one transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        holders = _lock(cursor, [r.target.row.recipient_id for o in outcomes for r in o.recipients])
        lines = [_line(outcome, recipient, holders, now) for outcome in outcomes for recipient in outcome.recipients]
        _write_attempts(cursor, outcomes, lines)
        _write_recipients(cursor, lines)
        _write_waiting(cursor, lines)
        events = _suppress(cursor, lines)
        _write_signatures(cursor, outcomes)
        emit_many(cursor, [_event(line) for line in lines if line.is_holder] + events)


def _lock(cursor: CursorWrapper, recipient_ids: Sequence[int]) -> dict[int, int | None]:
    """recipient id → the attempt that holds its waiting row, locked in order of id."""
    cursor.execute(
        "SELECT recipient_id, attempt_id FROM sending_waiting WHERE recipient_id = ANY(%s) "
        "ORDER BY recipient_id FOR UPDATE",
        [list(recipient_ids)],
    )
    return dict(cursor.fetchall())


def _line(outcome: AttemptOutcome, recipient: RecipientOutcome, holders: dict[int, int | None], now: datetime) -> _Line:
    next_try = settings.RETRY_SCHEDULE.next_try(recipient.target.row.tries, now)
    is_holder = holders.get(recipient.target.row.recipient_id) == outcome.job.attempt_id
    return _Line(outcome, recipient, status_of(recipient, next_try is not None), next_try, is_holder)


def _write_attempts(cursor: CursorWrapper, outcomes: Sequence[AttemptOutcome], lines: Sequence[_Line]) -> None:
    statuses: dict[int, list[RecipientStatus]] = {}
    for line in lines:
        statuses.setdefault(line.attempt.job.attempt_id, []).append(line.status)
    cursor.execute(
        """INSERT INTO sending_attempt (id, send_id, project_id, queue_id, source_ip_id, status, try_count, domain, site,
                  resolved_mx_hosts, responded_mx_host, smtp_conversations, tls, network_error, is_lost, duration_ms)
           SELECT a.id, a.send, a.project, a.queue, a.ip, a.status, a.tries, a.domain, a.site, a.hosts::jsonb,
                  a.responded, a.conversations::jsonb, a.tls::jsonb, a.error, false, a.duration
             FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[],
                         %s::smallint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
                         %s::text[], %s::int[])
               AS a(id, send, project, queue, ip, status, tries, domain, site, hosts, responded, conversations, tls,
                    error, duration)
           ON CONFLICT (id) DO UPDATE SET  -- the sweeper had written it off as lost
              status = EXCLUDED.status, site = EXCLUDED.site, resolved_mx_hosts = EXCLUDED.resolved_mx_hosts,
              responded_mx_host = EXCLUDED.responded_mx_host, smtp_conversations = EXCLUDED.smtp_conversations,
              tls = EXCLUDED.tls, network_error = EXCLUDED.network_error, is_lost = false,
              duration_ms = EXCLUDED.duration_ms""",
        _transposed(
            (
                o.job.attempt_id, o.job.send_id, o.job.project_id, o.job.queue_id, o.job.source_ip_id,
                attempt_status(statuses[o.job.attempt_id]).value, o.job.tries, o.job.domain, o.site,
                json.dumps(o.resolved_hosts), o.responded_host, json.dumps(o.conversations),
                json.dumps(o.tls) if o.tls else None, clean(o.network_error, MAX_TEXT), o.duration_ms,
            )
            for o in outcomes
        ),
    )  # fmt: skip
    cursor.execute(
        """INSERT INTO sending_attemptrecipient (attempt_id, send_id, recipient_id, recipient_status, smtp_code,
                  smtp_enhanced_code, smtp_message, category, rule, is_suppressed)
           SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::smallint[], %s::text[],
                                %s::text[], %s::text[], %s::text[], %s::bool[])""",
        _transposed(
            (
                line.attempt.job.attempt_id, line.attempt.job.send_id, line.recipient_id, line.status.value,
                line.recipient.reply.code if line.recipient.reply else 0,
                line.recipient.reply.enhanced if line.recipient.reply else None,
                clean(line.recipient.text, MAX_TEXT), line.recipient.verdict.category.value,
                line.recipient.verdict.rule, line.is_suppressing,
            )
            for line in lines
        ),
    )  # fmt: skip


def _write_recipients(cursor: CursorWrapper, lines: Sequence[_Line]) -> None:
    """The holder's word counts; a late 250 overrides what a reply or a lost lease had said."""
    rows = sorted(
        (line for line in lines if line.is_holder or line.status is RecipientStatus.ACCEPTED),
        key=lambda line: line.recipient_id,
    )
    if not rows:
        return
    cursor.execute(
        """UPDATE sending_recipient r SET status = v.status, try_count = greatest(r.try_count, v.tries)
             FROM unnest(%s::bigint[], %s::text[], %s::smallint[], %s::bool[]) AS v(id, status, tries, holder)
            WHERE r.id = v.id AND r.id BETWEEN %s AND %s AND (v.holder OR r.status = ANY(%s))""",
        [
            *_transposed((w.recipient_id, w.status.value, w.recipient.target.row.tries, w.is_holder) for w in rows),
            rows[0].recipient_id,
            rows[-1].recipient_id,
            list(_OVERRIDABLE),
        ],
    )


def _write_waiting(cursor: CursorWrapper, lines: Sequence[_Line]) -> None:
    """Final recipients leave the ledger; deferred ones get their next time and their IP's lane.

    A late 250 ends the wait of a row that is not in flight again; one that is, ends with its own attempt.
    """
    final = [w for w in lines if w.is_holder and w.status is not RecipientStatus.DEFERRED]
    late = [w for w in lines if not w.is_holder and w.status is RecipientStatus.ACCEPTED]
    if final or late:
        cursor.execute(
            """DELETE FROM sending_waiting w USING unnest(%s::bigint[], %s::bigint[]) AS d(id, attempt)
                WHERE w.recipient_id = d.id AND w.attempt_id IS NOT DISTINCT FROM d.attempt""",
            _transposed(
                [(w.recipient_id, w.attempt.job.attempt_id) for w in final] + [(w.recipient_id, None) for w in late]
            ),
        )
    deferred = [w for w in lines if w.is_holder and w.status is RecipientStatus.DEFERRED]
    if deferred:
        cursor.execute(
            """UPDATE sending_waiting w SET phase = 1, due_at = d.due, lane = -w.source_ip_id, attempt_id = NULL,
                      sender_id = NULL, lease_until = NULL
                 FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[]) AS d(id, attempt, due)
                WHERE w.recipient_id = d.id AND w.attempt_id = d.attempt""",
            _transposed((w.recipient_id, w.attempt.job.attempt_id, w.next_try) for w in deferred),
        )


def _suppress(cursor: CursorWrapper, lines: Sequence[_Line]) -> list[NewEvent]:
    hard = [line for line in lines if line.is_suppressing]
    if not hard:
        return []
    created = suppress_many(
        cursor,
        [
            NewSuppression(
                line.attempt.job.project_id,
                line.recipient.target.address,
                SuppressionReason.BOUNCE,
                f"{line.recipient.reply or ''} {line.recipient.text if line.recipient.reply is None else ''}".strip(),
            )
            for line in hard
        ],
    )
    return [
        NewEvent(project_id, "suppression.created", "suppression", suppression_id, {"email": email, "reason": "bounce"})
        for suppression_id, project_id, email in created
    ]


def _write_signatures(cursor: CursorWrapper, outcomes: Sequence[AttemptOutcome]) -> None:
    signed = {o.job.send_id: o.signature for o in outcomes if o.signature is not None and o.job.signature is None}
    if signed:
        cursor.execute(
            """INSERT INTO sending_signature (send_id, header_lines)
               SELECT * FROM unnest(%s::bigint[], %s::bytea[]) ON CONFLICT (send_id) DO NOTHING""",
            _transposed(sorted(signed.items())),
        )


def _event(line: _Line) -> NewEvent:
    return NewEvent(
        project_id=line.attempt.job.project_id,
        kind=f"send.recipient.{line.status.value}",
        subject_kind="send",
        subject_id=line.attempt.job.send_id,
        payload={
            "recipient_id": line.recipient_id,
            "attempt_id": line.attempt.job.attempt_id,
            "address": line.recipient.target.address,
            "status": line.status.value,
            "try_count": line.recipient.target.row.tries,
            "smtp_code": line.recipient.reply.code if line.recipient.reply else 0,
            "smtp_enhanced_code": line.recipient.reply.enhanced if line.recipient.reply else None,
            "smtp_message": clean(line.recipient.text, MAX_TEXT),
            "category": line.recipient.verdict.category.value,
        },
    )


def _transposed(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows to columns, for unnest; at least one row."""
    return [list(column) for column in zip(*rows, strict=True)]
