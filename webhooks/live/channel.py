"""The two forms of the stream over a server's `send`: how it begins, what events look like, and how it ends."""

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import orjson

from webhooks.live.frames import (
    HEARTBEAT,
    SERVICE_RESTART,
    Ending,
    Item,
    Notice,
    cut_reason,
    notice,
    notice_text,
)
from webhooks.live.reading import Start

Send = Callable[[dict[str, Any]], Awaitable[None]]

CHUNK = 64 * 1024  # octets of events that are written at once
RETRY_MILLISECONDS = (1000, 5000)  # so that the clients of a process that ends do not come back all at once
NO_STORE = (b"cache-control", b"no-store")


def retry_milliseconds() -> int:
    """When a client should come back: another moment for each."""
    return random.randint(*RETRY_MILLISECONDS)  # noqa: S311 — spreads load, hides nothing


def _hello(start: Start) -> dict[str, Any]:
    return {"id": str(start.event_id), "complete": start.is_complete}


class EventStream:
    """Server-sent events."""

    def __init__(self, send: Send, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = list(headers)

    async def begin(self, start: Start) -> None:
        """The head of the response, and the first notice, which has an id to resume from."""
        head = [(b"content-type", b"text/event-stream; charset=utf-8"), NO_STORE, (b"x-accel-buffering", b"no")]
        await self._send({"type": "http.response.start", "status": 200, "headers": head + self._headers})
        await self._write(notice(Notice.HELLO, _hello(start), event_id=start.event_id, retry=retry_milliseconds()))

    async def events(self, items: Iterable[Item]) -> None:
        """Some events, many in one write."""
        chunk: list[bytes] = []
        size = 0
        for item in items:
            chunk.append(item.sse)
            size += len(item.sse)
            if size >= CHUNK:
                await self._write(b"".join(chunk))
                chunk, size = [], 0
        if chunk:
            await self._write(b"".join(chunk))

    async def heartbeat(self) -> None:
        """Something, so that nobody between takes the stream for dead."""
        await self._write(HEARTBEAT)

    async def end(self, ending: Ending) -> None:
        """Why it ends, and the end."""
        what = Notice.SHUTDOWN if ending.code == SERVICE_RESTART else Notice.CLOSING
        said = {"code": ending.code, "reason": ending.reason}
        last = notice(what, said, retry=retry_milliseconds())
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def refuse(self, status: int, body: dict[str, Any], headers: Mapping[str, str]) -> None:
        """An answer like the API's, instead of a stream."""
        data = orjson.dumps(body)
        more = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        head = [
            (b"content-type", b"application/json"),
            NO_STORE,
            (b"content-length", str(len(data)).encode()),
            *self._headers,
            *more,
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": head})
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def _write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})


class Socket:
    """WebSocket: a text frame of JSON for each event and notice."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._is_accepted = False

    async def begin(self, start: Start) -> None:
        """The handshake, and the first notice."""
        await self._accept()
        await self._text(notice_text(Notice.HELLO, {**_hello(start), "retry": retry_milliseconds()}))

    async def events(self, items: Iterable[Item]) -> None:
        """Some events, a frame each."""
        for item in items:
            await self._text(item.text)

    async def heartbeat(self) -> None:
        """Something; the server has no way to send a ping."""
        await self._text(notice_text(Notice.HEARTBEAT, {}))

    async def end(self, ending: Ending) -> None:
        """A word on the restart, and the close frame."""
        if ending.code == SERVICE_RESTART:
            await self._text(notice_text(Notice.SHUTDOWN, {"retry": retry_milliseconds()}))
        await self._close(ending)

    async def refuse(self, ending: Ending) -> None:
        """Accept and close: a browser tells its page the close code, and nothing of an HTTP status."""
        await self._accept()
        await self._close(ending)

    async def _accept(self) -> None:
        if not self._is_accepted:
            self._is_accepted = True
            await self._send({"type": "websocket.accept"})

    async def _text(self, text: str) -> None:
        await self._send({"type": "websocket.send", "text": text})

    async def _close(self, ending: Ending) -> None:
        await self._send({"type": "websocket.close", "code": ending.code, "reason": cut_reason(ending.reason)})
