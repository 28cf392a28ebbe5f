"""The page of what was done in a project, by its people, its keys and staff."""

from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import urlencode

from django import forms
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from projects.activity import Filter, entries_of, entry_objects
from projects.console.page import Place, project_page, render_place
from projects.members import members_of
from projects.scopes import Scope
from relay_project.web.fields import parse_integer

ROWS = 50
KINDS = (
    ("", "Everything"),
    ("member", "Members"),
    ("invitation", "Invitations"),
    ("api_key", "API keys"),
    ("domain", "Domains"),
    ("webhook", "Webhooks"),
    ("suppression", "Suppressions"),
    ("project", "The project"),
    ("content", "Mail that staff have read"),
)
SHOWN = 200  # characters of an entry's detail


class ActivityForm(forms.Form):
    """What to show."""

    kind = forms.ChoiceField(required=False, choices=KINDS)
    who = forms.ChoiceField(required=False, choices=[])
    since = forms.DateField(required=False)
    until = forms.DateField(required=False)

    def filter(self) -> Filter:
        """Whatever of the query makes sense; the rest is left out."""
        data = self.cleaned_data
        return Filter(
            user_id=parse_integer(data.get("who") or ""),
            action=data.get("kind") or None,
            since=_day(data.get("since"), 0),
            until=_day(data.get("until"), 1),
        )


@require_safe
@project_page(Scope.PROJECT_READ)
def activity(request: HttpRequest, place: Place) -> HttpResponse:
    """The list, newest first."""
    form = ActivityForm(request.GET)
    people = [(str(one.user_id), str(one.user)) for one in members_of(place.project).order_by("pk")]
    form.fields["who"].choices = [("", "Everybody"), *people]  # type: ignore[attr-defined]
    form.is_valid()
    before_id = parse_integer(request.GET.get("before_id", ""))
    found = entries_of(place.project, form.filter(), ROWS + 1, before_id)
    rows = [
        {**row, "at": entry.at, "said": _said(row["detail"])}
        for row, entry in zip(entry_objects(found[:ROWS], place.project), found, strict=False)
    ]
    chosen = {name: value for name in ("kind", "who", "since", "until") if (value := request.GET.get(name))}
    older = urlencode({**chosen, "before_id": found[ROWS - 1].pk}) if len(found) > ROWS else ""
    context = {"rows": rows, "form": form, "older": older, "is_filtered": bool(chosen)}
    return render_place(request, place, "console/activity.html", context, section="activity")


def _day(day: date | None, later: int) -> datetime | None:
    """The beginning of a UTC day, or of the one after it."""
    if day is None:
        return None
    begin = datetime.combine(day, time(), UTC)
    try:
        return begin + timedelta(days=later)
    except OverflowError:
        return begin


def _said(detail: dict[str, object]) -> str:
    """An entry's detail in one short line."""
    parts = []
    for name, value in detail.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        if shown:
            parts.append(f"{name.replace('_', ' ')}: {shown}")
    line = " · ".join(parts)
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
