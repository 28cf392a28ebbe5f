"""What a request must satisfy before anything is written. Each rule raises Refused with the contract's text."""

from collections.abc import Iterable

from django.conf import settings

from projects.models import Domain, Project
from projects.models.domain import MAY_SEND
from relay_project.db.lookup import Lookup
from relay_project.mail.address import InvalidAddress, Mailbox, parse_mailbox
from sending.accept.request import Refused, RequestedRecipient, SendRequest
from sending.models import Send

MEBIBYTE = 1024 * 1024
_BY_NAME = Lookup(Domain, "t.project_id = %s AND t.domain = %s")


def check_sender(project: Project, request: SendRequest, known: dict[str, Domain | None] | None = None) -> Domain:
    """The registered domain that the From address belongs to; `known` remembers look-ups within a batch."""
    name = _mailbox(request.from_.address, "from").domain
    known = {} if known is None else known
    if name not in known:
        known[name] = _BY_NAME.first(project.pk, name)
    domain = known[name]
    if domain is None:
        raise Refused(f"Domain {name} is not registered for this project", field="from")
    if domain.status not in MAY_SEND:
        raise Refused(f"Domain {name} is not allowed to send emails (status: {domain.status})", field="from")
    return domain


def check_recipients(request: SendRequest) -> list[RequestedRecipient]:
    """The recipients with normalised addresses, each address once (the first mention wins, lesson C15)."""
    if not request.recipients:
        raise Refused("This value should not be blank.", status=422, field="to")
    if len(request.recipients) > settings.MAX_RECIPIENTS:
        raise Refused(
            f"Total number of recipients (To, Cc, Bcc) exceeds the maximum allowed limit of {settings.MAX_RECIPIENTS}.",
            field="to",
        )
    seen: dict[str, RequestedRecipient] = {}
    for recipient in request.recipients:
        address = _mailbox(recipient.address, recipient.type).address
        seen.setdefault(address, RequestedRecipient(recipient.type, address, recipient.name))
    return list(seen.values())


def check_size(size: int) -> int:
    """The composed length, within the limit."""
    if size > settings.MAX_MESSAGE_BYTES:
        limit = settings.MAX_MESSAGE_BYTES // MEBIBYTE
        raise Refused(f"Email size exceeds the maximum allowed size of {limit}MB.")
    return size


def check_lengths(values: Iterable[tuple[str, str | None, int]]) -> None:
    """(field, text, most characters): texts that a column could not hold."""
    for field, text, most in values:
        if text is not None and len(text) > most:
            raise Refused(f"This value is too long. It should have {most} characters or less.", status=422, field=field)
        if text is not None and "\0" in text:
            raise Refused("This value must not contain NUL characters.", status=422, field=field)


def check_texts(request: SendRequest) -> None:
    """Lengths and NUL in everything that is stored as text."""
    name_most = Send._meta.get_field("from_name").max_length or 0
    check_lengths([("from", request.from_.name, name_most), ("subject", request.subject, name_most)])
    check_lengths((r.type, r.name, name_most) for r in request.recipients)
    check_lengths([("body_html", request.body_html, 2**31), ("body_text", request.body_text, 2**31)])


def _mailbox(address: str, field: str) -> Mailbox:
    try:
        return parse_mailbox(address)
    except InvalidAddress:
        raise Refused("This value is not a valid email address.", status=422, field=field) from None
