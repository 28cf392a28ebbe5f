"""What a process looks for in the database: webhooks with something due, a lease on each, and the next rows of those it has.

A lease is of a webhook and not of a row, so that its order is kept by one process, and a row costs no write before it is
sent. Whoever holds a lease says so again while it works; the rows of a dead process are another's when its leases end, and
what it had sent and not settled is sent again: at least once.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
import structlog
from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from relay_project.db import keyring
from relay_project.db.ids import by_day
from webhooks.deliver.lane import Hook, Row
from webhooks.write import FIRST

LEASE_SECONDS = 15.0
MOST_LANES = 1000  # webhooks that a process holds
log = structlog.get_logger(__name__)

_EVER = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

# A loose scan: one step for each webhook with something waiting, however much that is. What is disabled is told tests only.
_DISCOVER = """
WITH RECURSIVE lane AS (
  (SELECT webhook_id AS id FROM webhooks_webhookwaiting ORDER BY webhook_id LIMIT 1)
  UNION ALL
  SELECT (SELECT w.webhook_id FROM webhooks_webhookwaiting w WHERE w.webhook_id > lane.id ORDER BY w.webhook_id LIMIT 1)
    FROM lane WHERE lane.id IS NOT NULL)
SELECT lane.id FROM lane LEFT JOIN webhooks_webhook hook ON hook.id = lane.id
 WHERE lane.id IS NOT NULL AND (
   SELECT w.due_at FROM webhooks_webhookwaiting w WHERE w.webhook_id = lane.id ORDER BY w.due_at LIMIT 1
 ) <= CASE WHEN coalesce(hook.is_enabled, true) THEN clock_timestamp() ELSE %s END
"""
_TAKE = """
INSERT INTO webhooks_webhooklane AS lane (webhook_id, holder, leased_until)
SELECT id, %(me)s, clock_timestamp() + %(lease)s * interval '1 second'
  FROM unnest(%(ids)s::bigint[]) AS id ORDER BY id
ON CONFLICT (webhook_id) DO UPDATE SET holder = EXCLUDED.holder, leased_until = EXCLUDED.leased_until
 WHERE lane.holder = EXCLUDED.holder OR lane.leased_until < clock_timestamp()
RETURNING webhook_id
"""
_RENEW = """
UPDATE webhooks_webhooklane SET leased_until = clock_timestamp() + %(lease)s * interval '1 second'
 WHERE holder = %(me)s AND webhook_id = ANY(%(ids)s) RETURNING webhook_id
"""
_HOOKS = """
SELECT id, is_enabled, secret, CASE WHEN previous_secret_until > now() THEN previous_secret END, headers,
       failing_since IS NOT NULL, coalesce(extract(epoch FROM held_until - clock_timestamp()), 0), project_id
  FROM webhooks_webhook WHERE id = ANY(%s)
"""
_ROWS = """
SELECT w.webhook_id, w.delivery_id, w.subject_id, w.kind, w.due_at, w.try_count
  FROM unnest(%(ids)s::bigint[], %(most)s::int[], %(since)s::timestamptz[], %(until)s::timestamptz[])
       AS lane (id, most, since, until)
 CROSS JOIN LATERAL (
  SELECT * FROM webhooks_webhookwaiting
   WHERE webhook_id = lane.id AND due_at >= lane.since AND due_at <= lane.until
   ORDER BY due_at, delivery_id LIMIT lane.most) w
 ORDER BY w.webhook_id, w.due_at, w.delivery_id
"""
_BODIES = """
SELECT id, event_id, url, request_body FROM webhooks_webhookdelivery
 WHERE id = ANY(%(ids)s) AND id >= %(low)s AND id <= %(high)s
"""
_DROP = "DELETE FROM webhooks_webhookwaiting WHERE delivery_id = ANY(%s)"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a lane asks for: rows beyond those it holds, from a time on (None: from the beginning)."""

    webhook_id: int
    held: frozenset[int]
    count: int
    since: datetime | None = None


@dataclass(slots=True)
class Found:
    """What a look brought, by webhook; `full` are those of which there may be more; `taken` is new to this process."""

    rows: dict[int, list[Row]] = field(default_factory=lambda: defaultdict(list))
    hooks: dict[int, Hook] = field(default_factory=dict)
    full: set[int] = field(default_factory=set)
    taken: set[int] = field(default_factory=set)


def discover() -> list[int]:
    """Webhooks that something is due for, or that are gone while something waits for them."""
    with connection.cursor() as cursor:
        cursor.execute(_DISCOVER, [FIRST])
        return [webhook_id for (webhook_id,) in cursor.fetchall()]


