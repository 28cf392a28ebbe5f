"""Writing deliveries: the row of what happened and the waiting row beside it, in one statement; then whoever delivers hears."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from django.db.backends.utils import CursorWrapper

from webhooks.models import DeliveryKind

CHANNEL = "relay_webhooks"  # notified with the ids of webhooks that have something to be told
NOW = "!"  # before the id of one that somebody tries or switches, and looks at
MAX_NOTICE = 7000  # octets; PostgreSQL takes less than 8000
FIRST = datetime(2000, 1, 1, tzinfo=UTC)  # due before all else, and of a disabled webhook as well: a test

# A waiting row is due a microsecond after the one before it: what has the order of the feed here has it when it is sent.
# Ids order by millisecond only. All of a batch is due at once: the last one now.
_WRITE = """
WITH row AS (
  SELECT * FROM ROWS FROM (jsonb_to_recordset(%(rows)s::jsonb)
    AS (project bigint, webhook bigint, event bigint, subject bigint, name text, url text, body text, kind text,
        due timestamptz)) WITH ORDINALITY AS row (project, webhook, event, subject, name, url, body, kind, due, place)),
numbered AS MATERIALIZED (
  SELECT new_id() AS id, row.*,
         coalesce(due, statement_timestamp() - (%(count)s - place) * interval '1 microsecond') AS due_at
    FROM row ORDER BY place),
made AS (
  INSERT INTO webhooks_webhookdelivery
         (id, project_id, webhook_id, event_id, event, url, request_body, kind, status, try_count, next_try_at, tries)
  SELECT id, project, webhook, event, name, url, body, kind, 'pending', 0, greatest(due_at, statement_timestamp()), '[]'
    FROM numbered ORDER BY place),
waiting AS (
  INSERT INTO webhooks_webhookwaiting (delivery_id, webhook_id, subject_id, kind, due_at, try_count)
  SELECT id, webhook, subject, kind, due_at, 0 FROM numbered ORDER BY place)
SELECT id FROM numbered ORDER BY place
"""


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """One event for one webhook."""

    project_id: int
    webhook_id: int
    event_id: int
    subject_id: int
    event: str
    url: str
    body: str
    kind: DeliveryKind = DeliveryKind.EVENT


def write_deliveries(cursor: CursorWrapper, rows: Sequence[NewDelivery]) -> list[int]:
    """Insert them in the cursor's transaction; returns their ids in the order of the rows."""
    if not rows:
        return []
    records = [
        {
            "project": row.project_id,
            "webhook": row.webhook_id,
            "event": row.event_id,
            "subject": row.subject_id,
            "name": row.event,
            "url": row.url,
            "body": row.body,
            "kind": row.kind.value,
            "due": FIRST if row.kind is DeliveryKind.TEST else None,
        }
        for row in rows
    ]
    cursor.execute(_WRITE, {"rows": orjson.dumps(records).decode(), "count": len(rows)})
    ids = [delivery_id for (delivery_id,) in cursor.fetchall()]
    notify(cursor, {f"{NOW if row.kind is DeliveryKind.TEST else ''}{row.webhook_id}" for row in rows})
    return ids


def notify(cursor: CursorWrapper, names: Iterable[str]) -> None:
    """Have webhooks looked at, with the commit: those with these ids, or, when there are too many, all."""
    words = ",".join(sorted(names))
    cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, words if len(words) < MAX_NOTICE else ""])


def text_of(body: Mapping[str, Any]) -> str:
    """The body as it is sent and signed."""
    return orjson.dumps(body).decode()
