"""Staff admin: every suppressed address, and those that staff suppress for all projects."""

from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from accounts.audit import actor_of, address_of
from projects.limits import in_units
from projects.models import Project
from relay_project.web.errors import ApiError
from relay_project.web.staff import Confirmation, Facts, Link, asked_above_list, column, confirmed
from sending.models import Suppression, SuppressionReason
from sending.suppress import MAX_DESCRIPTION
from sending.suppressions.change import Wanted, add_everywhere, email_key, remove_everywhere
from sending.suppressions.find import folded
from sending.suppressions.import_csv import import_everywhere
from sending.suppressions.read_csv import Defaults

PROJECT = Link("project", Project)
LIST_PROJECT = Link("list_project", Project)
REASONS = {"bounce": "danger", "complaint": "danger", "unsubscribe": "warning", "manual": "info"}


class DayInput(UnfoldAdminTextInputWidget):  # type: ignore[misc]  # unfold has no types
    """A day, by the browser's own means."""

    input_type = "date"


class Scope(admin.SimpleListFilter):
    """Of what mail it keeps the address."""

    title = "scope"
    parameter_name = "scope"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The three kinds of rows."""
        return [("all", "All projects"), ("project", "A project"), ("list", "A project's list")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The chosen ones."""
        match self.value():
            case "all":
                return queryset.filter(project=None, list_project=None)
            case "project":
                return queryset.filter(project__isnull=False)
            case "list":
                return queryset.filter(list_project__isnull=False)
        return queryset


class HowForm(Confirmation):
    """Why, and until when."""

    reason = forms.ChoiceField(
        choices=SuppressionReason.choices, initial=SuppressionReason.MANUAL, widget=UnfoldAdminSelectWidget()
    )
    until = forms.DateField(
        required=False,
        widget=DayInput(),
        help_text="The last day (UTC); without one for good.",
    )

    def clean_until(self) -> datetime | None:
        """The end of that day."""
        day = self.cleaned_data["until"]
        end = None if day is None else datetime.combine(day, time(23, 59, 59), UTC)
        if end is not None and end <= timezone.now():
            raise forms.ValidationError("This day is over.")
        return end


class AddForm(HowForm):
    """One address."""

    email = forms.CharField(label="Address", max_length=320, widget=UnfoldAdminTextInputWidget())
    note = forms.CharField(
        required=False,
        max_length=MAX_DESCRIPTION,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Shown to staff only.",
    )
    field_order = ("email", "reason", "until", "note")

    def clean_email(self) -> str:
        """Its key."""
        try:
            return email_key(self.cleaned_data["email"])
        except ApiError as refusal:
            raise forms.ValidationError(refusal.message) from refusal


class ImportForm(HowForm):
    """Many."""

    file = forms.FileField(
        label="CSV file",
        widget=UnfoldAdminFileFieldWidget(),
        help_text="As in the console: one address a line, or columns with a heading that has “email”.",
    )
    field_order = ("file", "reason", "until")

    def clean_file(self) -> "UploadedFile[Any]":
        """As large as the API and the console take them."""
        file: UploadedFile[Any] = self.cleaned_data["file"]
        if (file.size or 0) > settings.MAX_IMPORT_BYTES:
            most = in_units(settings.MAX_IMPORT_BYTES)
            raise forms.ValidationError(f"This file is larger than {most} (MAX_IMPORT_BYTES). Split it.")
        return file


@admin.register(Suppression)
class SuppressionAdmin(Facts):
    """Addresses that mail does not go to: of a project, of a list of a project, or of all mail there is."""

    list_display = (
        "id",
        "email",
        "holds_for",
        PROJECT,
        LIST_PROJECT,
        "list",
        "why",
        "description",
        "expires_at",
        "created_at",
    )
    list_display_links = ("id", "email")
    list_filter = (Scope, "reason")
    search_fields = ("email__exact",)
    search_help_text = "Exact address, in any case"
    actions_list = ("suppress_everywhere", "import_list")
    actions_detail = ("lift",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Rows of that address, as addresses are kept (lesson C8)."""
        return (queryset.filter(email=folded(search_term)) if search_term.strip() else queryset), False

    @column("scope")
    def holds_for(self, row: Suppression) -> str:
        """Of what mail."""
        if row.owner_id is None:
            return "all projects"
        return "a project" if row.list is None else "a list"

    @column("reason", label=REASONS)
    def why(self, row: Suppression) -> str:
        """The reason."""
        return row.reason

    @asked_above_list(
        "Suppress for all projects",
        question="No project's mail goes to this address from now on. Each of them sees that it was suppressed, not why.",
        icon="block",
        form=AddForm,
    )
    def suppress_everywhere(self, request: HttpRequest, data: dict[str, Any]) -> str:
        """One address."""
        reason = SuppressionReason(data["reason"])
        wanted = Wanted(data["email"], reason, data["note"] or None, expires_at=data["until"])
        row, is_new = add_everywhere(wanted, actor_of(request), address_of(request))
        return f"{row.email} is suppressed." if is_new else f"{row.email} was suppressed already."

    @asked_above_list(
        "Import for all projects",
        question="No project's mail goes to the addresses in this file from now on.",
        icon="upload_file",
        form=ImportForm,
    )
    def import_list(self, request: HttpRequest, data: dict[str, Any]) -> str:
        """Many; the first wrong lines are told."""
        defaults = Defaults(data["reason"], None, data["until"])
        read = data["file"].read
        report = import_everywhere(read, defaults, timezone.now(), actor_of(request), address_of(request))
        wrong = "".join(f" Line {bad.line}: {bad.message}" for bad in report.errors[:3])
        left_out = f" {report.invalid:,} could not be used.{wrong}" if report.invalid else ""
        return f"{report.added:,} of {report.lines:,} lines are new.{left_out}"

    @confirmed(
        "Lift",
        question="Mail to {} goes again, unless a project suppresses it as well. Continue?",
        icon="check",
        fits=lambda row: row.owner_id is None,
        removes=True,
    )
    def lift(self, request: HttpRequest, row: Suppression, data: dict[str, Any]) -> str:
        """Take back what staff suppressed; what a project did is the project's."""
        remove_everywhere(row, actor_of(request), address_of(request))
        return f"{row.email} is no longer suppressed for all projects."
