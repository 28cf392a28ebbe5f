"""What a request must satisfy before anything is written. Each rule raises Refused with the contract's text."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from projects.life import stop_of
from projects.limits import in_units
from projects.models import Domain, DomainStatus, Project, SendType
from projects.models.domain import MAY_SEND
from relay_project.db.lookup import Remembered
from relay_project.mail.address import InvalidAddress, Mailbox, parse_mailbox
from sending.accept.idempotency import MAX_KEY
from sending.accept.request import Refused, RequestedRecipient, SendRequest, TooLarge, TooManyRecipients
from sending.models import Priority

MAX_LINE = 998  # characters of a name or a subject, what the columns hold; RFC 5322 §2.1.1 has it for a line
MAX_AHEAD = timedelta(
    days=30
)  # a partition that something waiting refers to is not dropped; mail lies no further ahead
_LIST_HEADERS = frozenset({"list-unsubscribe", "list-unsubscribe-post"})
_BY_NAME = Remembered(Domain, "t.project_id = %s AND t.domain = %s", keep=lambda domain: domain.status in MAY_SEND)


def check_project(project: Project) -> None:
    """A project that staff have not suspended, and that is not archived."""
    if stop := stop_of(project):
        raise Refused(stop, status=403)


def check_sender(project: Project, request: SendRequest, known: dict[str, Domain | None] | None = None) -> Domain:
    """The registered domain that the From address belongs to; `known` remembers look-ups within a batch."""
    name = _mailbox(request.from_.address, "from").domain
    known = {} if known is None else known
    if name not in known:
        known[name] = _BY_NAME.first(project.pk, name)
    domain = known[name]
    if domain is None:
        raise Refused(f"Domain {name} is not registered for this project", field="from")
    if domain.status not in MAY_SEND and not (request.is_test and domain.status == DomainStatus.PENDING):
        raise Refused(f"Domain {name} is not allowed to send emails (status: {domain.status})", field="from")
    return domain


def check_recipients(request: SendRequest, most: int) -> list[RequestedRecipient]:
    """The recipients, at most so many, with normalised addresses, each once (the first mention wins, lesson C15)."""
    if not request.recipients:
        raise Refused("This value should not be blank.", status=422, field="to")
    if len(request.recipients) > most:
        raise TooManyRecipients(
            f"Total number of recipients (To, Cc, Bcc) exceeds the maximum allowed limit of {most}.", field="to"
        )
    seen: dict[str, RequestedRecipient] = {}
    for recipient in request.recipients:
        address = _mailbox(recipient.address, recipient.type).address
        seen.setdefault(address, RequestedRecipient(recipient.type, address, recipient.name))
    return list(seen.values())


def check_list_unsubscribe(request: SendRequest, recipients: Sequence[RequestedRecipient]) -> None:
    """One recipient, since its link is for one; and no second field of the name (RFC 8058 §3.1)."""
    if request.list_unsubscribe is None:
        return
    if len(recipients) > 1:
        message = "A mail with an unsubscribe link has one recipient. Send one mail to each."
        raise Refused(message, status=422, field="list_unsubscribe")
    if any(name.lower() in _LIST_HEADERS for name, _ in request.headers):
        message = "Give either list_unsubscribe or the header List-Unsubscribe, not both."
        raise Refused(message, status=422, field="list_unsubscribe")


def check_size(size: int, most: int) -> int:
    """The composed length, within the limit (octets)."""
    if size > most:
        raise TooLarge(f"Email size exceeds the maximum allowed size of {in_units(most)}.")
    return size


def check_schedule(request: SendRequest, now: datetime) -> None:
    """A send time that is not too far ahead; one in the past means now."""
    if request.send_after is not None and request.send_after > now + MAX_AHEAD:
        raise Refused("A mail cannot be scheduled more than 30 days ahead.", status=422, field="send_after")


def check_priority(project: Project, request: SendRequest) -> Priority:
    """What the request asks for, or what the project sends. Nobody is served before others of their kind by asking."""
    usual = Priority.BULK if project.send_type == SendType.DISTRIBUTIONAL else Priority.TRANSACTIONAL
    if request.priority is None:
        return Priority.NOTICE if project.is_system else usual
    if request.priority < usual:
        raise Refused(f"Mail of a {project.send_type} project is bulk.", status=422, field="priority")
    return request.priority


def check_key(request: SendRequest) -> None:
    """An idempotency key that its column can hold."""
    if request.idempotency_key is not None:
        check_line("idempotency_key", request.idempotency_key, MAX_KEY)


def is_key(key: str) -> bool:
    """Whether the column can hold it."""
    try:
        check_line("idempotency_key", key, MAX_KEY)
    except Refused:
        return False
    return True


def check_texts(request: SendRequest) -> None:
    """Everything that is stored as text or written into a header: lengths, line breaks, what PostgreSQL has no room for."""
    check_line("from", request.from_.name, MAX_LINE)
    check_line("subject", request.subject, MAX_LINE)
    for recipient in request.recipients:
        check_line(recipient.type.value, recipient.name, MAX_LINE)
    _check_text("body_html", request.body_html)
    _check_text("body_text", request.body_text)
    for header in request.headers:
        for text in header:
            _check_text("headers", text)
    for index, attachment in enumerate(request.attachments):
        for name in ("name", "content_type", "content_id"):
            check_line(f"attachments[{index}][{name}]", getattr(attachment, name), MAX_LINE)


def check_line(field: str, text: str | None, most: int) -> None:
    """A text that becomes part of a header."""
    if text is None:
        return
    if len(text) > most:
        raise Refused(f"This value is too long. It should have {most} characters or less.", status=422, field=field)
    if "\n" in text or "\r" in text:
        raise Refused("This value should not contain line breaks.", status=422, field=field)
    _check_text(field, text)


def _check_text(field: str, text: str | None) -> None:
    """PostgreSQL stores neither NUL nor lone surrogates, not even in JSON."""
    if text is None:
        return
    if "\0" in text:
        raise Refused("This value must not contain NUL characters.", status=422, field=field)
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        raise Refused("This value is not valid Unicode text.", status=422, field=field) from None


def _mailbox(address: str, field: str) -> Mailbox:
    try:
        return parse_mailbox(address)
    except InvalidAddress:
        raise Refused("This value is not a valid email address.", status=422, field=field) from None
