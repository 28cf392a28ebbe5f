"""Notices of bounce and complaint rates over the warning line: of a project's mail of the last day, from the counts."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.urls import reverse

from projects.compliance import COMPLIANCE_RATES
from projects.models import Project
from projects.notices import tell_members, tell_staff
from projects.scopes import Scope
from sending.models.statistics import INSTANCE, Dimension

LEAST = 200  # recipients: of fewer, one bounce more or less says nothing
WINDOW = timedelta(hours=24)

_OVER = """
SELECT key::bigint, sum(accepted + bounced + complained)::bigint, sum(bounced)::bigint, sum(complained)::bigint
  FROM sending_hourcount WHERE project_id = %(instance)s AND dimension = %(dimension)s AND hour >= %(since)s
 GROUP BY key
HAVING sum(accepted + bounced + complained) >= %(least)s
   AND (sum(bounced) > sum(accepted + bounced + complained) * %(bounces)s
        OR sum(complained) > sum(accepted + bounced + complained) * %(complaints)s)
"""


def tell_of_rates(now: datetime) -> int:
    """Write the notices of the projects that are over a line; returns how many are."""
    lines = {kind: COMPLIANCE_RATES[f"{kind}_rate_warning"] for kind in ("bounce", "complaint")}
    values: dict[str, Any] = {
        "instance": INSTANCE,
        "dimension": Dimension.PROJECT.value,
        "since": now - WINDOW,
        "least": LEAST,
        "bounces": lines["bounce"],
        "complaints": lines["complaint"],
    }
    with connection.cursor() as cursor:
        cursor.execute(_OVER, values)
        rows = cursor.fetchall()
    projects = Project.objects.in_bulk([row[0] for row in rows])
    for project_id, mails, bounced, complained in rows:
        project = projects.get(project_id)
        for kind, count in (("bounce", bounced), ("complaint", complained)):
            if project is not None and count > mails * lines[kind]:
                _tell(project, kind, count / mails, lines[kind])
    return len(rows)


def _tell(project: Project, kind: str, rate: float, line: float) -> None:
    words = {"bounce": "bounced", "complaint": "were reported as spam"}[kind]
    link = settings.WEB_URL + reverse("console-statistics", args=[project.pk])
    text = (
        f"Of the mail of {project.name} of the last 24 hours {_percent(rate)} {words}; from {_percent(line)} on receivers "
        f"begin to trust its domains less, and mail of others that leaves by the same addresses too.\n\n{link}\n"
    )
    subject = f"The {kind} rate of {project.name} is {_percent(rate)}"
    tell_members(project, Scope.ANALYTICS_READ, f"{kind} rate", subject, text)
    tell_staff(f"{kind} rate of {project.pk}", subject, text)


def _percent(share: float) -> str:
    return f"{share * 100:.2g} %" if share < 0.1 else f"{share * 100:.0f} %"
