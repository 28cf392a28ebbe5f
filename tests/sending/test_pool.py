"""Connections that wait for their next message."""

import time
from dataclasses import dataclass
from typing import Any

import pytest

from sending.deliver.pool import Line, Pool

HOSTS = [Line("192.0.2.7", f"198.51.100.{number}", 25) for number in range(3)]


@dataclass(eq=False)
class Idle:
    """As much of a connection as the pool sees."""

    deliveries: int = 1
    usable: bool = True
    closed: bool = False

    async def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


def parked(pool: Pool, line: Line, age: float) -> Any:
    connection: Any = Idle()
    assert pool.park(line, connection, None, 10)  # type: ignore[arg-type]
    pool.idle[line][-1].since = time.monotonic() - age
    return connection


async def test_a_sites_idle_connections_make_room_for_new_ones_the_oldest_first() -> None:
    """With several MX hosts each would else have as many as the site may have."""
    pool = Pool()
    old, young, middle = parked(pool, HOSTS[0], 9), parked(pool, HOSTS[1], 1), parked(pool, HOSTS[2], 5)
    await pool.trim(HOSTS, 3)
    assert not any(connection.closed for connection in (old, young, middle))
    await pool.trim(HOSTS, 1)
    assert (old.closed, middle.closed, young.closed) == (True, True, False)
    await pool.trim(HOSTS[:1], 0)
    assert not young.closed, "another site's"
    await pool.trim(HOSTS, -2)
    assert young.closed


@pytest.mark.parametrize(("deliveries", "stays"), [(9, True), (10, False)])
def test_a_connection_is_closed_after_as_many_messages_as_it_may_carry(deliveries: int, stays: bool) -> None:
    pool = Pool()
    connection: Any = Idle(deliveries)
    assert pool.park(HOSTS[0], connection, None, 10) is stays  # type: ignore[arg-type]


async def test_idle_connections_are_closed_after_a_while() -> None:
    pool = Pool()
    connection = parked(pool, HOSTS[0], 11)
    await pool.close_idle()
    assert connection.closed
    assert not pool.idle
