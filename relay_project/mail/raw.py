"""A message that comes as MIME: read as far as sending it needs, kept as it is.

read_raw(data) -> RawMessage: its octets with CRLF line ends and without Bcc, and what its header says
Cut.of(octets) -> fields and body, for who takes out fields before: read_cut(cut)
complete(octets, …) -> what goes over the wire before signing: the fields that were missing, in front

Raises InvalidRaw with a sentence; never anything else.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.header import decode_header, make_header
from email.message import Message
from typing import Any

from relay_project.mail.address import InvalidAddress, parse_mailbox
from relay_project.mail.headers import NamedAddress, encode_header
from relay_project.mail.lines import has_longer_line, with_crlf
from relay_project.mail.mime import encode_date
from relay_project.mail.reports.message import field_text, leaves, octets_of, read_message
from relay_project.mail.text import clean

MAX_LINE = 998  # octets without CRLF, RFC 5322 §2.1.1; servers cut or refuse longer ones
MAX_HEADER_FIELDS = 500  # our own: no mail has a tenth of it
MAX_HEADER = 262_144  # octets, our own, as for `headers`

# What only the receiving side may say, and what would tell who else has the mail.
REFUSED = frozenset({"authentication-results", "return-path", "x-originating-ip"})
# RFC 5322 §3.6: at most one of each. Receivers differ in which of two they show, so a signature over one is worth little.
ONCE = frozenset(
    {"from", "sender", "reply-to", "to", "cc", "message-id", "date", "subject", "mime-version", "content-type"}
)
READ = ONCE | {"bcc"}

_BODY = rb"[^\r]*(?:\r(?!\n)[^\r]*)*\r\n"  # of a line, with its end
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:" + _BODY + rb"(?:[ \t]" + _BODY + rb")*")
# What the stdlib's reader of addresses makes nothing else of; nearly all mail has no others, and it takes fifty times as long.
_ATOM = r"[A-Za-z0-9!#$%&'*+\-/^_`{|}~]+"
_MAILBOX = re.compile(
    rf" ?(?:({_ATOM}(?: {_ATOM})*) <({_ATOM}(?:\.{_ATOM})*@[A-Za-z0-9.-]+)>|({_ATOM}(?:\.{_ATOM})*@[A-Za-z0-9.-]+))"
)
_PLAIN = re.compile(r"[ -~]*")
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


@dataclass(frozen=True, slots=True)
class Cut:
    """A message cut once into its fields, each as (lower-case name, all its lines with their CRLFs), and its body."""

    fields: Sequence[tuple[str, bytes]]
    body: bytes

    @classmethod
    def of(cls, octets: bytes) -> "Cut":
        """Of octets whose lines end in CRLF. Raises InvalidRaw where no header begins the message, or too long a one."""
        head, separator, body = octets.partition(b"\r\n\r\n")
        if not separator:
            head = head.removesuffix(b"\r\n")
        if len(head) > MAX_HEADER:
            raise InvalidRaw(f"Its header has more than {MAX_HEADER} octets.")
        return cls(_fields(head + b"\r\n"), body)

    def without(self, is_out: Callable[[str], bool]) -> "Cut":
        """The message without the fields that are to go."""
        return Cut([field for field in self.fields if not is_out(field[0])], self.body)

    def values(self, is_wanted: Callable[[str], bool]) -> list[tuple[str, str]]:
        """(lower-case name, unfolded and decoded value) of the fields that are wanted."""
        return [(name, _value(field)) for name, field in self.fields if is_wanted(name)]

    def joined(self) -> bytes:
        """The message as it was, or as it is without what has gone."""
        return b"".join([*(field for _, field in self.fields), b"\r\n", self.body])


def read_raw(data: bytes) -> RawMessage:
    """Check a message and take out its Bcc."""
    return read_cut(Cut.of(with_crlf(data)))


def read_cut(cut: Cut) -> RawMessage:
    """The same of one that was cut already."""
    fields = cut.fields
    _check_fields(fields)
    octets = cut.without("bcc".__eq__).joined()
    if not octets.endswith(b"\r\n"):
        octets += b"\r\n"
    if b"\0" in octets or any(b"\0" in field for _, field in fields):
        raise InvalidRaw("It contains NUL characters.")
    if has_longer_line(octets, MAX_LINE):
        raise InvalidRaw(f"A line has more than {MAX_LINE} octets.")
    senders = _mailboxes(fields, "from")
    if len(senders) != 1:
        raise InvalidRaw("Its From must name exactly one address.")
    names = frozenset(name for name, _ in fields)
    message_id = _message_id(fields)
    if message_id is None and "message-id" in names:
        raise InvalidRaw("Its Message-ID is not one: <left@right> is.")
    return RawMessage(
        octets,
        senders[0],
        _mailboxes(fields, "to"),
        _mailboxes(fields, "cc"),
        _mailboxes(fields, "bcc"),
        _text(fields, "subject"),
        message_id,
        names,
    )


def _value(field: bytes) -> str:
    """A field's text: UTF-8, or encoded words (RFC 2047)."""
    text = field.partition(b":")[2].decode("utf-8", "replace").replace("\r\n", "")
    if "=?" not in text:
        return text.strip()
    try:
        return str(make_header(decode_header(text.strip())))
    except (ValueError, LookupError):
        return text.strip()


