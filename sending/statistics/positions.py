"""How far the readers have come: a row each, locked and moved in the transaction of what was written."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from relay_project.db.ids import id_time
from relay_project.db.locks import STATISTICS

OUTCOMES = "outcomes"  # the position of the event log's reader is one of the feed
NEWCOMERS, LATECOMERS = "newcomers", "latecomers"  # those of the tail's are ids


@contextmanager
def reading() -> Iterator[CursorWrapper | None]:
    """A transaction in which nobody else reads; None when another process does now. The lock goes with the commit."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [STATISTICS])
        row = cursor.fetchone()
        yield cursor if row and row[0] else None


def position_of(cursor: CursorWrapper, name: str) -> int:
    """How far a reader has come; 0 at first."""
    cursor.execute("SELECT position FROM sending_readerposition WHERE name = %s", [name])
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def move(cursor: CursorWrapper, name: str, position: int) -> None:
    """Say that everything up to there was read."""
    cursor.execute(
        """INSERT INTO sending_readerposition (name, position, moved_at) VALUES (%s, %s, clock_timestamp())
           ON CONFLICT (name) DO UPDATE SET position = EXCLUDED.position, moved_at = EXCLUDED.moved_at""",
        [name, position],
    )


_OLDEST = """
SELECT event_id FROM projects_feedposition
 WHERE position > coalesce((SELECT position FROM sending_readerposition WHERE name = %s), 0) ORDER BY position LIMIT 1
"""


def read_lag() -> dict[str, float]:
    """How old (seconds) the oldest thing is that a reader has not read, by reader; 0 where nothing waits."""
    now = datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST, [OUTCOMES])
        event = cursor.fetchone()
        newcomers = position_of(cursor, NEWCOMERS)
    moments = {OUTCOMES: id_time(event[0]) if event else now, NEWCOMERS: id_time(newcomers) if newcomers else now}
    return {reader: max((now - moment) / timedelta(seconds=1), 0.0) for reader, moment in moments.items()}
