"""What lies in mailboxes, for whoever looks at them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection

from relay_project.db.ids import id_time
from webhooks.models.mailbox import Mailbox

NEARLY_FULL = 0.8  # of what a mailbox may hold; from here on its people are warned
MOST = 10_000  # counted events that nobody has fetched; beyond it is "many"

_ITEMS = """
SELECT mailbox_id, count(*), min(id), sum(size) FROM webhooks_mailboxitem
 WHERE mailbox_id = ANY(%(ids)s) AND acked_at IS NULL AND expires_at > %(now)s GROUP BY mailbox_id
"""
_IN_HAND = """
SELECT mailbox_id, count(*), min(event_id) FROM webhooks_mailboxevent WHERE mailbox_id = ANY(%(ids)s) GROUP BY mailbox_id
"""
_BEHIND = """
SELECT box.id, behind.events, behind.first
  FROM webhooks_mailbox box, LATERAL (
       SELECT count(*) AS events, min(event_id) AS first
         FROM (SELECT event_id FROM projects_feedposition f
                WHERE f.project_id = box.project_id AND f.position > box.position ORDER BY f.position LIMIT %(most)s) next
       ) behind
 WHERE box.id = ANY(%(ids)s) AND box.events <> '{}'
"""
# Of all mailboxes; each looks at one position.
_LOSING = """
SELECT count(*)
  FROM webhooks_mailbox box, LATERAL (
       SELECT event_id FROM projects_feedposition f
        WHERE f.project_id = box.project_id AND f.position > box.position ORDER BY f.position LIMIT 1) first
 WHERE box.events <> '{}' AND box.is_enabled
   AND to_timestamp((first.event_id >> 12) / 1000.0 + 1577836800) < %(since)s
"""


class Load(NamedTuple):
    """Deposits that are neither acknowledged nor expired, and the octets of their payloads."""

    items: int = 0
    octets: int = 0

    def with_more(self, items: int, octets: int) -> "Load":
        """With others beside it."""
        return Load(self.items + items, self.octets + octets)

    @property
    def share(self) -> float:
        """Of what a mailbox may hold, 1 when it is full."""
        return max(self.items / settings.MAILBOX_MAX_ITEMS, self.octets / settings.MAILBOX_MAX_BYTES)


@dataclass(frozen=True, slots=True)
class Holding:
    """Deposits, events in hand, and positions of the feed (of all kinds) that nobody has fetched yet, at most MOST."""

    load: Load
    in_hand: int
    behind: int
    oldest: datetime | None
    is_losing: bool  # retention takes unfetched events soon

    @property
    def is_full(self) -> bool:
        """Whether deposits are refused."""
        return self.load.share >= 1

    @property
    def is_nearly_full(self) -> bool:
        """Whether there is reason to warn that they will be."""
        return NEARLY_FULL <= self.load.share < 1

    @property
    def is_far_behind(self) -> bool:
        """Whether more is unfetched than was counted."""
        return self.behind >= MOST


def holding_of(mailbox: Mailbox, now: datetime) -> Holding:
    """Counted now."""
    return holdings_of([mailbox], now)[mailbox.pk]


def holdings_of(mailboxes: Sequence[Mailbox], now: datetime) -> dict[int, Holding]:
    """Of several, by their ids."""
    asked = {"ids": [mailbox.pk for mailbox in mailboxes], "now": now, "most": MOST}
    items, in_hand, behind = (_counted(statement, asked) for statement in (_ITEMS, _IN_HAND, _BEHIND))
    found = {}
    for mailbox in mailboxes:
        held = items.get(mailbox.pk, (0, None, 0))
        handed, unread = (part.get(mailbox.pk, (0, None)) for part in (in_hand, behind))
        firsts = [first for _, first, *_ in (held, handed, unread) if first is not None]
        found[mailbox.pk] = Holding(
            Load(held[0], held[2]),
            handed[0],
            unread[0],
            oldest=id_time(min(firsts)) if firsts else None,
            is_losing=unread[1] is not None and id_time(unread[1]) < losing_since(now),
        )
    return found


def count_losing(now: datetime) -> int:
    """How many enabled mailboxes have unfetched events that retention takes soon."""
    with connection.cursor() as cursor:
        cursor.execute(_LOSING, {"since": losing_since(now)})
        return int(cursor.fetchone()[0])


def losing_since(now: datetime) -> datetime:
    """What is older is taken within a day, or, where events are kept for a day or two, is past half of its time."""
    kept = timedelta(days=settings.RETENTION_EVENTS_DAYS)
    return now - max(kept - timedelta(days=1), kept / 2)


def _counted(statement: str, asked: Mapping[str, Any]) -> dict[int, tuple[Any, ...]]:
    """By mailbox: how many, the first id, and whatever else there is."""
    with connection.cursor() as cursor:
        cursor.execute(statement, asked)
        return {number: tuple(found) for number, *found in cursor.fetchall()}
