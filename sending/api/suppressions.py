"""Suppressions over the API: the contract's list and removal, and ours: adding, by address, import and export."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import HttpResponseBase
from gunicorn.http.errors import ParseException
from rest_framework.request import Request
from rest_framework.response import Response

from projects.endpoint import Endpoint
from projects.scopes import Scope, by_method
from relay_project.web.body import CUT_OFF
from relay_project.web.csv_file import csv_response
from relay_project.web.describe import describe
from relay_project.web.errors import TOO_LARGE, UNSUPPORTED, ApiError
from relay_project.web.fields import NOT_A_CHOICE, Fields
from relay_project.web.pagination import read_page, read_path_id, read_text
from relay_project.web.schema import EMPTY_LIST, listed, string
from sending.api.suppression_schemas import (
    CSV_FILE,
    EXAMPLE_SUPPRESSION,
    IMPORT_QUERY,
    IMPORTED,
    IN_LIST,
    NEW_SUPPRESSION,
    SUPPRESSION,
    SUPPRESSION_FILTER,
    SUPPRESSION_QUERY,
)
from sending.models import MAX_LIST, Suppression, SuppressionReason
from sending.suppress import MAX_DESCRIPTION, InvalidList, list_key
from sending.suppressions.change import IN_THE_PAST, Wanted, add, email_key, remove
from sending.suppressions.export_csv import export_csv
from sending.suppressions.find import SuppressionFilter, find_suppressions, standing_rows
from sending.suppressions.import_csv import import_for
from sending.suppressions.objects import suppression_object
from sending.suppressions.read_csv import NOT_UTF8, Defaults, Read, UnreadableFile, read_time

CSV_TYPES = ("text/csv", "application/csv")
NONE_OF_IT = "No suppression of this address"
NO_LENGTH = "A Content-Length is required."


class SuppressionsView(Endpoint):
    """`/suppressions`."""

    section = "Suppressions"
    required_scope = by_method(GET=Scope.SUPPRESSIONS_READ, POST=Scope.SUPPRESSIONS_WRITE)

    @describe(
        "listSuppressions",
        "List suppressions",
        "The newest first; without those whose time is over.",
        query=SUPPRESSION_QUERY,
        answer=listed(SUPPRESSION),
        sample=[EXAMPLE_SUPPRESSION],
    )
    def get(self, request: Request) -> Response:
        """A page, the newest first."""
        page = read_page(request.query_params)
        wanted = read_filter(request.query_params)
        rows = find_suppressions(self.project.pk, wanted, datetime.now(UTC), page.limit, page.offset, page.before_id)
        return Response([suppression_object(row) for row in rows])

    @describe(
        "createSuppression",
        "Suppress an address",
        "One that is suppressed already is answered as it is; only a later end is taken over.",
        body=NEW_SUPPRESSION,
        example={"email": "dora@example.com", "description": "asked us by phone"},
        answer=SUPPRESSION,
        sample=EXAMPLE_SUPPRESSION,
    )
    def post(self, request: Request) -> Response:
        """Suppress one address; one that is there already is answered as it is."""
        row, _ = add(self.project, read_wanted(self.fields(), datetime.now(UTC)), self.caller)
        return Response(suppression_object(row))


class SuppressionView(Endpoint):
    """`/suppressions/{id}`."""

    section = "Suppressions"
    required_scope = by_method(GET=Scope.SUPPRESSIONS_READ, DELETE=Scope.SUPPRESSIONS_WRITE)

    @describe("getSuppression", "Get a suppression", answer=SUPPRESSION, sample=EXAMPLE_SUPPRESSION)
    def get(self, request: Request, suppression_id: str) -> Response:
        """One row."""
        return Response(suppression_object(self.row(suppression_id)))

    @describe("deleteSuppression", "Take an address off the list", "Mail to it goes again.", answer=EMPTY_LIST)
    def delete(self, request: Request, suppression_id: str) -> Response:
        """Take it off the list."""
        remove(self.project, self.row(suppression_id), self.caller)
        return Response([])

    def row(self, raw_id: str) -> Suppression:
        """The project's row, be it for one of its lists; raises ApiError 400, 404 or 403."""
        row = Suppression.objects.filter(pk=read_path_id(raw_id)).first()
        if row is None:
            raise ApiError(404, "Entity not found")
        if row.owner_id != self.project.pk:
            raise ApiError(403, "Entity does not belong to the project")
        return row


