"""A message that comes as MIME: read as far as sending it needs, kept as it is.

read_raw(data) -> RawMessage: its octets with CRLF line ends and without Bcc, and what its header says
complete(octets, …) -> what goes over the wire before signing: the fields that were missing, in front

Raises InvalidRaw with a sentence; never anything else.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, message_from_string, policy
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage

from relay_project.mail.address import InvalidAddress, parse_mailbox
from relay_project.mail.headers import NamedAddress, encode_header
from relay_project.mail.mime import encode_date
from relay_project.mail.text import clean

MAX_LINE = 998  # octets without CRLF, RFC 5322 §2.1.1; servers cut or refuse longer ones
MAX_HEADER_FIELDS = 500  # our own: no mail has a tenth of it
MAX_HEADER = 262_144  # octets, our own, as for `headers`
MAX_PARTS = 1_000  # entities of one message that are looked at

# What only the receiving side may say, and what would tell who else has the mail.
REFUSED = frozenset({"authentication-results", "return-path", "x-originating-ip"})
# RFC 5322 §3.6: at most one of each. Receivers differ in which of two they show, so a signature over one is worth little.
ONCE = frozenset(
    {"from", "sender", "reply-to", "to", "cc", "message-id", "date", "subject", "mime-version", "content-type"}
)

_BARE_LINE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_MESSAGE_ID = re.compile(r"<([^<>\s]{1,250}@[^<>\s]{1,250})>")


class InvalidRaw(ValueError):
    """What was given cannot be sent as it is; the message says why."""


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A message as it is kept. `message_id` without angle brackets, None where it has none."""

    octets: bytes
    from_: NamedAddress
    to: tuple[NamedAddress, ...]
    cc: tuple[NamedAddress, ...]
    bcc: tuple[NamedAddress, ...]
    subject: str | None
    message_id: str | None
    names: frozenset[str]  # of its fields, in lower case


@dataclass(frozen=True, slots=True)
class Parts:
    """What a reader sees of it: the first text, the first HTML, and the header by lower-case names."""

    text: str | None
    html: str | None
    headers: dict[str, str]


def read_raw(data: bytes) -> RawMessage:
    """Check a message and take out its Bcc."""
    if b"\0" in data:
        raise InvalidRaw("It contains NUL characters.")
    octets = _BARE_LINE_END.sub(b"\r\n", data)
    fields, body = _split(octets)
    _check_fields(fields)
    kept = [field for name, field in fields if name != "bcc"]
    octets = b"".join(kept) + b"\r\n" + body
    if not octets.endswith(b"\r\n"):
        octets += b"\r\n"
    if any(len(line) > MAX_LINE for line in octets.split(b"\r\n")):
        raise InvalidRaw(f"A line has more than {MAX_LINE} octets.")
    header = _header(b"".join(field for _, field in fields))
    senders = _mailboxes(header, "from")
    if len(senders) != 1:
        raise InvalidRaw("Its From must name exactly one address.")
    names = frozenset(name for name, _ in fields)
    message_id = message_id_of(octets)
    if message_id is None and "message-id" in names:
        raise InvalidRaw("Its Message-ID is not one: <left@right> is.")
    return RawMessage(
        octets,
        senders[0],
        _mailboxes(header, "to"),
        _mailboxes(header, "cc"),
        _mailboxes(header, "bcc"),
        _text(header, "subject"),
        message_id,
        names,
    )


def take_out(octets: bytes, is_wanted: Callable[[str], bool]) -> tuple[list[tuple[str, str]], bytes]:
    """(lower-case name, unfolded and decoded value) of the fields that are wanted, and the message without them.

    Lines end in CRLF. Raises InvalidRaw where no header begins the message.
    """
    fields, body = _split(octets)
    taken = [(name, _value(field)) for name, field in fields if is_wanted(name)]
    if not taken:
        return [], octets
    return taken, b"".join([field for name, field in fields if not is_wanted(name)]) + b"\r\n" + body


def _value(field: bytes) -> str:
    """A field's text: UTF-8, or encoded words (RFC 2047)."""
    text = field.partition(b":")[2].decode("utf-8", "replace").replace("\r\n", "")
    try:
        return str(make_header(decode_header(text.strip())))
    except (ValueError, LookupError):
        return text.strip()


def message_id_of(octets: bytes) -> str | None:
    """The Message-ID of a kept message, without angle brackets; None where it has none that could be answered to."""
    for name, field in _fields(octets[: octets.find(b"\r\n\r\n") + 2]):
        if name == "message-id":
            match = _MESSAGE_ID.search(clean(field, MAX_LINE))
            return match[1] if match else None
    return None