def take(me: uuid.UUID, webhook_ids: Iterable[int]) -> set[int]:
    """Lease them; returns those that are ours now, also those that were before."""
    ids = sorted(webhook_ids)
    if not ids:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, {"me": me, "ids": ids, "lease": LEASE_SECONDS})
        return {webhook_id for (webhook_id,) in cursor.fetchall()}


def renew(me: uuid.UUID, webhook_ids: Iterable[int]) -> set[int]:
    """Say that we go on; returns those that are still ours."""
    ids = sorted(webhook_ids)
    if not ids:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(_RENEW, {"me": me, "ids": ids, "lease": LEASE_SECONDS})
        return {webhook_id for (webhook_id,) in cursor.fetchall()}


def release(me: uuid.UUID, webhook_ids: Iterable[int] | None = None) -> None:
    """Let others have them; all of ours without names."""
    with connection.cursor() as cursor:
        if webhook_ids is None:
            cursor.execute("DELETE FROM webhooks_webhooklane WHERE holder = %s", [me])
        else:
            cursor.execute(
                "DELETE FROM webhooks_webhooklane WHERE holder = %s AND webhook_id = ANY(%s)", [me, sorted(webhook_ids)]
            )


def load(wanted: Sequence[Wanted]) -> Found:
    """The next rows of some lanes, and what their calls are made with."""
    found = Found()
    if not wanted:
        return found
    with connection.cursor() as cursor:
        found.hooks = _hooks(cursor, [each.webhook_id for each in wanted])
        rows = _waiting(cursor, wanted, found)
        contents = _contents(cursor, [row[1] for row in rows])
        lost = [row[1] for row in rows if row[1] not in contents]
        if lost:  # retention took what was to be told
            cursor.execute(_DROP, [lost])
    for webhook_id, delivery_id, subject_id, kind, due_at, tries in rows:
        if delivery_id in contents:
            row = Row(delivery_id, webhook_id, subject_id, kind, due_at, tries, *contents[delivery_id])
            found.rows[webhook_id].append(row)
    return found


def _waiting(cursor: CursorWrapper, wanted: Sequence[Wanted], found: Found) -> list[tuple]:  # type: ignore[type-arg]
    """Due rows that no lane holds."""
    now = timezone.now()
    asked = [each for each in wanted if each.webhook_id in found.hooks]
    values: dict[str, Any] = {
        "ids": [each.webhook_id for each in asked],
        "most": [each.count + len(each.held) for each in asked],
        "since": [each.since or _EVER for each in asked],
        "until": [now if found.hooks[each.webhook_id].is_enabled else FIRST for each in asked],
    }
    cursor.execute(_ROWS, values)
    rows = cursor.fetchall()
    counts: dict[int, int] = defaultdict(int)
    for row in rows:
        counts[row[0]] += 1
    found.full = {each.webhook_id for each in asked if counts[each.webhook_id] >= each.count + len(each.held)}
    held = {delivery_id for each in asked for delivery_id in each.held}
    return [row for row in rows if row[1] not in held]


def _contents(cursor: CursorWrapper, delivery_ids: Iterable[int]) -> dict[int, tuple[int, str, str]]:
    """Event, URL and body, by delivery; a statement for each day."""
    found: dict[int, tuple[int, str, str]] = {}
    for ids in by_day(delivery_ids):
        cursor.execute(_BODIES, {"ids": ids, "low": ids[0], "high": ids[-1]})
        found.update((delivery_id, (event, url, body)) for delivery_id, event, url, body in cursor.fetchall())
    return found


def _hooks(cursor: CursorWrapper, webhook_ids: Sequence[int]) -> dict[int, Hook]:
    """What calls are made with; a webhook whose secret cannot be read is told nothing until it can."""
    cursor.execute(_HOOKS, [list(webhook_ids)])
    found = {}
    for webhook_id, is_enabled, secret, previous, headers, is_failing, held_seconds, project_id in cursor.fetchall():
        try:
            secrets = tuple(_plain(token) for token in (secret, previous) if token)
            held = float(held_seconds)
            found[webhook_id] = Hook(secrets, _headers(headers), is_enabled, is_failing, held, project_id)
        except keyring.UndecryptableSecret as error:
            log.error("webhooks.unreadable_secret", webhook=webhook_id, error=str(error))
    return found


_known: dict[str, str] = {}  # tokens that were deciphered, which takes as long as all the rest of a call's signing


def _plain(token: str) -> str:
    if token not in _known:
        if len(_known) > 2 * MOST_LANES:
            _known.clear()
        _known[token] = keyring.decrypt(token)
    return _known[token]


def _headers(token: str | None) -> tuple[tuple[str, str], ...]:
    return tuple(orjson.loads(_plain(token)).items()) if token else ()
