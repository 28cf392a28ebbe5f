"""MIME read with tolerance: whatever the bytes, a tree of parts, in time linear to their number.

The stdlib's parser asks every open boundary about every line and goes as deep as a sender likes, so the tree is cut here,
with the same `email.message.Message` as its leaves. What differs from the stdlib: parts of type message/* stay text,
because what comes back is cut, mislabelled or hostile too often (`headers_in` reads their header).
"""

import base64
import binascii
import html
import quopri
import re
from collections.abc import Iterator
from email.message import Message

from relay_project.mail.text import clean

MAX_OCTETS = 1 << 20  # a report stands at the beginning, before the mail that it returns
MAX_PACKED_OCTETS = 16 << 20  # of mail with packed attachments: TLS and DMARC reports are whole or nothing
MAX_DEPTH = 6
MAX_PARTS = 100
MAX_FIELDS = 500  # of one header; our own, no mail has a tenth of it
MAX_FIELD = 4096  # characters of one field that are read
MAX_HTML = 50_000  # characters of HTML that are read
MAX_TEXT = 200_000  # characters of one part that are read as text

_SNIFFED = 65_536  # octets in which a packed attachment is announced
_PACKED = re.compile(
    rb"application/(?:x-)?(?:gzip|zip|tlsrpt|json|xml|octet-stream)|report-type=[\"']?tlsrpt", re.IGNORECASE
)
_NAME = re.compile(r"([!-9;-~]{1,200})[ \t]*:[ \t]*")
_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?\s]{0,1000})\?=")  # RFC 2047 §2
_BETWEEN = re.compile(r"(?<=\?=)[ \t]+(?==\?)")  # white space between two of them is none, §6.2
_UNSEEN = re.compile(r"<(?:(style|script|head)\b|(!--))", re.IGNORECASE)
_BLOCK = re.compile(r"<(?:br|/?p|/?div|/?tr|/?li|/?h[1-6]|/?table|/?ul|/?pre|hr|/td)\b[^>]{0,1000}>", re.IGNORECASE)
_TAG = re.compile(r"<[/!a-z][^<>]{0,1000}>", re.IGNORECASE)
_ABSURD = re.compile(
    r"&#(?:[0-9]{9,}|[xX][0-9a-fA-F]{9,})"
)  # no character's number; Python refuses thousands of digits
_FROM_LINE = re.compile(rb"(?:>?From [^\n]{0,998}\n)+")
_LINE_END = re.compile(rb"\r\n?")
_FIRST_DELIMITER = re.compile(rb"(?:\A|\n)--([^\s][^\n]{0,120}?)[ \t]*\n[ \t]*content-", re.IGNORECASE)


class Part(Message):
    """An entity; `raw` is its body before its transfer encoding is undone, which the stdlib would decode too early."""

    raw = b""


def read_message(octets: bytes, limit: int | None = None) -> Part:
    """Read the tree of parts; CRLF, LF and CR end lines, an mbox "From " line before the header is skipped.

    `limit`: octets that are read, for mail that is no report.
    """
    if limit is None:
        limit = MAX_PACKED_OCTETS if _PACKED.search(octets, 0, _SNIFFED) else MAX_OCTETS
    text = _LINE_END.sub(b"\n", octets[:limit]).lstrip(b"\n")
    from_line = _FROM_LINE.match(text)
    return _entity(text[from_line.end() :] if from_line else text, MAX_DEPTH, [MAX_PARTS])


def leaves(message: Message) -> list[Message]:
    """The parts that hold something, in order."""
    return [part for part in message.walk() if not part.is_multipart()]


def is_text(part: Message) -> bool:
    """Whether a leaf is for people to read; one that says it has parts and has none is its own text."""
    return part.get_content_maintype() in ("text", "multipart")


def decoded(part: Message) -> str:
    """The text of a leaf: transfer encoding and charset undone, however wrong they are; LF ends lines."""
    raw = octets_of(part)[: MAX_TEXT * 4]
    charset = _charset_of(part)
    for name in dict.fromkeys([charset, "utf-8", "latin-1"]):
        try:
            text = raw.decode(name)
            break
        except (LookupError, ValueError):
            continue
    else:
        text = raw.decode("latin-1")
    return text[:MAX_TEXT].replace("\r\n", "\n").replace("\r", "\n")


def readable(part: Message) -> str:
    """The text of a leaf as a person reads it: HTML without its tags, and a line for each of its blocks."""
    text = decoded(part)
    if part.get_content_subtype() != "html":
        return text
    text = _BLOCK.sub("\n", _seen(text[:MAX_HTML]).replace("\n", " "))
    return html.unescape(_ABSURD.sub("", _TAG.sub("", text))).replace("\xa0", " ")


def _seen(text: str) -> str:
    """HTML without comments, styles and scripts; each end is looked for once, so that it stays linear."""
    kept, at, unending = [], 0, set()
    lower = text.lower()
    for match in _UNSEEN.finditer(lower):
        name = match[1] or match[2]
        if match.start() < at or name in unending:
            continue
        end = lower.find("-->" if name == "!--" else f"</{name}", match.end())
        if end < 0:
            unending.add(name)
            continue
        kept.append(text[at : match.start()])
        at = end
    return " ".join([*kept, text[at:]]).replace("-->", " ")


