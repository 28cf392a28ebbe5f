"""Bodies that leave early: a project may keep the content of its mail for fewer days than the instance does.

Row by row, a project's day at a time and in short transactions. What was sent to whom and how that ended stays; only the
content and its signatures go, and the project's mail in the sandbox's inbox.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from projects.models import Project
from relay_project.db.dropping import State, list_partitions
from relay_project.db.ids import hours_after, id_floor
from relay_project.db.partitions import Day
from relay_project.retention import delete_in_steps
from sending.models import ForgottenDay

PAGE = 500  # sends a transaction
LOOK_AGAIN = timedelta(hours=20)  # at a day of which something had to stay: about once a day

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Window:
    """A project's day, and when what was to leave before then may go."""

    project_id: int
    day: Day
    before: datetime

    @property
    def values(self) -> dict[str, Any]:
        """For the statements. A content lies at most an hour before its send, and sends that share it an hour after."""
        return {
            "project": self.project_id,
            "floor": self.day.floor,
            "ceiling": self.day.ceiling,
            "low": hours_after(self.day.floor, -1),
            "high": hours_after(self.day.ceiling, 1),
            "before": self.before,
        }


_PAGE = """
SELECT id, content_id FROM sending_send WHERE project_id = %(project)s AND id > %(after)s AND id < %(ceiling)s
 ORDER BY id LIMIT %(page)s
"""
_LOCK = """
SELECT id FROM sending_content WHERE id = ANY(%(contents)s) AND id >= %(low)s AND id < %(high)s
   AND project_id = %(project)s ORDER BY id FOR UPDATE
"""
# A statement of its own, after the lock: a retry that was faster is seen, one that comes later finds nothing to send.
_NEEDED = """
SELECT s.content_id FROM sending_waiting w
  JOIN sending_send s ON s.id = w.send_id AND s.id >= %(floor)s AND s.id < %(high)s
 WHERE w.send_id >= %(floor)s AND w.send_id < %(high)s AND w.project_id = %(project)s
UNION
SELECT content_id FROM sending_send WHERE project_id = %(project)s AND id >= %(floor)s AND id < %(high)s
   AND id_floor(message_date) - id > 14745600000 AND message_date >= %(before)s
"""
_DELETE = "DELETE FROM sending_content WHERE id = ANY(%(gone)s) AND id >= %(low)s AND id < %(high)s"
_UNSIGN = """
DELETE FROM sending_signature WHERE send_id = ANY(%(sends)s) AND send_id >= %(floor)s AND send_id < %(high)s
"""


def forget_contents(now: datetime) -> int:
    """Delete what projects no longer keep at `now`; returns how many contents went."""
    gone = 0
    for window in list(_windows(now)):
        removed, kept_back = _forget_day(window)
        ForgottenDay.objects.update_or_create(
            project_id=window.project_id, day=window.day.day, defaults={"kept_back": kept_back, "looked_at": now}
        )
        gone += removed
        log.info(
            "content.forgotten",
            project=window.project_id,
            day=window.day.day.isoformat(),
            removed=removed,
            kept_back=kept_back,
        )
    return gone


def _windows(now: datetime) -> Iterator[_Window]:
    """The days that are due and not yet done, of every project that keeps less than the instance."""
    with connection.cursor() as cursor:
        days = [p.day for p in list_partitions(cursor) if p.table == "sending_content" and p.state is State.ATTACHED]
    if days:
        ForgottenDay.objects.filter(day__lt=days[0].day).delete()
    for project_id, content_days in _projects():
        before = now - timedelta(days=content_days)
        done = _done(project_id, now)
        for day in days:
            if day.ceiling <= id_floor(before) and day.day not in done:
                yield _Window(project_id, day, before)


def _projects() -> list[tuple[int, int]]:
    shorter = Project.objects.filter(content_days__lt=settings.RETENTION_CONTENT_DAYS).order_by("pk")
    return [(pk, days) for pk, days in shorter.values_list("pk", "content_days") if days is not None]


def _done(project_id: int, now: datetime) -> set[date]:
    rows = ForgottenDay.objects.filter(project_id=project_id)
    return {row.day for row in rows if not row.kept_back or row.looked_at > now - LOOK_AGAIN}


def _forget_day(window: _Window) -> tuple[int, int]:
    """(contents removed, contents that had to stay)."""
    removed = kept_back = 0
    after = window.day.floor - 1
    with connection.cursor() as cursor:
        while True:
            cursor.execute(_PAGE, {**window.values, "after": after, "page": PAGE})
            page = cursor.fetchall()
            if not page:
                return removed, kept_back
            gone, stayed = _forget_page(cursor, window, page)
            removed, kept_back, after = removed + gone, kept_back + stayed, page[-1][0]


def _forget_page(cursor: CursorWrapper, window: _Window, page: list[tuple[int, int]]) -> tuple[int, int]:
    values = window.values
    with transaction.atomic():
        cursor.execute(_LOCK, {**values, "contents": sorted({content for _, content in page})})
        there = {content for (content,) in cursor.fetchall()}
        cursor.execute(_NEEDED, values)
        needed = there & {content for (content,) in cursor.fetchall()}
        gone = there - needed
        cursor.execute(_DELETE, {**values, "gone": sorted(gone)})
        sends = [send for send, content in page if content not in needed]
        cursor.execute(_UNSIGN, {**values, "sends": sends})
    return len(gone), len(needed)


_INBOX = """
DELETE FROM sending_sandboxmessage WHERE id = ANY(ARRAY(
  SELECT id FROM sending_sandboxmessage WHERE project_id = %(project)s AND received_at < %(before)s
   ORDER BY id LIMIT %(rows)s))
"""


def forget_inbox(now: datetime) -> int:
    """The same of what the sandbox received of such a project's mail."""
    steps = [(project_id, now - timedelta(days=days)) for project_id, days in _projects()]
    return sum(delete_in_steps(_INBOX, {"project": project, "before": before}, 200) for project, before in steps)
