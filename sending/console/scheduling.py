"""Taking a send back, or moving its time, from its page. The rules are `sending.backlog.cancel` and `sending.reschedule`."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from projects.console.page import Place, project_page
from projects.scopes import Scope
from sending.backlog.cancel import MAX_REASON, Cancelled, cancel_by
from sending.console.finding import send_or_404
from sending.models import Recipient, Send, Waiting
from sending.reschedule import RescheduleRefused, reschedule


class MoveForm(forms.Form):
    """When a send shall leave."""

    send_after = forms.DateTimeField(
        label="Send at",
        error_messages={"invalid": "This is not a date and time.", "required": "Choose a time."},
        widget=forms.DateTimeInput(
            attrs={"type": "datetime-local", "aria-describedby": "id_send_after_help"}, format="%Y-%m-%dT%H:%M"
        ),
    )


def may_cancel(send: Send) -> bool:
    """Whether anything waits that no sender has taken."""
    return Waiting.objects.filter(send_id=send.pk, attempt_id=None).exists()


def move_form(send: Send, recipients: Sequence[Recipient], now: datetime) -> MoveForm | None:
    """The form for a send that waits for its time and was not tried for anybody, None for others."""
    if any(recipient.try_count for recipient in recipients):
        return None
    rows = list(Waiting.objects.filter(send_id=send.pk).values_list("tries", "lost", "attempt_id"))
    is_untried = bool(rows) and all(row == (0, 0, None) for row in rows)
    return MoveForm(initial={"send_after": send.message_date}) if is_untried and send.message_date > now else None


@require_POST
@project_page(Scope.SENDS_READ, write=Scope.SENDS_SEND)
def cancel(request: HttpRequest, place: Place, send_uuid: uuid.UUID) -> HttpResponse:
    """What waits is taken back."""
    send = send_or_404(place, send_uuid)
    found = cancel_by(send, request.POST.get("reason", "")[:MAX_REASON], place.caller)
    (messages.success if found.cancelled else messages.info)(request, _told(found))
    return redirect("console-send", place.project.pk, send.uuid)


@require_POST
@project_page(Scope.SENDS_READ, write=Scope.SENDS_SEND)
def move(request: HttpRequest, place: Place, send_uuid: uuid.UUID) -> HttpResponse:
    """Another time for a send that has not been tried."""
    send, form = send_or_404(place, send_uuid), MoveForm(request.POST)
    if not form.is_valid():
        messages.error(request, "The time was not moved: this is not a date and time.")
        return redirect("console-send", place.project.pk, send.uuid)
    at: datetime = form.cleaned_data["send_after"]
    try:
        reschedule(send, int(at.timestamp()), datetime.now(UTC))
    except RescheduleRefused as refused:
        messages.error(request, f"The time was not moved. {str(refused).rstrip('.')}.")
    else:
        messages.success(request, f"This send leaves at {send.message_date:%d %b %Y, %H:%M} UTC.")
    return redirect("console-send", place.project.pk, send.uuid)


def _told(found: Cancelled) -> str:
    if not found.cancelled:
        return "Nothing of this send could be cancelled: it has left, or is in conversation just now."
    people = "1 recipient was" if found.cancelled == 1 else f"{found.cancelled} recipients were"
    rest = f" {found.in_flight} in conversation just now could not be." if found.in_flight else ""
    return f"{people} cancelled.{rest}"
