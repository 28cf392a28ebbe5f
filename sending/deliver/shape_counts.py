"""Messages by source IP: of a day for warm-up, of an hour at sites that are limited by the hour.

Written in the settle's transaction, so a restart or another sender that takes the IP over goes on counting.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import connection
from django.db.backends.utils import CursorWrapper

from ips.models import SendCount
from sending.deliver.outcome import AttemptOutcome

KEEP_HOURS = timedelta(days=2)
KEEP_DAYS = timedelta(days=400)  # what an IP has sent for a year: its reputation's history

_ADD = """
INSERT INTO ips_sendcount (source_ip_id, site, "window", window_start, count)
SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::timestamptz[], %s::bigint[])
ON CONFLICT (source_ip_id, "window", window_start, site) DO UPDATE SET count = ips_sendcount.count + EXCLUDED.count
"""


def count_sends(cursor: CursorWrapper, outcomes: Sequence[AttemptOutcome], now: datetime) -> None:
    """Count the messages of these attempts that were begun, in the caller's transaction; one statement, few rows."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    counts: Counter[tuple[int, str, str, datetime]] = Counter()
    for outcome in outcomes:
        if outcome.is_dialled:
            counts[outcome.job.source_ip_id, "", SendCount.Window.DAY.value, hour.replace(hour=0)] += 1
            if outcome.by_hour:
                counts[outcome.job.source_ip_id, outcome.site, SendCount.Window.HOUR.value, hour] += 1
    if counts:
        keys = sorted(counts)
        cursor.execute(_ADD, [*([key[i] for key in keys] for i in range(4)), [counts[key] for key in keys]])


def forget_counts(now: datetime) -> int:
    """Drop counts that nobody reads any more; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(
            """DELETE FROM ips_sendcount WHERE window_start < %s OR "window" = %s AND window_start < %s""",
            [now - KEEP_DAYS, SendCount.Window.HOUR, now - KEEP_HOURS],
        )
        return int(cursor.rowcount)