class AddressView(Endpoint):
    """`/suppressions/email/{email}`."""

    section = "Suppressions"
    required_scope = by_method(GET=Scope.SUPPRESSIONS_READ, DELETE=Scope.SUPPRESSIONS_WRITE)

    @describe(
        "getSuppressionsOfAddress",
        "Look an address up",
        "At most one row of the project and one of each list; empty when it is not suppressed.",
        query=IN_LIST,
        answer=listed(SUPPRESSION),
        sample=[EXAMPLE_SUPPRESSION],
    )
    def get(self, request: Request, email: str) -> Response:
        """The project's rows of one address: of all its mail, and of its lists."""
        return Response([suppression_object(row) for row in self.rows(email)])

    @describe(
        "deleteSuppressionsOfAddress",
        "Take an address off all lists",
        "Off the project's and all its lists, or off the one that is named.",
        query=IN_LIST,
        answer=EMPTY_LIST,
        refusals={404: (NONE_OF_IT,)},
    )
    def delete(self, request: Request, email: str) -> Response:
        """Take the address off the project's list, or off one list that `?list=` names."""
        rows = self.rows(email)
        if not rows:
            raise ApiError(404, NONE_OF_IT)
        for row in rows:
            remove(self.project, row, self.caller)
        return Response([])

    def rows(self, email: str) -> list[Suppression]:
        """Those that suppress now, of the list that the query names if it names one."""
        rows = standing_rows(self.project.pk, datetime.now(UTC)).filter(email=email_key(email))
        name = read_list_name(self.request.query_params)
        return list((rows if name is None else rows.filter(list=name)).order_by("-pk"))


class ImportView(Endpoint):
    """`/suppressions/import`."""

    section = "Suppressions"
    required_scope = by_method(POST=Scope.SUPPRESSIONS_WRITE)
    is_streaming = True

    @describe(
        "importSuppressions",
        "Import suppressions",
        "Columns by their heading (`email`, `reason`, `description`, `list`, `expires_at`) or in this order. It may be "
        "repeated: nothing is there twice.",
        query=IMPORT_QUERY,
        body=CSV_FILE,
        takes="text/csv",
        example="email,reason\ndora@example.com,unsubscribe\n",
        answer=IMPORTED,
        refusals={400: (NOT_UTF8, CUT_OFF), 411: (NO_LENGTH,)},
    )
    def post(self, request: Request) -> Response:
        """Suppress the addresses of a CSV of any length; the answer counts, and names the first lines that are wrong."""
        if (request.content_type or "").partition(";")[0].strip().lower() not in CSV_TYPES:
            raise ApiError(415, UNSUPPORTED)
        now = datetime.now(UTC)
        defaults = _read_defaults(request.query_params, now)
        try:
            report = import_for(self.project, _bounded(_stream(request)), defaults, now, self.caller)
        except UnreadableFile as error:
            raise ApiError(400, str(error)) from None
        return Response(report.as_dict())


class ExportView(Endpoint):
    """`/suppressions/export`."""

    section = "Suppressions"
    required_scope = by_method(GET=Scope.SUPPRESSIONS_READ)

    @describe(
        "exportSuppressions",
        "Export suppressions",
        "The oldest first. An import reads what this writes.",
        query=SUPPRESSION_FILTER,
        answer=string("CSV."),
        gives="text/csv",
        answer_headers={"Content-Disposition": "A name for the file."},
    )
    def get(self, request: Request) -> HttpResponseBase:
        """All rows that fit, as CSV."""
        wanted, now = read_filter(request.query_params), datetime.now(UTC)
        return csv_response(export_csv(self.project.pk, wanted, now), "suppressions", now)


