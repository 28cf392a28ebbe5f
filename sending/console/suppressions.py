"""Suppressions: the list with its filters, adding an address, removing one, import and export."""

from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.validators import MaxValueValidator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from projects.console.forms import show_refusal
from projects.console.page import Place, project_page, render_place
from projects.scopes import Scope
from relay_project.web.csv_file import csv_response
from relay_project.web.errors import ApiError
from relay_project.web.fields import parse_integer
from sending.models import MAX_LIST, Suppression, SuppressionReason
from sending.suppress import MAX_DESCRIPTION, InvalidList, list_key
from sending.suppressions.change import Wanted, add, email_key, remove
from sending.suppressions.export_csv import export_csv
from sending.suppressions.find import SuppressionFilter, find_suppressions, lists_of
from sending.suppressions.import_csv import import_for
from sending.suppressions.read_csv import Defaults, UnreadableFile

PAGE = 50  # rows a page
WHOLE = "-"  # the choice that means: not of a list
READ, WRITE = Scope.SUPPRESSIONS_READ, Scope.SUPPRESSIONS_WRITE
REASONS = {
    SuppressionReason.BOUNCE: "Bounce",
    SuppressionReason.COMPLAINT: "Complaint",
    SuppressionReason.UNSUBSCRIBE: "Unsubscribed",
    SuppressionReason.MANUAL: "Added by hand",
}


class FilterForm(forms.Form):
    """The filters as they stand in the address."""

    email = forms.CharField(required=False, max_length=254)
    reason = forms.ChoiceField(required=False, choices=(("", "Any reason"), *REASONS.items()))
    list = forms.ChoiceField(required=False)

    def __init__(self, data: Any, lists: Sequence[str]) -> None:
        super().__init__(data)
        names = [*lists, *(name for name in [data.get("list", "")] if name not in ("", WHOLE, *lists))]
        choices = [("", "Everywhere"), (WHOLE, "All mail"), *((name, f"List: {name}") for name in names)]
        self.fields["list"].choices = choices  # type: ignore[attr-defined]

    def wanted(self) -> SuppressionFilter:
        """The filter; fields that make no sense are left out, and the form says so."""
        self.is_valid()
        values = self.cleaned_data
        chosen = values.get("list") or None
        return SuppressionFilter(
            values.get("email") or None, values.get("reason") or None, "" if chosen == WHOLE else _list_or_none(chosen)
        )


def _list_or_none(name: str | None) -> str | None:
    try:
        return None if name is None else list_key(name)
    except InvalidList:
        return None


class ScopeForm(forms.Form):
    """What adding one and importing many have in common."""

    reason = forms.ChoiceField(choices=tuple(REASONS.items()), initial=SuppressionReason.MANUAL)
    list = forms.CharField(required=False, max_length=4 * MAX_LIST)
    until = forms.DateField(
        required=False,
        validators=[MaxValueValidator(datetime(9000, 1, 1).date())],  # noqa: DTZ001 — a day
        widget=forms.DateInput(attrs={"type": "date"}),
    )

    def clean_list(self) -> str | None:
        """The list's key."""
        try:
            return list_key(self.cleaned_data["list"]) if self.cleaned_data["list"] else None
        except InvalidList as wrong:
            raise forms.ValidationError(str(wrong)) from None

    def clean_until(self) -> datetime | None:
        """The end of that day."""
        day = self.cleaned_data["until"]
        end = None if day is None else datetime.combine(day, time(23, 59, 59), UTC)
        if end is not None and end <= datetime.now(UTC):
            raise forms.ValidationError("This day is over.")
        return end


class AddForm(ScopeForm):
    """One address."""

    email = forms.CharField(max_length=320)
    description = forms.CharField(required=False, max_length=MAX_DESCRIPTION)


class ImportForm(ScopeForm):
    """Many."""

    file = forms.FileField(error_messages={"empty": "This file is empty."})


