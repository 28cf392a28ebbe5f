"""A mail as its receiver sees it: who wrote, what, and which files are with it. Any bytes give something; none raises.

read_received(octets) -> Received; attachment_of(octets, number) -> (Attachment, its octets)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.utils import getaddresses, parsedate_to_datetime

from relay_project.mail.reports.message import (
    decoded,
    field_text,
    header,
    leaves,
    octets_of,
    read_message,
)
from relay_project.mail.text import clean

MAX_OCTETS = 64 * 1024 * 1024  # that are read; what comes in is less
MAX_ADDRESSES = 200  # of one field
MAX_ADDRESS_FIELD = 20_000  # characters of one field in which addresses are looked for
MAX_ADDRESS = 320  # characters
MAX_NAME = 255  # characters of a display name, or of a file's
MAX_SUBJECT = 998  # characters
MAX_ID = 998  # characters
MAX_HEADERS = 200  # fields that are shown


@dataclass(frozen=True, slots=True)
class Written:
    """An address in a header, with its name."""

    address: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file. `number` counts from 1; `content_id` without angle brackets, for what the HTML shows."""

    number: int
    name: str
    type: str
    size: int
    content_id: str = ""
    is_inline: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """What a mail says. `date` in Unix seconds; `text` and `html` None where there is none."""

    from_: tuple[Written, ...]
    to: tuple[Written, ...]
    cc: tuple[Written, ...]
    reply_to: tuple[Written, ...]
    subject: str
    date: int | None
    message_id: str
    in_reply_to: str
    references: tuple[str, ...]
    auto_submitted: str  # RFC 3834; empty where it does not say
    text: str | None
    html: str | None
    attachments: tuple[Attachment, ...]
    headers: tuple[tuple[str, str], ...]


def read_received(octets: bytes) -> Received:
    """Take it apart."""
    message = read_message(octets, MAX_OCTETS)
    texts: list[str] = []
    htmls: list[str] = []
    files: list[Attachment] = []
    for part, is_file in _parts(message):
        if is_file:
            files.append(_attachment(len(files) + 1, part))
        else:
            (htmls if part.get_content_subtype() == "html" else texts).append(clean(decoded(part), MAX_OCTETS))
    return Received(
        from_=_addresses(message, "From"),
        to=_addresses(message, "To"),
        cc=_addresses(message, "Cc"),
        reply_to=_addresses(message, "Reply-To"),
        subject=clean(header(message, "Subject"), MAX_SUBJECT),
        date=_date(header(message, "Date")),
        message_id=_ids(header(message, "Message-ID"))[0],
        in_reply_to=_ids(header(message, "In-Reply-To"))[0],
        references=tuple(filter(None, _ids(header(message, "References")))),
        auto_submitted=clean(header(message, "Auto-Submitted"), 100),
        text="\n".join(texts) if texts else None,
        html="\n".join(htmls) if htmls else None,
        attachments=tuple(files),
        headers=tuple((clean(name, 200), field_text(value)) for name, value in list(message.raw_items())[:MAX_HEADERS]),
    )


def attachment_of(octets: bytes, number: int) -> tuple[Attachment, bytes] | None:
    """One file with its octets; None for a number that none has."""
    files = [part for part, is_file in _parts(read_message(octets, MAX_OCTETS)) if is_file]
    if not 1 <= number <= len(files):
        return None
    return _attachment(number, files[number - 1]), octets_of(files[number - 1])


def _parts(message: Message) -> Iterator[tuple[Message, bool]]:
    """The leaves, and whether each is a file: what is no text to be read, or is called one."""
    for part in leaves(message):
        is_text = part.get_content_type() in ("text/plain", "text/html")
        is_file = not is_text or bool(_file_name(part)) or _disposition(part) == "attachment"
        if is_file or octets_of(part).strip():
            yield part, is_file


def _attachment(number: int, part: Message) -> Attachment:
    name = _file_name(part)
    if not name:
        name = "message.eml" if part.get_content_maintype() == "message" else f"attachment-{number}"
    content_id = clean(header(part, "Content-ID").strip().strip("<>"), MAX_ID)
    return Attachment(
        number,
        name,
        clean(part.get_content_type(), 100),
        len(octets_of(part)),
        content_id,
        bool(content_id) and _disposition(part) != "attachment",
    )


def _disposition(part: Message) -> str:
    try:
        return part.get_content_disposition() or ""
    except Exception:  # noqa: BLE001 — the stdlib's header parsers fail in many ways on hostile input
        return ""


def _file_name(part: Message) -> str:
    """Its last component, whatever the sender's system separates folders by; octets beyond ASCII are UTF-8 here, too."""
    shown = Message()
    for field, value in part.raw_items():
        if field.lower() in ("content-disposition", "content-type"):
            shown[field] = clean(str(value).encode("utf-8", "surrogateescape")).replace("\n", "")
    try:
        name = shown.get_filename() or ""
    except Exception:  # noqa: BLE001 — as above
        return ""
    name = field_text(name).replace("\\", "/").rpartition("/")[2]
    return clean(name, MAX_NAME).strip(". ")


def _addresses(message: Message, name: str) -> tuple[Written, ...]:
    """Names are decoded after the field was read, so that a comma in one does not end it (RFC 2047 §6.2)."""
    wanted = name.lower()
    raw = " , ".join(str(value) for field, value in message.raw_items() if field.lower() == wanted)
    raw = clean(raw[:MAX_ADDRESS_FIELD].encode("utf-8", "surrogateescape"), MAX_ADDRESS_FIELD)
    try:
        found = getaddresses([raw])
    except Exception:  # noqa: BLE001 — as above; nested comments exhaust the stack
        return ()
    written = (Written(clean(address, MAX_ADDRESS), clean(field_text(shown), MAX_NAME)) for shown, address in found)
    return tuple(one for one in written if one.address)[:MAX_ADDRESSES]


def _date(text: str) -> int | None:
    try:
        seconds = int(parsedate_to_datetime(text).timestamp())
    except Exception:  # noqa: BLE001 — as above
        return None
    return seconds if abs(seconds) < 2**40 else None


def _ids(text: str) -> list[str]:
    """The ids of a field without their angle brackets; one at least, which may be empty."""
    words = [clean(word.strip("<>,;"), MAX_ID) for word in text.replace("><", "> <").split()]
    return words or [""]


def fields_of(message: Received, name: str) -> list[str]:
    """The values of a field."""
    return [value for field, value in message.headers if field.lower() == name.lower()]
