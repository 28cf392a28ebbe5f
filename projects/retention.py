"""How long the event log is kept. Suppressions, keys and domains have no such end."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.backends.utils import CursorWrapper

from relay_project.db.partitions import Day
from relay_project.retention import Family, delete_in_steps, keep, sweep


def _events_needed(cursor: CursorWrapper, day: Day, now: datetime) -> str:
    cursor.execute(
        "SELECT EXISTS (SELECT FROM projects_eventoutbox WHERE event_id >= %s AND event_id < %s)",
        [day.floor, day.ceiling],
    )
    return "events that have no position in the feed yet" if cursor.fetchone()[0] else ""


keep(Family("events", ("projects_event",), lambda: settings.RETENTION_EVENTS_DAYS, _events_needed))

# Positions follow the commits, so they are nearly in the order of the ids: from the oldest on, until a step finds less.
_POSITIONS = """
DELETE FROM projects_feedposition WHERE position = ANY(ARRAY(
  SELECT position FROM projects_feedposition ORDER BY position LIMIT %(rows)s)) AND event_id < %(floor)s
"""


@sweep("feed positions", lambda: settings.RETENTION_EVENTS_DAYS)
def delete_positions(now: datetime) -> int:
    """Positions of events whose whole day is due, so that no event is without its position."""
    before = now - timedelta(days=settings.RETENTION_EVENTS_DAYS)
    return delete_in_steps(_POSITIONS, {"floor": Day.of(before.date()).floor})
