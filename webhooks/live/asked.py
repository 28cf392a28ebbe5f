"""What a client asks for, read from the server's scope; nothing here touches the database."""

import ipaddress
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.conf import settings

from projects.events import EventKind
from relay_project.db.ids import MAX_ID
from relay_project.net.addresses import read_address
from relay_project.web.errors import ApiError, violation
from relay_project.web.fields import NOT_A_CHOICE, parse_integer
from relay_project.web.proxies import client_address
from webhooks.live.frames import Transport

MAX_KINDS = 100
MAX_QUERY = 4000  # octets, as long as the server lets a request line be
KINDS = frozenset(kind.value for kind in EventKind)
NO_ORIGIN = "A session opens a WebSocket only from a page of this site."


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a stream. `credential` is what `Authorization` or the query holds; neither is ever logged."""

    transport: Transport
    address: str
    origin: str | None
    host: str
    authorization: str | None
    token: str | None
    session_key: str | None
    project_id: str
    organisation_id: str
    after: int | None  # an event's id; 0: from the beginning of what is kept
    kinds: frozenset[str] | None
    send_id: int | None


def read_asked(scope: dict[str, Any]) -> Asked:
    """The request of an ASGI scope; raises ApiError 400 that names what is wrong, 403 for a strange origin."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    query = _read_query(scope.get("query_string", b""))
    after = query.get("after") or headers.get("last-event-id") or None
    asked = Asked(
        transport=Transport.WEBSOCKET if scope["type"] == "websocket" else Transport.SSE,
        address=_address(scope, headers),
        origin=headers.get("origin"),
        host=headers.get("host", ""),
        authorization=headers.get("authorization"),
        token=query.get("token"),
        session_key=_cookie(headers.get("cookie", ""), settings.SESSION_COOKIE_NAME),
        project_id=headers.get("x-project-id") or query.get("project_id", ""),
        organisation_id=headers.get("x-organization-id", ""),
        after=None if after is None else _read_id("after" if "after" in query else "Last-Event-ID", after),
        kinds=_read_kinds(query["kinds"]) if query.get("kinds") else None,
        send_id=_read_id("send_id", query["send_id"]) if query.get("send_id") else None,
    )
    check_origin(asked)
    return asked


def check_origin(asked: Asked) -> None:
    """A browser tells which page opens the stream: only pages of this site, or of LIVE_ORIGINS. Raises ApiError 403.

    Without it any page that a signed-in person visits could read along by their cookie (cross-site WebSocket hijacking).
    """
    if asked.origin is not None and not is_allowed_origin(asked.origin, asked.host):
        raise ApiError(403, "Pages of this origin may not open the stream: LIVE_ORIGINS names those that may.")
    by_cookie = asked.authorization is None and asked.token is None
    if by_cookie and asked.origin is None and asked.transport is Transport.WEBSOCKET:
        raise ApiError(403, NO_ORIGIN)


def is_allowed_origin(origin: str, host: str) -> bool:
    """Whether a page of that origin may read the stream."""
    if origin in (settings.WEB_URL, *settings.LIVE_ORIGINS):
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return bool(host) and parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _read_query(raw: bytes) -> dict[str, str]:
    if len(raw) > MAX_QUERY:
        raise ApiError(400, "The query is too long.")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise ApiError(400, "The query cannot be read.") from None
    return dict(pairs)


def _read_id(name: str, text: str) -> int:
    value = parse_integer(text.strip()) if len(text) <= 20 else None
    if value is None or not 0 <= value <= MAX_ID:
        raise violation(name, "This value is not the id of an event." if name != "send_id" else "This is not an id.")
    return value


def _read_kinds(text: str) -> frozenset[str]:
    kinds = [word.strip() for word in text.split(",")][: MAX_KINDS + 1]
    for index, kind in enumerate(kinds):
        if kind not in KINDS or index >= MAX_KINDS:
            raise violation(f"kinds[{index}]", NOT_A_CHOICE)
    return frozenset(kinds)


def _address(scope: dict[str, Any], headers: dict[str, str]) -> str:
    client = scope.get("client")
    peer = read_address(client[0]) if client else None
    if peer is None:
        return ""
    found = client_address(peer, headers.get("x-forwarded-for", "").split(","), settings.TRUSTED_PROXIES)
    return str(found)


def network_of(address: str) -> str:
    """What counts as one address against the limit: an IPv6 client has at least a /64 for itself."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))


def _cookie(header: str, name: str) -> str | None:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return None
    return found.value if found is not None else None
