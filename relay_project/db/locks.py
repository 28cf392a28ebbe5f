"""Advisory locks: every number we use, in one place."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db.backends.utils import CursorWrapper

# Session locks of one key. The two-key space (class, id) is used for senders and source IPs.
MIGRATIONS = 7_301
PARTITIONS = 7_302
SEQUENCER = 7_303
FIRST_START = 7_304
FIRST_PERSON = 7_305
RETENTION = 7_306
STATISTICS = 7_307
WEBHOOK_FAN_OUT = 7_308
WEBHOOK_REPLAYS = 7_309

# Classes of the two-key space.
SENDER = 7_311
SOURCE_IP = 7_312
MAILBOX_DEPOSITS = 7_313


@contextmanager
def advisory_lock(cursor: CursorWrapper, key: int) -> Iterator[None]:
    """Hold a session lock for the block, waiting for it; works inside and outside a transaction."""
    cursor.execute("SELECT pg_advisory_lock(%s)", [key])
    try:
        yield
    finally:
        cursor.execute("SELECT pg_advisory_unlock(%s)", [key])


def try_lock(cursor: CursorWrapper, key: int) -> bool:
    """Take a session lock if it is free; it is released with the connection."""
    cursor.execute("SELECT pg_try_advisory_lock(%s)", [key])
    row = cursor.fetchone()
    return bool(row and row[0])