def read_filter(query: Mapping[str, Any]) -> SuppressionFilter:
    """What a query looks for. A reason that does not exist is ignored, as the contract has it."""
    reason = read_text(query, "reason")
    return SuppressionFilter(
        read_text(query, "email"),
        reason if reason in SuppressionReason.values else None,
        read_list_name(query),
    )


def read_list_name(query: Mapping[str, Any]) -> str | None:
    """A list's key; raises ApiError 400."""
    name = read_text(query, "list", 4 * MAX_LIST)
    try:
        return None if name is None else list_key(name)
    except InvalidList:
        raise ApiError(400, 'Invalid query parameter "list".') from None


def read_wanted(fields: Fields, now: datetime) -> Wanted:
    """The body of a POST; raises Violations."""
    email = fields.text("email", required=True, maximum=320)
    reason = fields.choice("reason", SuppressionReason.values)
    description = fields.text("description", maximum=MAX_DESCRIPTION)
    list_name = _list_of(fields, fields.text("list", maximum=4 * MAX_LIST))
    expires_at = _end_of(fields, fields.integer("expires_at"), now)
    fields.check()
    assert email is not None
    return Wanted(
        email_key(email),
        SuppressionReason(reason or SuppressionReason.MANUAL),
        description or None,
        list_name,
        expires_at,
    )


def _list_of(fields: Fields, name: str | None) -> str | None:
    try:
        return None if name is None else list_key(name)
    except InvalidList as wrong:
        fields.note("list", str(wrong))
        return None


def _end_of(fields: Fields, seconds: int | None, now: datetime) -> datetime | None:
    if seconds is None:
        return None
    end = read_time(str(seconds)) if seconds > 0 else None
    if end is None or end <= now:
        fields.note("expires_at", IN_THE_PAST)
        return None
    return end


def _read_defaults(query: Mapping[str, Any], now: datetime) -> Defaults:
    """What holds for lines that say nothing; raises Violations and ApiError 400."""
    fields = Fields({name: query[name] for name in ("reason", "expires_at") if query.get(name)})
    reason = fields.text("reason")
    if reason is not None and reason not in SuppressionReason.values:
        fields.note("reason", NOT_A_CHOICE)
    text = fields.text("expires_at")
    end = None if text is None else read_time(text)
    if text is not None and (end is None or end <= now):
        fields.note("expires_at", IN_THE_PAST)
    fields.check()
    return Defaults(reason or SuppressionReason.MANUAL.value, read_list_name(query), end)


def _stream(request: Request) -> Callable[[int], bytes]:
    """The body as it comes; raises ApiError 413 for one that announces too much, and 411 for one without an end."""
    inner = request._request
    announced = inner.META.get("CONTENT_LENGTH") or ""
    if announced.isdigit():
        if int(announced) > settings.MAX_IMPORT_BYTES:
            raise ApiError(413, TOO_LARGE)
        return inner.read  # bounded by what was announced
    if not inner.META.get("wsgi.input_terminated"):
        raise ApiError(411, NO_LENGTH)
    read: Callable[[int], bytes] = inner.META["wsgi.input"].read
    return read


def _bounded(read: Callable[[int], bytes]) -> Read:
    """The same, at most MAX_IMPORT_BYTES of it."""
    total = 0

    def bounded(size: int) -> bytes:
        nonlocal total
        try:
            chunk = read(size)
        except (OSError, ParseException):  # gone, or no valid chunks; UnreadablePostError is an OSError
            raise ApiError(400, CUT_OFF) from None
        total += len(chunk)
        if total > settings.MAX_IMPORT_BYTES:
            raise ApiError(413, TOO_LARGE)
        return chunk

    return bounded
