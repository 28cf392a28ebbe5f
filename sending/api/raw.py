"""`raw` of `POST /sends`: a whole message in place of its parts."""

from relay_project.mail.address import parse_mailbox
from relay_project.mail.headers import NamedAddress
from relay_project.mail.raw import InvalidRaw, RawMessage, read_raw
from sending.accept.request import RequestedRecipient
from sending.api.attachments import decode_base64
from sending.api.reading import Noting
from sending.models import RecipientType

MAX_RAW = 33_554_432  # characters of base64; what a project may send is less, and accept() says so
PARTS = ("subject", "body_html", "body_text", "headers", "attachments", "reply_to")


def read_raw_field(body: Noting) -> RawMessage | None:
    """The message, checked; None when something is wrong, which has been noted."""
    for name in PARTS:
        if body.data.get(name) not in (None, "", [], {}):
            body.note(name, "Give either raw or this field, not both.")
    value = body.data.get("raw")
    if not isinstance(value, str):
        body.note("raw", "This value should be of type string.")
        return None
    if len(value) > MAX_RAW:
        body.note("raw", f"This value is too long. It should have {MAX_RAW} characters or less.")
        return None
    octets = decode_base64(value)
    if octets is None:
        body.note("raw", "This value is not valid base64.")
        return None
    try:
        return read_raw(octets)
    except InvalidRaw as wrong:
        body.note("raw", str(wrong))
        return None


def check_from(body: Noting, raw: RawMessage, given: NamedAddress | None) -> None:
    """`from` may be said once more, and then says the same."""
    if given is not None and parse_mailbox(given.address).address != parse_mailbox(raw.from_.address).address:
        body.note("from", "This is not the From of raw.")


def recipients_of(raw: RawMessage, most: int) -> list[RequestedRecipient]:
    """Whom the header names, for who says nothing else. Of too many only as much as shows it."""
    lists = ((RecipientType.TO, raw.to), (RecipientType.CC, raw.cc), (RecipientType.BCC, raw.bcc))
    found = [RequestedRecipient(kind, one.address, one.name or "") for kind, names in lists for one in names]
    return found[: most + 1]