def octets_of(part: Message) -> bytes:
    """The octets of a leaf with its transfer encoding undone; what cannot be undone stays as it is."""
    raw = part.raw if isinstance(part, Part) else b""
    encoding = header(part, "Content-Transfer-Encoding").strip().lower()
    if encoding == "quoted-printable":
        return quopri.decodestring(raw)
    if encoding == "base64":
        return _from_base64(raw)
    return raw


def header(part: Message, name: str) -> str:
    """A field, unfolded, with its encoded words read (RFC 2047); empty when there is none."""
    return next(iter(headers(part, name)), "")


def headers(part: Message, name: str) -> list[str]:
    """Every field of this name."""
    wanted = name.lower()
    return [_readable(str(value)) for field, value in part.raw_items() if field.lower() == wanted]


def field_text(value: object) -> str:
    """The value of a raw field as `header` gives it."""
    return _readable(str(value))


def headers_in(text: str) -> list[tuple[str, str]]:
    """The fields at the beginning of a text, unfolded: (name, value). It ends at an empty line or at what is no field."""
    return [(name, _readable(value)) for name, value in _fields(text.lstrip("\n").partition("\n\n")[0])]


def _entity(raw: bytes, depth: int, left: list[int]) -> Part:
    """One part; `left` counts down how many more the whole mail may have."""
    left[0] -= 1
    head, _, body = raw.partition(b"\n\n")
    if raw.startswith(b"\n"):
        head, body = b"", raw[1:]
    message = Part()
    for name, value in _fields(head.decode("ascii", "surrogateescape")):
        message.set_raw(name, value)
    if depth and message.get_content_maintype() == "multipart":
        for piece in _pieces(body, str(message.get_boundary("") or "")):
            if left[0] <= 0:
                break
            message.attach(_entity(piece, depth - 1, left))
    message.raw = b"" if message.is_multipart() else body
    return message


def _fields(head: str) -> list[tuple[str, str]]:
    """Unfold a header; lines that are no field, and those after a limit, are left out."""
    fields: list[tuple[str, list[str]]] = []
    for line in head.split("\n", MAX_FIELDS * 4)[: MAX_FIELDS * 4]:
        match = _NAME.match(line)
        if line[:1] in (" ", "\t") and fields:
            fields[-1][1].append(line)
        elif match and len(fields) < MAX_FIELDS:
            fields.append((match[1], [line[match.end() :]]))
    return [(name, "\n".join(lines)[:MAX_FIELD]) for name, lines in fields]


def _pieces(body: bytes, boundary: str) -> Iterator[bytes]:
    """What lies between the delimiter lines; a boundary that is not there is looked for in the text itself."""
    delimiter = b"--" + boundary.encode("utf-8", "surrogateescape").rstrip()
    if not boundary or (b"\n" + body).find(b"\n" + delimiter) < 0:
        found = _FIRST_DELIMITER.search(body, 0, _SNIFFED)
        if not found:
            return
        delimiter = b"--" + found[1]
    lines = re.compile(rb"^" + re.escape(delimiter) + rb"(--)?[ \t]*(?:\n|\Z)", re.MULTILINE)
    begin = None
    for match in lines.finditer(body):
        if begin is not None:
            yield body[begin : max(begin, match.start() - 1)]
        if match[1]:
            return
        begin = match.end()
    if begin is not None:
        yield body[begin:]


def _charset_of(part: Message) -> str:
    try:
        return part.get_content_charset("utf-8") or "utf-8"
    except (LookupError, ValueError, TypeError):
        return "utf-8"


def _from_base64(raw: bytes) -> bytes:
    """Base64 without what does not belong there, and without the last group if it is cut."""
    kept = re.sub(rb"[^A-Za-z0-9+/]", b"", raw)
    try:
        return base64.b64decode(kept[: len(kept) // 4 * 4] + _tail(kept))
    except (binascii.Error, ValueError):
        return raw


def _tail(kept: bytes) -> bytes:
    rest = kept[len(kept) // 4 * 4 :]
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""


def _readable(value: str) -> str:
    """One line, decoded: octets as UTF-8, then encoded words."""
    line = clean(" ".join(value[:MAX_FIELD].split()).encode("utf-8", "surrogateescape"), MAX_FIELD)
    return clean(_WORD.sub(_word, _BETWEEN.sub("", line))) if "=?" in line else line


def _word(match: re.Match[str]) -> str:
    """One encoded word; what cannot be read stays as it was written."""
    text = match[3].encode("utf-8", "replace")
    raw = _from_base64(text) if match[2] in "bB" else quopri.decodestring(text, header=True)
    try:
        return raw.decode(match[1].partition("*")[0])
    except (LookupError, ValueError):
        return raw.decode("latin-1")
