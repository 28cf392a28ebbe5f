"""`attachments` of `POST /sends`: files, and what an HTML body shows inline (`cid:`)."""

import binascii
import re
from typing import Any

from relay_project.mail.mime import Attachment
from relay_project.web.fields import BLANK
from sending.api.reading import Noting, line_violation

MAX_ATTACHMENTS = 10
MAX_ATTACHMENT = 10_485_760  # characters of base64
MAX_FILE_NAME = 255  # characters, what file systems hold
DISPOSITIONS = ("attachment", "inline")
CONTENT_ID = (
    r"[!-;=?-~]{1,200}"  # what the writer takes: ASCII without spaces and angle brackets, which may stand around it
)

_CONTENT_TYPE = re.compile(r"[\x20-\x7e]{1,255}")
_CONTENT_ID = re.compile(rf"<{CONTENT_ID}>|{CONTENT_ID}")
_FIELDS = frozenset({"content", "name", "content_type", "content_id", "disposition"})


def read_attachments(body: Noting) -> tuple[tuple[Attachment, ...], int | None]:
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
    good = [_check_attachment(body, f"attachments[{index}]", entry) for index, entry in enumerate(value)]
    if not all(good):
        return (), None
    _check_twice(body, value)
    files = []
    for index, entry in enumerate(value):
        content = decode_base64(entry["content"])
        if content is None:
            return (), index
        files.append(Attachment(content, entry.get("name") or None, entry.get("content_type") or None, _id_of(entry)))
    return tuple(files), None


def _check_attachment(body: Noting, path: str, entry: object) -> bool:
    """Whether nothing is wrong with one file."""
    if not isinstance(entry, dict):
        body.note(path, "This value should be of type array.")
        return False
    name, content_type = entry.get("name"), entry.get("content_type")
    found = {
        "content": _content_violation(entry),
        "name": None if name is None else line_violation(name, MAX_FILE_NAME),
        "content_type": _content_type_violation(content_type) if content_type else None,
        **_inline_violations(entry.get("content_id"), entry.get("disposition")),
        **dict.fromkeys(list(entry.keys() - _FIELDS)[:MAX_ATTACHMENTS], "This field was not expected."),
    }
    wrong = {field[:100]: message for field, message in found.items() if message}
    for field, message in wrong.items():
        body.note(f"{path}[{field}]", message)
    return not wrong


def _inline_violations(content_id: object, disposition: object) -> dict[str, str | None]:
    """What HTML shows is inline and has an id to show it by; a file to be saved has none."""
    wrong: dict[str, str | None] = {}
    if content_id is not None and not (isinstance(content_id, str) and _CONTENT_ID.fullmatch(content_id)):
        wrong["content_id"] = "This value is not a valid content id."
    if disposition is None:
        return wrong
    if disposition not in DISPOSITIONS:
        wrong["disposition"] = f"This value should be one of {', '.join(DISPOSITIONS)}."
    elif disposition == "inline" and content_id is None:
        wrong["content_id"] = "An inline attachment needs a content_id."
    elif disposition == "attachment" and content_id is not None:
        wrong["disposition"] = "An attachment with a content_id is inline."
    return wrong


def _id_of(entry: dict[str, Any]) -> str | None:
    content_id: str | None = entry.get("content_id")
    return None if content_id is None else content_id.removeprefix("<").removesuffix(">")


def _check_twice(body: Noting, entries: list[dict[str, Any]]) -> None:
    """A second file of the same id could not be named."""
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        content_id = _id_of(entry)
        if content_id is not None and content_id in seen:
            body.note(f"attachments[{index}][content_id]", "This content id is used twice.")
        seen.add(content_id or "")


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
