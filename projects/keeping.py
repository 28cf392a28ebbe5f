"""How long a project keeps the content of its mail: its own choice, where that is shorter than the instance's."""

from django.conf import settings
from django.db import transaction

from projects.access import Caller, record_by
from projects.models import Project

LEAST_DAYS = 1


def most_days() -> int:
    """What a project may choose at most: no project keeps bodies for longer than the instance does."""
    days: int = settings.RETENTION_CONTENT_DAYS
    return days


def content_days(project: Project) -> int:
    """For how many days this project's content is kept."""
    return most_days() if project.content_days is None else min(project.content_days, most_days())


def keep_content(project: Project, days: int | None, caller: Caller | None = None) -> Project:
    """The project keeps its content for so many days (None: as long as the instance); what is older goes within hours.

    The caller has checked LEAST_DAYS ≤ days ≤ most_days().
    """
    with transaction.atomic():
        project.content_days = days
        project.save(update_fields=["content_days"])
        record_by(caller, "project.content_days_set", project, project, days=days)
    return project
