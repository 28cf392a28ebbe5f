"""How much a peer may have, and how much all of them together."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from relay_project.net.addresses import network_of, read_address
from relay_project.net.smtp_server.model import Service

Network = IPv4Network | IPv6Network
MINUTE = 60.0
MAX_PEERS = 20_000  # remembered; those longest unseen are forgotten first


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server holds peers to: octets, seconds, numbers."""

    message_octets: int = 10 * 1024 * 1024
    octets_in_flight: int = 256 * 1024 * 1024  # of all messages that are coming in or being stored
    mx_recipients: int = 100  # of a mail on port 25; RFC 5321 §4.5.3.1.8
    submission_recipients: int = 1000  # a login may have a number of its own
    connections: int = 1000
    reserved_connections: int = 0  # of these, which port 25 does not get
    peer_connections: int = 50
    peer_connections_per_minute: int = 600
    auth_failures: int = 10  # of a peer, within `auth_pause_seconds`; then it is sent away for as long
    auth_pause_seconds: float = 60.0
    session_auth_failures: int = 3
    errors: int = 20  # wrong commands and refusals since the last mail
    idle_commands: int = 100  # NOOP, RSET, VRFY and the like since the last mail
    command_seconds: float = 300.0  # for a whole line; RFC 5321 §4.5.3.2.7
    data_seconds: float = 180.0  # between two pieces of a message; §4.5.3.2.5
    data_rate: int = 200  # octets a second that a message comes at, on the whole, once it has had `data_seconds`
    session_seconds: float = 3600.0
    fruitless_seconds: float = 600.0  # without a mail that was taken
    message_seconds: float = 1800.0  # what a message that was begun in time may take beyond that
    handshake_seconds: float = 30.0
    proxy_seconds: float = 10.0
    reception_seconds: float = 60.0  # for the answer who may send and receive
    store_seconds: float = 300.0  # for taking a mail; the client waits ten minutes (§4.5.3.2.6)
    unlimited: tuple[Network, ...] = ()  # peers to which only `connections` and failed AUTHs apply
    proxies: tuple[Network, ...] = ()  # peers that begin with a header of the PROXY protocol


class TurnedAway(StrEnum):
    """Why a connection is not served."""

    FULL = "full"
    RESERVED = "reserved"
    PEER_CONNECTIONS = "peer_connections"
    PEER_RATE = "peer_rate"
    AUTH_PAUSE = "auth_pause"
    STOPPING = "stopping"


@dataclass(slots=True)
class _Peer:
    open: int = 0
    tokens: float = 0.0
    seen: float = 0.0
    failures: list[float] = field(default_factory=list)
    paused_until: float = 0.0


class PeerBook:
    """What each peer has open and what it did lately. An IPv6 customer counts as one (/64)."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._peers: OrderedDict[str, _Peer] = OrderedDict()

    def admit(self, address: str, service: Service, now: float) -> TurnedAway | None:
        """Count a connection in, or say why not; who is let in must `leave`."""
        peer = self._peer(address, now)
        if service is not Service.MX and now < peer.paused_until:
            return TurnedAway.AUTH_PAUSE
        if not is_within(address, self._limits.unlimited):
            if peer.open >= self._limits.peer_connections:
                return TurnedAway.PEER_CONNECTIONS
            if peer.tokens < 1.0:
                return TurnedAway.PEER_RATE
            peer.tokens -= 1.0
        peer.open += 1
        return None

    def leave(self, address: str) -> None:
        """Count a connection out."""
        peer = self._peers.get(network_of(address))
        if peer is not None:
            peer.open -= 1

    def auth_failed(self, address: str, now: float) -> bool:
        """Note a failed AUTH; True when it was one too many, and the peer is sent away for a while."""
        peer = self._peer(address, now)
        since = now - self._limits.auth_pause_seconds
        peer.failures = [*(at for at in peer.failures if at > since), now]
        if len(peer.failures) < self._limits.auth_failures:
            return False
        peer.failures, peer.paused_until = [], now + self._limits.auth_pause_seconds
        return True

    def is_paused(self, address: str, now: float) -> bool:
        """Whether a peer has failed too often; its other connections ask before each AUTH."""
        peer = self._peers.get(network_of(address))
        return peer is not None and now < peer.paused_until

    def _peer(self, address: str, now: float) -> _Peer:
        """The peer's page, with what its allowance has regained since."""
        key, per_minute = network_of(address), float(self._limits.peer_connections_per_minute)
        peer = self._peers.get(key)
        if peer is None:
            peer = self._peers[key] = _Peer(tokens=per_minute, seen=now)
            self._forget()
        else:
            self._peers.move_to_end(key)
        peer.tokens = min(per_minute, peer.tokens + (now - peer.seen) * per_minute / MINUTE)
        peer.seen = now
        return peer

    def _forget(self) -> None:
        """Make room; those who are connected stay, and there are fewer of them than there is room."""
        while len(self._peers) > MAX_PEERS:
            key, peer = self._peers.popitem(last=False)
            if peer.open:
                self._peers[key] = peer


class Budget:
    """Octets that all messages together may hold in memory."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, octets: int) -> bool:
        """Reserve, if there is room."""
        if self.used + octets > self.limit:
            return False
        self.used += octets
        return True

    def give(self, octets: int) -> None:
        """Release."""
        self.used -= octets


def is_within(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether an address lies in one of the networks."""
    parsed = read_address(address) if networks else None
    return parsed is not None and any(parsed in network for network in networks)
