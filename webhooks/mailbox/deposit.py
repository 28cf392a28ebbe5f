"""Depositing: stored when it is answered, each item once, and never more in a mailbox than it holds.

Deposits that come at once to a process share a transaction (db.gather). A mailbox is locked meanwhile against other
processes' deposits, so its limit is exact and of two equal deposits one is the first.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import orjson
from django.conf import settings
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from relay_project.db.bound import bound_cursor
from relay_project.db.gather import Gather
from relay_project.db.locks import MAILBOX_DEPOSITS
from webhooks.mailbox.figures import DEPOSITS
from webhooks.mailbox.holding import NEARLY_FULL, Load
from webhooks.notices import tell_of_filling

CHANNEL = "relay_mailbox"  # the payload is the mailbox's id
TOGETHER = 200  # deposits of one transaction

# In the order of the ids, so that two rounds never wait for each other.
_LOCK = "SELECT pg_advisory_xact_lock(%s, (id %% 2147483647)::int) FROM unnest(%s::bigint[]) AS id ORDER BY id"
# Behind the lock, so that it sees what the holder before it has written.
_ROOM = """
SELECT box.id, coalesce(box.waited_until > %(now)s, false), held.items, held.octets
  FROM webhooks_mailbox box, LATERAL (
       SELECT count(*) AS items, coalesce(sum(size), 0) AS octets
         FROM (SELECT size FROM webhooks_mailboxitem i
                WHERE i.mailbox_id = box.id AND i.acked_at IS NULL AND i.expires_at > %(now)s LIMIT %(most)s) item) held
 WHERE box.id = ANY(%(ids)s)
"""
_FORGET = """
DELETE FROM webhooks_mailboxitem i
 USING unnest(%(boxes)s::bigint[], %(digests)s::bytea[]) AS wanted (mailbox_id, digest)
 WHERE i.mailbox_id = wanted.mailbox_id AND i.digest = wanted.digest AND i.expires_at <= %(now)s
"""
_KNOWN = """
SELECT i.mailbox_id, i.digest, i.id, i.expires_at
  FROM unnest(%(boxes)s::bigint[], %(digests)s::bytea[]) AS wanted (mailbox_id, digest)
  JOIN webhooks_mailboxitem i ON i.mailbox_id = wanted.mailbox_id AND i.digest = wanted.digest
"""
_INSERT = """
INSERT INTO webhooks_mailboxitem (id, mailbox_id, digest, key, sender, payload, size, ready_at, expires_at)
SELECT new_id(), mailbox_id, digest, key, sender, payload, size, %(now)s, expires_at
  FROM ROWS FROM (unnest(%(boxes)s::bigint[], %(digests)s::bytea[], %(keys)s::text[], %(senders)s::text[],
                         %(payloads)s::text[], %(sizes)s::int[], %(expiries)s::timestamptz[]))
       WITH ORDINALITY AS row (mailbox_id, digest, key, sender, payload, size, expires_at, place)
 ORDER BY place
RETURNING mailbox_id, digest, id, expires_at
"""


@dataclass(frozen=True, slots=True)
class NewItem:
    """What somebody deposits: `payload` is JSON text, `digest` what makes it the same as another one in its mailbox."""

    payload: str
    digest: bytes
    size: int  # octets of the payload
    key: str | None = None
    ttl_seconds: int | None = None


def new_item(value: Any, key: str | None = None, ttl_seconds: int | None = None) -> NewItem:
    """An item of a JSON value. Without a key equal values are one item, whatever the order of their members."""
    payload = orjson.dumps(value)
    named = b"content\0" + orjson.dumps(value, option=orjson.OPT_SORT_KEYS) if key is None else b"key\0" + key.encode()
    return NewItem(payload.decode(), sha256(named).digest(), len(payload), key, ttl_seconds)


@dataclass(frozen=True, slots=True)
class Deposited:
    """An item's place; `is_duplicate`: it was there before, or was and has been acknowledged."""

    id: int
    expires_at: datetime
    is_duplicate: bool


@dataclass(frozen=True, slots=True)
class _Deposit:
    mailbox_id: int
    sender: str
    items: Sequence[NewItem]
    now: datetime


Known = dict[tuple[int, bytes], tuple[int, datetime]]


def deposit(mailbox_id: int, sender: str, items: Sequence[NewItem], now: datetime) -> list[Deposited] | None:
    """Store all items, in their order, or, when they do not all fit, none of them: None."""
    asked = _Deposit(mailbox_id, sender, items, now)
    return _store([asked])[0] if connection.in_atomic_block else _gather.do(asked)


