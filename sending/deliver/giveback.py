"""Rows that return to the ledger without a result: given back by their sender, or swept after a lost lease.

Giving back restores `tries`: only attempts that were dialled, and lost ones, count. Only settle, give-back and the sweeper
clear an attempt id.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

from ips.senders import DEAD_SENDERS
from projects.events import NewEvent, emit_many
from relay_project.mail.text import clean
from relay_project.metrics import Counter
from sending.deliver.claim import Claimed
from sending.deliver.outcome import GiveBack

MAX_REASON = 512  # characters, the column's
PROMOTE_ROWS = 500  # at a time, so that no statement lasts longer than a claim
RELEASE_PROJECTS = 50  # of the sites that are free again: none waits for another's thousands
SWEEP_ROWS = 500
LOST_TEXT = "The sender died or its lease ran out in mid-conversation; whether the mail was taken is unknown."
GAVE_UP_TEXT = f"{LOST_TEXT} Given up: the retry schedule is used up."

HeldKey = tuple[int, int, str]  # queue, source IP, site

LOST = Counter("relay_attempts_lost_total", "Attempts whose sender died or whose lease ran out (possible duplicates).")


def give_back(items: Sequence[GiveBack], now: datetime) -> None:
    """Return claimed jobs that were not dialled; those with a site hang on it until its slot."""
    if not items:
        return
    targets = [(target.row, item) for item in items for target in item.job.targets]
    with transaction.atomic():
        _lock([row.recipient_id for row, _ in targets])
        held = _hold([item for item in items if item.site is not None], now)
        return_rows([_returned(row, item, held, now) for row, item in targets], now)


def _returned(
    row: Claimed, item: GiveBack, held: Mapping[HeldKey, int], now: datetime
) -> tuple[int, int, datetime, int | None]:
    """Without a wait a row keeps its place among its project's mail."""
    due = now + timedelta(seconds=item.wait_seconds) if item.wait_seconds else row.due_at
    return row.recipient_id, item.job.attempt_id, due, held.get(_held_key(item))


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


def _held_key(item: GiveBack) -> HeldKey:
    return item.job.queue_id, item.job.source_ip_id, item.site or ""


def _hold(items: Sequence[GiveBack], now: datetime) -> dict[HeldKey, int]:
    """The held sites of items that name one, made or moved on, in a fixed order."""
    latest: dict[HeldKey, GiveBack] = {}
    for item in sorted(items, key=lambda item: item.wait_seconds):
        latest[_held_key(item)] = item
    if not latest:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO ips_heldsite (queue_id, source_ip_id, site, reason, next_slot)
               SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::timestamptz[])
               ON CONFLICT (queue_id, source_ip_id, site) DO UPDATE
                 SET next_slot = greatest(ips_heldsite.next_slot, EXCLUDED.next_slot), reason = EXCLUDED.reason
               RETURNING queue_id, source_ip_id, site, id""",
            [
                *([key[i] for key in sorted(latest)] for i in range(3)),
                [clean(latest[key].reason, MAX_REASON) for key in sorted(latest)],
                [now + timedelta(seconds=latest[key].wait_seconds) for key in sorted(latest)],
            ],
        )
        return {(queue_id, ip_id, site): held_id for queue_id, ip_id, site, held_id in cursor.fetchall()}


# An array of ids, not a join: the planner expects few of them whatever the LIMIT says, and never scans the table instead.
_PROMOTE = """
UPDATE sending_waiting SET phase = 0 WHERE recipient_id = ANY(ARRAY(
  SELECT recipient_id FROM sending_waiting WHERE phase = 1 AND due_at <= %s AND attempt_id IS NULL
   ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED))
"""
# The projects that hang on each free site, by a loose index scan; some of them in turn, an equal part of the rows from each.
_RELEASE = """
WITH RECURSIVE walk AS (
  SELECT h.id AS held_site_id, (SELECT min(project_id) FROM sending_waiting WHERE phase = 2 AND held_site_id = h.id)
    FROM ips_heldsite h WHERE h.next_slot <= %(now)s
  UNION ALL
  SELECT held_site_id, (SELECT min(w.project_id) FROM sending_waiting w WHERE w.phase = 2
                           AND w.held_site_id = walk.held_site_id AND w.project_id > walk.min)
    FROM walk WHERE min IS NOT NULL
), turn AS MATERIALIZED (
  SELECT held_site_id, min AS project_id FROM walk WHERE min IS NOT NULL ORDER BY random() LIMIT %(projects)s)
UPDATE sending_waiting SET phase = 0, held_site_id = NULL, due_at = %(now)s WHERE recipient_id = ANY(ARRAY(
  SELECT r.recipient_id FROM turn, LATERAL (
    SELECT recipient_id FROM sending_waiting h
     WHERE h.phase = 2 AND h.held_site_id = turn.held_site_id AND h.project_id = turn.project_id
     ORDER BY h.due_at LIMIT (SELECT %(rows)s / count(*) FROM turn) FOR UPDATE SKIP LOCKED) r))
"""


def promote(now: datetime) -> int:
    """Make claimable what fell due, and what hung on a site whose slot has come; ≤ PROMOTE_ROWS each. Returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(_PROMOTE, [now, PROMOTE_ROWS])
        promoted = cursor.rowcount
        cursor.execute(_RELEASE, {"now": now, "projects": RELEASE_PROJECTS, "rows": PROMOTE_ROWS})
        return int(promoted + cursor.rowcount)


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
                      lane = CASE WHEN w.tries > 1 THEN -w.source_ip_id ELSE w.lane END
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