def message_id_of(octets: bytes) -> str | None:
    """The Message-ID of a kept message, without angle brackets; None where it has none that could be answered to.

    What was forwarded may be no message at all: then it has none.
    """
    end = octets.find(b"\r\n\r\n")
    try:
        return _message_id(_fields(octets if end < 0 else octets[: end + 2]))
    except InvalidRaw:
        return None


def _message_id(fields: Sequence[tuple[str, bytes]]) -> str | None:
    for name, field in fields:
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
    """What a message shows, for people; whatever cannot be read is left out.

    With the reader that reports are read with: the stdlib's goes as deep as a sender likes, and takes a minute for fields
    of many lines.
    """
    message = read_message(octets, len(octets))
    texts: dict[str, str] = {}
    for part in leaves(message):
        kind = part.get_content_type()
        if kind in ("text/plain", "text/html") and kind not in texts and part.get_content_disposition() != "attachment":
            texts[kind] = _content(part)
    headers: dict[str, str] = {}
    for name, value in message.raw_items():
        headers.setdefault(name.lower(), field_text(value))
    return Parts(texts.get("text/plain"), texts.get("text/html"), headers)


def _content(part: Message) -> str:
    raw = octets_of(part)
    try:
        return raw.decode(str(part.get_content_charset("utf-8")), "replace").replace("\0", "")
    except (LookupError, ValueError):
        return raw.decode("utf-8", "replace").replace("\0", "")


def _fields(head: bytes) -> list[tuple[str, bytes]]:
    """(lower-case name, whole field) in order; folded lines stay with their field."""
    found: list[tuple[str, bytes]] = []
    at = 0
    while at < len(head):
        match = _FIELD.match(head, at)
        if match is None:
            line = head[at:].partition(b"\r\n")[0]
            raise InvalidRaw(f"It does not begin with header fields: {clean(line, 60)!r}")
        found.append((match[1].decode("ascii").lower(), match[0]))
        at = match.end()
    return found


def _check_fields(fields: Sequence[tuple[str, bytes]]) -> None:
    if len(fields) > MAX_HEADER_FIELDS:
        raise InvalidRaw(f"It has more than {MAX_HEADER_FIELDS} header fields.")
    names = [name for name, _ in fields]
    for name in sorted(REFUSED & set(names)):
        raise InvalidRaw(f"The header {name} is not allowed.")
    for name, field in fields:
        # RFC 5322 §4.5 has it as obsolete; some readers take what follows for the body, and a signature has no such field
        if name in READ and field[len(name) : len(name) + 1] != b":":
            raise InvalidRaw(f"The header {name} has a space before its colon.")
    for name in sorted(ONCE):
        if names.count(name) > 1:
            raise InvalidRaw(f"The header {name} stands there more than once.")


def _texts(fields: Sequence[tuple[str, bytes]], name: str) -> Iterator[str]:
    """What a field says, unfolded; more than once where it stands there more than once."""
    for own, field in fields:
        if own != name:
            continue
        text = field.partition(b":")[2]
        try:
            said = text.decode()  # RFC 6532 has headers in UTF-8
        except UnicodeDecodeError:
            said = text.decode("ascii", "surrogateescape")
        yield said.lstrip(" \t").replace("\r\n", "")


def _text(fields: Sequence[tuple[str, bytes]], name: str) -> str | None:
    said = next(_texts(fields, name), None)
    if said is None:
        return None
    if _PLAIN.fullmatch(said) and "=?" not in said:
        return said[:MAX_LINE]
    try:
        return " ".join(clean(str(_READ(name, said)), MAX_LINE).split("\n"))
    except Exception:  # noqa: BLE001 — the stdlib's header parsers fail in many ways on hostile input
        raise InvalidRaw(f"The header {name} cannot be read.") from None


def _mailboxes(fields: Sequence[tuple[str, bytes]], name: str) -> tuple[NamedAddress, ...]:
    """All addresses of a field (Bcc may stand there more than once); raises InvalidRaw for one that is none."""
    try:
        pairs = [pair for text in _texts(fields, name) for pair in _addresses(name, text)]
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


def _addresses(name: str, text: str) -> list[tuple[str, str]]:
    """(address, display name) of each."""
    quick = _quick_addresses(text)
    if quick is not None:
        return quick
    return [(one.addr_spec, clean(one.display_name, MAX_LINE)) for one in _READ(name, text).addresses]


def _quick_addresses(text: str) -> list[tuple[str, str]] | None:
    """The same of a text in which nobody could see anything else; None of any other."""
    found: list[tuple[str, str]] = []
    for part in text.split(","):
        match = _MAILBOX.fullmatch(part)
        if match is None:
            return None
        found.append((match[2] or match[3], match[1] or ""))
    return found


_READ: Callable[[str, str], Any] = policy.default.header_factory
