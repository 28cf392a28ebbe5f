"""Connections, pooled per (source IP, host address, TLS requirement) and limited per (source IP, site).

A connection carries one mail at a time and many after each other. It is reused by messages with an equal or weaker TLS
requirement. Waiting for a slot is first come, first served.
"""

import asyncio
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field

from relay_project.net.conversation import TlsRequirement
from relay_project.net.smtp import SmtpConnection

IDLE_SECONDS = 10.0  # an idle connection is a guest: receivers count them
MAX_MESSAGES = (
    1000  # a connection; receivers commonly allow a hundred or so and answer 421, which is not held against us
)


@dataclass(frozen=True, slots=True)
class Line:
    """What a connection is between: our address and theirs."""

    source: str
    address: str
    port: int


@dataclass(slots=True)
class _Idle:
    connection: SmtpConnection
    requirement: TlsRequirement
    since: float


class SlotTimeout(TimeoutError):
    """No connection to the site came free in time."""


@dataclass(slots=True)
class SiteSlots:
    """How many connections one (source IP, site) may have at once."""

    limit: int
    used: int = 0
    waiters: "deque[asyncio.Future[None]]" = field(default_factory=deque)

    async def take(self, seconds: float) -> None:
        """Wait for a slot, at most `seconds`; raises SlotTimeout."""
        if self.used < self.limit and not self.waiters:
            self.used += 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            await asyncio.wait_for(waiter, max(seconds, 0))
        except BaseException as error:
            if waiter in self.waiters:
                self.waiters.remove(waiter)
            elif waiter.done() and not waiter.cancelled():
                self.give()  # it was handed to us while we were leaving
            if isinstance(error, TimeoutError):
                raise SlotTimeout from None
            raise

    def give(self) -> None:
        """Hand the slot to the next waiter, if any."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.used -= 1


@dataclass(slots=True)
class Pool:
    """All connections of one sender process."""

    site_connections: int
    slots: dict[tuple[int, str], SiteSlots] = field(default_factory=dict)
    idle: "dict[Line, deque[_Idle]]" = field(default_factory=lambda: defaultdict(deque))

    def site(self, source_ip_id: int, site: str) -> SiteSlots:
        """The slots of a (source IP, site)."""
        key = (source_ip_id, site)
        if key not in self.slots:
            self.slots[key] = SiteSlots(self.site_connections)
        return self.slots[key]

    def reuse(self, line: Line, requirement: TlsRequirement) -> SmtpConnection | None:
        """An idle connection that satisfies the requirement: the one used last, so that the others can age."""
        parked = self.idle.get(line)
        while parked:
            item = parked.pop()
            if item.connection.usable and item.requirement >= requirement:
                return item.connection
            item.connection.abort()
        return None

    def park(self, line: Line, connection: SmtpConnection, requirement: TlsRequirement) -> bool:
        """Keep a usable connection for the next message; False when it must be closed."""
        if not connection.usable or connection.deliveries >= MAX_MESSAGES:
            return False
        self.idle[line].append(_Idle(connection, requirement, time.monotonic()))
        return True

    async def close_idle(self, older_than: float = IDLE_SECONDS) -> None:
        """Say QUIT on connections nobody used for that many seconds; forget lines and sites without any."""
        horizon = time.monotonic() - older_than
        leaving = []
        for line, parked in list(self.idle.items()):
            while parked and parked[0].since <= horizon:
                leaving.append(parked.popleft().connection)
            if not parked:
                del self.idle[line]
        for key, slots in list(self.slots.items()):
            if not slots.used and not slots.waiters:
                del self.slots[key]
        await asyncio.gather(*(connection.close() for connection in leaving), return_exceptions=True)
