"""The sweep of mailboxes: items whose time is over, and what is remembered of acknowledged ones."""

from datetime import datetime

from django.db import connection

from webhooks.mailbox.figures import EXPIRED

STEP = 5_000  # rows of a transaction

_STEP = """
WITH due AS (
  SELECT id FROM webhooks_mailboxitem WHERE expires_at <= %s ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)
DELETE FROM webhooks_mailboxitem i USING due WHERE i.id = due.id RETURNING i.acked_at IS NULL
"""


def sweep_expired(now: datetime) -> int:
    """Delete what has expired; returns how many rows left."""
    total = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_STEP, [now, STEP])
            rows = cursor.fetchall()
        EXPIRED.inc(sum(unread for (unread,) in rows))
        total += len(rows)
        if len(rows) < STEP:
            return total
