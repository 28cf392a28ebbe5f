"""What the other side said, or why it said nothing: SMTP replies, network failures, and the step they belong to."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from relay_project.mail.text import clean

MAX_LINES = 100  # lines kept of one reply; real ones have under ten, a tar pit sends for ever
# RFC 5321 §4.2: three digits, then a hyphen (more follows), a space, or nothing.
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
# RFC 3463 §2; the class must be that of the reply (RFC 2034 §4), so "550 4.2.2 …" keeps its "4.2.2" in the text.
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?=\s|$)[ \t]*")


class MalformedReply(ValueError):
    """Not a reply of RFC 5321 §4.2; the conversation is out of step and must end."""


class Stage(StrEnum):
    """The step of the journey that a reply or failure ended; the names are those of the wire contract."""

    ROUTE = "route"  # before any connection: MX and address look-ups
    DIAL = "dial"
    HELLO = "hello"
    STARTTLS = "starttls"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DATA_CLOSE = "data_close"  # the reply to the final dot
    QUIT = "quit"


class FailureKind(StrEnum):
    """Why there was no reply."""

    DNS = "dns"  # no usable answer: SERVFAIL, timeout
    NO_SUCH_DOMAIN = "no_such_domain"  # NXDOMAIN: an answer, and a definite one (RFC 5321 §5.1)
    NULL_MX = "null_mx"  # RFC 7505: the domain says that it takes no mail
    CONNECT = "connect"  # no way there: no route, or an address of ours that cannot be used
    REFUSED = "refused"  # the connection was refused or reset: nobody is there, or does not want us now
    TIMEOUT = "timeout"  # one step took too long
    TLS = "tls"
    CUT = "cut"  # the connection ended before the reply
    PROTOCOL = "protocol"  # something came that is no reply
    DEADLINE = "deadline"  # the whole conversation took too long


@dataclass(frozen=True, slots=True)
class NetworkFailure:
    """A step that ended without a reply."""

    kind: FailureKind
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply; `text` has the lines joined by line feeds, without codes."""

    code: int
    enhanced: str | None
    text: str

    def __str__(self) -> str:
        """Give the reply on one line, as people quote it."""
        words = [str(self.code), self.enhanced or "", " ".join(self.text.split())]
        return " ".join(word for word in words if word)


def parse_reply(lines: Sequence[bytes]) -> Reply:
    """Read one whole reply from its lines, with or without their CRLF.

    The enhanced status code (RFC 2034) is taken off each line that repeats it. Hostile bytes are cleaned, nothing
    else of the text is lost up to the limit of `clean`. Raises MalformedReply.
    """
    if not lines:
        raise MalformedReply("empty reply")
    matches = [_LINE.fullmatch(line.rstrip(b"\r\n")) for line in lines]
    code = _common_code(matches)
    texts = [clean(match[3] or b"") for match in matches[:MAX_LINES] if match]
    enhanced = _enhanced_of(texts[0], code)
    if enhanced:
        texts = [_without(text, enhanced) for text in texts]
    return Reply(code, enhanced, clean("\n".join(texts)))


def _common_code(matches: Sequence[re.Match[bytes] | None]) -> int:
    """Check that every line is one, that all have the same code and that only the last one ends the reply."""
    codes = {match[1] if match else b"" for match in matches}
    if len(codes) != 1 or b"" in codes:
        raise MalformedReply("lines that are no reply, or with different codes")
    more_follows = [match is not None and match[2] == b"-" for match in matches]
    if more_follows[-1] or not all(more_follows[:-1]):
        raise MalformedReply("a reply that does not end where it should")
    return int(codes.pop())


def _enhanced_of(text: str, code: int) -> str | None:
    """Give the enhanced status code that starts `text`, when its class is that of the reply."""
    match = _ENHANCED.match(text)
    return match[1] if match and match[1][0] == str(code)[0] else None


def _without(text: str, enhanced: str) -> str:
    """Take `enhanced` off the start of a line that repeats it."""
    match = _ENHANCED.match(text)
    return text[match.end() :] if match and match[1] == enhanced else text
