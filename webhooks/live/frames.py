"""What goes over the wire of the live stream, in both its forms, and why it ends."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from webhooks.feed import FeedEvent

HEARTBEAT = b": heartbeat\n\n"  # a comment, which EventSource passes over


class Transport(StrEnum):
    """The forms of the stream."""

    SSE = "sse"  # server-sent events, WHATWG HTML §9.2
    WEBSOCKET = "websocket"  # RFC 6455


class Notice(StrEnum):
    """What the stream says of itself; kinds of events have a dot, these do not."""

    HELLO = "hello"
    HEARTBEAT = "heartbeat"
    SHUTDOWN = "shutdown"
    CLOSING = "closing"


SERVICE_RESTART = 1012  # RFC 6455 §7.4.2's registry: the server restarts, come back
TRY_AGAIN_LATER = 1013
POLICY_VIOLATION = 1008
SLOW = 4408
MAX_REASON = 120  # octets of a close frame's reason (RFC 6455 §5.5 leaves 123)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a stream ends: a close code of the WebSocket, which the SSE's last notice tells as well."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Item:
    """One event, encoded once for all who get it."""

    position: int
    event_id: int
    project_id: int
    kind: str
    send_id: int | None
    sse: bytes
    text: str


def encode(event: FeedEvent, body: dict[str, Any]) -> Item:
    """The event in both forms."""
    data = orjson.dumps(body)
    return Item(
        event.position,
        event.id,
        event.project_id,
        event.kind,
        send_id_of(event),
        b"id: %d\nevent: %b\ndata: %b\n\n" % (event.id, event.kind.encode(), data),
        data.decode(),
    )


def send_id_of(event: FeedEvent) -> int | None:
    """The send that an event is about."""
    return event.subject_id if event.subject_kind == "send" else None


def notice(what: Notice, said: dict[str, Any], *, event_id: int | None = None, retry: int | None = None) -> bytes:
    """A notice as a server-sent event. `retry`: milliseconds until the client comes back by itself."""
    lines = [b"id: %d\n" % event_id] if event_id is not None else []
    lines += [b"retry: %d\n" % retry] if retry is not None else []
    lines.append(b"event: %b\ndata: %b\n\n" % (what.encode(), orjson.dumps(said)))
    return b"".join(lines)


def notice_text(what: Notice, said: dict[str, Any]) -> str:
    """A notice as a WebSocket's text frame."""
    return orjson.dumps({"event": what.value, **said}).decode()


def ending_of(status: int, reason: str) -> Ending:
    """The close code of a refusal: 4000 and its HTTP status; 1013 where trying again later helps."""
    return Ending(TRY_AGAIN_LATER if status == 503 else 4000 + status, reason)


def cut_reason(reason: str) -> str:
    """What a close frame has room for."""
    return reason.encode()[:MAX_REASON].decode(errors="ignore")
