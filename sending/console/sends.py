"""Sends: the list with its filters, and one send with its journey, its preview, its bytes, and trying it again."""

import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from projects.console.page import Place, project_page, render_place
from projects.keeping import content_days
from projects.scopes import Scope
from projects.staff_views import note_content_view
from relay_project.db.ids import MAX_ID, id_time
from relay_project.mail.text import clean
from relay_project.web.fragments import wants_fragment
from sending.console.finding import send_or_404
from sending.console.preview import html_document, mail_file
from sending.console.retrying import RetryForm, failed_of, hurry, may_hurry
from sending.console.scheduling import may_cancel, move_form
from sending.content import message_id_shown, raw_message, readable, stored_message
from sending.journey import read_journey, recipients_of
from sending.models import RecipientStatus, Send
from sending.retry import RetryRefused
from sending.search import SendFilter, counted_statuses, find_sends, recipients_by_send

PAGE = 25  # sends a page
RAW_SHOWN = 256 * 1024  # octets of a raw message on the page; the file has them all
LIVE_WITHIN = timedelta(minutes=2)  # a page refreshes itself while something is due so soon
DATES = (
    ("", "Any time"),
    ("today", "Today"),
    ("yesterday", "Yesterday"),
    ("week", "Last 7 days"),
    ("custom", "Between dates"),
)


class DayField(forms.DateField):
    """A day for which ids can exist."""

    def __init__(self, label: str) -> None:
        bounds = [MinValueValidator(date(2020, 1, 1)), MaxValueValidator(date(2088, 12, 31))]
        super().__init__(required=False, label=label, validators=bounds, widget=forms.DateInput(attrs={"type": "date"}))


class FilterForm(forms.Form):
    """The filters as they stand in the address."""

    status = forms.ChoiceField(required=False, choices=(("", "Any status"), *RecipientStatus.choices))
    from_text = forms.CharField(required=False, max_length=254, label="From")
    to_text = forms.CharField(required=False, max_length=254, label="To")
    subject_text = forms.CharField(required=False, max_length=998, label="Subject")
    tag = forms.CharField(required=False, max_length=64)
    date = forms.ChoiceField(required=False, choices=DATES)
    since = DayField(label="From the day")
    until = DayField(label="To the day")

    def wanted(self, now: datetime) -> SendFilter:
        """The filter; fields that make no sense are left out, and the form says so."""
        self.is_valid()
        values = self.cleaned_data
        date_from, date_to = self._dates(values, now)
        return SendFilter(
            values.get("status") or None,
            values.get("from_text") or None,
            values.get("to_text") or None,
            values.get("subject_text") or None,
            date_from,
            date_to,
            tag=values.get("tag") or None,
        )

    @staticmethod
    def _dates(values: dict[str, Any], now: datetime) -> tuple[datetime | None, datetime | None]:
        midnight = datetime.combine(now.date(), time(), UTC)
        day = timedelta(days=1)
        match values.get("date"):
            case "today":
                return midnight, None
            case "yesterday":
                return midnight - day, midnight
            case "week":
                return now - 7 * day, None
            case "custom":
                since, until = values.get("since"), values.get("until")
                return (
                    datetime.combine(since, time(), UTC) if since else None,
                    datetime.combine(until, time(), UTC) + day if until else None,
                )
        return None, None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the list."""

    send: Send
    to: str
    others: int
    statuses: list[tuple[str, int]]

    @property
    def scheduled_for(self) -> datetime | None:
        """When it leaves, while it waits for a time of its own."""
        is_queued = any(status == RecipientStatus.QUEUED for status, _ in self.statuses)
        is_later = self.send.message_date > max(id_time(self.send.pk) + timedelta(minutes=1), datetime.now(UTC))
        return self.send.message_date if is_queued and is_later else None


@require_safe
@project_page(Scope.SENDS_READ)
def sends(request: HttpRequest, place: Place) -> HttpResponse:
    """The list, 25 at a time; "load more" asks for those before the last one's id."""
    form = FilterForm(request.GET)
    wanted = form.wanted(datetime.now(UTC))
    before_id = _before_id(request)
    found = find_sends(place.project.pk, wanted, PAGE + 1, before_id)
    rows, more = found[:PAGE], len(found) > PAGE
    context = {
        "form": form,
        "rows": rows_of(rows),
        "next_before_id": rows[-1].pk if more else None,
        "is_filtered": not wanted.is_empty,
        "is_first_page": before_id is None,
    }
    fragment = "sending/_send_rows.html" if request.GET.get("part") == "rows" else "sending/_sends.html"
    return render_place(request, place, "sending/sends.html", context, section="sends", fragment=fragment)


def _before_id(request: HttpRequest) -> int | None:
    text = request.GET.get("before_id", "")
    return min(int(text), MAX_ID) if text.isascii() and text.isdigit() and len(text) <= 16 else None


def rows_of(found: list[Send]) -> list[Row]:
    """Sends as lines of a list, with their recipients."""
    recipients = recipients_by_send(found)
    rows = []
    for send in found:
        people = recipients[send.pk]
        first = people[0].address if people else ""
        rows.append(Row(send, first, max(len(people) - 1, 0), counted_statuses(people)))
    return rows


@require_safe
@project_page(Scope.SENDS_READ)
def one_send(request: HttpRequest, place: Place, send_uuid: uuid.UUID) -> HttpResponse:
    """Recipients and the whole journey; refreshes itself while something is about to happen."""
    return _show_send(request, place, send_or_404(place, send_uuid), datetime.now(UTC))


