"""A project's settings: its name, and how long its content is kept."""

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from projects.console.limits import limit_lines
from projects.console.page import Place, project_page, render_place
from projects.keeping import LEAST_DAYS, content_days, keep_content, most_days
from projects.members import rename_project
from projects.scopes import Scope


class NameForm(forms.Form):
    """The project's name."""

    name = forms.CharField(max_length=255)


class ContentForm(forms.Form):
    """How long the content of mail is kept."""

    content_days = forms.IntegerField(required=False, min_value=LEAST_DAYS, label="Keep content for")

    def clean_content_days(self) -> int | None:
        """At most as long as the instance does."""
        days: int | None = self.cleaned_data["content_days"]
        if days is not None and days > most_days():
            raise forms.ValidationError(f"At most {most_days()} days: nothing is kept for longer here.")
        return days


@require_safe
@project_page(Scope.PROJECT_READ)
def project_settings(request: HttpRequest, place: Place) -> HttpResponse:
    """The page."""
    return _page(request, place)


def _page(
    request: HttpRequest,
    place: Place,
    name_form: NameForm | None = None,
    content_form: ContentForm | None = None,
) -> HttpResponse:
    content_form = content_form or ContentForm(initial={"content_days": place.project.content_days})
    name_form = name_form or NameForm(initial={"name": place.project.name})
    context = {
        "name_form": name_form,
        "content_form": content_form,
        "content_days": content_days(place.project),
        "most_days": most_days(),
        "limit_lines": limit_lines(place.project, timezone.now()),
    }
    status = 400 if name_form.errors or content_form.errors else 200
    return render_place(request, place, "console/settings.html", context, section="settings", status=status)


@require_POST
@project_page(Scope.PROJECT_READ, write=Scope.PROJECT_WRITE)
def rename(request: HttpRequest, place: Place) -> HttpResponse:
    """Another name."""
    form = NameForm(request.POST)
    if not form.is_valid():
        return _page(request, place, name_form=form)
    rename_project(place.project, form.cleaned_data["name"], place.caller)
    messages.success(request, "The name is saved.")
    return redirect("console-settings", place.project.pk)


@require_POST
@project_page(Scope.PROJECT_READ, write=Scope.PROJECT_WRITE)
def set_content_days(request: HttpRequest, place: Place) -> HttpResponse:
    """Another time for the content of mail."""
    form = ContentForm(request.POST)
    if not form.is_valid():
        return _page(request, place, content_form=form)
    keep_content(place.project, form.cleaned_data["content_days"], place.caller)
    messages.success(request, f"Content is kept for {content_days(place.project)} days.")
    return redirect("console-settings", place.project.pk)