@require_safe
@project_page(READ)
def suppressions(request: HttpRequest, place: Place) -> HttpResponse:
    """The list, 50 at a time; "load more" asks for those before the last one's id."""
    form = FilterForm(request.GET, lists_of(place.project.pk))
    wanted = form.wanted()
    before_id = parse_integer(request.GET.get("before_id", ""))
    found = find_suppressions(place.project.pk, wanted, datetime.now(UTC), PAGE + 1, before_id=before_id)
    rows = found[:PAGE]
    context = {
        "form": form,
        "rows": rows,
        "next_before_id": rows[-1].pk if len(found) > PAGE else None,
        "is_filtered": not wanted.is_empty,
        "is_first_page": before_id is None,
        "reasons": {str(reason): label for reason, label in REASONS.items()},
    }
    fragment = "sending/_suppression_rows.html" if request.GET.get("part") == "rows" else "sending/_suppressions.html"
    page = "sending/suppressions.html"
    return render_place(request, place, page, context, section="suppressions", fragment=fragment)


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(READ, write=WRITE)
def new_suppression(request: HttpRequest, place: Place) -> HttpResponse:
    """Suppress an address."""
    if not place.may(WRITE):
        raise Http404
    form = AddForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        try:
            wanted = Wanted(
                email_key(values["email"]),
                SuppressionReason(values["reason"]),
                values["description"] or None,
                values["list"],
                values["until"],
            )
            row, is_new = add(place.project, wanted, place.caller)
            told = f"{row.email} is suppressed." if is_new else f"{row.email} was suppressed already."
            messages.success(request, told)
            return redirect("console-suppressions", place.project.pk)
        except ApiError as refusal:
            show_refusal(form, refusal)
    context = {"form": form, "lists": lists_of(place.project.pk)}
    page, status = "sending/new_suppression.html", 400 if form.errors else 200
    return render_place(request, place, page, context, section="suppressions", status=status)


@require_POST
@project_page(READ, write=WRITE)
def remove_suppression(request: HttpRequest, place: Place, suppression_id: int) -> HttpResponse:
    """Take an address off the list, and show it again as it was filtered."""
    row = Suppression.objects.filter(pk=suppression_id).first()
    if row is None or row.owner_id != place.project.pk:
        raise Http404
    remove(place.project, row, place.caller)
    messages.success(request, f"{row.email} is no longer suppressed{f' in {row.list}' if row.list else ''}.")
    back, query = reverse("console-suppressions", args=[place.project.pk]), request.GET.urlencode()
    return redirect(f"{back}?{query}" if query else back)


@require_safe
@project_page(READ)
def export_suppressions(request: HttpRequest, place: Place) -> HttpResponse:
    """What the filters show, as a file."""
    wanted, now = FilterForm(request.GET, lists_of(place.project.pk)).wanted(), datetime.now(UTC)
    return csv_response(export_csv(place.project.pk, wanted, now), "suppressions", now)  # type: ignore[return-value]


@csrf_exempt
def import_suppressions(request: HttpRequest, project_id: int) -> HttpResponseBase:
    """Import a file. One that announces too much is refused before the search for the form's token reads it."""
    announced = request.META.get("CONTENT_LENGTH") or "0"
    if announced.isdigit() and int(announced) > settings.MAX_IMPORT_BYTES:
        return render(request, "400.html", status=413)
    return _import(request, project_id)


@csrf_protect
@require_http_methods(["GET", "HEAD", "POST"])
@project_page(READ, write=WRITE)
def _import(request: HttpRequest, place: Place) -> HttpResponse:
    if not place.may(WRITE):
        raise Http404
    form = ImportForm(request.POST, request.FILES) if request.method == "POST" else ImportForm()
    report = None
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        defaults = Defaults(values["reason"], values["list"], values["until"])
        try:
            report = import_for(place.project, values["file"].read, defaults, datetime.now(UTC), place.caller)
        except UnreadableFile as error:
            form.add_error("file", str(error))
    context = {"form": form, "report": report, "lists": lists_of(place.project.pk)}
    page, status = "sending/import_suppressions.html", 400 if form.errors else 200
    return render_place(request, place, page, context, section="suppressions", status=status)
