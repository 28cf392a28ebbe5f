"""AUTH PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login) inside of SMTP (RFC 4954)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from relay_project.net.smtp_server import replies
from relay_project.net.smtp_server.model import SmtpReply

MAX_LINE = 12_288  # octets, RFC 4954 §4
MECHANISMS = ("PLAIN", "LOGIN")

Ask = Callable[[str], Awaitable[bytes]]  # writes a 334 with that challenge and waits for the line


class AuthRefused(Exception):
    """The exchange did not come to a name and a secret; `reply` says why."""

    def __init__(self, reply: SmtpReply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client gave."""

    name: str
    secret: str = field(repr=False)


async def read_credentials(argument: str, ask: Ask) -> Credentials:
    """Go through the exchange that `AUTH <argument>` begins. Raises AuthRefused."""
    mechanism, _, initial = argument.partition(" ")
    first = initial.strip().encode()
    if mechanism.upper() == "PLAIN":
        return _plain(_decode(first or await ask("")))
    if mechanism.upper() == "LOGIN":
        name, secret = _decode(first or await ask("Username:")), _decode(await ask("Password:"))
        if "\0" in name + secret:
            raise AuthRefused(replies.AUTH_UNREADABLE)
        return Credentials(name, secret)
    raise AuthRefused(replies.AUTH_UNKNOWN)


def _plain(message: str) -> Credentials:
    identity, *rest = message.split("\0")
    if len(rest) != 2:
        raise AuthRefused(replies.AUTH_UNREADABLE)
    name, secret = rest
    if identity not in ("", name):
        raise AuthRefused(replies.AUTH_OTHER_IDENTITY)
    return Credentials(name, secret)


def _decode(line: bytes) -> str:
    if line == b"*":
        raise AuthRefused(replies.AUTH_CANCELLED)
    if line == b"=":  # an initial response that is empty (RFC 4954 §4)
        return ""
    try:
        return base64.b64decode(line.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise AuthRefused(replies.AUTH_UNREADABLE) from None


def challenge(text: str) -> bytes:
    """The 334 that asks for more."""
    return b"334 " + base64.b64encode(text.encode()) + b"\r\n"
