"""From an envelope and its MIME to a SendRequest.

Who receives is said by the envelope alone. Where To or Cc name one of them too, that is what they are; all others are Bcc, so
that nobody reads of them. Fields of ours say what a body of the API would, and are taken out; the rest is kept as it came.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from relay_project.mail.address import suppression_key
from relay_project.mail.raw import Cut, InvalidRaw, RawMessage, read_cut
from relay_project.web.errors import violation
from sending.accept.idempotency import MAX_KEY
from sending.accept.request import RequestedRecipient, SendRequest
from sending.api.message import Body, whole_request
from sending.models import RecipientType

PREFIX = "x-relay-"
KEY_FIELDS = ("x-relay-idempotency-key", "x-idempotency-key", "idempotency-key")
TAGS, METADATA, SEND_AFTER = "x-relay-tags", "x-relay-metadata", "x-relay-send-after"
PRIORITY, LIST, LIST_UNSUBSCRIBE = "x-relay-priority", "x-relay-list", "x-relay-list-unsubscribe"
FIELDS = frozenset({*KEY_FIELDS, TAGS, METADATA, SEND_AFTER, PRIORITY, LIST, LIST_UNSUBSCRIBE})

MAX_BOUNDARIES = 20  # of a mail, that are looked for in all of it

_YES, _NO = ("yes", "true", "1"), ("no", "false", "0", "")
# What clients make anew for each try of the same mail; it is no part of what was asked for.
_CHANGING = frozenset({"date", "message-id", "received"})
_BOUNDARY = re.compile(rb'boundary="?([^";\s]{1,200})"?', re.IGNORECASE)


def read_mail(octets: bytes, recipients: Sequence[str], *, is_test: bool) -> SendRequest:
    """The request; raises Violations that name the header field, or `message` for the MIME itself.

    `octets` have CRLF line ends; `recipients` are the envelope's, checked.
    """
    try:
        whole = Cut.of(octets)
        rest = whole.without(_is_ours)
        raw = read_cut(rest)
    except InvalidRaw as wrong:
        raise violation("message", str(wrong)) from None
    given = _once(whole.values(_is_ours))
    key = _key(given)
    body = Body(_options(given))
    fingerprint = fingerprint_of(rest, recipients, body.data, is_test) if key else ""
    return whole_request(body, raw, envelope_recipients(raw, recipients), key, fingerprint, is_test)


def envelope_recipients(raw: RawMessage, addresses: Sequence[str]) -> list[RequestedRecipient]:
    """The envelope's, as To, Cc or Bcc, in the order of the envelope."""
    named = {
        suppression_key(one.address): (kind, one.name or "")
        for kind, names in ((RecipientType.CC, raw.cc), (RecipientType.TO, raw.to))
        for one in names
    }
    kinds = [named.get(suppression_key(address), (RecipientType.BCC, "")) for address in addresses]
    return [RequestedRecipient(kind, address, name) for address, (kind, name) in zip(addresses, kinds, strict=True)]


def fingerprint_of(mail: Cut, recipients: Sequence[str], options: Mapping[str, Any], is_test: bool) -> str:
    """Of what is asked for: a second try of the same mail has another Date, Message-ID and boundaries, and nothing else."""
    rest = mail.without(_CHANGING.__contains__).joined()
    for number, boundary in enumerate(list(dict.fromkeys(_BOUNDARY.findall(rest)))[:MAX_BOUNDARIES]):
        rest = rest.replace(boundary, b"boundary-%d" % number)
    digest = hashlib.sha256(b"test\0" if is_test else b"")
    digest.update(orjson.dumps([sorted(recipients), dict(options)], option=orjson.OPT_SORT_KEYS))
    digest.update(rest)
    return digest.hexdigest()


def _is_ours(name: str) -> bool:
    return name.startswith(PREFIX) or name in KEY_FIELDS


def _once(fields: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Each field's value; tags may stand there more than once."""
    given: dict[str, str] = {}
    for name, value in fields:
        if name not in FIELDS:
            raise violation(
                _shown(name), f"There is no such field; there are {', '.join(map(_shown, sorted(FIELDS)))}."
            )
        if name in given and name != TAGS:
            raise violation(_shown(name), "This field may stand there once.")
        given[name] = f"{given[name]},{value}" if name in given else value
    return given


def _key(given: Mapping[str, str]) -> str | None:
    for name in KEY_FIELDS:
        if key := given.get(name, "").strip():
            if len(key) > MAX_KEY or not key.isprintable():
                raise violation(_shown(name), f"An idempotency key is text of at most {MAX_KEY} characters.")
            return key
    return None


def _options(given: Mapping[str, str]) -> dict[str, Any]:
    """What a body of the API would say; its reader checks the values."""
    body: dict[str, Any] = {}
    if tags := [tag for tag in (part.strip() for part in given.get(TAGS, "").split(",")) if tag]:
        body["tags"] = tags
    if METADATA in given:
        body["metadata"] = _metadata(given[METADATA])
    if SEND_AFTER in given:
        body["send_after"] = _moment(given[SEND_AFTER].strip())
    for name, option in ((PRIORITY, "priority"), (LIST, "list")):
        if name in given:
            body[option] = given[name].strip()
    if LIST_UNSUBSCRIBE in given:
        body["list_unsubscribe"] = _wish(given[LIST_UNSUBSCRIBE].strip())
    return body


def _metadata(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise violation(_shown(METADATA), 'This value is no JSON object, such as {"order": "1001"}.') from None


def _moment(text: str) -> int:
    """Unix seconds, or ISO 8601 with an offset."""
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return int(moment.timestamp())
    except (ValueError, OverflowError):
        pass
    sentence = "This value is no time: Unix seconds, or such as 2026-12-24T18:00:00+01:00 with its offset."
    raise violation(_shown(SEND_AFTER), sentence)


def _wish(text: str) -> Any:
    """Yes, no, or the address that takes mail instead."""
    if text.lower() in _YES:
        return True
    return False if text.lower() in _NO else {"mailto": text}


def _shown(name: str) -> str:
    """As people write it."""
    return "-".join(word.capitalize() for word in name[:80].split("-"))
