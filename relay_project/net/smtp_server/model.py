"""What the SMTP server and the receptions behind it say to each other.

The server knows the protocol, limits and TLS. A Reception knows who may do what and where mail goes; there is one for
each service. The server calls it in the event loop, one step of one conversation at a time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from relay_project.mail.text import clean

MAX_REPLY_LINE = 500  # octets of a line's text; RFC 5321 §4.5.3.1.5 allows 512 with code, enhanced code and CRLF
MAX_REPLY_LINES = 20  # a client shows the first; nobody reads more
_CODE = range(200, 600)
_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Service(StrEnum):
    """What a listener is for."""

    MX = "mx"  # port 25: other servers; no AUTH
    SUBMISSION = "submission"  # port 587: customers; STARTTLS, then AUTH
    SUBMISSIONS = "submissions"  # port 465: customers; TLS from the first octet (RFC 8314 §3.3)


@dataclass(frozen=True, slots=True)
class SmtpReply:
    """One reply. `enhanced` (RFC 2034) may be empty; line feeds in `text` begin new lines of the reply.

    Whatever stands in `text`, no more than this one reply is written: it is cleaned and cut when it is encoded.
    A 421 closes the connection.
    """

    code: int
    enhanced: str
    text: str

    def __post_init__(self) -> None:
        """Refuse what no client could read; a defect of the caller's."""
        if self.code not in _CODE or (self.enhanced and not _ENHANCED.fullmatch(self.enhanced)):
            raise ValueError(f"not a reply: {self.code} {self.enhanced}")

    @property
    def is_success(self) -> bool:
        """Whether the step was done."""
        return self.code < 400

    @property
    def closes(self) -> bool:
        """Whether the connection ends with it (RFC 5321 §3.8)."""
        return self.code == 421

    def encode(self) -> bytes:
        """The reply as it goes over the wire, code and enhanced code on each of its lines (RFC 2034 §3)."""
        lines = [_line(line) for line in clean(self.text, MAX_REPLY_LINE * MAX_REPLY_LINES).split("\n")]
        lines = [line for line in lines[:MAX_REPLY_LINES] if line] or [b""]
        enhanced = self.enhanced.encode() + b" " if self.enhanced else b""
        code = str(self.code).encode()
        heads = [code + b"-"] * (len(lines) - 1) + [code + b" "]
        return b"".join(head + enhanced + line + b"\r\n" for head, line in zip(heads, lines, strict=True))

    def __str__(self) -> str:
        """Give it on one line, for logs."""
        return " ".join(self.encode().decode().split())


def _line(text: str) -> bytes:
    """One line without anything that could end it, cut between characters."""
    return _UNPRINTABLE.sub(" ", text).strip().encode()[:MAX_REPLY_LINE].decode(errors="ignore").encode()


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side of a conversation, as it stands when a step is taken."""

    address: str  # the client's; an IPv4-mapped one as IPv4
    port: int
    local_address: str
    local_port: int
    service: Service
    helo: str = ""  # what it calls itself, in EHLO or HELO; empty before
    tls: str | None = None  # "TLSv1.3", None in clear text
    through_proxy: bool = False  # address and port are a trusted proxy's word (PROXY protocol)
    cipher: str = ""
    esmtp: bool = True  # greeted by EHLO


@dataclass(frozen=True, slots=True)
class RcptTo:
    """A recipient that was taken, with its DSN parameters (RFC 3461 §4.1 and §4.2) as they were written."""

    address: str
    notify: str = ""
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class Mail:
    """A whole mail. Only recipients that the reception took are in it."""

    peer: Peer
    login: object | None  # what the reception gave at AUTH
    mail_from: str  # empty for the null reverse path, <>
    recipients: tuple[RcptTo, ...]
    octets: bytes = field(repr=False)  # lines end in CRLF, without exception; dots are unstuffed
    smtputf8: bool = False
    eight_bit: bool = False  # BODY=8BITMIME was said; the octets may have the eighth bit without it
    ret: str = ""  # DSN (RFC 3461 §4.3): FULL or HDRS
    envid: str = ""  # DSN (§4.4), as it was written (xtext)


class Reception(Protocol):
    """What becomes of mail. Each call is a step of one conversation; the next step waits for its answer.

    Called in the event loop: what blocks, a database above all, belongs into a thread of the reception's own. An exception
    is answered by 451 4.3.0 and logged with its traceback; the conversation goes on. A step may be cancelled when the
    peer has gone, except `message`.
    """

    async def login(self, peer: Peer, name: str, secret: str) -> object | SmtpReply:
        """Who that is, as an object that comes back in the later steps; or a refusal (535 5.7.8 …).

        Attributes `most_octets` and `most_recipients` of it, where there are, take the place of the server's limits.
        """

    async def sender(self, peer: Peer, login: object | None, address: str, size: int | None) -> SmtpReply | None:
        """MAIL FROM, with the SIZE that was declared; None when it is fine."""

    async def recipient(self, peer: Peer, login: object | None, mail_from: str, address: str) -> SmtpReply | None:
        """RCPT TO; None when it is fine."""

    async def message(self, mail: Mail) -> SmtpReply:
        """Take the mail: after a 250 it is this side's for good."""