def complete(octets: bytes, message_id: str, date: datetime, extra: Iterable[tuple[str, str]] = ()) -> bytes:
    """A kept message with what it lacks, in front of its own fields; equal input gives equal octets.

    What would change them is a new version beside this one, as in mail.mime.
    """
    there = {name for name, _ in _fields(octets[: octets.find(b"\r\n\r\n") + 2])}
    added = [encode_header(name, value) for name, value in extra]
    if "message-id" not in there:
        added.append(encode_header("Message-ID", f"<{message_id}>"))
    if "date" not in there:
        added.append(b"Date: " + encode_date(date))
    return b"".join([*added, octets])


def parts_of(octets: bytes) -> Parts:
    """What a message shows, for people; whatever cannot be read is left out."""
    message = message_from_bytes(octets, policy=policy.default)
    texts: dict[str, str] = {}
    for place, part in enumerate(message.walk()):
        if place > MAX_PARTS or len(texts) == 2:
            break
        kind = part.get_content_type()
        if kind in ("text/plain", "text/html") and kind not in texts and part.get_content_disposition() != "attachment":
            texts[kind] = _content(part)
    headers = {name.lower(): clean(str(value), MAX_HEADER) for name, value in _safe_items(message)}
    return Parts(texts.get("text/plain"), texts.get("text/html"), headers)


def _safe_items(message: EmailMessage) -> Iterable[tuple[str, str]]:
    for name in dict.fromkeys(message.keys()):
        try:
            yield name, str(message[name])
        except Exception:  # noqa: BLE001, S112 — the stdlib's header parsers fail in many ways on hostile input
            continue


def _content(part: EmailMessage) -> str:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return ""
    try:
        return payload.decode(part.get_content_charset("utf-8") or "utf-8", "replace").replace("\0", "")
    except LookupError:
        return payload.decode("utf-8", "replace").replace("\0", "")


def _split(octets: bytes) -> tuple[list[tuple[str, bytes]], bytes]:
    """The fields with their CRLFs, and the body."""
    head, separator, body = octets.partition(b"\r\n\r\n")
    if not separator:
        head = head.removesuffix(b"\r\n")
    if len(head) > MAX_HEADER:
        raise InvalidRaw(f"Its header has more than {MAX_HEADER} octets.")
    return _fields(head + b"\r\n"), body


def _fields(head: bytes) -> list[tuple[str, bytes]]:
    """(lower-case name, whole field) in order; folded lines stay with their field."""
    found: list[tuple[str, bytes]] = []
    for line in head.split(b"\r\n")[:-1]:
        if line[:1] in (b" ", b"\t") and found:
            name, field = found[-1]
            found[-1] = (name, field + line + b"\r\n")
            continue
        match = _FIELD.match(line)
        if match is None:
            raise InvalidRaw(f"It does not begin with header fields: {clean(line, 60)!r}")
        found.append((match[1].decode("ascii").lower(), line + b"\r\n"))
    return found


def _check_fields(fields: Sequence[tuple[str, bytes]]) -> None:
    if len(fields) > MAX_HEADER_FIELDS:
        raise InvalidRaw(f"It has more than {MAX_HEADER_FIELDS} header fields.")
    names = [name for name, _ in fields]
    for name in sorted(REFUSED & set(names)):
        raise InvalidRaw(f"The header {name} is not allowed.")
    for name in sorted(ONCE):
        if names.count(name) > 1:
            raise InvalidRaw(f"The header {name} stands there more than once.")


def _header(head: bytes) -> EmailMessage:
    try:
        message = message_from_string(head.decode() + "\r\n", policy=policy.default)  # RFC 6532 has headers in UTF-8
    except UnicodeDecodeError:
        message = message_from_bytes(head + b"\r\n", policy=policy.default)
    assert isinstance(message, EmailMessage)  # what that policy makes
    return message


def _text(header: EmailMessage, name: str) -> str | None:
    try:
        value = header[name]
        return None if value is None else " ".join(clean(str(value), MAX_LINE).split("\n"))
    except Exception:  # noqa: BLE001 — the stdlib's header parsers fail in many ways on hostile input
        raise InvalidRaw(f"The header {name} cannot be read.") from None


def _mailboxes(header: EmailMessage, name: str) -> tuple[NamedAddress, ...]:
    """All addresses of a field (Bcc may stand there more than once); raises InvalidRaw for one that is none."""
    try:
        found: list[Address] = [address for value in header.get_all(name, []) for address in value.addresses]
        pairs = [(address.addr_spec, clean(address.display_name, MAX_LINE)) for address in found]
    except Exception:  # noqa: BLE001 — as above
        raise InvalidRaw(f"The header {name} cannot be read.") from None
    for address, _ in pairs:
        try:
            parse_mailbox(address)
        except InvalidAddress:
            raise InvalidRaw(
                f"The header {name} names {clean(address, 60)!r}, which is not an e-mail address."
            ) from None
    return tuple(NamedAddress(address, " ".join(display.split()) or None) for address, display in pairs)