def _store(deposits: Sequence[_Deposit]) -> list[list[Deposited] | None]:
    boxes = sorted({each.mailbox_id for each in deposits})
    now = max(each.now for each in deposits)
    with transaction.atomic(), bound_cursor() as cursor:
        _run(_LOCK, [MAILBOX_DEPOSITS, boxes])
        cursor.execute(_ROOM, {"ids": boxes, "now": now, "most": settings.MAILBOX_MAX_ITEMS})
        rows = cursor.fetchall()
        before = {box: Load(items, octets) for box, _, items, octets in rows}
        known = _read_known(cursor, deposits, now)
        accepted, fresh, after = _admit(deposits, before, known)
        made = _insert(fresh, now)
        for box in {each.mailbox_id for each, _ in fresh} & {box for box, is_waited, *_ in rows if is_waited}:
            cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, str(box)])
        refusing = {each.mailbox_id for each, fits in zip(deposits, accepted, strict=True) if not fits}
        _warn(before, after, refusing)
    DEPOSITS.inc(len(made))
    found = {**known, **made}
    return [_answer(each, found, known) if fits else None for each, fits in zip(deposits, accepted, strict=True)]


def _admit(
    deposits: Sequence[_Deposit], held: Mapping[int, Load], known: Mapping[tuple[int, bytes], Any]
) -> tuple[list[bool], list[tuple[_Deposit, NewItem]], dict[int, Load]]:
    """Which deposits fit whole, what is new of them, and what is held with it. A mailbox that is gone has no room."""
    accepted, fresh, seen, after = [], [], set(known), dict(held)
    for each in deposits:
        new = {(each.mailbox_id, item.digest): item for item in each.items}
        new = {name: item for name, item in new.items() if name not in seen}
        load = after.get(each.mailbox_id)
        wanted = None if load is None else load.with_more(len(new), sum(item.size for item in new.values()))
        fits = wanted is not None and (wanted.share <= 1 or not new)
        accepted.append(fits)
        if wanted is not None and fits:
            seen.update(new)
            after[each.mailbox_id] = wanted
            fresh += [(each, item) for item in new.values()]
    return accepted, fresh, after


def _warn(before: Mapping[int, Load], after: Mapping[int, Load], refusing: Container[int]) -> None:
    """Have people told of a mailbox that refuses, or becomes nearly full just now; the others cost nothing."""
    for box, load in after.items():
        if box in refusing or before[box].share < NEARLY_FULL <= load.share:
            tell_of_filling(box, load, is_refusing=box in refusing)


def _read_known(cursor: CursorWrapper, deposits: Sequence[_Deposit], now: datetime) -> Known:
    """What is there already; what has expired and was not swept yet is no more."""
    wanted = sorted({(each.mailbox_id, item.digest) for each in deposits for item in each.items})
    asked: dict[str, Any] = {
        "boxes": [box for box, _ in wanted],
        "digests": [digest for _, digest in wanted],
        "now": now,
    }
    cursor.execute(_KNOWN, asked)
    found = dict(_by_name(cursor.fetchall()))
    living = {name: there for name, there in found.items() if there[1] > now}
    if len(living) < len(found):
        cursor.execute(_FORGET, asked)
    return living


def _insert(fresh: Sequence[tuple[_Deposit, NewItem]], now: datetime) -> Known:
    if not fresh:
        return {}
    items = [item for _, item in fresh]
    columns: dict[str, Any] = {
        "boxes": [each.mailbox_id for each, _ in fresh],
        "digests": [item.digest for item in items],
        "keys": [item.key for item in items],
        "senders": [each.sender for each, _ in fresh],
        "payloads": [item.payload for item in items],
        "sizes": [item.size for item in items],
        "expiries": [_expiry(item, now) for item in items],
    }
    return dict(_by_name(_run(_INSERT, {**columns, "now": now})))


def _run(statement: str, values: Any) -> list[Any]:
    """One that is the same each time, and has one plan."""
    with bound_cursor(prepared=True) as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def _by_name(
    rows: Sequence[tuple[int, Any, int, datetime]],
) -> Iterator[tuple[tuple[int, bytes], tuple[int, datetime]]]:
    for box, digest, item_id, expires_at in rows:
        yield (box, bytes(digest)), (item_id, expires_at)


def _answer(each: _Deposit, found: Known, known: Known) -> list[Deposited]:
    """Of two equal items in one deposit the second is a duplicate, as one in a later deposit."""
    answers, seen = [], set(known)
    for item in each.items:
        name = (each.mailbox_id, item.digest)
        answers.append(Deposited(*found[name], name in seen))
        seen.add(name)
    return answers


def _expiry(item: NewItem, now: datetime) -> datetime:
    return now + timedelta(seconds=item.ttl_seconds or settings.MAILBOX_TTL_DAYS * 86_400)


_gather: Gather[_Deposit, list[Deposited] | None] = Gather(_store, TOGETHER)
