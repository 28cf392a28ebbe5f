"""What the staff admin of every app is made of: facts that are read, and actions that ask before they call a rule.

No page counts rows, because a count of what happened grows with history; no list of a partitioned table goes without a
range of ids; no field named in `secret` is ever shown (lesson S9).
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from hashlib import sha256
from typing import Any, TypeVar, cast

from django import forms
from django.contrib import messages
from django.contrib.admin import SimpleListFilter
from django.db.models import Model, OuterRef, Q, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminTextInputWidget

from relay_project.db.ids import MAX_ID, hours_after, id_floor, id_of_uuid, id_time
from relay_project.web.errors import ApiError

ROWS_A_PAGE = 50
WITHIN_HOURS = 1  # a recipient is written with its send; its id lies at most this far behind (relay_project.db.ids)
MAX_REASON = 255  # characters


@dataclass(frozen=True)
class Link:
    """A column of a list that names and links what the row's `<name>_id` refers to; its id where that is gone.

    The name comes by a sub-select, not a join: a join would lose the rows whose subject was deleted.
    """

    name: str
    model: type[Model]
    shows: str = "name"

    @property
    def short_description(self) -> str:
        """The column's heading."""
        return self.name.replace("_", " ")

    @property
    def __name__(self) -> str:
        """Its class in the page."""
        return self.name

    @property
    def annotation(self) -> dict[str, Subquery]:
        """The annotation that carries what is shown."""
        found = self.model._default_manager.filter(pk=OuterRef(f"{self.name}_id")).values(self.shows)[:1]
        return {f"{self.name}_label": Subquery(found)}

    def __call__(self, row: Model) -> str | SafeString:
        """The cell."""
        return link_to(self.model, getattr(row, f"{self.name}_id"), getattr(row, f"{self.name}_label", None))


Column = TypeVar("Column", bound=Callable[..., object])


def column(
    description: str, *, label: Mapping[str, str] | None = None, ordering: str | None = None
) -> Callable[[Column], Column]:
    """A computed column of a list or page; `label` gives values a colour: info, success, warning, danger."""
    return display(description=description, label=label, ordering=ordering)  # type: ignore[no-any-return]


