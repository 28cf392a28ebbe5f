"""What nobody else does for webhooks: figures, what waits for webhooks that are gone, and orders that are long done."""

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

from relay_project.db.ids import id_floor
from relay_project.metrics import Gauge
from webhooks.loop import Loop

EVERY_SECONDS = 10.0
STEP = 1000  # rows a transaction
MOST_COUNTED = 100_000  # rows; a count is no reason to walk over millions

WAITING = Gauge("relay_webhook_waiting", f"Deliveries to webhooks that are not final ({MOST_COUNTED} stands for more).")
DUE = Gauge("relay_webhook_due_seconds", "How long the oldest delivery to an enabled webhook is due.")

_COUNT = "SELECT count(*) FROM (SELECT FROM webhooks_webhookwaiting LIMIT %s) AS sample"
_OLDEST = """
SELECT min(due) FROM (
  SELECT (SELECT due_at FROM webhooks_webhookwaiting w WHERE w.webhook_id = lane.webhook_id AND due_at > '2000-01-02'
           ORDER BY due_at LIMIT 1) AS due
    FROM webhooks_webhook hook JOIN (
      WITH RECURSIVE lane AS (
        (SELECT webhook_id FROM webhooks_webhookwaiting ORDER BY webhook_id LIMIT 1)
        UNION ALL
        SELECT (SELECT w.webhook_id FROM webhooks_webhookwaiting w WHERE w.webhook_id > lane.webhook_id
                 ORDER BY w.webhook_id LIMIT 1) FROM lane WHERE lane.webhook_id IS NOT NULL)
      SELECT webhook_id FROM lane WHERE webhook_id IS NOT NULL) lane ON lane.webhook_id = hook.id
   WHERE hook.is_enabled) AS first
"""
# Of webhooks that are gone, and what deliveries are kept no longer for.
_ORPHANS = """
DELETE FROM webhooks_webhookwaiting WHERE delivery_id = ANY(ARRAY(
  (SELECT delivery_id FROM webhooks_webhookwaiting WHERE delivery_id < %(floor)s LIMIT %(step)s)
  UNION (SELECT delivery_id FROM webhooks_webhookwaiting WHERE webhook_id = ANY(%(gone)s::bigint[]) LIMIT %(step)s)))
RETURNING delivery_id
"""
_GONE = """
WITH RECURSIVE lane AS (
  (SELECT webhook_id FROM webhooks_webhookwaiting ORDER BY webhook_id LIMIT 1)
  UNION ALL
  SELECT (SELECT w.webhook_id FROM webhooks_webhookwaiting w WHERE w.webhook_id > lane.webhook_id
           ORDER BY w.webhook_id LIMIT 1) FROM lane WHERE lane.webhook_id IS NOT NULL)
SELECT webhook_id FROM lane
 WHERE webhook_id IS NOT NULL AND NOT EXISTS (SELECT FROM webhooks_webhook hook WHERE hook.id = lane.webhook_id)
"""
_END = """
UPDATE webhooks_webhookdelivery SET status = 'failed', next_try_at = NULL, response = coalesce(response, %(why)s)
 WHERE id = ANY(%(ids)s) AND id >= %(low)s AND id <= %(high)s
"""
_OLD_REPLAYS = "DELETE FROM webhooks_webhookreplay WHERE finished_at < %s"
WHY = "The webhook was deleted."


class Tidying(Loop):
    """The loop: rarely, and again at once while there is more."""

    def __init__(self) -> None:
        super().__init__(
            "webhooks_tidy", self._tidy, STEP, rest=1.0, survives=True, pause=(EVERY_SECONDS, EVERY_SECONDS)
        )

    def _tidy(self) -> int:
        now = datetime.now(UTC)
        measure(now)
        return tidy(now)


def measure(now: datetime) -> None:
    """Set the gauges."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, [MOST_COUNTED])
        WAITING.set(cursor.fetchone()[0])
        cursor.execute(_OLDEST)
        oldest = cursor.fetchone()[0]
    DUE.set(max((now - oldest).total_seconds(), 0.0) if oldest else 0.0)


def tidy(now: datetime) -> int:
    """One step, in a transaction; returns how many waiting rows went."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_GONE)
        gone = [webhook_id for (webhook_id,) in cursor.fetchall()]
        floor = id_floor(now - timedelta(days=settings.RETENTION_DELIVERIES_DAYS + 1))
        cursor.execute(_ORPHANS, {"floor": floor, "gone": gone, "step": STEP})
        ids = sorted(delivery_id for (delivery_id,) in cursor.fetchall())
        if ids:
            cursor.execute(_END, {"ids": ids, "low": ids[0], "high": ids[-1], "why": WHY})
        cursor.execute(_OLD_REPLAYS, [now - timedelta(days=settings.RETENTION_DELIVERIES_DAYS)])
    return len(ids)
