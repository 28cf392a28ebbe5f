"""From the body of `POST /sends` to a SendRequest: the wire contract's checks of shape, every violation named.

Plain functions over the parsed object: this is the hottest path of the API. What needs the database (domain, counts,
size) is accept()'s.
"""

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from projects.limits import MOST_RECIPIENTS
from relay_project.mail.address import InvalidAddress, parse_mailbox
from relay_project.mail.headers import FORBIDDEN_HEADERS, HeaderInjection, check_header_name, check_header_value
from relay_project.mail.mime import Attachment, NamedAddress
from relay_project.web.errors import Violation, Violations
from relay_project.web.fields import BLANK, NUL, text_violation
from sending.accept.request import RequestedRecipient, SendRequest
from sending.api.lists import read_list
from sending.models import Priority, RecipientType

MAX_SUBJECT = 998  # characters, the contract's; RFC 5322 §2.1.1 has it for a line
MAX_DISPLAY_NAME = 998  # characters, what the columns hold
MAX_BODY = 2_097_152  # characters of body_html and of body_text
MAX_ATTACHMENTS = 10
MAX_ATTACHMENT = 10_485_760  # characters of base64
MAX_FILE_NAME = 255  # characters, what file systems hold
MAX_HEADERS = 200  # our own: no mail client writes a tenth of it
MAX_HEADERS_SIZE = 262_144  # characters of all of them, our own: folding thirteen million took five seconds
MAX_HEADER_VALUE = 65_536  # characters, our own: receiving servers cut or refuse a header far below

PRIORITIES = {"transactional": Priority.TRANSACTIONAL, "bulk": Priority.BULK}

MULTIPLE = "Multiple email addresses are not allowed."
NOT_AN_ADDRESS = "This value is not a valid email address."
NAME_TYPE = "The name must be a string."
LINE_BREAK = "This value should not contain line breaks."
ADDRESS_TYPE = "This value should be of type array|string."

_INTEGER_KEY = re.compile(r"0|-?[1-9]\d{0,18}", re.ASCII)  # what the contract's server takes for a number
_CONTENT_TYPE = re.compile(r"[\x20-\x7e]{1,255}")
_ATTACHMENT_FIELDS = frozenset({"content", "name", "content_type"})


@dataclass(frozen=True, slots=True)
class SubmittedMessage:
    """A body whose shape is right. `undecodable`: the index of the first attachment that is no base64."""

    request: SendRequest
    undecodable: int | None = None


class Body:
    """A body being read, and what was wrong with it."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.violations: dict[Violation, None] = {}  # in order, the same thing said once

    def note(self, name: str, message: str) -> None:
        self.violations[Violation(name, message)] = None


def read_message(
    data: Mapping[str, Any],
    idempotency_key: str | None = None,
    fingerprint: str = "",
    most_recipients: int = MOST_RECIPIENTS,
) -> SubmittedMessage:
    """Check a body's shape; raises Violations with all that is wrong."""
    body = Body(data)
    from_ = _read_from(body)
    recipients = [entry for kind in RecipientType for entry in _read_recipients(body, kind, most_recipients)]
    subject = _read_line(body, "subject", data.get("subject"), MAX_SUBJECT)
    html, text = (_read_text(body, name) for name in ("body_html", "body_text"))
    headers = _read_headers(body)
    attachments, undecodable = _read_attachments(body)
    priority = _read_priority(body)
    list_name, list_unsubscribe = read_list(body)
    _check_not_empty(body, html, text)
    if body.violations or from_ is None:
        raise Violations(body.violations)
    request = SendRequest(
        from_=from_,
        recipients=tuple(recipients),
        subject=subject or "",
        body_html=html,
        body_text=text,
        headers=headers,
        attachments=attachments,
        priority=priority,
        list=list_name,
        list_unsubscribe=list_unsubscribe,
        idempotency_key=idempotency_key,
        fingerprint=fingerprint,
    )
    return SubmittedMessage(request, undecodable)


# --- Addresses -----------------------------------------------------------------------------------------------------


def _read_from(body: Body) -> NamedAddress | None:
    value = body.data.get("from")
    if isinstance(value, list):
        body.note("from", MULTIPLE)
        return None
    if value is None or value == "" or value == {}:
        body.note("from", BLANK)
        return None
    return _read_address(body, "from", value)


