"""Time-ordered ids: the same arithmetic as the database's new_id(), id_floor() and id_time().

An id is milliseconds since 2020 << 12 | a sequence modulo 4096, so it stays below 2^53 (exact in JSON) until 2089.
Ids order by millisecond, not within one: where order inside a batch matters a `position` is kept beside it.
"""

import secrets
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

Row = TypeVar("Row")

EPOCH_MS = 1_577_836_800_000  # 2020-01-01T00:00:00Z in Unix milliseconds
SEQUENCE_BITS = 12
MAX_ID = 2**53 - 1  # the largest integer that JSON readers keep exact (RFC 8259 §6)
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_VERSION_7 = 7 << 76
_VARIANT = 2 << 62


def id_floor(moment: datetime) -> int:
    """The least id that could be made at `moment` (aware) or later."""
    return (moment - _EPOCH) // timedelta(milliseconds=1) << SEQUENCE_BITS


DAY_OF_IDS = id_floor(datetime(2020, 1, 2, tzinfo=UTC))  # how far apart the ids of two following days are


def by_day(rows: Iterable[Row], id_of: Callable[[Row], int] = int) -> list[list[Row]]:  # type: ignore[assignment]
    """Rows (or ids) of each day by themselves, sorted by their ids, the earliest day first.

    For statements over partitions of days: beside one old id, each other one would be sought in every day since.
    """
    days: dict[int, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=id_of):
        days[id_of(row) // DAY_OF_IDS].append(row)
    return list(days.values())


def id_time(identifier: int) -> datetime:
    """The moment (UTC, to the millisecond) at which an id was made."""
    return _EPOCH + timedelta(milliseconds=identifier >> SEQUENCE_BITS)


def hours_after(identifier: int, hours: float) -> int:
    """The id floor that many hours after an id was made: the upper bound of what was written with it."""
    return identifier + (int(hours * 3_600_000) << SEQUENCE_BITS)


def id_soon(now: datetime | None = None) -> int:
    """Above every id made until `now` (the present): what a range ends with that would else plan every day to come.

    An hour of margin, for a database whose clock is ahead of ours.
    """
    return id_floor((now or datetime.now(UTC)) + timedelta(hours=1))


def uuid_of(identifier: int, random_bits: int | None = None) -> uuid.UUID:
    """A UUIDv7 (RFC 9562 §5.7) that carries the id: same milliseconds, the sequence in rand_a, 62 random bits."""
    milliseconds = (identifier >> SEQUENCE_BITS) + EPOCH_MS
    noise = secrets.randbits(62) if random_bits is None else random_bits
    return uuid.UUID(int=milliseconds << 80 | _VERSION_7 | (identifier & 0xFFF) << 64 | _VARIANT | noise)


def id_of_uuid(value: uuid.UUID) -> int | None:
    """The id inside a UUIDv7 made by uuid_of; None when it cannot be one. The caller compares the stored uuid."""
    if value.version != 7:
        return None
    identifier = ((value.int >> 80) - EPOCH_MS) << SEQUENCE_BITS | (value.int >> 64 & 0xFFF)
    return identifier if 0 < identifier <= MAX_ID else None