def _show_send(
    request: HttpRequest, place: Place, send: Send, now: datetime, retry_form: RetryForm | None = None
) -> HttpResponse:
    """`retry_form`: one that was refused, to be put right."""
    journey = read_journey(send, now)
    soon = journey.next_at is None or journey.next_at < now + LIVE_WITHIN
    recipients = [story.recipient for story in journey.recipients]
    may_retry = place.may(Scope.SENDS_SEND)
    failed = failed_of(recipients) if may_retry else []
    context = {
        "send": send,
        "message_id": message_id_shown(send),
        "journey": journey,
        "attempts": {story.attempt.pk: story for story in journey.attempts},
        "last_attempt_id": journey.attempts[-1].attempt.pk if journey.attempts else None,
        "statuses": counted_statuses(recipients),
        "is_live": not journey.is_final and soon,
        "is_scheduled": send.message_date > journey.accepted_at + timedelta(minutes=1),
        "may_hurry": may_retry and not journey.is_final and may_hurry(send),
        "may_cancel": may_retry and not journey.is_final and may_cancel(send),
        "move_form": move_form(send, recipients, now) if may_retry else None,
        "retry_form": retry_form or (RetryForm(failed) if failed else None),
        "is_part": wants_fragment(request),
        "tab": "overview",
    }
    status = 400 if retry_form else 200
    fragment = "sending/_journey.html"
    return render_place(request, place, "sending/send.html", context, section="sends", fragment=fragment, status=status)


@require_POST
@project_page(Scope.SENDS_READ, write=Scope.SENDS_SEND)
def try_now(request: HttpRequest, place: Place, send_uuid: uuid.UUID) -> HttpResponse:
    """What waits for a time is due now."""
    send = send_or_404(place, send_uuid)
    try:
        told = hurry(send, datetime.now(UTC))
    except RetryRefused:  # the last one that waited became final in this moment
        told = ""
    if told:
        messages.success(request, told)
    else:
        messages.info(request, "Nothing of this send waits for a later time any more.")
    return redirect("console-send", place.project.pk, send.uuid)


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(Scope.SENDS_READ, write=Scope.SENDS_SEND)
def retry_failed(request: HttpRequest, place: Place, send_uuid: uuid.UUID) -> HttpResponse:
    """Recipients that were given up wait anew; a form that cannot be is shown again, and its address leads back."""
    send, now = send_or_404(place, send_uuid), datetime.now(UTC)
    if request.method != "POST":
        return redirect("console-send", place.project.pk, send.uuid)
    failed = failed_of(recipients_of(send.pk))
    if not failed:
        messages.info(request, "No recipient of this send is left to retry.")
        return redirect("console-send", place.project.pk, send.uuid)
    form = RetryForm(failed, request.POST)
    try:
        told = form.revive(send, now) if form.is_valid() else ""
    except RetryRefused as refused:  # the domain may not send, or somebody else was faster
        messages.error(request, f"{refused}.")
        return redirect("console-send", place.project.pk, send.uuid)
    if form.errors:
        return _show_send(request, place, send, now, form)
    messages.success(request, told)
    return redirect("console-send", place.project.pk, send.uuid)


def _read_or_404(place: Place, send_uuid: uuid.UUID) -> Send:
    """The send whose content is read: when staff read somebody else's, it is written down."""
    send = send_or_404(place, send_uuid)
    note_content_view(place.caller, send, datetime.now(UTC))
    return send


@require_safe
@project_page(Scope.SENDS_READ)
def send_preview(request: HttpRequest, place: Place, send_uuid: uuid.UUID) -> HttpResponse:
    """The bodies: HTML in a sandboxed frame, text as it is."""
    send = _read_or_404(place, send_uuid)
    stored = stored_message(send)
    context = {
        "send": send,
        "stored": None if stored is None else readable(stored),
        "content_days": content_days(place.project),
        "tab": "preview",
        "images": request.GET.get("images") == "1",
    }
    return render_place(request, place, "sending/send_preview.html", context, section="sends")


@require_safe
@project_page(Scope.SENDS_READ)
def send_html(request: HttpRequest, place: Place, send_uuid: uuid.UUID) -> HttpResponse:
    """The HTML body alone, under a policy of its own."""
    kept = stored_message(_read_or_404(place, send_uuid))
    stored = None if kept is None else readable(kept)
    if stored is None or stored.body_html is None:
        raise Http404
    return html_document(stored.body_html, with_images=request.GET.get("images") == "1")


@require_safe
@project_page(Scope.SENDS_READ)
def send_raw(request: HttpRequest, place: Place, send_uuid: uuid.UUID) -> HttpResponse:
    """The bytes as they were sent, shown as text."""
    send = _read_or_404(place, send_uuid)
    raw = raw_message(send)
    context = {
        "send": send,
        "raw": None if raw is None else clean(raw[:RAW_SHOWN], RAW_SHOWN),
        "raw_size": len(raw or b""),
        "is_cut": len(raw or b"") > RAW_SHOWN,
        "content_days": content_days(place.project),
        "tab": "raw",
    }
    return render_place(request, place, "sending/send_raw.html", context, section="sends")


@require_safe
@project_page(Scope.SENDS_READ)
def send_file(request: HttpRequest, place: Place, send_uuid: uuid.UUID) -> HttpResponse:
    """The bytes as a file."""
    raw = raw_message(_read_or_404(place, send_uuid))
    if raw is None:
        raise Http404
    return mail_file(raw, str(send_uuid))
