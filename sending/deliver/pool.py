"""Connections, pooled per (source IP, host address). How many there may be is the gates' matter.

A connection carries one mail at a time and many after each other. It is reused by messages with an equal or weaker TLS
demand, and where a certificate was checked only by those that ask for the same check.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from relay_project.net.smtp import SmtpConnection
from sending.deliver.tls_ladder import Demand

IDLE_SECONDS = 10.0  # an idle connection is a guest: receivers count them


class Line(NamedTuple):
    """What a connection is between: our address and theirs. A named tuple since it is a key, four times for each mail."""

    source: str
    address: str
    port: int


@dataclass(slots=True, eq=False)
class _Idle:
    connection: SmtpConnection
    demand: Demand  # under which it was opened
    since: float


@dataclass(slots=True)
class Pool:
    """All connections of one sender process."""

    idle: "dict[Line, deque[_Idle]]" = field(default_factory=lambda: defaultdict(deque))

    def reuse(self, line: Line, demand: Demand) -> tuple[SmtpConnection, Demand] | None:
        """An idle connection that meets the demand, with its own: the one used last, so that the others can age."""
        parked = self.idle.get(line, ())
        for place in range(len(parked) - 1, -1, -1):
            item = parked[place]
            if item.connection.usable and not demand.is_met_by(item.demand):
                continue
            del self.idle[line][place]
            if item.connection.usable:
                return item.connection, item.demand
            item.connection.abort()
        return None

    def park(self, line: Line, connection: SmtpConnection, demand: Demand, most: int) -> bool:
        """Keep a usable connection, opened under `demand`, that has carried fewer than `most` messages.

        False when it must be closed.
        """
        if not connection.usable or connection.deliveries >= most:
            return False
        self.idle[line].append(_Idle(connection, demand, time.monotonic()))
        return True

    async def trim(self, lines: Iterable[Line], most: int) -> None:
        """Leave at most so many idle connections on all these lines together, and say QUIT on the oldest."""
        parked = [(item.since, line, item) for line in lines for item in self.idle.get(line, ())]
        leaving = sorted(parked, key=lambda found: found[0])[: max(len(parked) - max(most, 0), 0)]
        for _, line, item in leaving:
            self.idle[line].remove(item)
        await asyncio.gather(*(item.connection.close() for _, _, item in leaving), return_exceptions=True)

    async def close_idle(self, older_than: float = IDLE_SECONDS) -> None:
        """Say QUIT on connections nobody used for that many seconds; forget lines without any."""
        horizon = time.monotonic() - older_than
        leaving = []
        for line, parked in list(self.idle.items()):
            while parked and parked[0].since <= horizon:
                leaving.append(parked.popleft().connection)
            if not parked:
                del self.idle[line]
        await asyncio.gather(*(connection.close() for connection in leaving), return_exceptions=True)
