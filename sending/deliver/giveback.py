"""Rows that return to the ledger without a result: given back by their sender, or swept after a lost lease.

Giving back restores `tries`: only attempts that were dialled, and lost ones, count. Only settle, give-back and the sweeper
clear an attempt id.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

from ips.senders import DEAD_SENDERS
from projects.events import NewEvent, emit_many
from relay_project.metrics import Counter
from sending.deliver.claim import Claimed
from sending.deliver.held import Hold, hang, held_key
from sending.deliver.outcome import GiveBack
from sending.labels import NONE, labels_of

PROMOTE_ROWS = 500  # at a time, so that no statement lasts longer than a claim
SWEEP_ROWS = 500
LOST_TEXT = "The sender died or its lease ran out in mid-conversation; whether the mail was taken is unknown."
GAVE_UP_TEXT = f"{LOST_TEXT} Given up: the retry schedule is used up."

LOST = Counter("relay_attempts_lost_total", "Attempts whose sender died or whose lease ran out (possible duplicates).")


def give_back(items: Sequence[GiveBack], now: datetime) -> None:
    """Return claimed jobs that were not dialled; those with a site hang on it until its slot."""
    if not items:
        return
    targets = [(target.row, item) for item in items for target in item.job.targets]
    with transaction.atomic():
        _lock([row.recipient_id for row, _ in targets])
        hold_rows([(row, _hold_of(row, item)) for row, item in targets if item.site is not None], now)
        return_rows([_returned(row, item, now) for row, item in targets if item.site is None], now)
        _move([(row.recipient_id, item.move_to) for row, item in targets if item.move_to is not None])


def _move(rows: Sequence[tuple[int, int]]) -> None:
    """Stick (recipient id, source IP id) rows that were returned to another IP, in the caller's transaction."""
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE sending_waiting w SET lane = -m.ip, source_ip_id = m.ip
                 FROM unnest(%s::bigint[], %s::bigint[]) AS m(id, ip)
                WHERE w.recipient_id = m.id AND w.attempt_id IS NULL""",
            [[recipient_id for recipient_id, _ in rows], [source_ip_id for _, source_ip_id in rows]],
        )


def _hold_of(row: Claimed, item: GiveBack) -> Hold:
    return Hold(held_key(row, item.site or ""), item.wait_seconds, item.reason)


def _returned(row: Claimed, item: GiveBack, now: datetime) -> tuple[int, int, datetime, None]:
    """Without a wait a row keeps its place among its project's mail."""
    due = now + timedelta(seconds=item.wait_seconds) if item.wait_seconds else row.due_at
    return row.recipient_id, item.job.attempt_id, due, None


def hold_rows(rows: Sequence[tuple[Claimed, Hold]], now: datetime) -> None:
    """Hang claimed rows on their held sites, in the caller's transaction, which has them locked.

    They keep their place among their project's mail (`due_at`); when they go is the held site's next slot.
    """
    held = hang((hold for _, hold in rows), now)
    return_rows([(row.recipient_id, row.attempt_id, row.due_at, held[hold.key]) for row, hold in rows], now)


def _lock(recipient_ids: Sequence[int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT FROM sending_waiting WHERE recipient_id = ANY(%s) ORDER BY recipient_id FOR UPDATE",
            [list(recipient_ids)],
        )


def return_rows(rows: Sequence[tuple[int, int, datetime, int | None]], now: datetime) -> None:
    """Free (recipient id, attempt id, due, held site id) rows in the caller's transaction, their tries restored.

    The caller has them locked.
    """
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE sending_waiting w
                  SET phase = CASE WHEN b.held IS NOT NULL THEN 2 WHEN b.due <= %s THEN 0 ELSE 1 END, due_at = b.due,
                      held_site_id = b.held, tries = w.tries - 1, attempt_id = NULL, sender_id = NULL,
                      lease_until = NULL, source_ip_id = CASE WHEN w.lane < 0 THEN w.source_ip_id END
                 FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[], %s::bigint[]) AS b(id, attempt, due, held)
                WHERE w.recipient_id = b.id AND w.attempt_id = b.attempt""",
            [now, *([row[i] for row in rows] for i in range(4))],
        )


# An array of ids, not a join: the planner expects few of them whatever the LIMIT says, and never scans the table instead.
_PROMOTE = """
UPDATE sending_waiting SET phase = 0 WHERE recipient_id = ANY(ARRAY(
  SELECT recipient_id FROM sending_waiting WHERE phase = 1 AND due_at <= %s AND attempt_id IS NULL
   ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED))
"""


def promote(now: datetime) -> int:
    """Make claimable what fell due, at most PROMOTE_ROWS. Returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(_PROMOTE, [now, PROMOTE_ROWS])
        return int(cursor.rowcount)


