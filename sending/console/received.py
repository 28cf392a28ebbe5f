"""Received mail: the list, and one mail, shown without trusting it."""

from datetime import UTC, datetime

from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from projects.access import ForeignEntity, NoSuchEntity, entity
from projects.console.page import Place, project_page, render_place
from projects.scopes import Scope
from projects.staff_views import note_content_view
from relay_project.mail.received import attachment_of, read_received
from relay_project.mail.text import clean
from relay_project.web.fields import parse_integer
from relay_project.web.octets import octets_response
from sending.console.preview import html_document
from sending.inbound.routing.find import domains_of, find_received, octets_of_mail
from sending.models import InboundRoute, ReceivedMail, Send

PAGE = 25  # mails a page
RAW_SHOWN = 256 * 1024  # octets of the source on the page; the file has them all
HINTS = {
    "spf-fail": "SPF fails",
    "spf-softfail": "SPF has doubts",
    "dkim-fail": "No signature holds",
    "dmarc-fail": "DMARC fails",
    "no-from": "No From",
    "several-from": "Several From addresses",
    "no-date": "No date",
    "no-message-id": "No Message-ID",
    "no-reverse-dns": "The sending address has no name",
    "helo-no-name": "The server gave no full name",
    "no-tls": "Came in clear text",
    "filter-says-spam": "A filter before us says spam",
}


@require_safe
@project_page(Scope.INBOUND_READ)
def received(request: HttpRequest, place: Place) -> HttpResponse:
    """The list, newest first."""
    before = parse_integer(request.GET.get("before_id", ""))
    found = find_received(place.project.pk, datetime.now(UTC), PAGE + 1, before)
    rows = found[:PAGE]
    context = {
        "rows": rows,
        "next_before_id": rows[-1].pk if len(found) > PAGE else None,
        "has_domains": bool(rows) or domains_of(place.project).exists(),
    }
    return render_place(
        request, place, "sending/received.html", context, section="received", fragment="sending/_received_rows.html"
    )


@require_safe
@project_page(Scope.INBOUND_READ)
def one_received(request: HttpRequest, place: Place, received_id: int) -> HttpResponse:
    """What it says, what was found out, and its bytes."""
    row = _row_or_404(place, received_id)
    octets = octets_of_mail(row)
    context = {
        "mail": row,
        "route": InboundRoute.objects.filter(pk=row.route_id, project=place.project).select_related("domain").first(),
        "read": read_received(octets) if octets is not None else None,
        "raw": clean((octets or b"")[:RAW_SHOWN], RAW_SHOWN),
        "is_cut": octets is not None and len(octets) > RAW_SHOWN,
        "sends": _sends(row),
        "hints": [HINTS.get(hint, hint) for hint in row.hints],
        "images": request.GET.get("images") == "1",
    }
    return render_place(request, place, "sending/received_mail.html", context, section="received")


@require_safe
@project_page(Scope.INBOUND_READ)
def received_html(request: HttpRequest, place: Place, received_id: int) -> HttpResponse:
    """The HTML body alone, under a policy of its own."""
    read = read_received(_octets_or_404(place, received_id))
    if read.html is None:
        raise Http404
    return html_document(read.html, with_images=request.GET.get("images") == "1")


@require_safe
@project_page(Scope.INBOUND_READ)
def received_file(request: HttpRequest, place: Place, received_id: int) -> HttpResponse:
    """The bytes as a file."""
    return octets_response(_octets_or_404(place, received_id), "message/rfc822", f"inbound-{received_id}.eml")


@require_safe
@project_page(Scope.INBOUND_READ)
def received_attachment(request: HttpRequest, place: Place, received_id: int, number: int) -> HttpResponse:
    """One file, to save."""
    found = attachment_of(_octets_or_404(place, received_id), number)
    if found is None:
        raise Http404
    return octets_response(found[1], "application/octet-stream", found[0].name)


def _sends(row: ReceivedMail) -> dict[str, Send]:
    """The send by which it was passed on, and the forward that it is about, as far as they are kept."""
    ids = {"forward": row.forward_send_id, "returns": row.returns_send_id}
    found = Send.objects.in_bulk([one for one in ids.values() if one is not None])
    return {name: found[one] for name, one in ids.items() if one in found}


def _octets_or_404(place: Place, received_id: int) -> bytes:
    octets = octets_of_mail(_row_or_404(place, received_id))
    if octets is None:
        raise Http404
    return octets


def _row_or_404(place: Place, received_id: int) -> ReceivedMail:
    try:
        row = entity(ReceivedMail.objects.all(), place.project, received_id)
    except (NoSuchEntity, ForeignEntity) as error:
        raise Http404 from error
    note_content_view(place.caller, row, datetime.now(UTC))
    return row
