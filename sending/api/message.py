"""From the body of `POST /sends` to a SendRequest: the wire contract's checks of shape, every violation named.

Plain functions over the parsed object: this is the hottest path of the API. What needs the database (domain, counts,
size) is accept()'s.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from projects.limits import MOST_RECIPIENTS
from relay_project.mail.headers import FORBIDDEN_HEADERS, HeaderInjection, check_header_name, check_header_value
from relay_project.mail.mime import Attachment, NamedAddress
from relay_project.mail.raw import RawMessage
from relay_project.web.errors import Violation, Violations
from relay_project.web.fields import BLANK, NUL
from sending.accept.request import RequestedRecipient, SendRequest
from sending.api.attachments import read_attachments
from sending.api.extras import read_extras, read_reply_to
from sending.api.lists import read_list
from sending.api.raw import check_from, read_raw_field, recipients_of
from sending.api.reading import MULTIPLE, line_violation, read_address
from sending.models import Priority, RecipientType

MAX_SUBJECT = 998  # characters, the contract's; RFC 5322 §2.1.1 has it for a line
MAX_BODY = 2_097_152  # characters of body_html and of body_text
MAX_HEADERS = 200  # our own: no mail client writes a tenth of it
MAX_HEADERS_SIZE = 262_144  # characters of all of them, our own: folding thirteen million took five seconds
MAX_HEADER_VALUE = 65_536  # characters, our own: receiving servers cut or refuse a header far below

PRIORITIES = {"transactional": Priority.TRANSACTIONAL, "bulk": Priority.BULK}

_INTEGER_KEY = re.compile(r"0|-?[1-9]\d{0,18}", re.ASCII)  # what the contract's server takes for a number


@dataclass(frozen=True, slots=True)
class SubmittedMessage:
    """A body whose shape is right. `undecodable`: the index of the first attachment that is no base64."""

    request: SendRequest
    undecodable: int | None = None


@dataclass(frozen=True, slots=True)
class ReadContent:
    """What may be the same for many: bodies, header fields and files."""

    html: str | None
    text: str | None
    headers: tuple[tuple[str, str], ...]
    attachments: tuple[Attachment, ...]
    undecodable: int | None


CONTENT_FIELDS = ("body_html", "body_text", "headers", "reply_to", "attachments", "raw")


class Body:
    """A body being read, and what was wrong with it."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.violations: dict[Violation, None] = {}  # in order, the same thing said once

    def note(self, name: str, message: str) -> None:
        self.violations[Violation(name, message)] = None


def read_content(body: Body) -> ReadContent:
    """The part of a body that a batch may share; what is wrong is noted."""
    html, text = (_read_text(body, name) for name in ("body_html", "body_text"))
    headers = (*_read_headers(body), *read_reply_to(body))
    attachments, undecodable = read_attachments(body)
    _check_not_empty(body, html, text)
    return ReadContent(html, text, headers, attachments, undecodable)


def read_message(
    data: Mapping[str, Any],
    idempotency_key: str | None = None,
    fingerprint: str = "",
    most_recipients: int = MOST_RECIPIENTS,
    *,
    is_test: bool = False,
    content: ReadContent | None = None,
) -> SubmittedMessage:
    """Check a body's shape; raises Violations with all that is wrong.

    `is_test`: it came with a test key. `content`: what a batch shares, and has read already.
    """
    body = Body(data)
    if data.get("raw") is not None:
        return SubmittedMessage(_read_whole(body, idempotency_key, fingerprint, most_recipients, is_test))
    from_ = _read_from(body)
    recipients = [entry for kind in RecipientType for entry in _read_recipients(body, kind, most_recipients)]
    subject = _read_line(body, "subject", data.get("subject"), MAX_SUBJECT)
    content = content or read_content(body)
    extras = read_extras(body)
    priority = _read_priority(body)
    list_name, list_unsubscribe = read_list(body)
    if body.violations or from_ is None:
        raise Violations(body.violations)
    request = SendRequest(
        from_=from_,
        recipients=tuple(recipients),
        subject=subject or "",
        body_html=content.html,
        body_text=content.text,
        headers=content.headers,
        attachments=content.attachments,
        priority=priority,
        send_after=extras.send_after,
        tags=extras.tags,
        metadata=extras.metadata,
        is_test=is_test,
        list=list_name,
        list_unsubscribe=list_unsubscribe,
        idempotency_key=idempotency_key,
        fingerprint=fingerprint,
    )
    return SubmittedMessage(request, content.undecodable)


def _read_whole(body: Body, key: str | None, fingerprint: str, most: int, is_test: bool) -> SendRequest:
    """A message that comes as MIME. Who gets it is said by `to`, `cc` and `bcc` if they are there, else by its header."""
    raw = read_raw_field(body)
    given = _read_from(body) if body.data.get("from") else None
    kinds = [kind for kind in RecipientType if body.data.get(kind.value)]
    recipients = [entry for kind in kinds for entry in _read_recipients(body, kind, most)]
    if raw is not None:
        check_from(body, raw, given)
        if not kinds and not (recipients := recipients_of(raw, most)):
            body.note("to", BLANK)
    return whole_request(body, raw, recipients, key, fingerprint, is_test)


