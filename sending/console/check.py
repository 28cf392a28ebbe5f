"""The page that says what a mail would meet before it is sent: the pre-flight of the API, for a mail typed or pasted."""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import getaddresses

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods

from projects.console.forms import show_refusal
from projects.console.page import Place, project_page, render_place
from projects.scopes import Scope
from projects.throttle import use_request
from relay_project.mail.address import InvalidAddress, parse_mailbox
from relay_project.mail.headers import HeaderInjection, NamedAddress, check_header_value
from relay_project.mail.raw import InvalidRaw, RawMessage, read_raw
from relay_project.web.errors import ApiError
from sending.accept.request import RequestedRecipient, SendRequest
from sending.models import RecipientType
from sending.preflight.check import Report, check_message
from sending.preflight.finding import Finding, Level

MAX_ADDRESSES = 10_000  # characters of a line of addresses
MAX_SUBJECT = 998  # characters, as the API
LOOKED_AT = {
    "body": "Message",
    "dkim": "DKIM",
    "spf": "SPF",
    "dmarc": "DMARC",
    "one_click": "Unsubscribing",
}  # the others are their own names
MAX_PASTED = 2_000_000  # characters; what is longer is for the API, whose limits are a project's own


class PartsForm(forms.Form):
    """A mail that is typed."""

    sender = forms.CharField(max_length=MAX_SUBJECT)
    to = forms.CharField(max_length=MAX_ADDRESSES)
    subject = forms.CharField(required=False, max_length=MAX_SUBJECT)
    text = forms.CharField(required=False, max_length=MAX_PASTED, strip=False, widget=forms.Textarea)
    html = forms.CharField(required=False, max_length=MAX_PASTED, strip=False, widget=forms.Textarea)

    def clean_sender(self) -> NamedAddress:
        """The one address."""
        found = read_addresses(self.cleaned_data["sender"])
        if len(found) != 1:
            raise ValidationError("A mail has one sender.")
        return found[0]

    def clean_to(self) -> list[NamedAddress]:
        """The addresses."""
        return read_addresses(self.cleaned_data["to"])

    def clean_subject(self) -> str:
        """A line."""
        return _line(self.cleaned_data["subject"])

    def clean(self) -> None:
        """There is something to read."""
        if not self.errors and not (self.cleaned_data["text"] or self.cleaned_data["html"]):
            self.add_error("text", "Give a text, or HTML, or both.")

    def request(self) -> SendRequest:
        """What would be sent."""
        values = self.cleaned_data
        return SendRequest(
            from_=values["sender"],
            recipients=_recipients(RecipientType.TO, values["to"]),
            subject=values["subject"],
            body_text=values["text"] or None,
            body_html=values["html"] or None,
        )


class PastedForm(forms.Form):
    """A whole message, as a file of it has it."""

    raw = forms.CharField(max_length=MAX_PASTED, strip=False, widget=forms.Textarea)

    def clean_raw(self) -> RawMessage:
        """The message, which names its recipients."""
        try:
            raw = read_raw(self.cleaned_data["raw"].lstrip().encode())
        except InvalidRaw as wrong:
            raise ValidationError(str(wrong)) from None
        if not (raw.to or raw.cc or raw.bcc):
            raise ValidationError("It names no recipient.")
        return raw

    def request(self) -> SendRequest:
        """What would be sent."""
        raw: RawMessage = self.cleaned_data["raw"]
        kinds = ((RecipientType.TO, raw.to), (RecipientType.CC, raw.cc), (RecipientType.BCC, raw.bcc))
        recipients = tuple(one for kind, names in kinds for one in _recipients(kind, names))
        return SendRequest(from_=raw.from_, recipients=recipients, subject=raw.subject, raw=raw)


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(Scope.SENDS_SEND)
def check(request: HttpRequest, place: Place) -> HttpResponse:
    """The form, and below it what was found; nothing is sent and nothing kept."""
    is_pasted = "pasted" in request.GET
    form = (PastedForm if is_pasted else PartsForm)(request.POST if request.method == "POST" else None)
    report = _report(request, place, form) if request.method == "POST" and form.is_valid() else None
    context = {"form": form, "is_pasted": is_pasted, "report": report, "rows": rows_of(report)}
    status = 400 if form.errors else 200
    return render_place(request, place, "sending/check.html", context, section="sends", status=status)


def rows_of(report: Report | None) -> list[tuple[str, Finding]]:
    """What was looked at, and what was found. What is worst comes first; what is equally bad stays in its order."""
    order = list(Level)
    found = sorted(report.findings, key=lambda finding: -order.index(finding.level)) if report else []
    return [(LOOKED_AT.get(finding.check, finding.check.capitalize()), finding) for finding in found]


def read_addresses(text: str) -> list[NamedAddress]:
    """`Dora <dora@example.com>, eve@example.com`; raises ValidationError."""
    found = [NamedAddress(address, name or None) for name, address in getaddresses([_line(text)])]
    for one in found:
        try:
            parse_mailbox(one.address)
        except InvalidAddress:
            raise ValidationError(f"{one.address or text[:100]} is not a valid email address.") from None
    return found


def _report(request: HttpRequest, place: Place, form: PartsForm | PastedForm) -> Report | None:
    """It asks DNS, so it counts as a request of the API."""
    try:
        use_request(request, place.caller)
    except ApiError as refusal:
        show_refusal(form, refusal)
        return None
    return check_message(place.project, form.request(), datetime.now(UTC))


def _recipients(kind: RecipientType, names: Sequence[NamedAddress]) -> tuple[RequestedRecipient, ...]:
    return tuple(RequestedRecipient(kind, one.address, one.name or "") for one in names)


def _line(text: str) -> str:
    try:
        check_header_value(text)
    except HeaderInjection:
        raise ValidationError("This has line breaks, or characters that no header has.") from None
    return text
