"""What all pages of a project share: the door, the person's scopes, and the frame around the content."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control

from accounts.audit import address_of
from accounts.models import User
from projects.access import Caller, NoAccess, caller_for, projects_of
from projects.models import Project
from projects.scopes import Scope
from relay_project.web.fragments import reload_whole_page, render_page, wants_fragment

SWITCHER_LIMIT = 12  # projects in the switcher; the others are on their page
LAST_PROJECT = "project_id"  # in the session: where /console/ leads

Parameters = ParamSpec("Parameters")
PageView = Callable[Concatenate[HttpRequest, "Place", Parameters], HttpResponse]


@dataclass(frozen=True, slots=True)
class Place:
    """Who looks at which project, and what they may do there; `caller` is what the rules take."""

    user: User
    project: Project
    caller: Caller

    def may(self, scope: Scope) -> bool:
        """Whether this person has the scope."""
        return self.caller.may(scope)

    @property
    def can(self) -> dict[str, bool]:
        """For templates: `can.domains_write`."""
        return {scope.value.replace(".", "_"): self.may(scope) for scope in Scope}


def person_of(request: HttpRequest) -> User:
    """The person of a request that was found to be signed in."""
    assert isinstance(request.user, User)
    return request.user


def project_page(
    scope: Scope, write: Scope | None = None
) -> Callable[[PageView[Parameters]], Callable[..., HttpResponse]]:
    """A view of /console/<project_id>/…: signed in, a member with `scope`; for anything but looking, with `write`.

    Absent and forbidden projects look alike: 404. A member without the scope gets 403.
    """

    def decorate(view: PageView[Parameters]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def inner(
            request: HttpRequest, project_id: int, *args: Parameters.args, **kwargs: Parameters.kwargs
        ) -> HttpResponse:
            if not request.user.is_authenticated:
                # a page left open asks for fragments; it must not get the sign-in page into the middle of it
                return reload_whole_page() if wants_fragment(request) else redirect_to_login(request.get_full_path())
            place = _enter(request, project_id)
            looking = request.method in ("GET", "HEAD")
            if not place.may(scope) or not (looking or write is None or place.may(write)):
                raise PermissionDenied
            response = view(request, place, *args, **kwargs)
            patch_cache_control(response, private=True, no_cache=True)
            return response

        return inner

    return decorate


def _enter(request: HttpRequest, project_id: int) -> Place:
    user = person_of(request)
    try:
        caller = caller_for(user, project_id, address_of(request) or "")
    except NoAccess as refusal:
        raise Http404 from refusal
    assert caller.project is not None
    return Place(user, caller.project, caller)


def render_place(
    request: HttpRequest,
    place: Place,
    page: str,
    context: Mapping[str, Any],
    *,
    section: str,
    fragment: str | None = None,
    status: int = 200,
) -> HttpResponse:
    """A page of a project in the console's frame. `section` names the entry of the navigation."""
    if request.session.get(LAST_PROJECT) != place.project.pk:
        request.session[LAST_PROJECT] = place.project.pk
    whole = {"place": place, "project": place.project, "can": place.can, "section": section, **context}
    return render_page(request, page, _framed(place.user, whole), fragment=fragment, status=status)


def render_outside(request: HttpRequest, page: str, context: Mapping[str, Any], status: int = 200) -> HttpResponse:
    """A page of the console that belongs to no project."""
    return render_page(request, page, _framed(person_of(request), context), status=status)


def _framed(user: User, context: Mapping[str, Any]) -> dict[str, Any]:
    projects = list(projects_of(user).order_by("name", "pk")[: SWITCHER_LIMIT + 1])
    return {**context, "switcher": projects[:SWITCHER_LIMIT], "switcher_has_more": len(projects) > SWITCHER_LIMIT}
