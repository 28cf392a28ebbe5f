"""`/v1/mailbox/{name}`: deposit, receive, acknowledge; plain views for tokens and keys, described in docs/mailboxes.md."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from projects.objects import timestamp
from relay_project.web.body import check_length, read_object
from relay_project.web.errors import TOO_LARGE, ApiError, answer_error
from relay_project.web.fields import BLANK, Fields, parse_integer, text_violation, whole
from relay_project.web.pagination import read_number, within
from webhooks.mailbox.deposit import NewItem, deposit, new_item
from webhooks.mailbox.entry import enter
from webhooks.mailbox.figures import ACKS, REFUSED
from webhooks.mailbox.receive import acknowledge, receive
from webhooks.mailbox.waiting import wait_for
from webhooks.models.mailbox import TokenKind

MAX_BATCH = 1000  # items of a call
MAX_KEY = 255  # characters
MAX_WAIT = 30  # seconds
MAX_LEASE = 12 * 3600  # seconds
DEFAULT_LEASE = 60
DEFAULT_LIMIT = 100
FULL_RETRY_SECONDS = 30
FULL = "This mailbox is full: its receiver has to acknowledge items first."
TOO_DEEP = "This value is nested too deeply."
NOT_AN_OBJECT = "This value should be of type object."

View = Callable[[HttpRequest, str], HttpResponse]


def answers(method: str) -> Callable[[Callable[[HttpRequest, str], tuple[int, dict[str, Any]]]], View]:
    """Make a view of a function that gives status and body; what it raises is an answer too."""

    def decorate(work: Callable[[HttpRequest, str], tuple[int, dict[str, Any]]]) -> View:
        def view(request: HttpRequest, name: str) -> HttpResponse:
            try:
                if request.method != method:
                    raise ApiError(405, "Method not allowed.", headers={"Allow": method})
                status, body = work(request, name)
            except Exception as error:  # noqa: BLE001 — becomes an answer; what nobody meant to raise is logged there
                return answer_error(error, request)
            return HttpResponse(orjson.dumps(body), status=status, content_type="application/json")

        return csrf_exempt(view)  # nobody comes with a session

    return decorate


@answers("POST")
def deposit_view(request: HttpRequest, name: str) -> tuple[int, dict[str, Any]]:
    """202 when everything is stored for good."""
    check_length(request)
    now = datetime.now(UTC)
    visitor = enter(request, name, TokenKind.DEPOSIT, now)
    _, body = read_object(request)
    items = _read_items(body)
    sender = _read_sender(body) or visitor.name
    stored = deposit(visitor.mailbox.pk, sender, items, now)
    if stored is None:
        REFUSED.labels("queue_full").inc()
        raise ApiError(507, FULL, headers={"Retry-After": str(FULL_RETRY_SECONDS)})
    told = [
        {"id": str(each.id), "expires_at": timestamp(each.expires_at), "duplicate": each.is_duplicate}
        for each in stored
    ]
    return 202, {"items": told} if "items" in body else told[0]


@answers("GET")
def receive_view(request: HttpRequest, name: str) -> tuple[int, dict[str, Any]]:
    """What is there, or what comes within `wait` seconds."""
    visitor = enter(request, name, TokenKind.RECEIVE, datetime.now(UTC))
    limit = _number(request, "limit", DEFAULT_LIMIT, 1, MAX_BATCH)
    lease = _number(request, "lease", DEFAULT_LEASE, 1, MAX_LEASE)
    wait = _number(request, "wait", 0, 0, MAX_WAIT)
    found = wait_for(
        visitor.mailbox,
        wait,
        lambda: receive(visitor.mailbox, limit, lease, datetime.now(UTC)),
        lambda received: bool(received.items),
    )
    return 200, {"items": found.items, "more": found.more}


@answers("POST")
def ack_view(request: HttpRequest, name: str) -> tuple[int, dict[str, Any]]:
    """Which of the ids were there, and which not (any more)."""
    check_length(request)
    visitor = enter(request, name, TokenKind.RECEIVE, datetime.now(UTC))
    _, body = read_object(request)
    ids = _read_ids(body)
    found = acknowledge(visitor.mailbox, [number for number in map(parse_integer, ids) if number], datetime.now(UTC))
    ACKS.inc(len(found))
    known = {each: parse_integer(each) in found for each in ids}
    return 200, {
        "acked": [each for each, was_there in known.items() if was_there],
        "unknown": [each for each, was_there in known.items() if not was_there],
    }


def _read_items(body: dict[str, Any]) -> list[NewItem]:
    """One item, or those of `items`; raises Violations, and ApiError 413 for a payload that is too large."""
    fields = Fields(body)
    if "items" not in body:
        item = _read_item(fields, "", body)
        fields.check()
        assert item is not None
        return [item]
    rows = body["items"]
    if not isinstance(rows, list) or not rows:
        fields.note("items", "This value should be of type array." if not isinstance(rows, list) else BLANK)
    elif len(rows) > MAX_BATCH:
        fields.note("items", f"This collection should contain {MAX_BATCH} elements or less.")
    fields.check()
    items = [_read_item(fields, f"items[{at}].", row) for at, row in enumerate(rows)]
    fields.check()
    return [item for item in items if item is not None]


def _read_item(fields: Fields, path: str, row: Any) -> NewItem | None:
    if not isinstance(row, dict):
        fields.note(path.removesuffix("."), NOT_AN_OBJECT)
        return None
    if row.get("payload") is None:
        fields.note(f"{path}payload", BLANK)
        return None
    key, ttl = row.get("key"), whole(row.get("ttl_seconds"))
    wrong = None if key is None else text_violation(key, True, MAX_KEY)
    if wrong:
        fields.note(f"{path}key", wrong)
    most = settings.MAILBOX_MAX_TTL_DAYS * 86_400
    if ttl is not None and (not isinstance(ttl, int) or isinstance(ttl, bool) or not 1 <= ttl <= most):
        fields.note(f"{path}ttl_seconds", f"This value should be a whole number between 1 and {most}.")
        return None
    if wrong:
        return None
    try:
        item = new_item(row["payload"], key, ttl)
    except TypeError:  # orjson reads deeper than it writes
        fields.note(f"{path}payload", TOO_DEEP)
        return None
    if item.size > settings.MAILBOX_MAX_PAYLOAD_BYTES:
        REFUSED.labels("payload_too_large").inc()
        raise ApiError(413, f"{TOO_LARGE} A payload has at most {settings.MAILBOX_MAX_PAYLOAD_BYTES} octets.")
    return item


def _read_sender(body: dict[str, Any]) -> str | None:
    fields = Fields(body)
    sender = fields.text("from", required="from" in fields)
    fields.check()
    return sender


def _read_ids(body: dict[str, Any]) -> list[str]:
    """`ids`, as the answers of receive spell them; numbers are taken, too."""
    rows = body.get("ids")
    fields = Fields(body)
    if not isinstance(rows, list) or not rows:
        fields.note("ids", BLANK if rows is None or rows == [] else "This value should be of type array.")
    elif len(rows) > MAX_BATCH:
        fields.note("ids", f"This collection should contain {MAX_BATCH} elements or less.")
    else:
        for at, row in enumerate(rows):
            if isinstance(row, bool) or not isinstance(row, str | int) or len(str(row)) > 40:
                fields.note(f"ids[{at}]", "This value should be of type string.")
    fields.check()
    return [str(row) for row in rows or ()]


def _number(request: HttpRequest, name: str, default: int, least: int, most: int) -> int:
    value = read_number(request.GET, name)
    return default if value is None else within(name, value, least, most)
