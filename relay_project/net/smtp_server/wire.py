"""One connection's octets: in by lines and pieces, out in as few writes as there are waits, in clear text or TLS.

Replies are collected and leave when the conversation has to wait, so a group of commands (RFC 2920) is answered in
one write. What comes in is bounded: beyond HIGH_WATER the socket is not read, and a line without end is passed over.
Every wait has a deadline, which the server's clock looks after (`expire`): a timer for each would cost more.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from relay_project.net.smtp_server.tls import Tls

READ_OCTETS = 32_768  # of one read; all connections share the buffer
HIGH_WATER = 32_768  # octets that came and were not looked at: the socket rests
OUT_WATER = 65_536  # octets of replies that the peer has not taken: its commands rest
LINGER_SECONDS = 3.0  # for the last reply to get through to a peer that is still talking
CLOSE_SECONDS = 10.0  # for what was written to leave

_shared = memoryview(bytearray(READ_OCTETS))


class Gone(ConnectionError):
    """The peer has hung up, or speaks no TLS any more."""


class Late(TimeoutError):
    """The peer took too long."""


class Interrupted(Exception):
    """The wait was ended by the server itself."""


class LongLine(ValueError):
    """A line longer than its bound has passed."""


class Wire(asyncio.BufferedProtocol):
    """One connection. `begin` is called when it is made, `end` once when it is over."""

    def __init__(self, begin: Callable[[Wire], None], end: Callable[[Wire], None]) -> None:
        self._begin, self._end = begin, end
        self._loop = asyncio.get_running_loop()
        self._in = bytearray()
        self._out: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._tls: Tls | None = None
        self._over: Exception | None = None  # nothing more will come
        self._resting = False  # the socket is not read
        self._congested = False  # the peer does not read
        self._passing = False  # in the midst of a line that is too long
        self._closing = False
        self.interrupted = False
        self.deadline = float("inf")

    # --- What the loop calls ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The server gets to know it."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(OUT_WATER)
        self._begin(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """One buffer for all: what was read is taken out at once."""
        return _shared

    def buffer_updated(self, nbytes: int) -> None:
        """Octets have come."""
        if self._closing:
            return  # lingering: it is read so that the last reply is not lost to a reset
        if self._tls is None:
            self._in += _shared[:nbytes]
        else:
            self._feed_tls(_shared[:nbytes])
        if len(self._in) > HIGH_WATER and not self._resting:
            self._resting = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The peer says no more; what it said is still answered."""
        if self._closing:
            return False
        self._over = self._over or Gone("the peer has hung up")
        self._wake()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """It is over."""
        self._over = self._over or Gone(str(error or "closed"))
        self._congested = False
        self._wake()
        self._end(self)

    def pause_writing(self) -> None:
        """The peer does not read."""
        self._congested = True

    def resume_writing(self) -> None:
        """It does again."""
        self._congested = False
        self._wake()

    # --- What the server's clock calls --------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """End a wait whose time is over, and a farewell that takes too long."""
        if now < self.deadline:
            return
        if self._closing:
            self.transport.abort()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Late())

    def interrupt(self) -> None:
        """Have waits for commands end with Interrupted."""
        self.interrupted = True
        self._wake()

    # --- What a conversation calls ------------------------------------------------------------------------------------

    @property
    def held(self) -> bytearray:
        """What has come and was not taken; the conversation takes from it."""
        return self._in

    def write(self, data: bytes) -> None:
        """Say something; it leaves at the next wait."""
        self._out.append(data)

    def flush(self) -> None:
        """Let go what was said."""
        if not self._out:
            return
        data = b"".join(self._out)
        self._out.clear()
        if self.transport.is_closing() or (self._tls is not None and not self._tls.is_ready):
            return  # nobody is there, or nothing may be said in clear text any more
        self.transport.write(self._tls.seal(data) if self._tls is not None else data)

    async def line(self, limit: int) -> bytes:
        """The next line without its end, which is CRLF or, from people at a terminal, LF.

        Raises LongLine when one has passed, Gone, Late, Interrupted.
        """
        seen = 0
        if self.interrupted:
            raise Interrupted
        while True:
            end = self._in.find(b"\n", seen)
            if end >= 0:
                return self._take_line(end, limit)
            if self._passing or len(self._in) > limit + 2:
                self._passing = True
                self._in.clear()
            seen = len(self._in)
            await self.more()
            if self.interrupted and not self._in:
                raise Interrupted

    def _take_line(self, end: int, limit: int) -> bytes:
        line = bytes(self._in[:end])
        del self._in[: end + 1]
        was_passing, self._passing = self._passing, False
        if was_passing or len(line) > limit + 1:
            raise LongLine
        return line.removesuffix(b"\r")

    async def more(self) -> None:
        """Wait until more has come, or somebody wants a look; replies leave before. Raises Gone, Late."""
        before = len(self._in)
        self.flush()
        while self._congested:
            await self._wait()
        if len(self._in) > before:
            return
        if self._over is not None:
            raise self._over
        self._read_on()
        await self._wait()

    def _read_on(self) -> None:
        if self._resting:
            self._resting = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- TLS ----------------------------------------------------------------------------------------------------------

    @property
    def tls(self) -> Tls | None:
        """The TLS layer once its handshake is done."""
        return self._tls if self._tls is not None and self._tls.is_ready else None

    async def secure(self, context: ssl.SSLContext, *, keep: bool = False) -> None:
        """Shake hands. What came before in clear text is forgotten (RFC 3207 §4.2; CVE-2011-0411), or, with `keep`, is
        the handshake's beginning. Raises Gone, Late and ssl.SSLError."""
        self.flush()
        early = bytes(self._in) if keep else b""
        self._in.clear()
        self._passing = False
        self._tls = Tls(context)
        if early:
            self._feed_tls(early)
        while not self._tls.is_ready:
            if self._over is not None:
                raise self._over
            self._read_on()
            await self._wait()

    def _feed_tls(self, data: bytes | memoryview) -> None:
        tls = self._tls
        assert tls is not None
        if self._over is not None:
            return
        try:
            self._in += tls.feed(data)
        except ssl.SSLError as error:
            self._over = error if not tls.is_ready else Gone("TLS failed")
        if tls.has_ended:
            self._over = self._over or Gone("the peer has said farewell")
        out = tls.outgoing()
        if out and not self.transport.is_closing():
            self.transport.write(out)

    # --- The end ------------------------------------------------------------------------------------------------------

    def close(self, *, linger: bool = False) -> None:
        """Say what is left to say and hang up; with `linger` only when the peer has, or after a moment."""
        if self._closing:
            return
        try:
            self.flush()
            if self.tls is not None and not self.transport.is_closing():
                self.transport.write(self.tls.farewell())
        except ssl.SSLError:
            pass  # nothing can be said any more
        self._closing = True
        self._in.clear()
        linger = linger and self._over is None and not self.transport.is_closing() and self.transport.can_write_eof()
        self.deadline = self._loop.time() + (LINGER_SECONDS if linger else CLOSE_SECONDS)
        try:
            if linger:
                self.transport.write_eof()
                self._read_on()
            else:
                self.transport.close()
        except OSError:
            self.transport.abort()  # the peer was quicker

    def abort(self) -> None:
        """Hang up at once."""
        self._closing = True
        self.transport.abort()
