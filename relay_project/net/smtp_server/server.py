"""The SMTP server: listeners, the conversations under way, one clock for all of them, and the end in good order.

    server = SmtpServer({Service.MX: reception}, [Listener(Service.MX, "127.0.0.1", 2526)], Limits(), certificates,
                        hostname="mx.example.com", domain="example.com")
    await server.start()
    …
    await server.stop(drain_seconds=20)

No bytes on a port may crash it, hang it or make it grow: each conversation is a task of its own that holds a bounded buffer
(wire.py), all messages together have a budget (limits.py), and every wait ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from relay_project.net.addresses import read_address
from relay_project.net.smtp_server import counts, replies
from relay_project.net.smtp_server.certificates import Certificates
from relay_project.net.smtp_server.household import Household
from relay_project.net.smtp_server.limits import Limits, TurnedAway, is_within
from relay_project.net.smtp_server.listener import Listener
from relay_project.net.smtp_server.model import Peer, Reception, Service
from relay_project.net.smtp_server.proxy import BadProxyHeader, read_proxy_header
from relay_project.net.smtp_server.session import Session
from relay_project.net.smtp_server.wire import Gone, Late, Wire

TICK_SECONDS = 0.5  # how exact deadlines are
CERTIFICATE_SECONDS = 5.0  # between looks at the certificate's files
STALLED_SECONDS = 15.0  # without a tick: the loop hangs

log = structlog.get_logger(__name__)


class SmtpServer:
    """Serves the listeners whose service has a reception. Make it within a running loop."""

    def __init__(
        self,
        receptions: Mapping[Service, Reception],
        listeners: Sequence[Listener],
        limits: Limits,
        certificates: Certificates,
        *,
        hostname: str = "localhost",
        domain: str = "localhost",
    ) -> None:
        self.house = Household(hostname, domain, receptions, limits, certificates)
        self.listeners = [listener for listener in listeners if listener.service in receptions]
        self._loop = asyncio.get_running_loop()
        self._wires: dict[Wire, Service] = {}
        self._sessions: dict[asyncio.Task[None], Wire] = {}
        self._helpers: list[asyncio.Task[None]] = []
        self._stopping = False
        self._ticked = time.monotonic()

    @property
    def open_connections(self) -> int:
        """Connections, the ones that say farewell included."""
        return len(self._wires)

    def is_alive(self) -> bool:
        """Whether the loop turns. Not asked of the loop's own clock: uvloop's stands still with it."""
        return time.monotonic() - self._ticked < STALLED_SECONDS

    def troubles(self) -> list[str]:
        """Why somebody who should could not connect, a sentence each; read by the health check's thread."""
        found = [listener.trouble for listener in self.listeners if listener.trouble]
        if self.open_connections >= self.house.limits.connections:
            found.append(f"All {self.house.limits.connections} connections are taken.")
        elif self._is_port_25_full():
            found.append("All connections but those reserved for customers are taken.")
        certificates = self.house.certificates
        found += [certificates.trouble] if certificates.trouble else []
        if certificates.is_expired():
            found.append("The certificate has expired.")
        return found

    async def start(self) -> None:
        """Listen; returns when each listener has tried once. One that could not goes on trying."""
        tried = [asyncio.Event() for _ in self.listeners]
        for listener, event in zip(self.listeners, tried, strict=True):
            run = listener.run(partial(self._make_wire, listener.service), event.set)
            self._helpers.append(asyncio.create_task(run))
        self._helpers += [asyncio.create_task(self._tick()), asyncio.create_task(self._watch_certificate())]
        await asyncio.gather(*(event.wait() for event in tried))

    async def stop(self, drain_seconds: float = 20.0) -> None:
        """Take nobody new, send away who is idle, let messages that are coming in get to their reply, then cut."""
        self._stopping = True
        for listener in self.listeners:
            listener.close()
        for wire in list(self._wires):
            wire.interrupt()
        waiting: set[asyncio.Future[Any]] = {*self._sessions, *self.house.storing}
        if waiting:
            await asyncio.wait(waiting, timeout=drain_seconds)
        for task in [*self._sessions, *self._helpers]:
            task.cancel()
        await asyncio.gather(*self._sessions, *self._helpers, return_exceptions=True)
        await self._wait_for_farewells()

    async def _wait_for_farewells(self) -> None:
        """Last replies get a moment; then all sockets are closed."""
        until = self._loop.time() + TICK_SECONDS
        while self._wires and self._loop.time() < until:
            await asyncio.sleep(0.01)
        for wire in list(self._wires):
            wire.abort()
        await asyncio.sleep(0)  # in this turn of the loop the transports let go of their sockets

    # --- Connections --------------------------------------------------------------------------------------------------

    def _make_wire(self, service: Service) -> Wire:
        return Wire(partial(self._begin, service), self._forget)

    def _begin(self, service: Service, wire: Wire) -> None:
        """Somebody has connected."""
        peer = _peer_of(wire, service)
        if peer is None:
            wire.abort()
            return
        refusal = self._refusal(service)
        self._wires[wire] = service
        if refusal is not None:
            self._turn_away(wire, service, refusal)
            return
        if is_within(peer.address, self.house.limits.proxies):
            self._spawn(wire, self._behind_proxy(wire, peer))
        elif self._admit(wire, peer):
            self._spawn(wire, self._converse(wire, peer))

    def _spawn(self, wire: Wire, conversation: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(conversation)
        self._sessions[task] = wire
        task.add_done_callback(self._sessions.pop)

    def _forget(self, wire: Wire) -> None:
        """Somebody has gone."""
        self._wires.pop(wire, None)

    def _refusal(self, service: Service) -> TurnedAway | None:
        """Why there is no room: a flood on port 25 leaves customers theirs."""
        limits = self.house.limits
        if self._stopping:
            return TurnedAway.STOPPING
        if len(self._wires) >= limits.connections:
            return TurnedAway.FULL
        if service is not Service.MX:
            return None
        return TurnedAway.RESERVED if self._is_port_25_full() else None

    def _is_port_25_full(self) -> bool:
        """Whether port 25 has all that it may have."""
        limits = self.house.limits
        others = sum(service is Service.MX for service in self._wires.values())
        return bool(limits.reserved_connections) and others >= limits.connections - limits.reserved_connections

    def _admit(self, wire: Wire, peer: Peer) -> bool:
        """Count the peer in, or turn it away."""
        refusal = self.house.peers.admit(peer.address, peer.service, self._loop.time())
        if refusal is not None:
            self._turn_away(wire, peer.service, refusal)
        return refusal is None

    def _turn_away(self, wire: Wire, service: Service, reason: TurnedAway) -> None:
        """Say why, where clear text may be said, and hang up."""
        counts.count(counts.TURNED_AWAY, service, reason)
        if service is not Service.SUBMISSIONS:
            wire.write(replies.encoded(replies.TURNED_AWAY[reason]))
        wire.close()

    async def _behind_proxy(self, wire: Wire, proxy: Peer) -> None:
        """Who is really there, then the conversation. A trusted proxy that says nothing readable gets no service: its own
        address would stand for everybody's."""
        wire.deadline = self._loop.time() + self.house.limits.proxy_seconds
        try:
            while (header := read_proxy_header(bytes(wire.held))) is None:
                await wire.more()
        except (BadProxyHeader, Gone, Late) as error:
            log.warning("smtp.bad_proxy_header", proxy=proxy.address, error=str(error) or type(error).__name__)
            counts.count(counts.ENDED, proxy.service, "proxy")
            wire.abort()
            return
        del wire.held[: header.length]
        peer = proxy
        if header.address is not None:
            address = str(read_address(header.address))
            peer = Peer(
                address, header.port, header.local_address, header.local_port, proxy.service, through_proxy=True
            )
        if self._admit(wire, peer):
            await self._converse(wire, peer)

    async def _converse(self, wire: Wire, peer: Peer) -> None:
        """One conversation, from its greeting to its count."""
        opened = self._loop.time()
        counts.OPEN.labels(peer.service).inc()
        session = Session(self.house, wire, peer)
        reason = "cut"
        try:
            reason = await session.run()
        except Exception:
            log.exception("smtp.session_failed", peer=peer.address, service=peer.service)
            counts.DEFECTS.inc()
            wire.abort()
        finally:
            self.house.peers.leave(peer.address)
            counts.OPEN.labels(peer.service).dec()
            counts.count(counts.ENDED, peer.service, reason)
            self._log(session, reason, self._loop.time() - opened)

    def _log(self, session: Session, reason: str, seconds: float) -> None:
        """One line a conversation; those that came to nothing, of which port scans make many, only for who wants them."""
        tell = log.info if session.mails or session.refusals else log.debug
        peer = session.peer
        tell(
            "smtp.session",
            service=peer.service,
            peer=peer.address,
            tls=peer.tls,
            mails=session.mails,
            refusals=session.refusals,
            end=reason,
            seconds=round(seconds, 3),
        )

    # --- The clock ----------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        """End waits that are over."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._ticked, now = time.monotonic(), self._loop.time()
            counts.IN_FLIGHT.set(self.house.budget.used)
            for wire in list(self._wires):
                with contextlib.suppress(Exception):  # one that fails must not keep the others alive for ever
                    wire.expire(now)

    async def _watch_certificate(self) -> None:
        while True:
            await asyncio.sleep(CERTIFICATE_SECONDS)
            self.house.certificates.refresh()


def _peer_of(wire: Wire, service: Service) -> Peer | None:
    """Both ends of the connection; None when it is gone already."""
    remote, local = (wire.transport.get_extra_info(name) for name in ("peername", "sockname"))
    if not remote or not local:
        return None
    ends = [(str(read_address(str(end[0])) or end[0]), int(end[1])) for end in (remote, local)]
    return Peer(*ends[0], *ends[1], service)
