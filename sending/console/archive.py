"""Archiving a project: a page that says what becomes of it, and asks."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from projects.console.page import Place, project_page, render_place
from projects.scopes import Scope
from relay_project.web.errors import ApiError
from sending.backlog.stopped import MOST_COUNTED, archive_project, count_waiting


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(Scope.PROJECT_WRITE)
def archive(request: HttpRequest, place: Place) -> HttpResponse:
    """Ask, with how much waits; on POST put the project away."""
    refusal = ""
    if request.method == "POST":
        try:
            cancelled = archive_project(
                place.project, request.POST.get("cancel_waiting") == "on", timezone.now(), place.caller
            )
            noun = "recipient" if cancelled == 1 else "recipients"
            told = f" {cancelled:,} {noun} that waited will get nothing." if cancelled else ""
            messages.success(request, f"{place.project} is archived.{told}")
            return redirect("console-projects")
        except ApiError as error:
            refusal = str(error) if place.project.is_system else "Mail of it still waits. Let it leave, or cancel it."
    waiting = count_waiting(place.project)
    context = {
        "waiting": f"more than {MOST_COUNTED:,}" if waiting > MOST_COUNTED else waiting,
        "refusal": refusal,
    }
    status = 400 if refusal else 200
    return render_place(request, place, "console/archive.html", context, section="settings", status=status)
