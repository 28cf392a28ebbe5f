"""How long the event log and reports about domains are kept. Suppressions, keys and domains have no such end."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection
from django.db.backends.utils import CursorWrapper

from relay_project.db.partitions import Day
from relay_project.retention import Family, delete_in_steps, in_steps, keep, sweep


def _events_needed(cursor: CursorWrapper, day: Day, now: datetime) -> str:
    cursor.execute(
        "SELECT EXISTS (SELECT FROM projects_eventoutbox WHERE event_id >= %s AND event_id < %s)",
        [day.floor, day.ceiling],
    )
    return "events that have no position in the feed yet" if cursor.fetchone()[0] else ""


keep(Family("events", ("projects_event",), lambda: settings.RETENTION_EVENTS_DAYS, _events_needed))

# Positions follow the commits, so they are nearly in the order of the ids: ranges of them from the oldest on, until one
# holds nothing that old. By ranges, because to look for the oldest again would step over all that was just deleted.
_OLDEST = "SELECT min(position) FROM projects_feedposition"
_DELETE = """
DELETE FROM projects_feedposition WHERE position >= %s AND position < %s AND event_id < %s
"""
STEP = 5000  # positions


@sweep("feed positions", lambda: settings.RETENTION_EVENTS_DAYS)
def delete_positions(now: datetime) -> int:
    """Positions of events whose whole day is due, so that no event is without its position."""
    floor = Day.of((now - timedelta(days=settings.RETENTION_EVENTS_DAYS)).date()).floor
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST)
        oldest = cursor.fetchone()[0]

    def step(number: int) -> int:
        low = oldest + number * STEP
        with connection.cursor() as cursor:
            cursor.execute(_DELETE, [low, low + STEP, floor])
            return int(cursor.rowcount)

    return 0 if oldest is None else in_steps(step)


_REPORTS = """
DELETE FROM projects_domainreport WHERE id = ANY(ARRAY(
  SELECT id FROM projects_domainreport WHERE received_at < %(before)s ORDER BY received_at LIMIT %(rows)s))
"""


@sweep("reports about domains", lambda: settings.RETENTION_DOMAIN_REPORTS_DAYS)
def delete_reports(now: datetime) -> int:
    """DMARC and TLS reports."""
    return delete_in_steps(_REPORTS, {"before": now - timedelta(days=settings.RETENTION_DOMAIN_REPORTS_DAYS)})
