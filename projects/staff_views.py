"""What staff look at in other people's projects: reading somebody's mail leaves an entry that its owner sees."""

from datetime import datetime, timedelta

from django.db.models import Model

from accounts.models import AuditEntry
from projects.access import Caller, record_by
from projects.models import Membership
from projects.scopes import Scope

VIEWED = "content.viewed"
ONE_LOOK = timedelta(minutes=10)  # a page, its frame and its file are one look at the same mail


def note_content_view(caller: Caller, subject: Model, now: datetime) -> None:
    """Write down that staff read the content of a mail that is theirs by no membership; others need no entry."""
    if not _looks_as_staff(caller) or caller.project is None:
        return
    assert caller.user is not None
    same = AuditEntry.objects.filter(subject_kind=subject._meta.model_name, subject_id=subject.pk, action=VIEWED)
    if not same.filter(actor_id=caller.user.pk, at__gt=now - ONE_LOOK).exists():
        record_by(caller, VIEWED, subject, caller.project)


def _looks_as_staff(caller: Caller) -> bool:
    """Whether somebody may read here for being staff alone. The system project's mail is staff's own."""
    user, project = caller.user, caller.project
    if user is None or project is None or not user.is_staff or project.is_system:
        return False
    own = Membership.objects.filter(project=project, user=user).values_list("scopes", flat=True).first()
    return Scope.SENDS_READ not in (own or [])
