"""Composing: the stored parts of a mail become its bytes, the same bytes every time.

A direct writer, because the stdlib's builder serialises some 600 messages a second and this one has to keep up with
the engine. The stdlib parser judges it in the tests. A change that alters bytes is a new version in WRITERS; the old
one stays for as long as its mail is kept (golden files).
"""

import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from relay_project.mail.headers import (
    HeaderInjection,
    NamedAddress,
    check_header_value,
    encode_header,
    encode_mailboxes,
)

__all__ = [
    "LATEST_VERSION",
    "WRITERS",
    "Attachment",
    "HeaderInjection",
    "Message",
    "NamedAddress",
    "base64_length",
    "compose",
    "encode_date",
]

MAX_7BIT_LINE = 990  # octets; RFC 5321 §4.5.3.1.6 allows 998, sendmail's mailers cut at 990 (L=990 in its .mc files)
BASE64_LINE = 76  # octets, RFC 2045 §6.8
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Types by file name for attachments without one. Own and short: the system's table differs from host to host, and the
# same mail must have the same bytes on each.
TYPES = {
    "avif": "image/avif",
    "bmp": "image/bmp",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "gif": "image/gif",
    "gz": "application/gzip",
    "htm": "text/html",
    "html": "text/html",
    "ics": "text/calendar",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "odt": "application/vnd.oasis.opendocument.text",
    "pdf": "application/pdf",
    "png": "image/png",
    "ppt": "application/vnd.ms-powerpoint",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "svg": "image/svg+xml",
    "txt": "text/plain",
    "vcf": "text/vcard",
    "webp": "image/webp",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "xml": "application/xml",
    "zip": "application/zip",
}

