"""Upkeep of waiting rows and of small tables: what housekeeping calls once a minute or once an hour."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.backends.utils import CursorWrapper

from ips.senders import DEAD_SENDERS

UNSERVED_MINUTES = 5
UNSTICK_ROWS = 5000  # a statement
EXAMINED_ROWS = 20_000  # of what falls due soon
SOON = timedelta(minutes=2)  # twice the time between two looks
SENDER_ROW_HOURS = 24

# Which lanes lead somewhere: an IP that is in use and served carries its queue's mail, and what that lends it to.
_CARRIES = """
carries AS MATERIALIZED (
  SELECT -i.id AS lane, q.id AS queue_id FROM ips_sourceip i JOIN queues_queue l ON l.id = i.queue_id
    JOIN queues_queue q ON q.id = l.id OR l.is_default AND q.is_default AND NOT EXISTS (
         SELECT FROM ips_sourceip o WHERE o.queue_id = q.id AND o.is_enabled AND o.gone_at IS NULL)
   WHERE i.is_enabled AND i.gone_at IS NULL AND coalesce(i.served_at, i.created_at) >= %(unserved)s)
"""
# A loose index scan: the first due row of each (lane, priority, project), however many there are.
_LOST_HEADS = f"""
WITH RECURSIVE walk AS (
  (SELECT lane, priority, project_id, queue_id FROM sending_waiting WHERE phase = 0 AND lane < 0
    ORDER BY lane, priority, project_id, due_at, recipient_id LIMIT 1)
  UNION ALL
  SELECT n.* FROM walk, LATERAL (
    SELECT lane, priority, project_id, queue_id FROM sending_waiting w WHERE w.phase = 0 AND w.lane < 0
       AND (w.lane, w.priority, w.project_id) > (walk.lane, walk.priority, walk.project_id)
     ORDER BY lane, priority, project_id, due_at, recipient_id LIMIT 1) n
), {_CARRIES}
SELECT lane, priority, project_id, queue_id FROM walk
 WHERE NOT EXISTS (SELECT FROM carries c WHERE c.lane = walk.lane AND c.queue_id = walk.queue_id)
"""  # noqa: S608 — constants only
_FREE = "UPDATE sending_waiting SET lane = queue_id, source_ip_id = NULL WHERE recipient_id = ANY(ARRAY({}))"
_FREE_DUE = _FREE.format("""
  SELECT recipient_id FROM sending_waiting
   WHERE phase = 0 AND lane = %s AND priority = %s AND project_id = %s AND queue_id = %s
   ORDER BY due_at, recipient_id LIMIT %s FOR UPDATE SKIP LOCKED""")
# What falls due before the next look; later ones have time, and their IP may come back. Examined: the first of them.
_FREE_SOON = f"WITH {_CARRIES}" + _FREE.format("""
  SELECT w.recipient_id FROM sending_waiting w JOIN (
    SELECT recipient_id FROM (
      SELECT recipient_id, lane, queue_id FROM sending_waiting
       WHERE phase = 1 AND attempt_id IS NULL AND due_at <= %(soon)s ORDER BY due_at LIMIT %(examined)s) s
     WHERE lane < 0 AND NOT EXISTS (SELECT FROM carries c WHERE c.lane = s.lane AND c.queue_id = s.queue_id)
    ) lost USING (recipient_id)
   WHERE w.attempt_id IS NULL ORDER BY w.recipient_id LIMIT %(rows)s FOR UPDATE OF w SKIP LOCKED""")  # noqa: S608
# What hangs on a site for a lost IP would hang there for ever: only that IP's sender takes it off.
_FREE_HELD = f"""
WITH {_CARRIES}
UPDATE sending_waiting SET phase = 0, held_site_id = NULL, due_at = %(now)s, lane = queue_id, source_ip_id = NULL
 WHERE recipient_id = ANY(ARRAY(
  SELECT r.recipient_id FROM ips_heldsite h, LATERAL (
    SELECT recipient_id FROM sending_waiting w WHERE w.phase = 2 AND w.held_site_id = h.id
     LIMIT %(rows)s FOR UPDATE SKIP LOCKED) r
   WHERE h.source_ip_id IS NOT NULL
     AND NOT EXISTS (SELECT FROM carries c WHERE c.lane = -h.source_ip_id AND c.queue_id = h.queue_id)
   LIMIT %(rows)s))
"""  # noqa: S608


def unstick(now: datetime) -> int:
    """Free rows from IPs that cannot carry them before they would be claimed, in steps that hold few locks.

    Returns how many. Costs by the number of lanes and projects, not by the backlog.
    """
    lanes = {"unserved": now - timedelta(minutes=UNSERVED_MINUTES)}
    steps = {**lanes, "now": now, "soon": now + SOON, "examined": EXAMINED_ROWS, "rows": UNSTICK_ROWS}
    with connection.cursor() as cursor:
        return sum(_repeated(cursor, sql, steps) for sql in (_FREE_SOON, _FREE_HELD)) + _free_due(cursor, lanes)


def _repeated(cursor: CursorWrapper, sql: str, values: Mapping[str, Any]) -> int:
    freed = 0
    while True:
        cursor.execute(sql, values)
        freed += int(cursor.rowcount)
        if cursor.rowcount < values["rows"]:
            return freed


def _free_due(cursor: CursorWrapper, lanes: Mapping[str, Any]) -> int:
    freed, before = 0, -1
    while freed != before:  # else nothing is lost, or what is left is being claimed or moved by somebody
        before = freed
        cursor.execute(_LOST_HEADS, lanes)
        for head in cursor.fetchall():
            cursor.execute(_FREE_DUE, [*head, UNSTICK_ROWS])
            freed += int(cursor.rowcount)
    return freed


def forget_senders(now: datetime) -> int:
    """Drop the rows of senders that have been dead for a day and hold nothing; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE ips_sourceip SET served_by_id = NULL WHERE served_by_id IN ({DEAD_SENDERS})")  # noqa: S608
        cursor.execute(
            f"""DELETE FROM ips_sender WHERE id IN ({DEAD_SENDERS}) AND heartbeat_at < %s
                   AND NOT EXISTS (SELECT FROM sending_waiting w WHERE w.sender_id = ips_sender.id)""",  # noqa: S608
            [now - timedelta(hours=SENDER_ROW_HOURS)],
        )
        return int(cursor.rowcount)


def drop_free_held_sites(now: datetime) -> int:
    """Drop held sites whose slot has come and on which nothing hangs; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(
            """DELETE FROM ips_heldsite h WHERE h.next_slot < %s
                  AND NOT EXISTS (SELECT FROM sending_waiting w WHERE w.phase = 2 AND w.held_site_id = h.id)""",
            [now - timedelta(minutes=UNSERVED_MINUTES)],
        )
        return int(cursor.rowcount)