def _read_recipients(body: Body, kind: RecipientType, most: int) -> list[RequestedRecipient]:
    """One address or a list. Of a list that is too long only as much as shows it: accept() refuses the number."""
    name, value = kind.value, body.data.get(kind.value)
    if value is None or value in ("", [], {}):
        if kind is RecipientType.TO:
            body.note(name, BLANK)
        return []
    entries = value if isinstance(value, list) else [value]
    found = [_read_address(body, name, entry) for entry in entries[: most + 1]]
    return [RequestedRecipient(kind, entry.address, entry.name or "") for entry in found if entry is not None]


def _read_address(body: Body, field: str, value: Any) -> NamedAddress | None:
    """A bare address or {email, name}; None when something is wrong, which has been noted."""
    name: Any = None
    if isinstance(value, dict):
        name, value = value.get("name"), value.get("email")
    elif not isinstance(value, str):
        body.note(field, MULTIPLE if isinstance(value, list) else ADDRESS_TYPE)
        return None
    if wrong := _address_violation(value) or _name_violation(name):
        body.note(field, wrong)
        return None
    return NamedAddress(value, name or None)


def _address_violation(value: object) -> str | None:
    if value is None or value == "":
        return BLANK
    if not isinstance(value, str):
        return NOT_AN_ADDRESS
    try:
        parse_mailbox(value)
    except InvalidAddress:
        return NOT_AN_ADDRESS
    return None


def _name_violation(name: object) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str):
        return NAME_TYPE
    return _line_violation(name, MAX_DISPLAY_NAME)


# --- Texts ---------------------------------------------------------------------------------------------------------


def _read_line(body: Body, field: str, value: object, maximum: int) -> str | None:
    """A text that becomes (part of) a header."""
    if value is None:
        return None
    if wrong := _line_violation(value, maximum):
        body.note(field, wrong)
        return None
    return str(value)


def _line_violation(value: object, maximum: int) -> str | None:
    wrong = text_violation(value, required=False, maximum=maximum)
    if wrong is None and isinstance(value, str) and ("\n" in value or "\r" in value):
        return LINE_BREAK
    return wrong


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


# --- Attachments ---------------------------------------------------------------------------------------------------


def _read_attachments(body: Body) -> tuple[tuple[Attachment, ...], int | None]:
    """The files, and the index of the first whose content cannot be decoded (a business check, after others)."""
    value = body.data.get("attachments")
    if value is None or value in ([], {}):
        return (), None
    if not isinstance(value, list):
        body.note("attachments", "This value should be of type array.")
        return (), None
    if len(value) > MAX_ATTACHMENTS:
        body.note("attachments", f"You can attach a maximum of {MAX_ATTACHMENTS} files.")
        return (), None
    for index, entry in enumerate(value):
        _check_attachment(body, f"attachments[{index}]", entry)
    if body.violations:
        return (), None
    files = []
    for index, entry in enumerate(value):
        content = decode_base64(entry["content"])
        if content is None:
            return (), index
        files.append(Attachment(content, entry.get("name") or None, entry.get("content_type") or None))
    return tuple(files), None


def _check_attachment(body: Body, path: str, entry: object) -> None:
    if not isinstance(entry, dict):
        body.note(path, "This value should be of type array.")
        return
    if wrong := _content_violation(entry):
        body.note(f"{path}[content]", wrong)
    name, content_type = entry.get("name"), entry.get("content_type")
    if name is not None and (wrong := _line_violation(name, MAX_FILE_NAME)):
        body.note(f"{path}[name]", wrong)
    if content_type and (wrong := _content_type_violation(content_type)):
        body.note(f"{path}[content_type]", wrong)
    for extra in list(entry.keys() - _ATTACHMENT_FIELDS)[:MAX_ATTACHMENTS]:
        body.note(f"{path}[{extra[:100]}]", "This field was not expected.")


def _content_violation(entry: dict[str, Any]) -> str | None:
    if "content" not in entry:
        return "This field is missing."
    content = entry["content"]
    if content is not None and not isinstance(content, str):
        return "This value should be of type string."
    if not content:
        return BLANK
    if len(content) > MAX_ATTACHMENT:
        return "Attachment content must not exceed 10MB."
    return None


def _content_type_violation(value: object) -> str | None:
    if not isinstance(value, str):
        return "This value should be of type string."
    return None if _CONTENT_TYPE.fullmatch(value) else "This value is not a valid content type."


def decode_base64(text: str) -> bytes | None:
    """RFC 4648 §4 in full: only its alphabet; white space between and missing padding are taken. None for others."""
    compact = "".join(text.split())
    try:
        return binascii.a2b_base64(compact + "=" * (-len(compact) % 4), strict_mode=True)
    except ValueError:
        return None
