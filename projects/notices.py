"""Mail to people when something happens that they did not do themselves and should know of.

A notice is written in the transaction of what it is about, so none is of something that was rolled back.
The next minute sends it as mail of the system project: the first at once, and what comes within NOTICE_MINUTES of it
gathered in one mail. Of the same subject nobody is told twice within a day. People switch notices off by project, staff
those of the installation.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import connection, transaction
from django.urls import reverse

from accounts.models import User
from projects.models import Membership, Notice, Project
from projects.scopes import Scope
from relay_project.mail.text import clean
from relay_project.metrics import Counter

ONCE_IN = timedelta(days=1)
KEPT = timedelta(days=30)
MOST = 50  # people who are written to, and notices in one mail
MOST_WAITING = 200  # of a project and a scope; what comes beyond is not told, so that a flood is over within hours
MAX_SUBJECT = 255  # characters, the column's
MAX_TEXT = 4000  # characters of one notice

SENT = Counter("relay_notices_sent_total", "Mails with notices to people of projects and to staff.")

_WRITE = """
INSERT INTO projects_notice (project_id, scope, key, subject, text)
SELECT %(project)s, %(scope)s, %(key)s, %(subject)s, %(text)s
 WHERE NOT EXISTS (SELECT FROM projects_notice
                    WHERE key = %(key)s AND created_at > statement_timestamp() - %(once)s)
   AND (SELECT count(*) FROM (SELECT FROM projects_notice
                               WHERE project_id IS NOT DISTINCT FROM %(project)s::bigint AND sent_at IS NULL
                                 AND scope = %(scope)s LIMIT %(waiting)s) unsent) < %(waiting)s
"""
_WHOSE = "SELECT DISTINCT project_id FROM projects_notice WHERE sent_at IS NULL"

log = structlog.get_logger(__name__)


def tell_members(project: Project, scope: Scope, about: str, subject: str, text: str) -> None:
    """Tell those of a project's people who have the scope, once the caller's transaction is committed.

    `about` names what it is about: of the same nobody is told twice within a day. Nobody is told of the system project,
    whose people are staff.
    """
    if not project.is_system:
        _write(project.pk, scope.value, f"project {project.pk}: {about}", subject, text)


def tell_staff(about: str, subject: str, text: str) -> None:
    """The same for staff."""
    _write(None, "", f"staff: {about}", subject, text)


def _write(project_id: int | None, scope: str, key: str, subject: str, text: str) -> None:
    if not settings.NOTICES:
        return
    values: dict[str, Any] = {
        "project": project_id,
        "scope": scope,
        "key": clean(key, 120),
        "subject": clean(" ".join(subject.split()), MAX_SUBJECT),
        "text": clean(text, MAX_TEXT),
        "once": ONCE_IN,
        "waiting": MOST_WAITING,
    }
    with connection.cursor() as cursor:
        cursor.execute(_WRITE, values)


def send_notices(now: datetime) -> int:
    """Send what waits, but for whom was written to just now; returns how many mails."""
    with connection.cursor() as cursor:
        cursor.execute(_WHOSE)
        whose = [project_id for (project_id,) in cursor.fetchall()]
    return sum(_send(project_id, now) for project_id in whose)


def forget_notices(now: datetime) -> int:
    """Delete what was told long ago; returns how many."""
    return Notice.objects.filter(created_at__lt=now - KEPT).delete()[0]


def _send(project_id: int | None, now: datetime) -> int:
    """The mails to the people of one project, or to staff. Marked as sent before they are: nobody is told twice."""
    with transaction.atomic():
        own = (
            Notice.objects.filter(project__isnull=True)
            if project_id is None
            else Notice.objects.filter(project=project_id)
        )
        pause = timedelta(minutes=settings.NOTICE_MINUTES)
        if own.filter(sent_at__gt=now - pause, sent_at__lte=now).exists():
            return 0
        waiting = own.filter(sent_at=None).order_by("id").select_for_update(of=("self",), skip_locked=True)
        rows = list(waiting.select_related("project")[:MOST])
        Notice.objects.filter(pk__in=[row.pk for row in rows]).update(sent_at=now)
        people = _staff() if project_id is None else _members(project_id)
        mails = [(address, mine) for address, scopes in people if (mine := _for(rows, scopes))]
    sent = sum(_send_one(address, mine) for address, mine in mails)  # outside: EMAIL_BACKEND may be a server
    SENT.inc(sent)
    return sent


def _members(project_id: int) -> list[tuple[str, frozenset[str]]]:
    """Address and scopes of a project's people who want to be told."""
    members = Membership.objects.filter(project_id=project_id, wants_notices=True, user__is_active=True)
    found = members.exclude(user__email="").order_by("id").values_list("user__email", "scopes")[:MOST]
    return [(address, frozenset(scopes)) for address, scopes in found]


def _staff() -> list[tuple[str, frozenset[str]]]:
    found = User.objects.filter(is_staff=True, is_active=True, wants_staff_notices=True).exclude(email="")
    return [(address, frozenset()) for address in found.order_by("id").values_list("email", flat=True)[:MOST]]


def _for(rows: Iterable[Notice], scopes: frozenset[str]) -> list[Notice]:
    """What somebody with these scopes can do something about."""
    return [row for row in rows if not row.scope or row.scope in scopes]


def _send_one(address: str, rows: Sequence[Notice]) -> int:
    """A mail of their own to each: nobody reads who the others are."""
    subject, text = compose(rows)
    try:
        EmailMessage(subject, text, to=[address]).send()
    except Exception as error:
        log.error("notice_not_sent", notices=[row.pk for row in rows], exc_info=error)
        return 0
    return 1


def compose(rows: Sequence[Notice]) -> tuple[str, str]:
    """Subject and text of some notices in one mail."""
    first = rows[0]
    place = first.project.name if first.project is not None else settings.INSTANCE_DOMAIN
    foot = f"--\nWhich notices you get: {settings.WEB_URL}{reverse('console-account')}\n"
    if len(rows) == 1:
        return first.subject, f"{first.text.strip()}\n\n{foot}"
    parts = [f"{row.subject}\n{'-' * min(len(row.subject), 72)}\n\n{row.text.strip()}\n" for row in rows]
    return f"{len(rows)} notices about {clean(' '.join(place.split()), 100)}", "\n\n".join([*parts, foot])
