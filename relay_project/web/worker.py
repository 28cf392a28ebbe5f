"""gunicorn's threaded worker, which does not wait for clients that dawdle.

A worker has few threads. gunicorn lets one wait five seconds for a connection's first octet, as long for the rest of a
body that nobody wants, and without end for a body that somebody does: two dozen silent connections would stop the site
for everybody. A proxy that buffers requests does more; this holds without one.
"""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

from gunicorn.workers import gthread

FIRST_OCTET_SECONDS = 0.02  # a thread's wait; after it the poller waits, which costs nobody anything
DRAIN_SECONDS = 0.25  # for the rest of a refused body, so that the connection can be kept
REQUEST_SECONDS = 8.0  # for the head and the beginning of a body
LEAST_PACE = 16_384  # octets a second of a body after that: 128 kbit/s, what the slowest line in use carries

gthread.DEFAULT_WORKER_DATA_TIMEOUT = DRAIN_SECONDS  # gunicorn has no setting for it


class PacedSocket:
    """What the request's parser reads from: gives up on a peer that is slower than LEAST_PACE."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._deadline = 0.0
        self.begin()

    def begin(self) -> None:
        """A new request begins."""
        self._deadline = time.monotonic() + REQUEST_SECONDS

    def recv(self, size: int) -> bytes:
        """The next octets; raises ConnectionResetError, which gunicorn passes over in silence, when they are late."""
        limit, left = self._peer.gettimeout(), self._deadline - time.monotonic()
        self._peer.settimeout(max(left if limit is None else min(left, limit), 0.001))
        try:
            data = self._peer.recv(size)
        except TimeoutError:
            raise ConnectionResetError(errno.ECONNRESET, "the request arrives too slowly") from None
        finally:
            self._peer.settimeout(limit)  # writing the response has no such limit
        self._deadline += len(data) / LEAST_PACE
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._peer, name)


class Worker(gthread.ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """The worker class of the web process."""

    def handle(self, conn: Any) -> Any:
        """Serve one request of a connection, once it has begun to arrive."""
        if not conn.initialized and not conn.wait_for_data(FIRST_OCTET_SECONDS):
            return gthread._DEFER  # to the poller, as the base does
        if not conn.initialized:
            conn.init()
            conn.parser.unreader.sock = PacedSocket(conn.parser.unreader.sock)
        conn.parser.unreader.sock.begin()
        return super().handle(conn)
