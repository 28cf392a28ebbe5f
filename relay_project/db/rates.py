"""Exact rate limits over all web processes: one autocommitted upsert on an unlogged table.

Never called inside the transaction whose work it limits: the row would stay locked until that commits.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection


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
    """Drop windows that nobody used for a day; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM rate_window WHERE window_start < %s", [now - timedelta(days=1)])
        return int(cursor.rowcount)