# Found by the index of what is in flight (without the order, which would tempt the planner to walk the primary key), then
# locked in order; the attempt id is compared again because another sweeper may have been first.
_LOST_ROWS = f"""
WITH lost AS MATERIALIZED (
  SELECT recipient_id, attempt_id FROM sending_waiting
   WHERE attempt_id IS NOT NULL AND (due_at <= %s OR sender_id IN ({DEAD_SENDERS})
         OR NOT EXISTS (SELECT FROM ips_sender s WHERE s.id = sender_id)))
SELECT w.recipient_id, w.send_id, w.project_id, w.queue_id, w.source_ip_id, w.attempt_id, w.tries, w.lost, w.domain
  FROM lost l JOIN sending_waiting w ON w.recipient_id = l.recipient_id AND w.attempt_id = l.attempt_id
 ORDER BY w.recipient_id LIMIT %s FOR UPDATE OF w SKIP LOCKED
"""  # noqa: S608 — constants only


def sweep(now: datetime) -> int:
    """Free rows whose sender is dead or whose lease ran out, each with a `lost` attempt in the same transaction.

    The first loss is tried again at once (the mail may not have left); a later one backs off by the schedule, and after
    the last try the recipient is `failed` with the reason shown. Returns how many rows were freed.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_LOST_ROWS, [now, SWEEP_ROWS])
        rows = cursor.fetchall()
        if not rows:
            return 0
        _record_lost(rows)
        dues = [_next_time(tries, lost, now) for *_, tries, lost, _ in rows]
        ids = [row[0] for row in rows]
        cursor.execute(
            """UPDATE sending_waiting w SET phase = CASE WHEN d.due <= %s THEN 0 ELSE 1 END, due_at = d.due,
                      lost = w.lost + 1, attempt_id = NULL, sender_id = NULL, lease_until = NULL,
                      lane = CASE WHEN w.tries > 1 AND w.lane <> 0 THEN -w.source_ip_id ELSE w.lane END
                 FROM unnest(%s::bigint[], %s::timestamptz[]) AS d(id, due)
                WHERE w.recipient_id = d.id AND d.due IS NOT NULL""",
            [now, ids, dues],
        )
        ended = [recipient_id for recipient_id, due in zip(ids, dues, strict=True) if due is None]
        cursor.execute("DELETE FROM sending_waiting WHERE recipient_id = ANY(%s)", [ended])
        _update_recipients(rows, dues)
    LOST.inc(len(rows))
    return len(rows)


def _next_time(tries: int, lost: int, now: datetime) -> datetime | None:
    return now if lost == 0 else settings.RETRY_SCHEDULE.next_try(tries, now)


def _update_recipients(rows: Sequence[tuple[int, ...]], dues: Sequence[datetime | None]) -> None:
    statuses = ["failed" if due is None else "deferred" for due in dues]
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE sending_recipient r SET status = v.status, try_count = v.tries
                 FROM unnest(%s::bigint[], %s::text[], %s::smallint[]) AS v(id, status, tries)
                WHERE r.id = v.id AND r.id BETWEEN %s AND %s AND r.status IN ('queued', 'deferred')""",
            [[row[0] for row in rows], statuses, [row[6] for row in rows], rows[0][0], rows[-1][0]],
        )
        known = labels_of(cursor, {row[1] for row in rows})
        emit_many(
            cursor,
            [
                NewEvent(
                    row[2],
                    f"send.recipient.{status}",
                    "send",
                    row[1],
                    {
                        "recipient_id": row[0],
                        "attempt_id": row[5],
                        "status": status,
                        "smtp_message": GAVE_UP_TEXT if status == "failed" else LOST_TEXT,
                        **known.get(row[1], NONE),
                    },
                )
                for row, status in zip(rows, statuses, strict=True)
            ],
        )


def _record_lost(rows: Sequence[tuple[int, ...]]) -> None:
    """The attempts as far as anybody knows them: shown as deferred, with the cause as their network error."""
    attempts = {row[5]: row for row in rows}
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO sending_attempt (id, send_id, project_id, queue_id, source_ip_id, status, try_count, domain,
                      site, resolved_mx_hosts, smtp_conversations, network_error, is_lost, duration_ms)
               SELECT a.id, a.send, a.project, a.queue, a.ip, 'deferred', a.tries, a.domain, '', '[]', '{}', %s, true, 0
                 FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::smallint[],
                             %s::text[]) AS a(id, send, project, queue, ip, tries, domain)
               ON CONFLICT (id) DO NOTHING""",
            [LOST_TEXT, *([row[i] for row in attempts.values()] for i in (5, 1, 2, 3, 4, 6, 8))],
        )
        cursor.execute(
            """INSERT INTO sending_attemptrecipient (attempt_id, send_id, recipient_id, recipient_status, smtp_code,
                      smtp_message, category, rule, is_suppressed)
               SELECT a.attempt, a.send, a.recipient, 'deferred', 0, %s, 'temporary', 'lost', false
                 FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS a(attempt, send, recipient)""",
            [LOST_TEXT, *([row[i] for row in rows] for i in (5, 1, 0))],
        )
