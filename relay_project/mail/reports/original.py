"""The mail that a report is about: what came back of it, and every address that may be a return path of ours."""

import re
from collections.abc import Iterable
from dataclasses import replace
from email.message import Message
from email.utils import getaddresses

from relay_project.mail.reports.message import decoded, headers_in, leaves, octets_of
from relay_project.mail.reports.model import Original
from relay_project.mail.text import clean
from relay_project.mail.verp import PREFIX, TOKEN_LENGTH

RETURNED = frozenset(
    {
        "message/rfc822",
        "message/global",
        "message/rfc822-headers",
        "message/global-headers",
        "text/rfc822-headers",
        "text/rfc822",
        "message/partial",
        "message/external-body",
    }
)
MAX_RECIPIENTS = 100
MAX_TOKENS = 20
MAX_TOKEN_SEARCH = 1 << 19  # octets of each part that are searched
_MESSAGE_ID = re.compile(r"<([^<>\s]{1,500})>")
_TOKEN = re.compile(
    rb"(?<![a-z0-9._+-])%s[a-z2-7]{%d}@[a-z0-9.-]{1,253}" % (re.escape(PREFIX).encode(), TOKEN_LENGTH), re.I
)
_TO = frozenset({"to", "cc", "bcc", "x-original-to", "delivered-to", "x-envelope-to", "envelope-to", "x-rcpt-to"})


def read_original(message: Message, envelope_id: str = "") -> Original:
    """What is known of the mail that came back, from the part that returns it or its header."""
    returned = next((part for part in leaves(message) if is_returned(part)), None)
    original = original_in(decoded(returned)) if returned else Original()
    return replace(original, envelope_id=envelope_id, tokens=tokens_of(message))


def is_returned(part: Message) -> bool:
    """Whether a part is the mail that comes back, or its header."""
    return part.get_content_type() in RETURNED


def original_in(text: str) -> Original:
    """Read the header at the beginning of a text as that of the mail which came back."""
    fields: dict[str, str] = {}
    recipients: list[str] = []
    for name, value in headers_in(text):
        name = name.lower()
        fields.setdefault(name, value)
        if name in _TO:
            recipients += _addresses(value)
    return Original(
        message_id=_message_id(fields.get("message-id", "")),
        return_path=next(iter(_addresses(fields.get("return-path", ""))), ""),
        recipients=tuple(dict.fromkeys(recipients))[:MAX_RECIPIENTS],
        subject=clean(fields.get("subject", ""), 500),
        date=clean(fields.get("date", ""), 100),
    )


def tokens_of(message: Message) -> tuple[str, ...]:
    """Every address in headers and parts that has the shape of a return-path token, in lower case."""
    found: dict[str, None] = {}
    for text in _texts(message):
        for match in _TOKEN.finditer(text, 0, MAX_TOKEN_SEARCH):
            found[match[0].decode("ascii").lower().rstrip(".-")] = None
            if len(found) >= MAX_TOKENS:
                return tuple(found)
    return tuple(found)


def _texts(message: Message) -> Iterable[bytes]:
    yield "\n".join(str(value) for _, value in message.raw_items()).encode("utf-8", "replace")
    for part in leaves(message):
        if part.get_content_maintype() in ("text", "message"):
            yield octets_of(part)


def _message_id(value: str) -> str:
    match = _MESSAGE_ID.search(value)
    return clean(match[1] if match else value.strip(), 500)


def _addresses(value: str) -> list[str]:
    try:
        return [clean(address, 320) for _, address in getaddresses([value[:4096]]) if "@" in address]
    except Exception:  # noqa: BLE001 — the stdlib's address parser fails in many ways on hostile input
        return []
