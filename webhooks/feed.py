"""Reading the event log in the order of commits: what webhooks, mailboxes and the live stream go by.

A position is visible only when all before it are, so whoever trusts `position > last` misses nothing. A reader keeps the
last position that it was shown, which moves past events that it did not ask for.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.db.backends.utils import CursorWrapper

from relay_project.db.ids import by_day, id_time

LIMIT = 500  # positions a reading

Position = tuple[int, int, int | None]  # position, id of the event, project; null where a version before wrote it

_POSITIONS = """
SELECT position, event_id, project_id FROM projects_feedposition WHERE position > %(after)s ORDER BY position LIMIT %(limit)s
"""
_POSITIONS_OF_ONE = """
SELECT position, event_id, project_id FROM projects_feedposition
 WHERE project_id = %(project)s AND position > %(after)s ORDER BY position LIMIT %(limit)s
"""
_POSITION_OF_EVENT = """
SELECT min(position) FROM projects_feedposition
 WHERE event_id = %(event)s AND coalesce(project_id, %(project)s) = %(project)s
"""
_EVENTS = """
SELECT id, project_id, kind, subject_kind, subject_id, version, payload FROM projects_event
 WHERE id = ANY(%(ids)s) AND id >= %(low)s AND id <= %(high)s
"""


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """An event with its place in the order of commits."""

    position: int
    id: int
    project_id: int
    kind: str
    subject_kind: str
    subject_id: int
    version: int
    payload: dict[str, Any]

    @property
    def created_at(self) -> datetime:
        """When it was written, before its commit."""
        return id_time(self.id)


@dataclass(frozen=True, slots=True)
class Reading:
    """Events by rising position; `last` is the last position looked at, `is_full` says that there may be more."""

    events: list[FeedEvent]
    last: int
    is_full: bool


def read_feed(
    cursor: CursorWrapper,
    after: int,
    limit: int = LIMIT,
    project_id: int | None = None,
    kinds: Collection[str] | None = None,
) -> Reading:
    """What follows `after`, at most `limit` positions of it: of one project or all, of some kinds or all.

    Events that retention has taken are passed over. Without anything new, `last` is `after`.
    """
    positions = read_positions(cursor, after, limit, project_id)
    if not positions:
        return Reading([], after, False)
    return Reading(events_at(cursor, positions, kinds), positions[-1][0], len(positions) >= limit)


def read_positions(cursor: CursorWrapper, after: int, limit: int, project_id: int | None = None) -> list[Position]:
    """What follows `after` without the events: for who wants few of them."""
    statement = _POSITIONS if project_id is None else _POSITIONS_OF_ONE
    cursor.execute(statement, {"after": after, "limit": limit, "project": project_id})
    positions: list[Position] = cursor.fetchall()
    return positions


def events_at(
    cursor: CursorWrapper, positions: Sequence[Position], kinds: Collection[str] | None = None
) -> list[FeedEvent]:
    """The events at some positions that are still kept, of some kinds or all."""
    found = events_by_id(cursor, [event_id for _, event_id, _ in positions])
    return [
        FeedEvent(position, event_id, *row)
        for position, event_id, _ in positions
        if (row := found.get(event_id)) and (kinds is None or row[1] in kinds)
    ]


def events_by_id(cursor: CursorWrapper, event_ids: Iterable[int]) -> dict[int, tuple[Any, ...]]:
    """(project_id, kind, subject_kind, subject_id, version, payload) of those that are still kept."""
    found: dict[int, tuple[Any, ...]] = {}
    for ids in by_day(event_ids):
        cursor.execute(_EVENTS, {"ids": ids, "low": ids[0], "high": ids[-1]})
        found.update((row[0], (*row[1:-1], orjson.loads(row[-1]))) for row in cursor.fetchall())
    return found


def last_position(cursor: CursorWrapper) -> int:
    """Where the feed ends now: a reader of what is to come begins after it."""
    cursor.execute("SELECT coalesce(max(position), 0) FROM projects_feedposition")
    return int(cursor.fetchone()[0])


def position_of_event(cursor: CursorWrapper, event_id: int, project_id: int) -> int | None:
    """Where an event of a project stands; None when it has no position yet or none any more, or is another's."""
    cursor.execute(_POSITION_OF_EVENT, {"event": event_id, "project": project_id})
    row = cursor.fetchone()
    return None if row is None or row[0] is None else int(row[0])
