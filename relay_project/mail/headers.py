"""Header fields: refused where they could inject, folded and encoded so that any reader gets back what was meant.

RFC 5322 §2.2 (fields and folding), RFC 2047 (encoded words), RFC 6532 (UTF-8 in addresses only).
"""

import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import getaddresses
from functools import lru_cache

FOLD_AT = 78  # octets of a line without CRLF, RFC 5322 §2.1.1 (SHOULD)
MAX_ENCODED_WORD = 75  # octets, RFC 2047 §2
MAX_NAME = 76  # octets of a field name; longer ones break readers that want "name:" on a line of 78
MAX_PLAIN_WORD = 900  # octets; a longer word leaves no room for the rest of its line and is encoded instead
MAX_NESTING = 50  # comments and groups in a value read as mailboxes: the stdlib's reader calls itself for each
CACHED_NAMES = 512  # entries; nearly all mail uses the same few fields
CACHED_MAILBOXES = 4096  # entries; the From of a campaign repeats, its recipients do not

# The wire contract's list: what the writer makes itself, or what only the receiving side may say.
FORBIDDEN_HEADERS = frozenset(
    {
        "authentication-results",
        "bcc",
        "cc",
        "content-disposition",
        "content-transfer-encoding",
        "content-type",
        "date",
        "dkim-signature",
        "from",
        "message-id",
        "mime-version",
        "return-path",
        "sender",
        "subject",
        "to",
        "x-mailer",
        "x-originating-ip",
    }
)
# Fields whose value is a list of mailboxes: only the names in them may be encoded, never the addresses.
ADDRESS_HEADERS = frozenset(
    {
        "disposition-notification-to",
        "errors-to",
        "mail-followup-to",
        "mail-reply-to",
        "reply-to",
        "resent-bcc",
        "resent-cc",
        "resent-from",
        "resent-sender",
        "resent-to",
        "return-receipt-to",
        "x-original-to",
    }
)

