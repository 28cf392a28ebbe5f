"""The sandbox inbox: mail of this project that stayed on this machine, as its receiver would see it."""

import email.policy
from dataclasses import dataclass
from email.parser import BytesHeaderParser

from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from projects.console.page import Place, project_page, render_place
from projects.scopes import Scope
from projects.staff_views import note_content_view
from relay_project.mail.raw import parts_of
from relay_project.mail.reports.message import leaves, octets_of
from relay_project.mail.reports.message import read_message as tree_of
from relay_project.mail.text import clean
from sending.console.preview import html_document, mail_file
from sending.models import SandboxMessage

PAGE = 25  # messages a page
RAW_SHOWN = 256 * 1024  # octets
HEADER_SHOWN = 4_000  # characters of one header
BODY_SHOWN = 1_000_000  # characters of a body


@dataclass(frozen=True, slots=True)
class Read:
    """A received mail, taken apart as far as it can be."""

    headers: list[tuple[str, str]]
    text: str | None
    html: str | None
    attachments: list[tuple[str, str, int]]  # name, type, octets


def read_message(data: bytes) -> Read:
    """Headers, bodies and attachments; what cannot be decoded is shown with replacement characters."""
    headers = [(clean(name, 100), clean(str(value), HEADER_SHOWN)) for name, value in _raw_headers(data)]
    parts = parts_of(data)
    shown = [clean(text, BODY_SHOWN) if text is not None else None for text in (parts.text, parts.html)]
    return Read(headers, shown[0], shown[1], _attachments(data))


def _raw_headers(data: bytes) -> list[tuple[str, str]]:
    """The header fields as they came, folds and all: the parsed ones hide what receivers see."""
    head = BytesHeaderParser(policy=email.policy.compat32).parsebytes(data)
    return [(name, str(value)) for name, value in head.raw_items()]


def _attachments(data: bytes) -> list[tuple[str, str, int]]:
    return [
        (clean(part.get_filename() or "without a name", 200), part.get_content_type(), len(octets_of(part)))
        for part in leaves(tree_of(data, len(data)))
        if part.get_content_disposition() == "attachment"
    ]


@require_safe
@project_page(Scope.SENDS_READ)
def inbox(request: HttpRequest, place: Place) -> HttpResponse:
    """The list, newest first."""
    before = request.GET.get("before_id", "")
    messages = SandboxMessage.objects.filter(project_id=place.project.pk).defer("data")
    if before.isascii() and before.isdigit() and len(before) < 19:
        messages = messages.filter(pk__lt=int(before))
    found = list(messages.order_by("-id")[: PAGE + 1])
    context = {"rows": found[:PAGE], "next_before_id": found[PAGE - 1].pk if len(found) > PAGE else None}
    return render_place(
        request, place, "sending/sandbox.html", context, section="sandbox", fragment="sending/_sandbox_rows.html"
    )


def _message_or_404(place: Place, message_id: int) -> SandboxMessage:
    message = SandboxMessage.objects.filter(pk=message_id, project_id=place.project.pk).first()
    if message is None:
        raise Http404
    note_content_view(place.caller, message, timezone.now())
    return message


@require_safe
@project_page(Scope.SENDS_READ)
def one_message(request: HttpRequest, place: Place, message_id: int) -> HttpResponse:
    """Headers, signatures, bodies and bytes of one mail."""
    message = _message_or_404(place, message_id)
    data = bytes(message.data)
    context = {
        "message": message,
        "read": read_message(data),
        "raw": clean(data[:RAW_SHOWN], RAW_SHOWN),
        "raw_size": len(data),
        "is_cut": len(data) > RAW_SHOWN,
        "images": request.GET.get("images") == "1",
    }
    return render_place(request, place, "sending/sandbox_message.html", context, section="sandbox")


@require_safe
@project_page(Scope.SENDS_READ)
def message_html(request: HttpRequest, place: Place, message_id: int) -> HttpResponse:
    """The HTML body alone, under a policy of its own."""
    read = read_message(bytes(_message_or_404(place, message_id).data))
    if read.html is None:
        raise Http404
    return html_document(read.html, with_images=request.GET.get("images") == "1")


@require_safe
@project_page(Scope.SENDS_READ)
def message_file(request: HttpRequest, place: Place, message_id: int) -> HttpResponse:
    """The bytes as a file."""
    return mail_file(bytes(_message_or_404(place, message_id).data), f"sandbox-{message_id}")
