"""Exact rate limits over all web processes: one autocommitted statement on an unlogged table.

Never called inside the transaction whose work it limits: the row would stay locked until that commits. `use` has one
window that begins with the first use (sign-in); `spend` has several at once, those of the clock (the API).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from django.db import connection

from relay_project.db.bound import bound_cursor
from relay_project.db.gather import Gather

TOGETHER = 50  # uses of one statement


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in a fixed window of `seconds`."""

    bucket: str
    count: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Use:
    """What a call to `use` found: how many are left and when the window ends (whole seconds, at least 1)."""

    allowed: bool
    remaining: int
    reset_seconds: int


def use(rate: Rate, key: str, now: datetime) -> Use:
    """Count one use of `key` (bounded text) in the rate's window."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO rate_window AS r (bucket, key, window_start, count) VALUES (%(bucket)s, %(key)s, %(now)s, 1)
               ON CONFLICT (bucket, key) DO UPDATE SET
                 count = CASE WHEN r.window_start <= %(stale)s THEN 1 ELSE least(r.count + 1, 1000000000) END,
                 window_start = CASE WHEN r.window_start <= %(stale)s THEN %(now)s ELSE r.window_start END
               RETURNING count, window_start""",
            {"bucket": rate.bucket, "key": key[:200], "now": now, "stale": now - timedelta(seconds=rate.seconds)},
        )
        count, start = cursor.fetchone()
    left = max(1, int((start + timedelta(seconds=rate.seconds) - now).total_seconds() + 0.999))
    return Use(count <= rate.count, max(0, rate.count - count), left)


def forget(rate: Rate, key: str) -> None:
    """Start the key's window anew, after a success that shows the failures were honest ones."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM rate_window WHERE bucket = %s AND key = %s", [rate.bucket, key[:200]])


def sweep(now: datetime) -> int:
    """Drop windows that nobody used for a day, and meters that stood still for two; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM rate_window WHERE window_start < %s", [now - timedelta(days=1)])
        windows = int(cursor.rowcount)
        cursor.execute("DELETE FROM rate_meter WHERE second < %s", [int((now - timedelta(days=2)).timestamp())])
        return windows + int(cursor.rowcount)


# --- Several windows at once -----------------------------------------------------------------------------------------


class Window(StrEnum):
    """A span of the clock, UTC."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


SECONDS = MappingProxyType({Window.SECOND: 1, Window.MINUTE: 60, Window.HOUR: 3600, Window.DAY: 86_400})

Caps = Mapping[Window, int | None]  # how much fits into a window; None, or not named: as much as you like


@dataclass(frozen=True, slots=True)
class Spent:
    """What a subject has used in each window, after a call that was let through or (`refused`) was not.

    `at` is the second of the database's clock, which all web processes share.
    """

    refused: Window | None
    at: int
    used: Mapping[Window, int]
    caps: Caps

    def remaining(self, window: Window) -> int:
        """How much still fits; only for a window that has a cap."""
        return max(0, (self.caps.get(window) or 0) - self.used[window])

    def reset_seconds(self, window: Window) -> int:
        """In how many seconds something fits again: the end of the window, or of those that a batch overdrew."""
        if window is Window.SECOND:
            return max(1, self.used[window] // max(1, self.caps.get(window) or 1))
        return SECONDS[window] - self.at % SECONDS[window]


def spend(subject: str, cost: int, caps: Caps, now: datetime | None = None) -> Spent:
    """Use `cost` of all windows of a subject, or of none when one has no room; 0 only looks whether there is any.

    A cap of a second is a pace: one call may go beyond it, and the seconds after it pay. The others are never exceeded.
    `now` stands in for the database's clock in tests.
    """
    asked = _Asked(subject, cost, caps, None if now is None else now.timestamp())
    return _spend_each([asked])[0] if connection.in_atomic_block else _gather.do(asked)


def spend_each(asked: Sequence[tuple[str, int, Caps]]) -> list[Spent]:
    """As spend(), for several (subject, cost, caps) in one statement, each by itself; in their order."""
    return _spend_each([_Asked(subject, cost, caps, None) for subject, cost, caps in asked])


@dataclass(frozen=True, slots=True)
class _Asked:
    subject: str
    cost: int
    caps: Caps
    moment: float | None


# In the order of the subjects, so that two of these never wait for each other's rows.
_SPEND_EACH = """
SELECT asked.place, spent.*
  FROM ROWS FROM (unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::float8[]))
       WITH ORDINALITY AS asked (who, cost, per_second, per_minute, per_hour, per_day, moment, place),
       LATERAL meter_use(who, cost, per_second, per_minute, per_hour, per_day, moment) AS spent
"""


def _spend_each(asked: Sequence[_Asked]) -> list[Spent]:
    """Each by itself and in one statement, for requests that come at once; in their order."""
    places = sorted(range(len(asked)), key=lambda place: asked[place].subject)
    rows = [(one.subject, one.cost, *map(one.caps.get, Window), one.moment) for one in map(asked.__getitem__, places)]
    with bound_cursor(prepared=True) as cursor:
        cursor.execute(_SPEND_EACH, [list(column) for column in zip(*rows, strict=True)])
        found = {places[place - 1]: row for place, *row in cursor.fetchall()}
    return [_spent(one, *found[place]) for place, one in enumerate(asked)]


def _spent(asked: _Asked, refused: str | None, at: int, *used: int) -> Spent:
    window = None if refused is None else Window(refused)
    return Spent(window, at, dict(zip(Window, used, strict=True)), asked.caps)


_gather: Gather[_Asked, Spent] = Gather(_spend_each, TOGETHER)


def read_meter(subject: str, caps: Caps, now: datetime) -> Spent:
    """What a subject has used in the windows of this moment; counts nothing and waits for nobody."""
    at = int(now.timestamp())
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT second, in_second, minute, in_minute, hour, in_hour, day, in_day FROM rate_meter
                WHERE subject = %s""",
            [subject],
        )
        row = cursor.fetchone() or (0,) * 8
    used = {
        window: count if number == at // SECONDS[window] else 0
        for window, number, count in zip(Window, row[::2], row[1::2], strict=True)
    }
    return Spent(None, at, used, caps)
