"""Projects and who belongs to them: founded, renamed, people added with scopes and removed."""

from collections.abc import Sequence

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from accounts.models import User
from projects.access import Caller, check_grant, record_by
from projects.models import Membership, Project
from projects.scopes import SCOPES, sort_scopes
from relay_project.web.errors import ApiError

IDENTITIES = "user__identities"  # what a ProjectUser's oidc_sub is read from


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
        raise ApiError(400, "User is already added to the project") from None
    return membership


def remove_member(membership: Membership, caller: Caller | None = None) -> None:
    """The person no longer belongs to the project, from the next request on."""
    with transaction.atomic():
        record_by(caller, "member.removed", membership.user, membership.project)
        membership.delete()


def remove_all_members(project: Project, caller: Caller | None = None) -> None:
    """Nobody belongs to the project; its keys go on working, and staff can add people again."""
    for membership in members_of(project):
        remove_member(membership, caller)