class Facts(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """A model's rows, to be read. Nothing is added, edited or deleted here; actions call the rules of the app."""

    secret: Sequence[str] = ()  # fields that no page shows
    computed: Sequence[str] = ()  # methods shown on a row's page, after its fields
    links: Sequence[
        Link
    ] = ()  # shown on a row's page in place of a bare id; those of list_display need not be repeated
    show_full_result_count = False
    paginator = InfinitePaginator
    list_per_page = ROWS_A_PAGE
    list_fullwidth = True
    actions = None
    compressed_fields = True
    list_filter_submit = False

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Rows come from the product's own ways in."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """State changes by rules, not by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """What happened stays until its retention ends."""
        return False

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[Any]:
        """What is computed, then every column that is no secret; the links of the list where it shows bare ids."""
        links = {f"{link.name}_id": link for link in self._links()}
        columns = [field for field in self.model._meta.concrete_fields if field.name not in self.secret]
        return [*self.computed, *(links.get(field.attname, field.name) for field in columns)]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Rows with what their links show, and without the columns that are not shown."""
        rows = super().get_queryset(request).defer(*self.secret)
        for link in self._links():
            rows = rows.annotate(**link.annotation)
        return cast("QuerySet[Any]", rows)

    def _links(self) -> list[Link]:
        return [*(shown for shown in self.list_display if isinstance(shown, Link)), *self.links]

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Only the actions that make sense for this row."""
        row = self.get_object(request, str(object_id))
        offered = super().get_actions_detail(request, object_id)
        return [one for one in offered if getattr(one.method, "fits", lambda _: True)(row)]


class When(SimpleListFilter):
    """How far back to look, as a range of ids; without a choice the last day."""

    title = "time"
    parameter_name = "when"
    named = (("1", "Last hour"), ("24", "Last 24 hours"), ("168", "Last 7 days"), ("720", "Last 30 days"))

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The spans, then each of the last days by itself."""
        today = timezone.now().astimezone(UTC).date()
        days = [today - timedelta(days=ago) for ago in range(7)]
        return [*self.named, *((day.isoformat(), f"{day:%A %-d %B}") for day in days)]

    def choices(self, changelist: Any) -> Any:
        """The day is what an untouched list shows, and is marked so."""
        for value, title in self.lookup_choices:
            yield {
                "selected": value == (self.value() or "24"),
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": title,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Rows whose ids lie in the span; a search by id finds what is older as well."""
        if subject_of(request.GET.get("q", "")) is not None:
            return queryset
        floor, ceiling = span(self.value() or "24", timezone.now())
        return queryset.filter(pk__gte=floor, pk__lt=ceiling)


def span(value: str, now: datetime) -> tuple[int, int]:
    """(least id, end) of `24` (hours back) or `2026-11-22` (a UTC day); what cannot be read is the last day."""
    try:
        if value.isdigit():
            return id_floor(now - timedelta(hours=min(int(value), 24 * 366))), MAX_ID
        day = datetime.fromisoformat(value).replace(tzinfo=UTC)
        return id_floor(day), id_floor(day + timedelta(days=1))
    except (ValueError, OverflowError):
        return id_floor(now - timedelta(hours=24)), MAX_ID


def subject_of(term: str) -> int | None:
    """The id that a search term names: digits, or a UUID that carries one."""
    term = term.strip()
    if term.isascii() and term.isdigit():
        return int(term) if len(term) <= 20 and 0 < int(term) <= MAX_ID else None
    try:
        return id_of_uuid(uuid.UUID(term))
    except ValueError:
        return None


class Happened(Facts):
    """A partitioned table: newest first, by a range of ids, searched only by what an index or the range bounds."""

    ids: Sequence[str] = ("pk",)  # columns that a search for an id or UUID looks in
    words: Sequence[str] = ()  # columns that must equal a search for anything else, within the chosen time
    list_filter: Sequence[Any] = (When,)
    ordering = ("-id",)
    search_fields = ("pk",)  # Django shows the box when there are any; get_search_results does the search

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Rows of that id or UUID, or with exactly that word. Never a LIKE over partitions."""
        if not search_term.strip():
            return queryset, False
        subject = subject_of(search_term)
        if subject is not None:
            return queryset.filter(self.belongs_to(subject)), False
        found = Q(pk__in=())
        for column in self.words:
            found |= Q(**{f"{column}__in": {search_term.strip(), search_term.strip().lower()}})
        return queryset.filter(found), False

    def belongs_to(self, subject: int) -> Q:
        """Rows of that id, or that refer to it: those are never older than it, which bounds the partitions."""
        found = Q(pk__in=())
        for column in self.ids:
            bounds = {} if column == "pk" else {"pk__gte": subject}
            found |= Q(**{column: subject}, **bounds)
        return found

    @column("when", ordering="id")
    def when(self, row: Model) -> str:
        """The moment that the row's id carries."""
        return f"{id_time(row.pk):%Y-%m-%d %H:%M:%S}"


def written_with(subject: int) -> dict[str, int]:
    """The bounds of ids of rows that were written with a subject: its recipients, its content."""
    return {"pk__gte": subject, "pk__lte": hours_after(subject, WITHIN_HOURS)}


def link_to(model: type[Model], key: Any, text: object = None) -> str | SafeString:
    """A link to a row's page; plain text where the model has none, a dash where there is no row."""
    if key is None:
        return "–"
    try:
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[key])
    except NoReverseMatch:
        return str(text or key)
    return format_html('<a href="{}">{}</a>', url, key if text is None else text)


# --- Actions that ask first ----------------------------------------------------------------------------------------


class Confirmation(forms.Form):
    """Nothing to fill in: a click is asked for."""


class WithReason(Confirmation):
    """Why; it is kept in the audit log."""

    reason = forms.CharField(
        max_length=MAX_REASON,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Kept in the audit log and shown to staff.",
    )


ActionBody = Callable[[Any, HttpRequest, Any, dict[str, Any]], str]


