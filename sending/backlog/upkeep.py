"""Upkeep of waiting rows and of small tables: what housekeeping calls once a minute or once an hour."""

from datetime import datetime, timedelta

from django.db import connection

from ips.senders import DEAD_SENDERS

UNSERVED_MINUTES = 5
UNSTICK_ROWS = 5000  # a statement
SENDER_ROW_HOURS = 24

# Rows of a sticky lane whose IP is disabled, gone, moved to another queue, or served by nobody for a while.
_UNSTICK = """
UPDATE sending_waiting w SET lane = w.queue_id, source_ip_id = NULL
  FROM (SELECT w.recipient_id FROM sending_waiting w LEFT JOIN ips_sourceip i ON i.id = -w.lane
         WHERE w.lane < 0 AND w.attempt_id IS NULL
           AND (i.id IS NULL OR NOT i.is_enabled OR i.gone_at IS NOT NULL OR i.queue_id IS DISTINCT FROM w.queue_id
                AND NOT (EXISTS (SELECT FROM queues_queue l WHERE l.id = i.queue_id AND l.is_default)
                  AND EXISTS (SELECT FROM queues_queue q WHERE q.id = w.queue_id AND q.is_default AND NOT EXISTS (
                    SELECT FROM ips_sourceip o WHERE o.queue_id = q.id AND o.is_enabled AND o.gone_at IS NULL)))
                OR coalesce(i.served_at, i.created_at) < %s)
         ORDER BY w.recipient_id LIMIT %s FOR UPDATE OF w SKIP LOCKED) s
 WHERE w.recipient_id = s.recipient_id
"""


def unstick(now: datetime) -> int:
    """Free rows from IPs that cannot carry them, in steps that hold few locks; returns how many."""
    freed: int = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(_UNSTICK, [now - timedelta(minutes=UNSERVED_MINUTES), UNSTICK_ROWS])
            freed += int(cursor.rowcount)
            if cursor.rowcount < UNSTICK_ROWS:
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
