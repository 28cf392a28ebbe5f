"""The only doors to a tenant's objects: who may enter a project, with which scopes, and which objects are in it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, TypeVar

from django.contrib.auth.models import AnonymousUser
from django.db.models import Model, Q, QuerySet

from accounts import audit
from accounts.models import User
from projects.models import ApiKey, Membership, Project
from projects.scopes import STAFF_SCOPES, Scope
from relay_project.web.errors import ApiError

Subject = TypeVar("Subject", bound=Model)

ARCHIVED = "This project is archived."
MAX_PROJECT_ID = 2**63 - 1  # a bigint


class NoAccess(PermissionError):
    """A door that stays closed; the text is for whoever knocked. Outside the compatible API all look alike."""


class NoSuchProject(NoAccess):
    """No project has that id."""


class NotAMember(NoAccess):
    """The project exists, and is none of this person's business."""


class Archived(NoAccess):
    """The project was put away; only staff still look at it."""


class NoSuchEntity(LookupError):
    """No object has that id."""


class ForeignEntity(LookupError):
    """The object is another project's."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: a key, or a person, inside a project or (organisation level) outside of any."""

    scopes: frozenset[str]
    project: Project | None = None
    user: User | None = None
    api_key: ApiKey | None = None
    address: str = ""  # the client's, as the trusted proxies tell it
    by_token: bool = False  # a program with a person's access token, not their browser

    @property
    def is_test(self) -> bool:
        """By a key whose mail never leaves."""
        return self.api_key is not None and self.api_key.is_test

    def may(self, scope: Scope) -> bool:
        """Whether the scope was given to this caller."""
        return scope in self.scopes


def caller_for(user: User, project_id: int, address: str = "") -> Caller:
    """A person inside a project, for surfaces other than the API; raises NoSuchProject or NotAMember."""
    project, scopes = enter(user, project_id)
    return Caller(scopes, project, user=user, address=address)


def enter(user: User, project_id: int) -> tuple[Project, frozenset[str]]:
    """The project and this person's scopes in it; raises NoSuchProject, NotAMember or Archived."""
    if not 0 < project_id <= MAX_PROJECT_ID:
        raise NoSuchProject("Invalid project ID.")
    project = Project.objects.filter(pk=project_id).first()
    if project is None:
        raise NoSuchProject("Invalid project ID.")
    scopes = scopes_in(user, project)
    if scopes is None:
        raise NotAMember("You do not have access to this project.")
    if project.archived_at is not None:
        if not user.is_staff:
            raise Archived(ARCHIVED)
        scopes &= STAFF_SCOPES
    return project, scopes


def scopes_in(user: User, project: Project) -> frozenset[str] | None:
    """A person's scopes in a project: a member's own, staff at least those of looking; None for a stranger."""
    if not user.is_active:
        return None
    membership = Membership.objects.filter(project=project, user=user).only("scopes").first()
    if membership is None:
        return STAFF_SCOPES if user.is_staff else None
    own = frozenset(membership.scopes)
    return own | STAFF_SCOPES if user.is_staff else own


def projects_of(user: User | AnonymousUser) -> QuerySet[Project]:
    """The projects that a person may enter: for staff all of them. Not those that were archived."""
    if not user.is_authenticated or not user.is_active:
        return Project.objects.none()
    listed = Project.objects.filter(archived_at=None)
    return listed if user.is_staff else listed.filter(Q(memberships__user=user)).distinct()


def archived_of(user: User) -> QuerySet[Project]:
    """The archived projects that a person may restore: their owners', for staff all of them."""
    put_away = Project.objects.filter(archived_at__isnull=False)
    mine = Q(memberships__user=user, memberships__scopes__contains=[Scope.PROJECT_WRITE])
    return put_away if user.is_staff else put_away.filter(mine).distinct()


def memberships_of(user: User) -> QuerySet[Membership]:
    """The memberships a person has, with their projects."""
    return Membership.objects.filter(user=user, project__archived_at=None).select_related("project", "user")


def entity(objects: QuerySet[Subject], project: Project, identifier: int) -> Subject:
    """The project's object with that id; raises NoSuchEntity or ForeignEntity.

    `objects` is any queryset of a model with a `project`. Surfaces other than the compatible API answer both alike.
    """
    found = objects.filter(pk=identifier).first()
    if found is None:
        raise NoSuchEntity("Entity not found")
    if getattr(found, "project_id", None) != project.pk:
        raise ForeignEntity("Entity does not belong to the project")
    return found


def check_grant(scopes: Collection[str], caller: Caller | None) -> None:
    """Raises ApiError 403 when somebody would give away a scope they do not have; None is our own code."""
    missing = [scope for scope in scopes if caller is not None and scope not in caller.scopes]
    if missing:
        raise ApiError(403, f"You cannot give the scope '{missing[0]}', which you do not have yourself.")


def label_of(caller: Caller | None) -> str:
    """Who asks, in words; empty for our own code."""
    if caller is None:
        return ""
    return str(caller.user) if caller.user else f"API key {caller.api_key.pk}" if caller.api_key else ""


def record_by(caller: Caller | None, action: str, subject: Model, project: Project, **detail: Any) -> None:
    """Write an audit entry in the caller's transaction; what our own code does is no news."""
    if caller is None:
        return
    audit.record(
        action,
        actor=caller.user,
        actor_label=label_of(caller),
        subject=subject,
        project_id=project.pk,
        address=caller.address,
        detail=detail,
    )
