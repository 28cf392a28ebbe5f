"""Fetching from a mailbox: items are leased, and handed out again when nobody acknowledges them in time.

Deposits are rows of their own. Events of a subscription are not copied: the mailbox keeps how far it has handed out the
feed, and rows for what it handed out and nobody has acknowledged yet. So no number of events fills a mailbox, and none is
lost as long as the event log keeps it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.conf import settings
from django.db import transaction
from django.db.backends.utils import CursorWrapper

from projects.objects import timestamp
from relay_project.db.bound import bound_cursor
from relay_project.db.ids import id_time
from webhooks.feed import FeedEvent, events_by_id, read_feed
from webhooks.filters import Filters
from webhooks.mailbox.figures import RECEIVED, RECEIVES
from webhooks.models.mailbox import Mailbox
from webhooks.payload import bodies

LOOKED_AT = 2_000  # positions of the feed a call looks at, when few of them are asked for

# Whoever is locked is just being leased by somebody else. The first one always fits, whatever its size.
_LEASE = """
WITH next AS (
  SELECT id, size, ready_at FROM webhooks_mailboxitem
   WHERE mailbox_id = %(box)s AND acked_at IS NULL AND ready_at <= %(now)s AND expires_at > %(now)s
   ORDER BY ready_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
fitting AS (
  SELECT id FROM (SELECT id, sum(size) OVER upto AS octets, row_number() OVER upto AS place FROM next
                  WINDOW upto AS (ORDER BY ready_at, id)) sized
   WHERE octets <= %(octets)s OR place = 1)
UPDATE webhooks_mailboxitem i SET ready_at = %(until)s, receive_count = receive_count + 1
  FROM fitting WHERE i.id = fitting.id
RETURNING i.id, i.key, i.sender, i.payload, i.receive_count, i.expires_at
"""
_LEASE_AGAIN = """
UPDATE webhooks_mailboxevent SET ready_at = %(until)s, receive_count = receive_count + 1
 WHERE id IN (SELECT id FROM webhooks_mailboxevent WHERE mailbox_id = %(box)s AND ready_at <= %(now)s
               ORDER BY ready_at, event_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING event_id, receive_count
"""
_HAND_OUT = """
INSERT INTO webhooks_mailboxevent (mailbox_id, event_id, ready_at)
SELECT %(box)s, event_id, %(until)s FROM unnest(%(events)s::bigint[]) AS event_id
ON CONFLICT (mailbox_id, event_id) DO NOTHING
"""
_ACK_ITEMS = """
UPDATE webhooks_mailboxitem SET acked_at = %(now)s, payload = '', expires_at = %(until)s
 WHERE id = ANY(%(ids)s) AND mailbox_id = %(box)s AND acked_at IS NULL RETURNING id
"""
_ACK_EVENTS = """
DELETE FROM webhooks_mailboxevent WHERE mailbox_id = %(box)s AND event_id = ANY(%(ids)s) RETURNING event_id
"""
_IN_HAND = """
SELECT count(*) FROM (SELECT 1 FROM webhooks_mailboxevent WHERE mailbox_id = %s LIMIT %s) held
"""

_LEASED_UNTIL = """
SELECT least((SELECT ready_at FROM webhooks_mailboxitem
               WHERE mailbox_id = %(box)s AND acked_at IS NULL AND ready_at > %(now)s ORDER BY ready_at LIMIT 1),
             (SELECT ready_at FROM webhooks_mailboxevent
               WHERE mailbox_id = %(box)s AND ready_at > %(now)s ORDER BY ready_at LIMIT 1))
"""


@dataclass(frozen=True, slots=True)
class Received:
    """What a call hands out, as values for JSON; `more`: there may be more to fetch at once."""

    items: list[dict[str, Any]]
    more: bool


def receive(mailbox: Mailbox, limit: int, lease_seconds: int, now: datetime) -> Received:
    """Up to `limit` items, the oldest first, leased for so long. Deposits and events share a call, neither starves."""
    RECEIVES.inc()
    until = now + timedelta(seconds=lease_seconds)
    with transaction.atomic(), bound_cursor() as cursor:
        # a lease that a crash forgets is one that ended early
        cursor.execute("SET LOCAL synchronous_commit = off")
        events: list[dict[str, Any]] = []
        is_full = False
        if mailbox.events:
            events, is_full = _events(cursor, mailbox, (limit + 1) // 2, now, until)
        items = _deposits(cursor, mailbox, limit - len(events), now, until)
        if is_full and len(items) + len(events) < limit:
            others, is_full = _events(cursor, mailbox, limit - len(items) - len(events), now, until)
            events += others
    RECEIVED.labels("deposit").inc(len(items))
    RECEIVED.labels("event").inc(len(events))
    return Received(items + events, is_full or len(items) + len(events) >= limit)


def acknowledge(mailbox: Mailbox, ids: Sequence[int], now: datetime) -> set[int]:
    """Take items out for good; returns those that were there. To say it again does no harm."""
    asked: dict[str, Any] = {"box": mailbox.pk, "ids": list(ids), "now": now}
    with transaction.atomic(), bound_cursor() as cursor:
        cursor.execute(_ACK_ITEMS, {**asked, "until": now + timedelta(hours=settings.MAILBOX_REMEMBER_HOURS)})
        found = {number for (number,) in cursor.fetchall()}
        if len(found) < len(set(ids)):
            cursor.execute(_ACK_EVENTS, asked)
            found |= {number for (number,) in cursor.fetchall()}
    return found


def leased_for(mailbox: Mailbox, now: datetime) -> float | None:
    """Seconds until the first lease ends, when there is one: nobody is told of that."""
    with bound_cursor() as cursor:
        cursor.execute(_LEASED_UNTIL, {"box": mailbox.pk, "now": now})
        until = cursor.fetchone()[0]
    return None if until is None else float((until - now).total_seconds())


def _deposits(
    cursor: CursorWrapper, mailbox: Mailbox, limit: int, now: datetime, until: datetime
) -> list[dict[str, Any]]:
    if limit <= 0:
        return []
    octets = settings.MAILBOX_MAX_ANSWER_BYTES
    cursor.execute(_LEASE, {"box": mailbox.pk, "now": now, "until": until, "limit": limit, "octets": octets})
    return [
        {
            "id": str(number),
            "kind": "deposit",
            "key": key,
            "from": sender,
            "payload": orjson.Fragment(payload),
            "deposited_at": timestamp(id_time(number)),
            "expires_at": timestamp(expires_at),
            "receive_count": count,
            "leased_until": timestamp(until),
        }
        for number, key, sender, payload, count, expires_at in sorted(cursor.fetchall())
    ]


def _events(
    cursor: CursorWrapper, mailbox: Mailbox, limit: int, now: datetime, until: datetime
) -> tuple[list[dict[str, Any]], bool]:
    """Those whose lease is over, then new ones; and whether there may be more."""
    cursor.execute(_LEASE_AGAIN, {"box": mailbox.pk, "now": now, "until": until, "limit": limit})
    counts: dict[int, int] = dict(cursor.fetchall())
    kept = events_by_id(cursor, counts)
    gone = [number for number in counts if number not in kept]
    if gone:  # retention has taken them: they are handed out no more
        cursor.execute(_ACK_EVENTS, {"box": mailbox.pk, "ids": gone})
    told = bodies([FeedEvent(0, number, *kept[number]) for number in sorted(kept)])
    is_full = len(counts) >= limit
    if not is_full:
        new, is_full = _new_events(cursor, mailbox, limit - len(counts), until)
        told += new
    return [_event_item(body, counts.get(int(body["id"]), 1), until) for body in told], is_full


def _new_events(
    cursor: CursorWrapper, mailbox: Mailbox, limit: int, until: datetime
) -> tuple[list[dict[str, Any]], bool]:
    """Bodies from the feed, under the mailbox's lock: two receivers at once get different ones."""
    cursor.execute("SELECT position FROM webhooks_mailbox WHERE id = %s FOR NO KEY UPDATE", [mailbox.pk])
    row = cursor.fetchone()
    cursor.execute(_IN_HAND, [mailbox.pk, settings.MAILBOX_MAX_ITEMS])
    limit = min(limit, settings.MAILBOX_MAX_ITEMS - cursor.fetchone()[0])
    if row is None or limit <= 0:
        return [], False
    filters = Filters(frozenset(mailbox.events), frozenset(mailbox.tags), frozenset(mailbox.domains))
    told: list[dict[str, Any]] = []
    last, looked_at, is_full = row[0], 0, True
    while is_full and len(told) < limit and looked_at < LOOKED_AT:
        wanted = limit - len(told)
        reading = read_feed(cursor, last, wanted, mailbox.project_id, filters.kinds)
        told += [body for body in bodies(reading.events) if filters.wants(body)]
        last, is_full = reading.last, reading.is_full
        looked_at += wanted
    if last != row[0]:
        cursor.execute("UPDATE webhooks_mailbox SET position = %s WHERE id = %s", [last, mailbox.pk])
        numbers = [int(body["id"]) for body in told]
        cursor.execute(_HAND_OUT, {"box": mailbox.pk, "until": until, "events": numbers})
    return told, is_full


def _event_item(body: dict[str, Any], count: int, until: datetime) -> dict[str, Any]:
    return {
        "id": body["id"],
        "kind": "event",
        "key": None,
        "from": "relay",
        "payload": body,
        "deposited_at": body["created_at"],
        "expires_at": body["created_at"] + settings.RETENTION_EVENTS_DAYS * 86_400,
        "receive_count": count,
        "leased_until": timestamp(until),
    }
