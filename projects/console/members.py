"""Who belongs to a project: its members and their roles, and the invitations that wait for an answer."""

from datetime import UTC, datetime

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.staff import NoSuchPerson, SeveralPeople, find_person
from projects.access import ForeignEntity, NoSuchEntity, entity
from projects.console.forms import show_refusal
from projects.console.granting import GrantForm, grant_context, grant_initial
from projects.console.page import Place, project_page, render_place
from projects.invitations import invite, open_invitations, send_again, withdraw
from projects.members import add_member, change_member, members_of, remove_member
from projects.models import Invitation, Membership
from projects.people import SEARCHES
from projects.roles import Role, role_of, scopes_of
from projects.scopes import Scope
from relay_project.db import rates
from relay_project.web.errors import ApiError


class InviteForm(GrantForm):
    """Whom to invite by mail."""

    email = forms.CharField(max_length=320)
    field_order = ("email", "role", "scopes")


class AddForm(GrantForm):
    """Whom to add who has an account already."""

    person = forms.CharField(max_length=320)
    field_order = ("person", "role", "scopes")


@require_safe
@project_page(Scope.PROJECT_READ)
def members(request: HttpRequest, place: Place) -> HttpResponse:
    """The list."""
    rows = [{"member": one, "role": role_of(one.scopes)} for one in members_of(place.project).order_by("pk")]
    invitations = list(open_invitations(place.project)) if place.may(Scope.PROJECT_WRITE) else []
    now = datetime.now(UTC)
    context = {
        "rows": rows,
        "invitations": [
            {"invitation": one, "role": role_of(one.scopes), "is_expired": one.expires_at <= now} for one in invitations
        ],
    }
    return render_place(request, place, "console/members.html", context, section="members")


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(Scope.PROJECT_WRITE)
def new_invitation(request: HttpRequest, place: Place) -> HttpResponse:
    """Invite an address by mail."""
    form = InviteForm(request.POST if request.method == "POST" else None, initial=_first_choice())
    if request.method == "POST" and form.is_valid():
        try:
            invitation = invite(
                place.project, form.cleaned_data["email"], form.granted(), datetime.now(UTC), place.caller
            )
            messages.success(request, f"An invitation is on its way to {invitation.email}.")
            return redirect("console-members", place.project.pk)
        except ApiError as refusal:
            if refusal.status == 503:  # it is in the list, to be sent again
                messages.error(request, refusal.message)
                return redirect("console-members", place.project.pk)
            show_refusal(form, refusal)
    return _form_page(request, place, form, "console/invite.html")


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(Scope.PROJECT_WRITE)
def new_member(request: HttpRequest, place: Place) -> HttpResponse:
    """Add somebody who has signed in here before."""
    form = AddForm(request.POST if request.method == "POST" else None, initial=_first_choice())
    if request.method == "POST" and form.is_valid() and _may_look(form, place):
        try:
            person = find_person(form.cleaned_data["person"])
            add_member(place.project, person.pk, form.granted(), place.caller)
            messages.success(request, f"{person} is a member now.")
            return redirect("console-members", place.project.pk)
        except NoSuchPerson:
            form.add_error("person", "Nobody with this address has an account here. Invite them by mail instead.")
        except SeveralPeople:
            form.add_error("person", "Several accounts have this address. Ask staff for the person's id and type that.")
        except ApiError as refusal:
            form.add_error(None, refusal.message)
    return _form_page(request, place, form, "console/add_member.html")


def _may_look(form: AddForm, place: Place) -> bool:
    """Trying addresses is as slow here as in the search."""
    use = rates.use(SEARCHES, str(place.user.pk), datetime.now(UTC))
    if not use.allowed:
        form.add_error("person", f"Too many tries. Try again in {use.reset_seconds} seconds.")
    return use.allowed


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(Scope.PROJECT_WRITE)
def one_member(request: HttpRequest, place: Place, membership_id: int) -> HttpResponse:
    """Another role for a member."""
    member = _member_or_404(place, membership_id)
    form = GrantForm(request.POST if request.method == "POST" else None, initial=grant_initial(member.scopes))
    if request.method == "POST" and form.is_valid():
        try:
            change_member(member, form.granted(), place.caller)
            messages.success(request, f"{member.user} is changed.")
            return redirect("console-members", place.project.pk)
        except ApiError as refusal:
            form.add_error(None, refusal.message)
    return _form_page(request, place, form, "console/member.html", {"member": member})


@require_POST
@project_page(Scope.PROJECT_READ)
def drop_member(request: HttpRequest, place: Place, membership_id: int) -> HttpResponse:
    """Remove somebody, or leave: whoever removes themselves needs no scope, and leaves the project's pages."""
    member = _member_or_404(place, membership_id)
    oneself = member.user_id == place.user.pk
    if not (oneself or place.may(Scope.PROJECT_WRITE)):
        raise PermissionDenied
    try:
        remove_member(member, place.caller)
    except ApiError as refusal:
        messages.error(request, refusal.message)
        return redirect("console-members", place.project.pk)
    if oneself:
        messages.success(request, f"You have left {place.project}.")
        return redirect("console-projects")
    messages.success(request, f"{member.user} is no longer a member.")
    return redirect("console-members", place.project.pk)


@require_POST
@project_page(Scope.PROJECT_WRITE)
def resend(request: HttpRequest, place: Place, invitation_id: int) -> HttpResponse:
    """Send an invitation again."""
    invitation = _invitation_or_404(place, invitation_id)
    try:
        send_again(invitation, datetime.now(UTC), place.caller)
        messages.success(request, f"A new link is on its way to {invitation.email}; the former one is void.")
    except ApiError as refusal:
        messages.error(request, refusal.message)
    return redirect("console-members", place.project.pk)


@require_POST
@project_page(Scope.PROJECT_WRITE)
def take_back(request: HttpRequest, place: Place, invitation_id: int) -> HttpResponse:
    """Withdraw an invitation."""
    invitation = _invitation_or_404(place, invitation_id)
    withdraw(invitation, place.caller)
    messages.success(request, f"The invitation of {invitation.email} is withdrawn.")
    return redirect("console-members", place.project.pk)


def _form_page(
    request: HttpRequest, place: Place, form: GrantForm, page: str, context: dict[str, object] | None = None
) -> HttpResponse:
    whole = {"form": form, **grant_context(form, place.caller.scopes), **(context or {})}
    return render_place(request, place, page, whole, section="members", status=400 if form.errors else 200)


def _first_choice() -> dict[str, object]:
    return {"role": Role.VIEWER, "scopes": scopes_of(Role.VIEWER)}


def _member_or_404(place: Place, membership_id: int) -> Membership:
    try:
        return entity(Membership.objects.select_related("user", "project"), place.project, membership_id)
    except (NoSuchEntity, ForeignEntity) as error:
        raise Http404 from error


def _invitation_or_404(place: Place, invitation_id: int) -> Invitation:
    try:
        return entity(open_invitations(place.project).select_related("project"), place.project, invitation_id)
    except (NoSuchEntity, ForeignEntity) as error:
        raise Http404 from error
