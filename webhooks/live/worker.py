"""gunicorn's ASGI worker for streams: it tells them of a restart, and holds no connection that says nothing.

gunicorn waits without end for a connection's first request, counts `worker_connections` without a limit, and reads whatever
a client says, pings and empty fragments without telling the application; and that cannot see how much of what it wrote is
still unsent. The version is pinned: this leans on its inside.
"""

from __future__ import annotations

import socket
from typing import Any

from django.conf import settings
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import gasgi

from webhooks.live.application import WIRE

HEAD_SECONDS = 10.0  # for a connection's first request
SPARE_CONNECTIONS = 200  # beyond those that may be streams: to be refused with a word
WRITE_BUFFER = 32 * 1024  # octets unsent, above which a stream waits for its client
HEARD_OCTETS = 64 * 1024  # that a client may say in a minute once it has asked: pings, a close, another request
HEARD_SECONDS = 60.0
DEAD_PEER_MILLISECONDS = 60_000  # without an acknowledgement of what was sent (RFC 5482); heartbeats are sent always


class Protocol(ASGIProtocol):  # type: ignore[misc]  # gunicorn has no types
    """One connection."""

    def connection_made(self, transport: Any) -> None:
        """Bound what it may cost."""
        self._heard, self._heard_since = 0, self.worker.loop.time()
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        peer = transport.get_extra_info("socket")
        if peer is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MILLISECONDS)
        self._head_timer = self.worker.loop.call_later(HEAD_SECONDS, self._check_head)
        if self.worker.nr_conns > settings.LIVE_CONNECTIONS + SPARE_CONNECTIONS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """What comes after a request means little, and must not be much: all streams share the loop that reads it."""
        if self._request_ready.is_set() and not self._may_say(len(data)):
            self.transport.abort()
            return
        super().data_received(data)

    def _may_say(self, octets: int) -> bool:
        now = self.worker.loop.time()
        if now - self._heard_since >= HEARD_SECONDS:
            self._heard_since, self._heard = now, 0
        self._heard += octets
        return bool(self._heard <= HEARD_OCTETS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Its end."""
        self._head_timer.cancel()
        super().connection_lost(exc)

    def _check_head(self) -> None:
        if not self._request_ready.is_set():
            self._keepalive_timeout()  # as one that waits for another request in vain

    def _build_http_scope(self, *arguments: Any) -> dict[str, Any]:
        return self._with_wire(super()._build_http_scope(*arguments))

    def _build_websocket_scope(self, *arguments: Any) -> dict[str, Any]:
        return self._with_wire(super()._build_websocket_scope(*arguments))

    def _with_wire(self, scope: dict[str, Any]) -> dict[str, Any]:
        scope["extensions"] = {**scope.get("extensions", {}), WIRE: self.transport}
        return scope


gasgi.ASGIProtocol = Protocol  # its worker names the class where it listens


class Worker(gasgi.ASGIWorker):  # type: ignore[misc]  # gunicorn has no types
    """The worker class of the live process."""

    def handle_exit_signal(self) -> None:
        """SIGTERM: no new connection from this moment, and all clients are told; the base then waits for them."""
        super().handle_exit_signal()
        for server in self.servers:
            server.close()
        live = getattr(self.asgi, "live", None)
        if live is not None:
            live.hub.drain()
