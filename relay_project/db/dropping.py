"""Removing a day's partition without stopping anybody, in steps that a crash may interrupt anywhere.

DETACH … CONCURRENTLY (outside a transaction) takes SHARE UPDATE EXCLUSIVE and waits for whoever uses the table, while
plain DETACH and DROP of a partition take ACCESS EXCLUSIVE on the parent and stop every insert behind any reader. A wait
that was cut leaves the partition *detaching*: FINALIZE ends it. Detached, it is a table of its own that nobody refers to,
found again by its name, and dropped. Once detached nothing new can refer to it and whatever was under way is over, so the
caller's last look decides: a day that is still needed is attached again.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum

import structlog
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from django.db.backends.utils import CursorWrapper

from relay_project.db.partitions import LOCK_TIMEOUT, Day, attach, partitioned_tables

_NAME = re.compile(r"(?P<table>[a-z_]+)_p(?P<day>\d{8})\Z")

log = structlog.get_logger()


class State(StrEnum):
    """How far a partition's removal has come."""

    ATTACHED = "attached"
    DETACHING = "detaching"  # interrupted: no new statement sees it, FINALIZE is due
    DETACHED = "detached"  # a table of its own


@dataclass(frozen=True, slots=True)
class Partition:
    """One table's day. `size_bytes` with indexes and TOAST, `rows` the planner's estimate."""

    table: str
    name: str
    day: Day
    state: State
    size_bytes: int
    rows: int


_LIST = """
SELECT c.relname, p.relname, coalesce(h.inhdetachpending, false), pg_total_relation_size(c.oid),
       greatest(c.reltuples, 0)::bigint
  FROM pg_class c LEFT JOIN pg_inherits h ON h.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = h.inhparent
 WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace AND c.relname ~ '_p[0-9]{8}$'
 ORDER BY c.relname
"""


def list_partitions(cursor: CursorWrapper) -> list[Partition]:
    """Every day of every partitioned table, the oldest first; also those that a removal has left half done."""
    ours = {table for table, _ in partitioned_tables(cursor)}
    cursor.execute(_LIST)
    found = []
    for name, parent, is_pending, size, rows in cursor.fetchall():
        match = _NAME.match(name)
        day = _day(match["day"]) if match else None
        if match is None or day is None or match["table"] not in ours:
            continue
        state = State.DETACHING if is_pending else State.ATTACHED if parent else State.DETACHED
        found.append(Partition(match["table"], name, Day.of(day), state, size, rows))
    return sorted(found, key=lambda partition: (partition.day.day, partition.name))


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None


def remove(cursor: CursorWrapper, partition: Partition, still_needed: Callable[[], str]) -> str:
    """Take a partition out and drop it; returns "" or why it stays (`still_needed`, asked once more when it is detached).

    Outside a transaction. Raises OperationalError when somebody is in the way for longer than LOCK_TIMEOUT; the next call
    goes on where this one stopped.
    """
    assert not connection.in_atomic_block, "DETACH … CONCURRENTLY wants no transaction"
    with _lock_timeout(cursor):
        _detach(cursor, partition)
        if reason := still_needed():
            attach(cursor, partition.table, partition.name, partition.day)
            log.info("partition.attached_again", partition=partition.name, reason=reason)
            return reason
        cursor.execute(f'DROP TABLE "{partition.name}"')
    return ""


@contextmanager
def _lock_timeout(cursor: CursorWrapper) -> Iterator[None]:
    cursor.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    try:
        yield
    finally:
        with suppress(DatabaseError, InterfaceError):  # a connection that is gone takes its settings along
            cursor.execute("RESET lock_timeout")


def _detach(cursor: CursorWrapper, partition: Partition) -> None:
    """A parent has at most one partition detaching; the caller ends that one first."""
    statement = f'ALTER TABLE "{partition.table}" DETACH PARTITION "{partition.name}"'
    if partition.state is State.ATTACHED:
        cursor.execute(f"{statement} CONCURRENTLY")
    elif partition.state is State.DETACHING:
        cursor.execute(f"{statement} FINALIZE")


def finish_detaching(cursor: CursorWrapper) -> list[str]:
    """End every detachment that was interrupted, whosever it was: while one is pending its table lets no other day go.

    Returns the names; raises OperationalError when somebody is in the way.
    """
    pending = [partition for partition in list_partitions(cursor) if partition.state is State.DETACHING]
    for partition in pending:
        with _lock_timeout(cursor):
            _detach(cursor, partition)
        log.warning("partition.detachment_finished", partition=partition.name)
    return [partition.name for partition in pending]


def is_lock_timeout(error: BaseException) -> bool:
    """Somebody was in the way (SQLSTATE 55P03), or the two of us were in each other's (40P01)."""
    cause = error.__cause__
    return isinstance(error, OperationalError) and getattr(cause, "sqlstate", None) in {"55P03", "40P01"}
