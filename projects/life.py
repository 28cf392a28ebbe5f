"""A project's life beyond its founding: staff suspend and resume it, its owner archives and restores it.

Suspended: nothing new is accepted and nothing leaves; what waits stays where it is, and its lifetime stands still.
Archived: its keys open nothing, nobody finds it in a list, staff may look; what waits is cancelled (sending.archive).
"""

from collections import defaultdict
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q

from accounts.models import User
from projects.access import ARCHIVED, MAX_PROJECT_ID, Caller, archived_of, record_by
from projects.events import EventKind, NewEvent, emit
from projects.models import Project, Suspension
from projects.objects import project_object
from relay_project import jobs
from relay_project.mail.text import clean
from relay_project.web.errors import ApiError

MAX_REASON = 255  # characters, the column's
OF_THE_SYSTEM = "The system project sends Relay's own notices: it cannot be suspended or archived."

Span = tuple[datetime, datetime | None]  # from, until (None: still)

# The projects of which nothing may leave, for the senders' statements; a partial index holds them.
STOPPED = "SELECT id FROM projects_project WHERE suspended_at IS NOT NULL OR archived_at IS NOT NULL"

log = structlog.get_logger(__name__)


def stop_of(project: Project) -> str:
    """Why nothing new is accepted from a project, as a sentence; empty when it may send."""
    if project.archived_at is not None:
        return ARCHIVED
    if project.suspended_at is not None:
        return f"This project is suspended: {project.suspend_reason}"
    return ""


def check_may_send(project: Project) -> None:
    """Raises ApiError 403 with the reason when the project is suspended or archived."""
    if stop := stop_of(project):
        raise ApiError(403, stop)


def suspend(project: Project, reason: str, now: datetime, caller: Caller | None = None) -> Project:
    """Staff stop a project's mail, in every process within a second; its people read the reason. Raises ApiError 400."""
    reason = clean(reason, MAX_REASON).strip()
    if not reason:
        raise ApiError(400, "A suspension needs a reason.")
    with transaction.atomic():
        project = _locked(project)
        if project.suspended_at is not None:
            raise ApiError(400, "The project is suspended already.")
        project.suspended_at, project.suspend_reason = now, reason
        project.save(update_fields=["suspended_at", "suspend_reason"])
        Suspension.objects.create(project=project, reason=reason, began_at=now)
        _tell(EventKind.PROJECT_SUSPENDED, project, caller, reason=reason)
    return project


def resume(project: Project, now: datetime, caller: Caller | None = None) -> Project:
    """What waits may leave again, as soon as the senders look. Raises ApiError 400 when it is not suspended."""
    with transaction.atomic():
        project = _locked(project)
        if project.suspended_at is None:
            raise ApiError(400, "The project is not suspended.")
        project.suspended_at, project.suspend_reason = None, ""
        project.save(update_fields=["suspended_at", "suspend_reason"])
        Suspension.objects.filter(project=project, ended_at=None).update(ended_at=now)
        _tell(EventKind.PROJECT_RESUMED, project, caller)
    return project


def check_not_archived(project: Project) -> None:
    """Raises ApiError 400 when it is, or is the system's."""
    if project.is_system:
        raise ApiError(400, OF_THE_SYSTEM)
    if project.archived_at is not None:
        raise ApiError(400, "The project is archived already.")


def archive(project: Project, now: datetime, caller: Caller | None = None) -> Project:
    """Put a project away; a suspension outlasts it. Raises ApiError 400."""
    with transaction.atomic():
        project = _locked(project)
        check_not_archived(project)
        project.archived_at, project.emptied_at = now, None
        project.save(update_fields=["archived_at", "emptied_at"])
        _tell(EventKind.PROJECT_ARCHIVED, project, caller)
    return project


def restore(project: Project, now: datetime, caller: Caller | None = None) -> Project:
    """Bring an archived project back, with its keys, domains and people. Raises ApiError 400."""
    with transaction.atomic():
        project = _locked(project)
        if project.archived_at is None:
            raise ApiError(400, "The project is not archived.")
        project.archived_at = project.emptied_at = None
        project.save(update_fields=["archived_at", "emptied_at"])
        _tell(EventKind.PROJECT_RESTORED, project, caller)
    return project


def archived_project(user: User, project_id: int) -> Project:
    """An archived project that this person may restore; raises ApiError 403 alike for absent, foreign and other ones."""
    project = archived_of(user).filter(pk=project_id).first() if 0 < project_id <= MAX_PROJECT_ID else None
    if project is None:
        raise ApiError(403, "There is no archived project with this id that you may restore.")
    return project


def suspensions_since(moment: datetime) -> dict[int, list[Span]]:
    """The suspensions that reach past a moment, open ones included, by project."""
    found: dict[int, list[Span]] = defaultdict(list)
    for span in Suspension.objects.filter(Q(ended_at=None) | Q(ended_at__gt=moment)).order_by("began_at"):
        found[span.project_id].append((span.began_at, span.ended_at))
    return found


def _locked(project: Project) -> Project:
    """The row, locked until the transaction's end; raises ApiError 400 when it is the system's or gone."""
    locked = Project.objects.select_for_update(no_key=True).filter(pk=project.pk).first()
    if locked is None:
        raise ApiError(400, "The project is gone.")
    if locked.is_system:
        raise ApiError(400, OF_THE_SYSTEM)
    return locked


def _tell(kind: EventKind, project: Project, caller: Caller | None, **detail: Any) -> None:
    """Audit entry, event and log line of a change, in its transaction."""
    record_by(caller, str(kind), project, project, **detail)
    emit(NewEvent(project.pk, kind, "project", project.pk, {"project": project_object(project)}))
    transaction.on_commit(lambda: jobs.wake(jobs.STOPPED, jobs.HOUSEKEEPING), robust=True)
    log.info(str(kind), project_id=project.pk)