def confirmed(
    title: str,
    *,
    question: str,
    icon: str,
    form: type[forms.Form] = Confirmation,
    fits: Callable[[Any], bool] = lambda row: True,
    danger: bool = False,
    removes: bool = False,
    initial: Callable[[Any], dict[str, Any]] = lambda row: {},
) -> Callable[[ActionBody], Any]:
    """Make `(self, request, row, data) -> sentence` an action of a row's page that shows a question and waits for POST.

    `fits` says for which rows it is offered; the others get 404. With `removes` the row is gone afterwards. The form
    begins with what `initial` gives for the row. The body calls a rule, which writes the audit entry, and returns what
    to tell; it raises ValueError or ApiError to refuse with a sentence.
    """

    def decorate(body: ActionBody) -> Any:
        @wraps(body)
        def view(self: Any, request: HttpRequest, object_id: str) -> HttpResponse:
            row = self.get_object(request, object_id)
            if row is None or not fits(row):
                raise Http404
            back = _page_of(self, row)
            filled = form(request.POST if request.method == "POST" else None, initial=initial(row))
            if request.method == "POST" and filled.is_valid():
                then = _list_of(self) if removes else back
                return _carry_out(self, request, then, lambda: body(self, request, row, filled.cleaned_data))
            asked = {"title": title, "question": question.format(row), "form": filled, "danger": danger}
            return _ask(self, request, {**asked, "original": row, "back": back})

        view.fits = fits  # type: ignore[attr-defined]
        variant = ActionVariant.DANGER if danger else ActionVariant.DEFAULT
        return action(description=title, icon=icon, variant=variant, url_path=body.__name__.replace("_", "-"))(view)

    return decorate


def disabling(*, question: str, icon: str) -> Callable[[ActionBody], Any]:
    """The action that disables a row which `is_enabled`: it asks why (`data["reason"]`), otherwise as `confirmed`."""
    return confirmed(
        "Disable", question=question, icon=icon, form=WithReason, fits=lambda row: bool(row.is_enabled), danger=True
    )


ListActionBody = Callable[[Any, HttpRequest, dict[str, Any]], str]


@dataclass(frozen=True)
class Preview:
    """What a filled form would do: the question, and the words of the button that does it; empty: there is nothing to do."""

    question: str
    button: str


def asked_above_list(
    title: str,
    *,
    question: str,
    icon: str,
    form: type[forms.Form],
    danger: bool = False,
    preview: Callable[[dict[str, Any]], Preview] | None = None,
) -> Callable[[ListActionBody], Any]:
    """Make `(self, request, data) -> sentence` an action of a model's list (`actions_list`) that waits for POST.

    For what makes a row, or is about no single one; otherwise as `confirmed`. The form begins with what the address says.
    With `preview`, what the filled form would do is shown, and asked about, before it is done.
    """

    def decorate(body: ListActionBody) -> Any:
        @wraps(body)
        def view(self: Any, request: HttpRequest) -> HttpResponse:
            back = _list_of(self)
            given, files = (request.POST, request.FILES) if request.method == "POST" else (None, None)
            filled = form(given, files, initial=request.GET.dict())
            asked = {"title": title, "question": question, "form": filled, "back": back, "danger": danger}
            if request.method == "POST" and filled.is_valid():
                if preview is None or request.POST.get("seen") == _digest(filled):
                    return _carry_out(self, request, back, lambda: body(self, request, filled.cleaned_data))
                asked |= {"preview": preview(filled.cleaned_data), "seen": _digest(filled)}
            return _ask(self, request, asked)

        return action(description=title, icon=icon, url_path=body.__name__.replace("_", "-"))(view)

    return decorate


def _digest(filled: forms.Form) -> str:
    """What was filled in: a preview of something else is no consent."""
    return sha256(repr(sorted((name, str(value)) for name, value in filled.cleaned_data.items())).encode()).hexdigest()


def _ask(self: Any, request: HttpRequest, asked: dict[str, Any]) -> HttpResponse:
    context = {**self.admin_site.each_context(request), "opts": self.model._meta, **asked}
    return TemplateResponse(request, "admin/confirm.html", context)


def _carry_out(self: Any, request: HttpRequest, back: str, body: Callable[[], str]) -> HttpResponse:
    try:
        self.message_user(request, body(), messages.SUCCESS)
    except (ValueError, ApiError) as refusal:
        self.message_user(request, str(refusal) or type(refusal).__name__, messages.ERROR)
    return HttpResponseRedirect(back)


def _page_of(self: Any, row: Model) -> str:
    opts = self.model._meta
    return reverse(f"{self.admin_site.name}:{opts.app_label}_{opts.model_name}_change", args=[row.pk])


def _list_of(self: Any) -> str:
    opts = self.model._meta
    return reverse(f"{self.admin_site.name}:{opts.app_label}_{opts.model_name}_changelist")
