"""Projects and who belongs to them: founded, renamed, people added with scopes, changed, removed and leaving.

Nobody gives a scope that they do not have themselves, and the last owner stays: a project without one could never get
the missing scopes back.
"""

from collections.abc import Sequence

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from accounts.models import User
from projects.access import Caller, check_grant, record_by
from projects.models import Invitation, Membership, Project
from projects.scopes import SCOPES, sort_scopes
from relay_project.web.errors import ApiError

IDENTITIES = "user__identities"  # what a ProjectUser's oidc_sub is read from
ALREADY = "User is already added to the project"
LAST_OWNER = "This is the project's last owner. Make somebody else an owner first."


def create_project(user: User, name: str, send_type: str, caller: Caller | None = None) -> Membership:
    """A new project whose founder has every scope; `send_type` is for good."""
    with transaction.atomic():
        project = Project.objects.create(name=name, send_type=send_type)
        membership = Membership.objects.create(project=project, user=user, scopes=sort_scopes(SCOPES))
        record_by(caller, "project.created", project, project, name=name, send_type=send_type)
    return membership


def rename_project(project: Project, name: str, caller: Caller | None = None) -> Project:
    """The project under another name."""
    with transaction.atomic():
        project.name = name
        project.save(update_fields=["name"])
        record_by(caller, "project.renamed", project, project, name=name)
    return project


def members_of(project: Project) -> QuerySet[Membership]:
    """A project's members with what a ProjectUser shows."""
    return Membership.objects.filter(project=project).select_related("project", "user").prefetch_related(IDENTITIES)


def add_member(project: Project, user_id: int, scopes: Sequence[str], caller: Caller | None = None) -> Membership:
    """A person who belongs to the project from now on; raises ApiError 400, 403 and 404.

    Nobody gives scopes that they do not have themselves.
    """
    check_grant(scopes, caller)
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None:
        raise ApiError(404, f"User with id {user_id} not found.")
    try:
        with transaction.atomic():
            membership = Membership.objects.create(project=project, user=user, scopes=sort_scopes(scopes))
            record_by(caller, "member.added", user, project, scopes=membership.scopes)
    except IntegrityError:
        raise ApiError(400, ALREADY) from None
    return membership


def change_member(membership: Membership, scopes: Sequence[str], caller: Caller | None = None) -> Membership:
    """The member with other scopes, from their next request on; raises ApiError 400, 403 and 404."""
    wanted = sort_scopes(scopes)
    with transaction.atomic():
        membership = _locked(membership)
        check_grant([scope for scope in wanted if scope not in membership.scopes], caller)
        if not _is_owning(wanted):
            _check_owner_stays(membership)
        before, membership.scopes = membership.scopes, wanted
        membership.save(update_fields=["scopes"])
        record_by(caller, "member.changed", membership.user, membership.project, scopes=wanted, before=before)
    return membership


def remove_member(membership: Membership, caller: Caller | None = None) -> None:
    """The person no longer belongs to the project, from the next request on; raises ApiError 400 for the last owner."""
    with transaction.atomic():
        membership = _locked(membership)
        _check_owner_stays(membership)
        left = caller is not None and caller.user == membership.user
        record_by(caller, "member.left" if left else "member.removed", membership.user, membership.project)
        Invitation.objects.filter(
            project=membership.project, invited_by=membership.user, accepted_at=None
        ).delete()  # no way back in through a link that one has sent oneself
        membership.delete()


def remove_all_members(project: Project, caller: Caller | None = None) -> None:
    """Nobody belongs to the project; its keys go on working, and staff can add people again.

    The contract has it, and nobody says it by accident: the last owner does not stay.
    """
    with transaction.atomic():
        _lock(project)
        for membership in members_of(project):
            record_by(caller, "member.removed", membership.user, project)
            membership.delete()
        Invitation.objects.filter(project=project, accepted_at=None).delete()


def _lock(project: Project) -> None:
    """One change of a project's people at a time, or two owners could each be the other's reason to go."""
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)


def _locked(membership: Membership) -> Membership:
    """The membership as it is now, while nobody else changes the project's people; raises ApiError 404."""
    _lock(membership.project)
    found = members_of(membership.project).filter(pk=membership.pk).first()
    if found is None:
        raise ApiError(404, "Entity not found")
    return found


def _is_owning(scopes: Sequence[str]) -> bool:
    return set(SCOPES) <= set(scopes)


def _check_owner_stays(membership: Membership) -> None:
    """Raises ApiError 400 when this is the only active member with every scope."""
    if not _is_owning(membership.scopes):
        return
    others = Membership.objects.filter(project=membership.project, user__is_active=True).exclude(pk=membership.pk)
    if not any(_is_owning(other.scopes) for other in others.only("scopes")):
        raise ApiError(400, LAST_OWNER)