_CONTROLS = bytes(range(9)) + bytes(range(11, 32)) + b"\x7f"  # all of C0 but tab and line feed
_TOKEN = r"[A-Za-z0-9!#$&^_.+\-]{1,64}"  # noqa: S105 - a grammar's token (RFC 6838 §4.2), not a secret
_CONTENT_TYPE = re.compile(
    rf"({_TOKEN})/{_TOKEN}(?:; *{_TOKEN}=(?:{_TOKEN}|\"[ !#-\[\]-~]{{0,64}}\")){{0,4}}", re.IGNORECASE
)
# base64 is not allowed inside these (RFC 2046 §5.1, §5.2.1), so they travel as opaque files.
_COMPOSITE = frozenset({"message", "multipart"})
_CONTENT_ID = re.compile(r"[!-;=?-~]{1,200}")
_SIMPLE_FILENAME = re.compile(r"[A-Za-z0-9_.()+\-](?:[A-Za-z0-9_.()+\- ]{0,58}[A-Za-z0-9_.()+\-])?")
_ATTRIBUTE_CHARS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$&+-.^_`{|}~")
_PERCENT = tuple(chr(i) if i in _ATTRIBUTE_CHARS else f"%{i:02X}" for i in range(256))
FILENAME_SECTION = 60  # octets of one RFC 2231 section, so that its line stays under 78


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file; with a content id it is shown inline by the HTML that names it (`cid:`)."""

    content: bytes
    name: str | None = None
    content_type: str | None = None
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """Everything that the writer turns into bytes; Bcc is not among it and never written.

    `message_id` without angle brackets; `date` aware; a subject of None writes no Subject at all.
    """

    from_: NamedAddress
    to: tuple[NamedAddress, ...]
    cc: tuple[NamedAddress, ...]
    subject: str | None
    headers: tuple[tuple[str, str], ...]
    text: str | None
    html: str | None
    attachments: tuple[Attachment, ...]
    message_id: str
    date: datetime
    mailer: str


@dataclass(frozen=True, slots=True)
class _Part:
    """A finished MIME entity: its own header fields and its body, both with CRLF; the body ends without one."""

    fields: bytes
    body: bytes


def compose(message: Message, version: int = 1) -> bytes:
    """Write the message with CRLF line ends; equal input gives equal bytes.

    No line is over 998 octets, no CR or LF stands alone, and what needs it is encoded; only non-ASCII local parts
    stay UTF-8 (RFC 6532), and such a message needs SMTPUTF8. Raises HeaderInjection for a field that would break out
    of its line, KeyError for an unknown version.
    """
    return WRITERS[version](message)


def _compose_1(message: Message) -> bytes:
    """Writer version 1."""
    content = _content(message)
    return b"".join((_fields(message), content.fields, b"\r\n", content.body, b"\r\n"))


WRITERS: dict[int, Callable[[Message], bytes]] = {1: _compose_1}
LATEST_VERSION = max(WRITERS)


# --- header ---------------------------------------------------------------------------------------------------------


def _fields(message: Message) -> bytes:
    """Write the top header up to and without the Content fields, in the wire contract's order."""
    check_header_value(message.message_id)
    check_header_value(message.mailer)
    fields = [
        encode_mailboxes("From", (message.from_,)),
        encode_mailboxes("To", message.to) if message.to else b"To: undisclosed-recipients:;\r\n",
    ]
    if message.cc:
        fields.append(encode_mailboxes("Cc", message.cc))
    if message.subject is not None:
        fields.append(encode_header("Subject", message.subject))
    fields.extend(encode_header(name, value) for name, value in message.headers)
    fields.append(encode_header("Message-ID", f"<{message.message_id}>"))
    fields.append(encode_header("X-Mailer", message.mailer))
    fields.append(b"MIME-Version: 1.0\r\nDate: " + encode_date(message.date))
    return b"".join(fields)


def encode_date(date: datetime) -> bytes:
    """Write a date in UTC (RFC 5322 §3.3), whatever the locale."""
    utc = date.astimezone(UTC)
    day, month = DAYS[utc.weekday()], MONTHS[utc.month - 1]
    time = f"{utc.hour:02}:{utc.minute:02}:{utc.second:02}"
    return f"{day}, {utc.day:02} {month} {utc.year:04} {time} +0000\r\n".encode("ascii")


# --- structure ------------------------------------------------------------------------------------------------------


def _content(message: Message) -> _Part:
    """Build the tree: mixed(alternative(text, related(html, inline files)), files), as little of it as is needed."""
    inline = [file for file in message.attachments if file.content_id]
    files = [file for file in message.attachments if not file.content_id]
    boundary = _boundary(message)
    parts = []
    if message.text is not None or message.html is None:
        parts.append(_text_part(message.text or "", b"plain"))
    if message.html is not None:
        parts.append(_text_part(message.html, b"html"))
    if inline:
        parts[-1] = _related(b"r" + boundary, [parts[-1], *map(_file_part, inline)], _root_type(message))
    body = parts[0] if len(parts) == 1 else _multipart(b"alternative", b"a" + boundary, parts)
    if not files:
        return body
    return _multipart(b"mixed", b"m" + boundary, [body, *map(_file_part, files)])


def _boundary(message: Message) -> bytes:
    """Give what the boundaries share, fixed by the message and unknown to whoever writes a body.

    Boundaries contain "=_", which quoted-printable and base64 never produce (RFC 2045 §6.7 suggests it), so only 7bit
    bodies could contain one, and those are part of the digest.
    """
    digest = hashlib.sha256(message.message_id.encode("utf-8", "replace"))
    for body in (message.text, message.html):
        digest.update(b"\0")
        digest.update((body or "").encode("utf-8", "replace"))
    return digest.hexdigest()[:32].encode("ascii")


def _multipart(subtype: bytes, boundary: bytes, parts: Sequence[_Part]) -> _Part:
    """Join parts (RFC 2046 §5.1); the three kinds start with different letters, so none is another's prefix."""
    delimiter = b"--=_" + boundary + b"\r\n"
    pieces = [delimiter + part.fields + b"\r\n" + part.body + b"\r\n" for part in parts]
    fields = b'Content-Type: multipart/%s;\r\n boundary="=_%s"\r\n' % (subtype, boundary)
    return _Part(fields, b"".join(pieces) + b"--=_" + boundary + b"--")


def _related(boundary: bytes, parts: Sequence[_Part], root_type: bytes) -> _Part:
    """Join a body and what it shows; RFC 2387 §3.1 wants the type of the root, which comes first."""
    related = _multipart(b"related", boundary, parts)
    return _Part(related.fields.removesuffix(b"\r\n") + b';\r\n type="%s"\r\n' % root_type, related.body)


def _root_type(message: Message) -> bytes:
    """The type of the body that inline files belong to."""
    return b"text/plain" if message.html is None else b"text/html"


# --- bodies ---------------------------------------------------------------------------------------------------------


def _text_part(text: str, subtype: bytes) -> _Part:
    """Write one body as 7bit where it can travel unharmed, else as quoted-printable."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    raw = text.encode("utf-8", "replace")
    if _is_7bit(text, raw):
        fields = b"Content-Type: text/%s; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n" % subtype
        return _Part(fields, raw.replace(b"\n", b"\r\n"))
    fields = b"Content-Type: text/%s; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n" % subtype
    return _Part(fields, _quoted_printable(raw))


def _is_7bit(text: str, raw: bytes) -> bool:
    """Whether nothing on the way could be tempted to change the body.

    Changed in real life: octets over 127 and controls, long lines, spaces before a line end, "From " at the start of
    a line (mbox), a dot alone (a forgotten dot-stuffing). Each look at a large body costs as much as a copy of it.
    """
    return (
        text.isascii()
        and not text.startswith(("From ", ".\n"))
        and not (text.endswith((" ", "\t", "\n.")) or text == ".")
        and not _has_long_line(raw)
        and len(raw.translate(None, _CONTROLS)) == len(raw)
        and not (" \n" in text or ("\t" in text and "\t\n" in text))
        and not ("\nFrom " in text or "\n.\n" in text)
    )


def _has_long_line(raw: bytes) -> bool:
    """Whether a line is over MAX_7BIT_LINE, by leaps of that length: cutting 100 KB into lines takes ten times as long."""
    at = 0
    while len(raw) - at > MAX_7BIT_LINE:
        at = raw.rfind(b"\n", at, at + MAX_7BIT_LINE + 1) + 1
        if not at:
            return True
    return False


def _quoted_printable(raw: bytes) -> bytes:
    """Encode with C speed (RFC 2045 §6.7), then hide "From " wherever a line, also a soft one, starts with it."""
    encoded = binascii.b2a_qp(raw)
    if encoded.startswith(b"From ") or b"\nFrom " in encoded:
        encoded = (b"\n" + encoded).replace(b"\nFrom ", b"\n=46=\nrom ")[1:]
    return encoded.replace(b"\n", b"\r\n")


# --- files ----------------------------------------------------------------------------------------------------------


def _file_part(file: Attachment) -> _Part:
    """Write one attachment in base64."""
    name = file.name or ""
    check_header_value(name)
    fields = [b"Content-Type: %s\r\nContent-Transfer-Encoding: base64\r\n" % _content_type(file)]
    disposition = "attachment"
    if file.content_id:
        disposition = "inline"
        fields.append(b"Content-ID: <%s>\r\n" % _content_id(file.content_id))
    fields.append(";\r\n ".join([f"Content-Disposition: {disposition}", *_filename(name)]).encode("ascii") + b"\r\n")
    return _Part(b"".join(fields), _base64(file.content))


def _content_type(file: Attachment) -> bytes:
    """Give the declared type when it is one that may be in base64, else the name's, else application/octet-stream."""
    declared = file.content_type or ""
    check_header_value(declared)
    if not declared:
        extension = (file.name or "").rpartition(".")[2].lower()
        return TYPES.get(extension, "application/octet-stream").encode("ascii")
    match = _CONTENT_TYPE.fullmatch(declared.strip())
    if not match or match[1].lower() in _COMPOSITE:
        return b"application/octet-stream"
    return match[0].encode("ascii")


def _content_id(content_id: str) -> bytes:
    """Check a content id, with or without its angle brackets."""
    bare = content_id.removeprefix("<").removesuffix(">")
    if not _CONTENT_ID.fullmatch(bare):
        raise HeaderInjection("not a content id")
    return bare.encode("ascii")


def _filename(name: str) -> list[str]:
    """Give the parameters for a file name: plain where it is, else RFC 2231 in UTF-8, in sections when long."""
    if not name:
        return []
    if _SIMPLE_FILENAME.fullmatch(name):
        return [f'filename="{name}"']
    encoded = [_percent(char) for char in name]
    if sum(map(len, encoded)) <= FILENAME_SECTION:
        return [f"filename*=utf-8''{''.join(encoded)}"]
    sections = [""]
    for piece in encoded:
        if len(sections[-1]) + len(piece) > FILENAME_SECTION - 2:
            sections.append("")
        sections[-1] += piece
    sections[0] = f"utf-8''{sections[0]}"
    return [f"filename*{number}*={section}" for number, section in enumerate(sections)]


def _percent(char: str) -> str:
    """One character in RFC 2231 §7 extended octets."""
    return "".join([_PERCENT[octet] for octet in char.encode("utf-8", "replace")])


def base64_length(octets: int) -> int:
    """How long a file of so many octets is in a message."""
    encoded = (octets + 2) // 3 * 4
    return encoded + 2 * max((encoded - 1) // BASE64_LINE, 0)


def _base64(content: bytes) -> bytes:
    """Encode in one go and cut into lines, ten times faster than line by line."""
    encoded = binascii.b2a_base64(content, newline=False)
    return b"\r\n".join([encoded[i : i + BASE64_LINE] for i in range(0, len(encoded), BASE64_LINE)])
