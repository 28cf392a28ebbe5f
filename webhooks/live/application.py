"""The ASGI application of the live stream: opens a stream, writes what it gets, and ends it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import structlog

from relay_project.web.errors import INTERNAL, ApiError
from webhooks.live import counts
from webhooks.live.asked import Asked, is_allowed_origin, read_asked
from webhooks.live.channel import EventStream, Send, Socket
from webhooks.live.connection import Connection, Wire
from webhooks.live.frames import POLICY_VIOLATION, SLOW, Ending, ending_of
from webhooks.live.hub import Hub
from webhooks.live.reading import Start, read_page, read_start
from webhooks.live.tickets import Ticket, admit

PATH = "/api/console/live"
WIRE = "relay.wire"  # among the scope's extensions: the transport, where the server shows it
END_SECONDS = 5.0  # for a client to take the end
RETRY_SECONDS = 1.0  # of a reading, while the database is away
CATCH_UP_SECONDS = 0.02  # between looks whether the process's own reading has begun
MAX_MESSAGES = 120  # a minute from a client, who has nothing to say
HEADERS_ALLOWED = b"authorization, last-event-id, x-project-id"

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
log = structlog.get_logger(__name__)


class LiveApplication:
    """Answers PATH over HTTP and WebSocket; the server's life cycle begins and ends the hub."""

    def __init__(self, hub: Hub | None = None) -> None:
        self.hub = hub or Hub()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "lifespan":
                await self._lifespan(receive, send)
            case "websocket":
                await self._websocket(scope, receive, send)
            case _:
                await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.hub.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.hub.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    # --- Opening -------------------------------------------------------------------------------------------------

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = EventStream(send, _cors(scope))
        if scope["method"] == "OPTIONS":
            await _preflight(send, _cors(scope))
            return
        try:
            if scope["method"] != "GET":  # a HEAD's stream would be one that says nothing
                raise ApiError(405, "Method not allowed.", headers={"Allow": "GET"})
            one, start = await self._open(scope)
        except ApiError as refused:
            _count_refusal(refused.status)
            await stream.refuse(refused.status, refused.body(), refused.headers)
            return
        await self._serve(one, start, stream, receive)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = Socket(send)
        await receive()  # websocket.connect
        try:
            if scope["path"] != PATH:
                raise ApiError(404, "There is no stream at this path.")
            one, start = await self._open(scope)
        except ApiError as refused:
            _count_refusal(refused.status)
            await socket.refuse(ending_of(refused.status, refused.message))
            return
        await self._serve(one, start, socket, receive)

    async def _open(self, scope: Scope) -> tuple[Connection, Start]:
        """A stream that is counted, and where it begins; raises ApiError."""
        self.hub.start()  # for servers without a life cycle
        self.hub.check_room()
        asked = read_asked(scope)
        try:
            with self.hub.opening():
                ticket, scopes, start = await self.hub.run(_admit, asked)
        except ApiError:
            raise
        except Exception:
            log.exception("live.crashed")
            raise ApiError(500, INTERNAL) from None
        wire: Wire | None = scope.get("extensions", {}).get(WIRE)
        one = Connection(asked, ticket, scopes, wire, after=start.position)
        self.hub.add(one)
        return one, start

    # --- Running -------------------------------------------------------------------------------------------------

    async def _serve(self, one: Connection, start: Start, channel: EventStream | Socket, receive: Receive) -> None:
        """Write until it ends or its client leaves."""
        one.writer = asyncio.create_task(self._write(one, start, channel))
        leaving = asyncio.create_task(_until_left(one, receive))
        try:
            await asyncio.wait((one.writer, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not leaving.done():
                await _finish(one, channel)
        finally:
            self.hub.remove(one)
            for task in (one.writer, leaving):
                task.cancel()
            results = await asyncio.gather(one.writer, leaving, return_exceptions=True)
            for failure in results:
                if isinstance(failure, Exception) and not isinstance(failure, OSError):
                    log.error("live.crashed", exc_info=failure)
            code = one.ending.code if one.ending else 1000
            counts.CLOSED.labels(str(code)).inc()
            log.info("live.closed", code=code, **one.log_context())

    async def _write(self, one: Connection, start: Start, channel: EventStream | Socket) -> None:
        """The stream itself; returns when it shall end."""
        await _timed(one, channel.begin(start))
        while True:
            if not one.is_joined:
                await self._catch_up(one, channel)
            await _flush(one, channel)
            if one.ending is not None:
                return
            if one.heartbeat_due:
                one.heartbeat_due = False
                await _timed(one, channel.heartbeat())
            await one.wake.wait()
            one.wake.clear()

    async def _catch_up(self, one: Connection, channel: EventStream | Socket) -> None:
        """Read the feed for this stream alone, until it can take what the process reads."""
        while one.ending is None:
            await _flush(one, channel)
            if self.hub.join(one):
                return
            try:
                page = await self.hub.run(read_page, one.project_id, one.after, one.wants)
            except ApiError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            one.queue.extend(page.items)
            one.after = page.end
            if not page.is_full and not page.items:
                await asyncio.sleep(CATCH_UP_SECONDS)


def _admit(asked: Asked) -> tuple[Ticket, frozenset[str], Start]:
    ticket, scopes = admit(asked, datetime.now(UTC))
    return ticket, scopes, read_start(ticket.project_id, asked.after)


async def _flush(one: Connection, channel: EventStream | Socket) -> None:
    while one.queue:
        items = list(one.queue)
        one.queue.clear()
        await _timed(one, channel.events(items))
        one.written += len(items)
        counts.EVENTS.labels(one.transport).inc(len(items))


async def _timed(one: Connection, writing: Awaitable[None]) -> None:
    """Write, and have it seen how long that takes."""
    one.writing_since = monotonic()
    try:
        await writing
    finally:
        one.writing_since = None
        one.written_at = monotonic()


async def _finish(one: Connection, channel: EventStream | Socket) -> None:
    """Tell the client why it ends; one that takes nothing is let go."""
    if one.writer is not None and one.writer.done() and not one.writer.cancelled() and one.writer.exception():
        one.end(Ending(1011, INTERNAL) if not isinstance(one.writer.exception(), OSError) else Ending(1000, ""))
    ending = one.ending or Ending(1000, "")
    try:
        await asyncio.wait_for(channel.end(ending), END_SECONDS + 1)
    except (TimeoutError, OSError):
        one.abort()
    if ending.code == SLOW:
        one.abort()


async def _until_left(one: Connection, receive: Receive) -> None:
    """Return when the client has gone. What it says meanwhile means nothing, and must not be much."""
    since, heard = monotonic(), 0
    while True:
        message = await receive()
        if message["type"] in ("websocket.disconnect", "http.disconnect"):
            return
        heard += 1
        if monotonic() - since > 60:
            since, heard = monotonic(), 1
        if heard > MAX_MESSAGES:
            one.end(Ending(POLICY_VIOLATION, "This stream goes one way."))


def _count_refusal(status: int) -> None:
    counts.REFUSED.labels(str(status)).inc()


def _cors(scope: Scope) -> list[tuple[bytes, bytes]]:
    """What lets a page of an allowed origin read the answer."""
    headers = dict(scope["headers"])
    origin = headers.get(b"origin", b"").decode("latin-1")
    vary = [(b"vary", b"Origin")]
    if not origin or not is_allowed_origin(origin, headers.get(b"host", b"").decode("latin-1")):
        return vary
    allowed = origin.encode("latin-1")
    return [*vary, (b"access-control-allow-origin", allowed), (b"access-control-allow-credentials", b"true")]


async def _preflight(send: Send, cors: list[tuple[bytes, bytes]]) -> None:
    more = [(b"access-control-allow-methods", b"GET"), (b"access-control-allow-headers", HEADERS_ALLOWED)]
    headers = [*cors, *(more if len(cors) > 1 else []), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
