"""What Relay adds to the contract's `POST /sends`: a time, replies to somebody else, tags and metadata."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from relay_project.mail.headers import mailboxes_text
from relay_project.web.fields import MAX_BIGINT, whole
from sending.api.reading import Noting, read_address

MAX_REPLY_TO = 10  # addresses, our own: no reader writes to more
MAX_REPLY_TO_NAME = 255  # characters, our own: a name without a space must fit a line of its header
MAX_TAGS = 10
TAG = r"[A-Za-z0-9](?:[A-Za-z0-9 ._:/@+-]{0,62}[A-Za-z0-9._:/@+-])?"  # up to 64 characters
MAX_METADATA = 20  # entries
METADATA_NAME = r"[A-Za-z0-9_.-]{1,64}"
MAX_METADATA_VALUE = 500  # characters; all of it comes back in each event
LAST_MOMENT = 253_402_300_799  # 31 December 9999 in Unix seconds, where Python's datetime ends

TAG_VIOLATION = "A tag has 1 to 64 letters, digits and .-_:/@+ or spaces between them."
NAME_VIOLATION = "A name has 1 to 64 letters, digits, dots, hyphens and underscores."

_TAG = re.compile(TAG, re.ASCII)
_NAME = re.compile(METADATA_NAME, re.ASCII)
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # what PostgreSQL's JSON has no room for


@dataclass(frozen=True, slots=True)
class Extras:
    """The fields that a message has for itself."""

    send_after: datetime | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


_NOTHING = Extras()
_FIELDS = frozenset({"send_after", "tags", "metadata"})


def read_extras(body: Noting) -> Extras:
    """The fields of a body, but for `reply_to`; nearly every mail has none of them."""
    if _FIELDS.isdisjoint(body.data):
        return _NOTHING
    return Extras(read_send_after(body), _read_tags(body), _read_metadata(body))


def read_send_after(body: Noting) -> datetime | None:
    """Unix seconds; what is past means now, and how far ahead it may be is accept()'s to say."""
    value = whole(body.data.get("send_after"))
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        body.note("send_after", "This value should be of type int.")
    elif not 0 <= value <= MAX_BIGINT:
        body.note("send_after", "This value should be a time in Unix seconds.")
    else:
        return datetime.fromtimestamp(min(value, LAST_MOMENT), UTC)
    return None


def read_reply_to(body: Noting) -> tuple[tuple[str, str], ...]:
    """One address or a list, as the header they become."""
    value = body.data.get("reply_to")
    if value is None or value in ("", [], {}):
        return ()
    headers = body.data.get("headers")
    if isinstance(headers, dict) and any(name.lower() == "reply-to" for name in headers):
        body.note("reply_to", "Give either reply_to or the header Reply-To, not both.")
    entries = value if isinstance(value, list) else [value]
    if len(entries) > MAX_REPLY_TO:
        body.note("reply_to", f"This collection should contain {MAX_REPLY_TO} elements or less.")
        return ()
    found = [read_address(body, "reply_to", entry) for entry in entries]
    mailboxes = [entry for entry in found if entry is not None]
    if any(len(mailbox.name or "") > MAX_REPLY_TO_NAME for mailbox in mailboxes):
        body.note("reply_to", f"A name is too long. It should have {MAX_REPLY_TO_NAME} characters or less.")
        return ()
    return (("Reply-To", mailboxes_text(mailboxes)),) if mailboxes else ()


def _read_tags(body: Noting) -> tuple[str, ...]:
    """Each once, in the order given."""
    value = body.data.get("tags")
    if value is None:
        return ()
    if not isinstance(value, list):
        body.note("tags", "This value should be of type array.")
        return ()
    if len(value) > MAX_TAGS:
        body.note("tags", f"This collection should contain {MAX_TAGS} elements or less.")
        return ()
    wrong = [index for index, tag in enumerate(value) if not (isinstance(tag, str) and _TAG.fullmatch(tag))]
    for index in wrong:
        body.note(f"tags[{index}]", TAG_VIOLATION)
    return () if wrong else tuple(dict.fromkeys(value))


def _read_metadata(body: Noting) -> dict[str, str]:
    """A flat map of strings; an empty list is what PHP makes of an empty map."""
    value = body.data.get("metadata")
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        body.note("metadata", "This value should be an object of strings.")
        return {}
    if len(value) > MAX_METADATA:
        body.note("metadata", f"This collection should contain {MAX_METADATA} elements or less.")
        return {}
    wrong = {name: message for name, text in value.items() if (message := _entry_violation(name, text))}
    for name, message in wrong.items():
        body.note(f"metadata[{name[:64]}]", message)
    return {} if wrong else value


def _entry_violation(name: str, value: Any) -> str | None:
    if not _NAME.fullmatch(name):
        return NAME_VIOLATION
    if not isinstance(value, str):
        return "This value should be of type string."
    if len(value) > MAX_METADATA_VALUE:
        return f"This value is too long. It should have {MAX_METADATA_VALUE} characters or less."
    return "This value is not text that can be stored." if _UNSTORABLE.search(value) else None
