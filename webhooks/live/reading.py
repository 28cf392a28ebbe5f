"""The live stream's readings of the feed: once for all connections of the process, and for one that resumes."""

from collections.abc import Callable
from dataclasses import dataclass

from django.db import connection
from django.db.backends.utils import CursorWrapper

from relay_project.db.ids import MAX_ID
from webhooks.feed import FeedEvent, last_position, position_of_event, read_feed
from webhooks.live.frames import Item, encode
from webhooks.payload import bodies

BATCH = 500  # positions a reading
PAGE = 200  # of one that resumes: they are all in memory until its client has taken them

_NEXT = """
SELECT min(position) FROM projects_feedposition
 WHERE event_id = (SELECT min(event_id) FROM projects_feedposition WHERE event_id > %s)
"""
_LAST_OF_PROJECT = """
SELECT event_id FROM projects_feedposition WHERE project_id = %s AND position <= %s ORDER BY position DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """The feed from after `begin` to `end`, of some projects."""

    begin: int
    end: int
    projects: frozenset[int]
    items: list[Item]
    is_full: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Where a stream begins: after that position, whose last event of the project has that id (0: there is none)."""

    position: int
    event_id: int
    is_complete: bool  # nothing between the client's event and this is known to be gone


def read_start(project_id: int, after: int | None) -> Start:
    """Where a stream begins that goes on after an event; after None with what comes from now on."""
    with connection.cursor() as cursor:
        if after is None:
            now = last_position(cursor)
            return Start(now, _last_of(cursor, project_id, now), True)
        if after == 0:
            return Start(0, 0, True)
        found = position_of_event(cursor, after, project_id)
        if found is not None:
            return Start(found, after, True)
        # Retention took it, or it never was the project's: with what is kept from about then.
        cursor.execute(_NEXT, [min(after, MAX_ID)])
        row = cursor.fetchone()
        if row and row[0] is not None:
            return Start(row[0] - 1, after, False)
        now = last_position(cursor)  # an id of the future is none to resume from
        return Start(now, _last_of(cursor, project_id, now), False)


def _last_of(cursor: CursorWrapper, project_id: int, position: int) -> int:
    cursor.execute(_LAST_OF_PROJECT, [project_id, position])
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def read_page(project_id: int, after: int, wants: Callable[[FeedEvent], bool]) -> Batch:
    """The next events of one project that somebody wants. When it is not full, the feed's end is as far as it says."""
    with connection.cursor() as cursor:
        end = last_position(cursor)  # before the reading, which then covers at least as much
        reading = read_feed(cursor, after, PAGE, project_id=project_id)
        items = _encoded([event for event in reading.events if wants(event)])
    last = reading.last if reading.is_full else max(reading.last, end)
    return Batch(after, last, frozenset({project_id}), items, reading.is_full)


def read_batch(after: int, projects: frozenset[int]) -> Batch:
    """What follows in the feed, with the events of those projects."""
    with connection.cursor() as cursor:
        reading = read_feed(cursor, after, BATCH)
        items = _encoded([event for event in reading.events if event.project_id in projects])
    return Batch(after, reading.last, projects, items, reading.is_full)


def feed_end() -> int:
    """Where the feed ends now."""
    with connection.cursor() as cursor:
        return last_position(cursor)


def _encoded(events: list[FeedEvent]) -> list[Item]:
    """Each event in both forms."""
    return [encode(event, body) for event, body in zip(events, bodies(events), strict=True)]
