"""Octets to and from an SMTP server: replies are counted in and deadlines are kept, nothing is understood.

`exchange` writes a group of commands in one piece and returns the replies that came for it. It never raises for what
the peer does: fewer replies than commands means that the wire is of no more use, because of the 421 that came last or
else for the reason in `failure`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, cast

from relay_project.mail.reply import FailureKind, MalformedReply, NetworkFailure, Reply, parse_reply
from relay_project.mail.text import clean

MAX_REPLY = 65_536  # octets of one reply; RFC 5321 §4.5.3.1.5 allows 512 a line, a long EHLO has 1,000 in all
MAX_QUOTED = 200  # characters of a malformed reply that the failure quotes
MAX_CACHED_LINE = 128  # octets; "250 2.1.0 Ok" comes with every mail, and is parsed once
CLOSING = 421  # "service closing transmission channel", a reply to any command (RFC 5321 §4.2.2)
CLOSE_SECONDS = 1.0  # for the peer to answer our TLS close_notify or FIN


class WireReply(NamedTuple):
    """A reply and when its last line arrived (`time.monotonic()`)."""

    reply: Reply
    at: float


@lru_cache(maxsize=1024)
def _parse_short(line: bytes) -> Reply:
    return parse_reply((line,))


def _parse(lines: Sequence[bytes]) -> Reply:
    return _parse_short(lines[0]) if len(lines) == 1 and len(lines[0]) <= MAX_CACHED_LINE else parse_reply(lines)


class Wire(asyncio.Protocol):
    """The protocol of one connection, for one exchange at a time."""

    def __init__(self) -> None:
        self.failure: NetworkFailure | None = None
        self.closing = False  # the server has said 421; what it says after that does not count
        self.unsolicited: Reply | None = None  # said while nothing was asked, as in "421 idle too long"
        self.all_written = True  # the kernel (with TLS: the session) has taken every octet
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        # what has arrived of the next reply
        self._partial = b""
        self._lines: list[bytes] = []
        self._reply_size = 0
        # the exchange that goes on
        self._waiter: asyncio.Future[None] | None = None
        self._replies: list[WireReply] = []
        self._waits: Sequence[float] = ()
        self._deadline: float | None = None
        # One timer serves all exchanges: setting one per command would cost more than the command.
        self._limit = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    async def exchange(self, data: bytes, waits: Sequence[float], deadline: float | None = None) -> list[WireReply]:
        """Write `data` and collect a reply for each of `waits`, the seconds from the reply before it.

        `deadline` (`time.monotonic()`) bounds the whole. Ends with a 421, since many a server says that and then
        neither answers the rest nor hangs up.
        """
        if not self.usable or self.transport is None:
            return []
        self.expect(waits, deadline)
        self.transport.write(data)
        return await self.collect()

    def expect(self, waits: Sequence[float], deadline: float | None = None) -> None:
        """Begin to count replies; the banner may arrive before anybody can wait for it."""
        self._replies, self._waits, self._deadline = [], waits, deadline
        self._waiter = self._loop.create_future()
        self._set_limit(time.monotonic())

    async def collect(self) -> list[WireReply]:
        """Wait for the expected replies, or as many as come."""
        assert self._waiter is not None, "expect() comes first"
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.fail(FailureKind.CUT, "the conversation was cancelled")
            raise
        finally:
            self._waiter = None
        return self._replies

    @property
    def usable(self) -> bool:
        """Another exchange may begin."""
        return self.failure is None and not self.closing

    def has_leftovers(self) -> bool:
        """Octets came that nobody asked for; before a TLS handshake that is an injection (RFC 3207 §6)."""
        return bool(self._partial or self._lines or self.unsolicited)

    def fail(self, kind: FailureKind, text: str) -> None:
        """Give the conversation up; the first reason stands."""
        if self.failure is None:
            self.failure = NetworkFailure(kind, text)
        self._wake()

    def use_transport(self, transport: asyncio.Transport) -> None:
        """Speak through this transport from now on, and hear at once when it cannot take all that is written."""
        self.transport = transport
        transport.set_write_buffer_limits(high=1)  # with 0 a TLS transport pauses and never resumes

    def abort(self, reason: str = "closed by us") -> None:
        """Close without flushing."""
        self.fail(FailureKind.CUT, reason)
        self._stop_timer()
        if self.transport is not None:
            self.transport.abort()

    def leave(self) -> None:
        """Say QUIT where that is still possible, and close without waiting for the reply."""
        # A failed TLS handshake has closed the transport, and uvloop raises at a write to a closed one.
        if not self.usable or self.transport is None or self.transport.is_closing():
            self.abort()
            return
        self.fail(FailureKind.CUT, "closed by us")
        self._stop_timer()
        self.transport.write(b"QUIT\r\n")
        self.transport.close()

    async def close(self) -> None:
        """Close in order, within a second or so."""
        self._stop_timer()
        if self.transport is None:
            return
        self.transport.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.shield(self._closed)
        except TimeoutError:
            self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.use_transport(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        lines = (self._partial + data if self._partial else data).split(b"\n")
        self._partial = lines.pop()
        for line in lines:
            if not self.usable:
                return
            self._lines.append(line)
            self._reply_size += len(line)
            if self._reply_size > MAX_REPLY:
                break
            if line[3:4] != b"-":
                self._end_reply()
        if self._reply_size + len(self._partial) > MAX_REPLY:
            self.fail(FailureKind.PROTOCOL, f"a reply of more than {MAX_REPLY} octets")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.fail(FailureKind.CUT, f"the connection broke: {exc}" if exc else "the server closed the connection")
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self.all_written = False

    def resume_writing(self) -> None:
        self.all_written = True

    # Counting replies and time

    def _end_reply(self) -> None:
        lines, self._lines, self._reply_size = self._lines, [], 0
        try:
            reply = _parse(lines)
        except MalformedReply as error:
            self.fail(FailureKind.PROTOCOL, f"{error}: {clean(b' '.join(lines), MAX_QUOTED)}")
            return
        if self._waiter is None or len(self._replies) == len(self._waits):
            self._not_asked_for(reply)
            return
        now = time.monotonic()
        self._replies.append(WireReply(reply, now))
        self.closing = reply.code == CLOSING
        if self.closing or len(self._replies) == len(self._waits):
            self._wake()
        else:
            self._set_limit(now)

    def _not_asked_for(self, reply: Reply) -> None:
        self.unsolicited = reply
        kind = FailureKind.CUT if reply.code == CLOSING else FailureKind.PROTOCOL
        self.fail(kind, f"a reply that nobody asked for: {clean(str(reply), MAX_QUOTED)}")

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _set_limit(self, now: float) -> None:
        limit = now + self._waits[len(self._replies)]
        self._limit = limit if self._deadline is None else min(limit, self._deadline)
        if self._timer is None or self._timer_at > self._limit:
            self._arm(now)

    def _arm(self, now: float) -> None:
        self._stop_timer()
        self._timer_at = self._limit
        self._timer = self._loop.call_later(max(self._limit - now, 0.0), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        now = time.monotonic()
        if now < self._limit - 0.001:  # the loop's clock has millisecond steps
            self._arm(now)
        elif self._deadline is not None and self._limit >= self._deadline:
            self.fail(FailureKind.DEADLINE, "the conversation took longer than it may")
        else:
            self.fail(FailureKind.TIMEOUT, f"no complete reply within {self._waits[len(self._replies)]:g} s")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