_NAME = re.compile(r"[!-9;-~]+")
_INJECTION = re.compile(r"[\r\n\x00]")
# What may stand in a header as it is. "=?" is not among it: a reader would take it for an encoded word.
_PLAIN = re.compile(r"[\t -~]*")
_SPACES = re.compile(r"([ \t]+)")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+(?: [A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+)*")
_QUOTABLE = re.compile(r"[ -~]+")
_ADDRESS = re.compile(r"[^\s\x00-\x20\x7f-\xa0()<>\[\]:;@\\,\"\ud800-\udfff]{1,64}@[A-Za-z0-9.-]{1,255}")
# Letters that stand for themselves in the Q encoding, in every place an encoded word may have (RFC 2047 §5 (3)).
_Q_LITERAL = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_Q_TABLE = tuple("_" if i == 0x20 else chr(i) if i in _Q_LITERAL else f"={i:02X}" for i in range(256))
_WORD_ROOM = MAX_ENCODED_WORD - len("=?utf-8?q??=")


class HeaderInjection(ValueError):
    """A name, value or address that would end its header field, or be another one than it seems."""


@dataclass(frozen=True, slots=True)
class NamedAddress:
    """An address with the display name that readers see; no name when None or empty."""

    address: str
    name: str | None = None


@lru_cache(CACHED_NAMES)
def check_header_name(name: str) -> None:
    """Raise HeaderInjection unless `name` is a field name of RFC 5322 §2.2 of at most MAX_NAME octets."""
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise HeaderInjection("not a header name")


def check_header_value(value: str) -> None:
    """Raise HeaderInjection when `value` has a CR, LF or NUL."""
    if _INJECTION.search(value):
        raise HeaderInjection("a header value may not contain a line end or NUL")


def encode_header(name: str, value: str) -> bytes:
    """Write one header field with its CRLF, folded at FOLD_AT where it has spaces, encoded where it must be.

    Spaces around the value are dropped, all others survive. Raises HeaderInjection.
    """
    check_header_name(name)
    check_header_value(value)
    value = value.strip(" \t")
    if len(name) + 2 + len(value) <= FOLD_AT and _is_plain(value):
        return f"{name}: {value}\r\n".encode("ascii")
    if name.lower() in ADDRESS_HEADERS and not _is_plain(value):
        mailboxes = _mailboxes_of(value)
        if mailboxes:
            return encode_mailboxes(name, mailboxes)
    return _encode_unstructured(name, value)


def encode_mailboxes(name: str, mailboxes: Iterable[NamedAddress]) -> bytes:
    """Write an address field: names encoded or quoted, addresses as they are (UTF-8 by RFC 6532), folded between them.

    Raises HeaderInjection for an address that is more than a bare one.
    """
    check_header_name(name)
    tokens = [token for mailbox in mailboxes for token in _mailbox_tokens(mailbox.address, mailbox.name or "")]
    if len(tokens) == 1:  # nearly every mail: nothing to fold
        return f"{name}: {tokens[0][:-1]}\r\n".encode("utf-8", "replace")
    return _fold(name, tokens).removesuffix(b",\r\n") + b"\r\n"


def mailboxes_text(mailboxes: Iterable[NamedAddress]) -> str:
    """The same as the value of a header that is still to be encoded: `"Bob, B." <bob@example.com>, carol@example.com`."""
    return ", ".join(_mailbox_text(mailbox.address, (mailbox.name or "").strip(" \t")) for mailbox in mailboxes)


def _mailbox_text(address: str, name: str) -> str:
    if not name:
        return address
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f"{name} <{address}>" if _ATOMS.fullmatch(name) else f'"{escaped}" <{address}>'


@lru_cache(CACHED_MAILBOXES)
def _mailbox_tokens(address: str, name: str) -> tuple[str, ...]:
    """Give the words of one mailbox between which a line may be folded; the last one ends with a comma."""
    check_header_value(name)
    if not _ADDRESS.fullmatch(address):
        raise HeaderInjection("not a bare address")
    name = name.strip(" \t")
    if not name:
        return (f"{address},",)
    *words, last = _phrase(name)
    if len(last) + len(address) <= FOLD_AT - 10:  # kept together: a reader of raw mail sees one mailbox on one line
        return (*words, f"{last} <{address}>,")
    return (*words, last, f"<{address}>,")


def _phrase(name: str) -> Sequence[str]:
    """Give a display name as atoms, as one quoted string, or as encoded words."""
    if len(name) <= FOLD_AT - 10 and "=?" not in name:
        if _ATOMS.fullmatch(name):
            return (name,)
        if _QUOTABLE.fullmatch(name):
            escaped = name.replace("\\", "\\\\").replace('"', '\\"')
            return (f'"{escaped}"',)
    return encoded_words(name, taken=len("Reply-To: "))


def encoded_words(text: str, taken: int = 1) -> list[str]:
    """Write `text` as encoded words of at most 75 octets each, never splitting a character (RFC 2047 §5).

    The first word is so much shorter that it fits a line of 76 of which `taken` octets are used. Q encoding while some
    of it stays readable, else B; lone surrogates become question marks.
    """
    raw = text.encode("utf-8", "replace")
    first = max(_WORD_ROOM - taken + 1, _WORD_ROOM // 2)
    if 2 * sum(len(_Q_TABLE[octet]) for octet in raw) <= 5 * len(raw):
        return [f"=?utf-8?q?{_q(chunk)}?=" for chunk in _chunks(text, first, _WORD_ROOM, quoted=True)]
    chunks = _chunks(text, first // 4 * 3, _WORD_ROOM // 4 * 3, quoted=False)
    return [f"=?utf-8?b?{binascii.b2a_base64(chunk, newline=False).decode('ascii')}?=" for chunk in chunks]


def _q(raw: bytes) -> str:
    """The Q encoding of RFC 2047 §4.2."""
    return "".join([_Q_TABLE[octet] for octet in raw])


def _chunks(text: str, first: int, room: int, *, quoted: bool) -> list[bytes]:
    """Cut `text` between characters into pieces whose octets (Q-encoded ones when `quoted`) fit the room."""
    chunks, current, used, limit = [], bytearray(), 0, first
    for char in text:
        raw = char.encode("utf-8", "replace")
        cost = sum(len(_Q_TABLE[octet]) for octet in raw) if quoted else len(raw)
        if current and used + cost > limit:
            chunks.append(bytes(current))
            current, used, limit = bytearray(), 0, room
        current += raw
        used += cost
    return [*chunks, bytes(current)]


def _is_plain(value: str) -> bool:
    """Whether the value needs no encoding."""
    return "=?" not in value and _PLAIN.fullmatch(value) is not None


def _mailboxes_of(value: str) -> list[NamedAddress]:
    """Read a list of mailboxes; empty when any part of it is none, or where reading it could exhaust the stack."""
    if value.count("(") + value.count(":") > MAX_NESTING:
        return []
    pairs = getaddresses([value])
    if not all(_ADDRESS.fullmatch(address) for _, address in pairs):
        return []
    return [NamedAddress(address, name) for name, address in pairs]


def _encode_unstructured(name: str, value: str) -> bytes:
    """Fold a value at its own spaces; encode the run of words from the first to the last that need it."""
    pieces = _SPACES.split(value)  # word, spaces, word, …
    needy = [i for i in range(0, len(pieces), 2) if not _is_plain(pieces[i]) or len(pieces[i]) > MAX_PLAIN_WORD]
    if any(len(gap) > FOLD_AT for gap in pieces[1::2]):  # a gap cannot be folded inside
        return _fold(name, encoded_words(value, taken=len(name) + 2))
    if not needy:
        return _fold_pieces(name, pieces)
    first, last = needy[0], needy[-1]
    words = encoded_words("".join(pieces[first : last + 1]), taken=1 if first else len(name) + 2)
    return _fold_pieces(name, [*pieces[:first], *_spaced(words), *pieces[last + 1 :]])


def _spaced(words: Sequence[str]) -> list[str]:
    """Give words with a space between each two, as `_fold_pieces` takes them."""
    return [part for word in words for part in (" ", word)][1:]


def _fold(name: str, words: Sequence[str]) -> bytes:
    """Fold words that one space separates."""
    return _fold_pieces(name, _spaced(words))


def _fold_pieces(name: str, pieces: Sequence[str]) -> bytes:
    """Write the field, breaking before a gap where the next word would pass FOLD_AT; gaps keep their spaces."""
    lines, line = [], f"{name}: {pieces[0] if pieces else ''}"
    if len(line) > FOLD_AT and line.endswith("?="):  # no room even for a short encoded word beside a long name
        lines, line = [f"{name}:"], f" {pieces[0]}"
    for gap, word in zip(pieces[1::2], pieces[2::2], strict=True):
        if len(line) + len(gap) + len(word) > FOLD_AT:
            lines.append(line)
            line = gap + word
        else:
            line += gap + word
    return "\r\n".join([*lines, line, ""]).encode("utf-8", "replace")
