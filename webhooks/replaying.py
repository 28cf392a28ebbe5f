"""Working off replays, a step at a time: a webhook's next step waits until it has been told most of the one before.

Of what failed, that whose tries are over is made again, and that which waits for its next try is tried now.
"""

from dataclasses import dataclass

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from relay_project.db.locks import WEBHOOK_REPLAYS
from webhooks.fan_out import Target, deliveries_for
from webhooks.feed import FeedEvent, events_by_id
from webhooks.filters import Filters
from webhooks.loop import Loop
from webhooks.models import DeliveryKind
from webhooks.write import NewDelivery, notify, write_deliveries

STEP = 300  # events or deliveries a transaction
MOST_DUE = (
    1000  # deliveries of a webhook beside which a replay adds no more: what happens now should not queue behind it
)

_OPEN = """
SELECT r.id, r.webhook_id, r.next_id, r.ends_id, r.only_failed, w.project_id, w.url, w.events, w.tags, w.domains
  FROM webhooks_webhookreplay r JOIN webhooks_webhook w ON w.id = r.webhook_id
 WHERE r.finished_at IS NULL AND w.is_enabled AND r.id > %s ORDER BY r.id LIMIT 1
"""
_DUE = """
SELECT count(*) FROM (
  SELECT FROM webhooks_webhookwaiting WHERE webhook_id = %s AND due_at <= statement_timestamp() LIMIT %s) AS sample
"""
_EVENTS = """
SELECT id FROM projects_event WHERE project_id = %s AND id >= %s AND id < %s ORDER BY id LIMIT %s
"""
_DELIVERIES = """
SELECT id, event_id, event, CASE WHEN status = 'failed' THEN request_body END, status = 'failed' AND kind <> 'test',
       status = 'pending' AND try_count > 0
  FROM webhooks_webhookdelivery WHERE webhook_id = %s AND id >= %s AND id < %s ORDER BY id LIMIT %s
"""
_HASTEN = """
WITH hastened AS (
  UPDATE webhooks_webhookwaiting SET due_at = statement_timestamp()
   WHERE delivery_id = ANY(%(ids)s) AND due_at > statement_timestamp() RETURNING delivery_id, due_at)
UPDATE webhooks_webhookdelivery d SET next_try_at = due_at FROM hastened
 WHERE d.id = hastened.delivery_id AND d.id >= %(low)s AND d.id <= %(high)s
"""
_MOVE = """
UPDATE webhooks_webhookreplay SET next_id = %(next)s, made = made + %(made)s,
       finished_at = coalesce(finished_at, CASE WHEN %(done)s THEN clock_timestamp() END)
 WHERE id = %(id)s
"""


@dataclass(frozen=True, slots=True)
class _Order:
    id: int
    webhook_id: int
    next_id: int
    ends_id: int
    only_failed: bool
    project_id: int
    url: str
    kinds: list[str]
    tags: list[str]
    domains: list[str]


@dataclass(frozen=True, slots=True)
class _Found:
    """What a step is to make, how far it has looked, and how much it has looked at; `hastened` wait no longer."""

    rows: list[NewDelivery]
    last: int
    looked_at: int
    hastened: int = 0


class Replays(Loop):
    """The loop; each look takes a step of one replay, in turn."""

    def __init__(self) -> None:
        super().__init__("replays", self._step, STEP, survives=True, pause=(0.05, 1.0), rest=0.5)
        self._last = 0

    def _step(self) -> int:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [WEBHOOK_REPLAYS])
            if not cursor.fetchone()[0]:
                return 0
            order = _next(cursor, self._last) or (_next(cursor, 0) if self._last else None)
            self._last = order.id if order else 0
            return work_off(cursor, order) if order else 0


def work_off(cursor: CursorWrapper, order: _Order, step: int = STEP) -> int:
    """Make the deliveries of one step; returns how many were looked at, 0 while the webhook has enough to do."""
    cursor.execute(_DUE, [order.webhook_id, MOST_DUE])
    if cursor.fetchone()[0] >= MOST_DUE:
        return 0
    found = (_failed if order.only_failed else _events)(cursor, order, step)
    write_deliveries(cursor, found.rows)
    made, is_done = len(found.rows) + found.hastened, found.looked_at < step
    reached = order.ends_id if is_done else found.last + 1
    cursor.execute(_MOVE, {"id": order.id, "next": reached, "made": made, "done": is_done})
    return max(found.looked_at, 1)  # a finished one too is something done


def _next(cursor: CursorWrapper, after: int) -> _Order | None:
    cursor.execute(_OPEN, [after])
    row = cursor.fetchone()
    return _Order(*row) if row else None


def _events(cursor: CursorWrapper, order: _Order, step: int) -> _Found:
    cursor.execute(_EVENTS, [order.project_id, order.next_id, order.ends_id, step])
    ids = [event_id for (event_id,) in cursor.fetchall()]
    found = events_by_id(cursor, ids)
    events = [FeedEvent(0, event_id, *found[event_id]) for event_id in ids if event_id in found]
    filters = Filters(frozenset(order.kinds), frozenset(order.tags), frozenset(order.domains))
    target = Target(order.webhook_id, order.url, filters, DeliveryKind.REPLAY)
    rows = deliveries_for(events, {order.project_id: [target]})
    return _Found(rows, ids[-1] if ids else order.ends_id, len(ids))


def _failed(cursor: CursorWrapper, order: _Order, step: int) -> _Found:
    cursor.execute(_DELIVERIES, [order.webhook_id, order.next_id, order.ends_id, step])
    found = cursor.fetchall()
    rows = [
        NewDelivery(order.project_id, order.webhook_id, event_id, event_id, event, order.url, body, DeliveryKind.REPLAY)
        for _, event_id, event, body, is_failed, _ in found
        if is_failed
    ]
    hastened = _hasten(cursor, order, [row[0] for row in found if row[-1]])
    return _Found(rows, found[-1][0] if found else order.ends_id, len(found), hastened)


def _hasten(cursor: CursorWrapper, order: _Order, delivery_ids: list[int]) -> int:
    """Have those tried now that wait for their next try; returns how many."""
    if not delivery_ids:
        return 0
    cursor.execute(_HASTEN, {"ids": delivery_ids, "low": delivery_ids[0], "high": delivery_ids[-1]})
    hastened = int(cursor.rowcount)
    notify(cursor, [str(order.webhook_id)])
    return hastened
