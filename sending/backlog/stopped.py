"""Waiting mail of projects that are stopped: a suspended one's waits in order, an archived one's is cancelled.

Claims leave both alone (projects.life.STOPPED). What hangs at a site is taken off, or whoever takes held mail would step
over it each time; it is due then, and keeps its place among its project's mail. What is in flight when a project is
archived ends as it will, and is cancelled if it comes back: so a project is looked at until nothing of it waits.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from time import monotonic

from django.db import connection, transaction

from projects.access import Caller
from projects.life import STOPPED, archive, check_not_archived
from projects.models import Project
from relay_project import jobs
from relay_project.web.errors import ApiError
from sending.backlog.cancel import cancel_locked

ROWS = 500  # a transaction
PAGE_SECONDS = 2.0  # of what a request carries out; the rest is housekeeping's
LATE = timedelta(minutes=1)  # an accept that had begun before the project was archived has ended by then
REASON = "the project was archived"
WAITS = "{} of this project's recipients still wait. Send cancel_waiting: true to cancel them, or let them leave first."
MOST_COUNTED = 1000


def stopped_projects() -> set[int]:
    """The projects of which nothing may leave."""
    with connection.cursor() as cursor:
        cursor.execute(STOPPED)
        return {project_id for (project_id,) in cursor.fetchall()}


def archive_project(project: Project, cancel_waiting: bool, now: datetime, caller: Caller | None = None) -> int:
    """Put a project away with what waits of it; returns how many recipients were cancelled by now.

    Raises ApiError 400 when anything waits and `cancel_waiting` is not said.
    """
    check_not_archived(project)
    if not cancel_waiting and (waiting := count_waiting(project)):
        raise ApiError(400, WAITS.format(f"More than {MOST_COUNTED:,}" if waiting > MOST_COUNTED else f"{waiting:,}"))
    archive(project, now, caller)
    return cancel_archived(now, PAGE_SECONDS, project)


def count_waiting(project: Project) -> int:
    """How many recipients of a project wait; MOST_COUNTED + 1 for more than that."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM (SELECT FROM sending_waiting WHERE project_id = %s LIMIT %s) s",
            [project.pk, MOST_COUNTED + 1],
        )
        return int(cursor.fetchone()[0])


_UNHANG = f"""
UPDATE sending_waiting SET phase = 0, held_site_id = NULL WHERE recipient_id = ANY(ARRAY(
  SELECT recipient_id FROM sending_waiting WHERE phase = 2 AND project_id IN ({STOPPED})
   LIMIT %s FOR UPDATE SKIP LOCKED))
"""  # noqa: S608 — a constant


def unhang() -> int:
    """Take mail of stopped projects off the sites it hangs at; returns how many rows."""
    freed = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(_UNHANG, [ROWS])
            freed += int(cursor.rowcount)
            if cursor.rowcount < ROWS:
                return freed


_LOCK = """
SELECT recipient_id FROM sending_waiting WHERE project_id = ANY(%s) AND attempt_id IS NULL
 ORDER BY recipient_id LIMIT %s FOR UPDATE SKIP LOCKED
"""


def cancel_archived(now: datetime, seconds: float, only: Project | None = None) -> int:
    """Cancel what waits of archived projects, or of one, for as long; returns how many recipients.

    What is left is the next run's.
    """
    archived = Project.objects.filter(archived_at__isnull=False, emptied_at=None)
    projects = list((archived.filter(pk=only.pk) if only else archived).values_list("pk", flat=True))
    if not projects:
        return 0
    deadline, cancelled = monotonic() + seconds, 0
    while monotonic() < deadline:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_LOCK, [projects, ROWS])
            ids = [recipient_id for (recipient_id,) in cursor.fetchall()]
            cancelled += cancel_locked(cursor, ids, REASON)
        if len(ids) < ROWS:
            _note_empty(projects, now)
            return cancelled
    jobs.wake(jobs.STOPPED, jobs.HOUSEKEEPING)
    return cancelled


def _note_empty(projects: Sequence[int], now: datetime) -> None:
    """Projects of which nothing waits any more, not even in flight, need no further look."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT project_id FROM sending_waiting WHERE project_id = ANY(%s)", [list(projects)])
        waiting = [project_id for (project_id,) in cursor.fetchall()]
    empty = Project.objects.filter(pk__in=projects, archived_at__lt=now - LATE).exclude(pk__in=waiting)
    empty.update(emptied_at=now)
