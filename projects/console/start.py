"""The console's pages outside of a project: where to go, all projects, a new one, one's own account."""

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.audit import address_of
from accounts.models import Identity
from projects.access import Caller, archived_of, memberships_of, projects_of
from projects.console.page import LAST_PROJECT, person_of, render_outside
from projects.life import archived_project, restore
from projects.members import create_project
from projects.models import Project, SendType
from projects.roles import role_of
from relay_project.web.errors import ApiError
from relay_project.web.fields import parse_integer

LISTED = 100  # projects on a page; the search finds the others


class ProjectForm(forms.Form):
    """Name and kind of a new project."""

    name = forms.CharField(max_length=255)
    send_type = forms.ChoiceField(choices=SendType.choices, initial=SendType.TRANSACTIONAL)


@require_safe
@login_required
def start(request: HttpRequest) -> HttpResponse:
    """To the project looked at last, else to the first one, else to making one."""
    mine = projects_of(person_of(request)).order_by("is_system", "pk")
    project = mine.filter(pk=request.session.get(LAST_PROJECT, 0)).first() or mine.first()
    return redirect("console-overview", project.pk) if project else redirect("console-new")


@require_safe
@login_required
def projects(request: HttpRequest) -> HttpResponse:
    """Every project this person may enter."""
    search = request.GET.get("search", "").strip()[:255].replace("\0", "")
    found = projects_of(person_of(request))
    if search:
        found = found.filter(name__icontains=search)
    rows = list(found.order_by("name", "pk")[: LISTED + 1])
    archived = archived_of(person_of(request)).order_by("-archived_at")[:LISTED]
    context = {"rows": rows[:LISTED], "has_more": len(rows) > LISTED, "search": search, "archived": archived}
    return render_outside(request, "console/projects.html", context)


@require_POST
@login_required
def restore_project(request: HttpRequest, project_id: int) -> HttpResponse:
    """Bring an archived project back; one that this person may not restore looks like none."""
    user = person_of(request)
    try:
        project = archived_project(user, project_id)
    except ApiError as refusal:
        raise Http404 from refusal
    restore(project, timezone.now(), Caller(frozenset(), user=user, address=address_of(request) or ""))
    messages.success(request, f"{project} is back.")
    return redirect("console-projects")


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def new_project(request: HttpRequest) -> HttpResponse:
    """Found a project; the founder has every scope."""
    form = ProjectForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        user = person_of(request)
        caller = Caller(frozenset(), user=user, address=address_of(request) or "")
        membership = create_project(user, form.cleaned_data["name"], form.cleaned_data["send_type"], caller)
        messages.success(request, f"{membership.project.name} is ready.")
        return redirect("console-overview", membership.project_id)
    status = 400 if form.is_bound else 200
    return render_outside(request, "console/new_project.html", {"form": form}, status=status)


@require_safe
@login_required
def account(request: HttpRequest) -> HttpResponse:
    """Who one is here, how one signs in, and where one belongs."""
    user = person_of(request)
    memberships = list(memberships_of(user).order_by("project__name")[:LISTED])
    for membership in memberships:
        membership.role = role_of(membership.scopes)  # type: ignore[attr-defined]
    context = {
        "identities": Identity.objects.filter(user=user).order_by("pk"),
        "memberships": memberships,
        "all_projects": Project.objects.count() if user.is_staff else None,
        "has_notices": settings.NOTICES and (memberships or user.is_staff),
    }
    return render_outside(request, "console/account.html", context)


@require_POST
@login_required
def choose_notices(request: HttpRequest) -> HttpResponse:
    """Of which projects, and as staff of the installation, one is told by mail: what is ticked of what was shown."""
    user = person_of(request)
    wanted = {number for raw in request.POST.getlist("project") if (number := parse_integer(raw)) is not None}
    with transaction.atomic():
        for membership in memberships_of(user).order_by("project__name").select_for_update(of=("self",))[:LISTED]:
            if membership.wants_notices != (membership.project_id in wanted):
                membership.wants_notices = not membership.wants_notices
                membership.save(update_fields=["wants_notices"])
        if user.is_staff:
            user.wants_staff_notices = request.POST.get("staff") == "1"
            user.save(update_fields=["wants_staff_notices"])
    messages.success(request, "Your notices are saved.")
    return redirect("console-account")