def whole_request(
    body: Body,
    raw: RawMessage | None,
    recipients: Sequence[RequestedRecipient],
    idempotency_key: str | None,
    fingerprint: str,
    is_test: bool,
) -> SendRequest:
    """MIME with the options that a body has for it; raises Violations with all that is wrong, and has been noted before."""
    extras, priority, (list_name, list_unsubscribe) = read_extras(body), _read_priority(body), read_list(body)
    if raw is not None and list_unsubscribe is not None and "list-unsubscribe" in raw.names:
        body.note("list_unsubscribe", "The header List-Unsubscribe stands in raw already.")
    if body.violations or raw is None:
        raise Violations(body.violations)
    return SendRequest(
        from_=raw.from_,
        recipients=tuple(recipients),
        subject=raw.subject,
        raw=raw,
        priority=priority,
        send_after=extras.send_after,
        tags=extras.tags,
        metadata=extras.metadata,
        is_test=is_test,
        list=list_name,
        list_unsubscribe=list_unsubscribe,
        idempotency_key=idempotency_key,
        fingerprint=fingerprint,
    )


# --- Addresses -----------------------------------------------------------------------------------------------------


def _read_from(body: Body) -> NamedAddress | None:
    value = body.data.get("from")
    if isinstance(value, list):
        body.note("from", MULTIPLE)
        return None
    if value is None or value == "" or value == {}:
        body.note("from", BLANK)
        return None
    return read_address(body, "from", value)


def _read_recipients(body: Body, kind: RecipientType, most: int) -> list[RequestedRecipient]:
    """One address or a list. Of a list that is too long only as much as shows it: accept() refuses the number."""
    name, value = kind.value, body.data.get(kind.value)
    if value is None or value in ("", [], {}):
        if kind is RecipientType.TO:
            body.note(name, BLANK)
        return []
    entries = value if isinstance(value, list) else [value]
    found = [read_address(body, name, entry) for entry in entries[: most + 1]]
    return [RequestedRecipient(kind, entry.address, entry.name or "") for entry in found if entry is not None]


# --- Texts ---------------------------------------------------------------------------------------------------------


def _read_line(body: Body, field: str, value: object, maximum: int) -> str | None:
    """A text that becomes (part of) a header."""
    if value is None:
        return None
    if wrong := line_violation(value, maximum):
        body.note(field, wrong)
        return None
    return str(value)


def _read_text(body: Body, field: str) -> str | None:
    value = body.data.get(field)
    if value is None:
        return None
    if not isinstance(value, str):
        body.note(field, "This value should be of type string.")
    elif len(value) > MAX_BODY:
        body.note(field, f"{field} must not exceed 2MB.")
    elif "\0" in value:
        body.note(field, NUL)
    else:
        return value
    return None


def _read_priority(body: Body) -> Priority | None:
    """Our own addition to the contract: a word; without it the project's send type decides."""
    value = body.data.get("priority")
    if value is None:
        return None
    if isinstance(value, str) and value in PRIORITIES:
        return PRIORITIES[value]
    body.note("priority", f"This value should be one of {', '.join(PRIORITIES)}.")
    return None


def _check_not_empty(body: Body, html: str | None, text: str | None) -> None:
    """Something to read. Two empty bodies are a template that went wrong, unless the mail only carries files."""
    if html or text or any(body.data.get(field) not in (None, "") for field in ("body_html", "body_text")):
        return
    if html is text is None or not body.data.get("attachments"):
        body.note("body_html", "body_html must not be blank if body_text is null")
        body.note("body_text", "body_text must not be blank if body_html is null")


# --- Headers -------------------------------------------------------------------------------------------------------


def _read_headers(body: Body) -> tuple[tuple[str, str], ...]:
    """A map of names to values; an empty list is what PHP makes of an empty map."""
    value = body.data.get("headers")
    if isinstance(value, list):
        value = {str(index): entry for index, entry in enumerate(value[:MAX_HEADERS])}
    if not value and not isinstance(value, bool | int | float | str):
        return ()
    if not isinstance(value, dict):
        body.note("headers", "This value should be of type array.")
    elif len(value) > MAX_HEADERS:
        body.note("headers", f"This collection should contain {MAX_HEADERS} elements or less.")
    else:
        wrong = [message for name, text in value.items() if (message := _header_violation(name, text))]
        if not wrong and sum(len(name) + len(text) for name, text in value.items()) > MAX_HEADERS_SIZE:
            wrong.append(f"This collection is too large. It should have {MAX_HEADERS_SIZE} characters or less.")
        for message in wrong:
            body.note("headers", message)
        return () if wrong else tuple(value.items())
    return ()


def _header_violation(name: str, value: object) -> str | None:
    shown = name[:100]
    if _INTEGER_KEY.fullmatch(name):
        return f"The header key {shown} must be a string."
    if not isinstance(value, str):
        return f"The header value of {shown} must be a string."
    if name.lower() in FORBIDDEN_HEADERS:
        return f"The header {shown} is not allowed as a custom header."
    if len(value) > MAX_HEADER_VALUE:
        return f"The header value of {shown} is too long. It should have {MAX_HEADER_VALUE} characters or less."
    try:
        check_header_name(name)
    except HeaderInjection:
        return f"{shown!r} is not a valid header name."
    try:
        check_header_value(value)
    except HeaderInjection:
        return f"The header value of {shown} should not contain line breaks or NUL characters."
    return None
