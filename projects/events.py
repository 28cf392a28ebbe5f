"""The event log: one writer, and the sequencer that gives events a position in commit order.

Transactions commit out of id order, so no reader may trust `id > last`. `emit_many` puts each event's id into an outbox
beside it; `sequence_outbox`, one at a time, moves what is visible there to the feed. Readers trust `position > last`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from relay_project.db.locks import SEQUENCER

PAYLOAD_VERSION = 1
FEED_CHANNEL = "relay_feed"  # notified with the last position of each batch


class EventKind(StrEnum):
    """What can happen, and webhooks subscribe to: the contract's eleven names, and ours (projects.event_registry)."""

    QUEUED = "send.queued"
    ACCEPTED = "send.recipient.accepted"
    DEFERRED = "send.recipient.deferred"
    FAILED = "send.recipient.failed"
    BOUNCED = "send.recipient.bounced"
    COMPLAINED = "send.recipient.complained"
    SUPPRESSED = "send.recipient.suppressed"
    CANCELLED = "send.recipient.cancelled"
    DELAYED = "send.recipient.delayed"
    SIMULATED = "send.recipient.simulated"
    UNSUBSCRIBED = "send.recipient.unsubscribed"
    DOMAIN_CREATED = "domain.created"
    DOMAIN_DELETED = "domain.deleted"
    DOMAIN_STATUS_CHANGED = "domain.status.changed"
    DOMAIN_DKIM_KEY_CHANGED = "domain.dkim_key.changed"
    DOMAIN_RETURN_PATH_CHANGED = "domain.return_path.changed"
    SUPPRESSION_CREATED = "suppression.created"
    SUPPRESSION_DELETED = "suppression.deleted"
    SUPPRESSION_IMPORTED = "suppression.imported"
    INBOUND_RECEIVED = "inbound.received"
    INBOUND_FORWARDED = "inbound.forwarded"
    PROJECT_SUSPENDED = "project.suspended"
    PROJECT_RESUMED = "project.resumed"
    PROJECT_ARCHIVED = "project.archived"
    PROJECT_RESTORED = "project.restored"
    LIMIT_REACHED = "limit.reached"
    API_KEY_CREATED = "api_key.created"
    API_KEY_ROTATED = "api_key.rotated"
    API_KEY_REVOKED = "api_key.revoked"
    WEBHOOK_DISABLED = "webhook.disabled"
    INCIDENT_OPENED = "incident.opened"
    INCIDENT_CLOSED = "incident.closed"


# Of the operator's, written for the system project: no other can subscribe to them.
INSTANCE_KINDS = frozenset({EventKind.INCIDENT_OPENED, EventKind.INCIDENT_CLOSED})


def emitting(source: str) -> str:
    """The part of a WITH that writes the events of `source` (project_id, kind, subject_kind, subject_id, payload).

    For statements that write more; alone it is emit_many's. Both inserts are in one statement: a round trip less, and no
    event can miss its outbox row.
    """
    return f"""events AS (
  INSERT INTO projects_event (project_id, kind, subject_kind, subject_id, version, payload)
  SELECT project_id, kind, subject_kind, subject_id, {PAYLOAD_VERSION}, payload FROM {source}
  RETURNING id, project_id),
outbox AS (INSERT INTO projects_eventoutbox (event_id, project_id) SELECT id, project_id FROM events)
"""  # noqa: S608 — of constants


# WITH ORDINALITY keeps the order of the rows, so the ids come back in it.
_ROWS = """ROWS FROM (jsonb_to_recordset(%s::jsonb)
                    AS (project_id bigint, kind text, subject_kind text, subject_id bigint, payload jsonb))
         WITH ORDINALITY AS row (project_id, kind, subject_kind, subject_id, payload, place)
   ORDER BY place"""
_EMIT = f"WITH {emitting(_ROWS)} SELECT id FROM events"  # noqa: S608 — a constant of this module

# ANY(ARRAY(…)), not IN (…): the planner may run an IN's subquery once for each row that it joins with, and with LIMIT
# and SKIP LOCKED every run finds other rows.
# One NOTIFY a batch, and from here only: in emit_many it would have commits wait for each other.
_SEQUENCE = f"""
WITH taken AS (
  DELETE FROM projects_eventoutbox WHERE event_id = ANY(ARRAY(
    SELECT event_id FROM projects_eventoutbox ORDER BY event_id LIMIT %s FOR UPDATE SKIP LOCKED))
  RETURNING event_id, project_id),
fed AS (
  INSERT INTO projects_feedposition (event_id, project_id)
  SELECT event_id, project_id FROM taken ORDER BY event_id
  RETURNING position, event_id, project_id)
SELECT count(*), count(*) FILTER (WHERE project_id IS NULL), min(position), min(event_id), max(event_id),
       pg_notify('{FEED_CHANNEL}', max(position)::text)
  FROM fed HAVING count(*) > 0
"""  # noqa: S608 — constants of this module

_COMPLETE = """
UPDATE projects_feedposition AS feed SET project_id = event.project_id FROM projects_event AS event
 WHERE feed.position >= %s AND feed.project_id IS NULL
   AND event.id = feed.event_id AND event.id >= %s AND event.id <= %s
"""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something that happened, to be written in the transaction in which it did."""

    project_id: int
    kind: str  # an EventKind
    subject_kind: str
    subject_id: int
    payload: dict[str, Any]


def emit_many(cursor: CursorWrapper, rows: Sequence[NewEvent]) -> list[int]:
    """Write events in the cursor's transaction; returns their ids in the order of the rows."""
    if not rows:
        return []
    cursor.execute(_EMIT, [_rows_text(rows)])
    return [event_id for (event_id,) in cursor.fetchall()]


def emit(*rows: NewEvent) -> list[int]:
    """emit_many over Django's connection."""
    with connection.cursor() as cursor:
        return emit_many(cursor, rows)


def sequence_outbox(cursor: CursorWrapper, limit: int = 1000) -> int:
    """Append up to `limit` committed events to the feed in a transaction, and notify FEED_CHANNEL; returns how many.

    0 also when another process is doing it now. The lock is let go after the commit, so positions become visible in
    their order.
    """
    cursor.execute("SELECT EXISTS (SELECT FROM projects_eventoutbox)")
    if not cursor.fetchone()[0]:  # the usual case of a look, in one round trip
        return 0
    with transaction.atomic():
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [SEQUENCER])
        row = cursor.fetchone()
        if not (row and row[0]):
            return 0
        cursor.execute(_SEQUENCE, [limit])
        row = cursor.fetchone()
        if row is None:
            return 0
        moved, nameless, *since, _ = row
        if nameless:  # written by a version before, which did not say whose they are
            cursor.execute(_COMPLETE, since)
        return int(moved)


def _rows_text(rows: Sequence[NewEvent]) -> str:
    """JSON that PostgreSQL stores whatever a remote said: one bad text must not stop all that settles with it.

    One parameter for the batch: as arrays, psycopg quotes each text in Python, twenty times the time of this.
    """
    records = [
        {
            "project_id": row.project_id,
            "kind": row.kind,
            "subject_kind": row.subject_kind,
            "subject_id": row.subject_id,
            "payload": row.payload,
        }
        for row in rows
    ]
    try:
        text = orjson.dumps(records).decode()
    except TypeError:  # a lone surrogate; anything else raises again below
        return orjson.dumps(_storable(records)).decode()
    return orjson.dumps(_storable(records)).decode() if "\\u0000" in text else text


def _storable(value: Any) -> Any:
    """The value without what jsonb refuses: NUL and lone surrogates."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list | tuple) else value
