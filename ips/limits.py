"""What the tables say of limits: read and written by senders, in their database threads. Plain values, no rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from django.db import connection

from ips.models import SendCount
from relay_project.mail.rates import FORGET_AFTER, Learned, Limits

Key = tuple[int | None, str]  # source IP (None: all of them), site


@dataclass(frozen=True, slots=True)
class SiteRow:
    """A row of ips_sitelimit. `paused`: why, by staff; None when it is not."""

    source_ip_id: int | None
    site: str
    limits: Limits
    paused: str | None
    learned: Learned | None


# Of each row which write it is from: whoever changes, adds or removes one changes this, whatever their clock says.
_MARK = """
SELECT count(*), bit_xor(hashtextextended(concat_ws(' ', id, xmin, ctid), 0))
  FROM ips_sitelimit WHERE source_ip_id IS NULL OR source_ip_id = ANY(%s)
"""
_READ = """
SELECT source_ip_id, site, connections, messages_per_connection, per_second, per_minute, per_hour,
       CASE WHEN paused_at IS NOT NULL THEN pause_reason END,
       learned_per_minute, learned_connections, learned_ceiling, back_off_seconds, back_off_until, learned_at, raised_at,
       learned_reply
  FROM ips_sitelimit WHERE source_ip_id IS NULL OR source_ip_id = ANY(%s)
"""


@dataclass(slots=True)
class SiteRows:
    """What holds for some IPs: the rows of their own and those of all IPs, as one sender has them.

    A bad day leaves tens of thousands of lessons: read whole every second they would take a second, so they are read
    again only after a change.
    """

    _mark: tuple[object, ...] = ()
    _rows: dict[Key, SiteRow] = field(default_factory=dict)

    def read(self, ip_ids: Sequence[int]) -> dict[Key, SiteRow]:
        """The rows as they are now; the same object as the last time when nothing changed."""
        with connection.cursor() as cursor:
            cursor.execute(_MARK, [list(ip_ids)])
            mark = (*sorted(ip_ids), *cursor.fetchone())
        if mark != self._mark:
            self._rows, self._mark = read_site_rows(ip_ids), mark
        return self._rows


def read_site_rows(ip_ids: Sequence[int]) -> dict[Key, SiteRow]:
    """What holds for these IPs, read whole."""
    with connection.cursor() as cursor:
        cursor.execute(_READ, [list(ip_ids)])
        return {(row[0], row[1]): _site_row(row) for row in cursor.fetchall()}


def _site_row(row: tuple[object, ...]) -> SiteRow:
    ip_id, site, connections, messages, per_second, per_minute, per_hour, paused, *lesson = row
    limits = Limits(connections, messages, per_second, per_minute, per_hour)  # type: ignore[arg-type]
    return SiteRow(ip_id, site, limits, paused, _learned(lesson))  # type: ignore[arg-type]


def _learned(columns: Sequence[object]) -> Learned | None:
    per_minute, connections, ceiling, back_off, back_off_until, learned_at, raised_at, reply = columns
    if learned_at is None:
        return None
    pause = timedelta(seconds=back_off)  # type: ignore[arg-type]
    return Learned(per_minute, connections, ceiling, pause, back_off_until, learned_at, raised_at, reply)  # type: ignore[arg-type]


_WRITE = """
INSERT INTO ips_sitelimit (source_ip_id, site, pause_reason, learned_per_minute, learned_connections, learned_ceiling,
                           back_off_seconds, back_off_until, learned_at, raised_at, learned_reply, changed_at)
SELECT l.ip, l.site, '', l.per_minute, l.connections, l.ceiling, l.seconds, l.until, l.learned_at, l.raised_at,
       coalesce(l.reply, ''), clock_timestamp()
  FROM unnest(%s::bigint[], %s::text[], %s::int[], %s::int[], %s::int[], %s::float8[], %s::timestamptz[],
              %s::timestamptz[], %s::timestamptz[], %s::text[])
    AS l(ip, site, per_minute, connections, ceiling, seconds, until, learned_at, raised_at, reply)
 ORDER BY l.ip, l.site
ON CONFLICT (source_ip_id, site) DO UPDATE SET
  learned_per_minute = EXCLUDED.learned_per_minute, learned_connections = EXCLUDED.learned_connections,
  learned_ceiling = EXCLUDED.learned_ceiling, back_off_seconds = EXCLUDED.back_off_seconds,
  back_off_until = EXCLUDED.back_off_until, learned_at = EXCLUDED.learned_at, raised_at = EXCLUDED.raised_at,
  learned_reply = EXCLUDED.learned_reply, changed_at = EXCLUDED.changed_at
"""
# Here and below, what somebody else is writing is left alone: it is not empty, or not old, any more.
_DROP_EMPTY = """
DELETE FROM ips_sitelimit WHERE id = ANY(ARRAY(
  SELECT id FROM ips_sitelimit WHERE learned_at IS NULL AND paused_at IS NULL
     AND num_nonnulls(connections, messages_per_connection, per_second, per_minute, per_hour) = 0
   FOR UPDATE SKIP LOCKED))
"""
_FORGET = """
UPDATE ips_sitelimit SET learned_per_minute = NULL, learned_connections = NULL, learned_ceiling = NULL,
       back_off_seconds = NULL, back_off_until = NULL, learned_at = NULL, raised_at = NULL, learned_reply = '',
       changed_at = clock_timestamp()
 WHERE id = ANY(ARRAY(
  SELECT id FROM ips_sitelimit WHERE greatest(learned_at, raised_at, back_off_until) < %(old)s
      OR learned_at > %(ahead)s FOR UPDATE SKIP LOCKED))
"""


def write_learned(lessons: Iterable[tuple[int, str, Learned | None]]) -> None:
    """Write (source IP, site, lesson) down; None: it is over, and a row that says nothing else goes."""
    columns = [list(column) for column in zip(*map(_columns, lessons), strict=True)]
    if not columns:
        return
    with connection.cursor() as cursor:
        cursor.execute(_WRITE, columns)
        if None in columns[2]:
            drop_empty()


def _columns(lesson: tuple[int, str, Learned | None]) -> tuple[object, ...]:
    ip_id, site, it = lesson
    if it is None:
        return ip_id, site, None, None, None, None, None, None, None, ""
    return (
        ip_id,
        site,
        it.per_minute,
        it.connections,
        it.ceiling,
        it.back_off.total_seconds(),
        it.back_off_until,
        it.learned_at,
        it.raised_at,
        it.reply,
    )


def forget_lessons(now: datetime) -> int:
    """Forget lessons of which nothing was heard for FORGET_AFTER; returns how many.

    Senders forget those of sites that they send to; the others are nobody's. A clock that went wrong leaves some from the
    future.
    """
    with connection.cursor() as cursor:
        cursor.execute(_FORGET, {"old": now - FORGET_AFTER, "ahead": now + FORGET_AFTER})
        forgotten = int(cursor.rowcount)
    drop_empty()
    return forgotten


def drop_empty() -> None:
    """Rows without limits, pause or lesson say nothing."""
    with connection.cursor() as cursor:
        cursor.execute(_DROP_EMPTY)


def read_hours(ip_ids: Sequence[int], now: datetime) -> dict[tuple[int, str], int]:
    """Messages to sites that are limited by the hour, in this clock hour and the one before."""
    since = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT source_ip_id, site, sum(count)::bigint FROM ips_sendcount
                WHERE source_ip_id = ANY(%s) AND "window" = %s AND window_start >= %s GROUP BY source_ip_id, site""",
            [list(ip_ids), SendCount.Window.HOUR, since],
        )
        return {(ip_id, site): count for ip_id, site, count in cursor.fetchall()}


def read_days(ip_ids: Sequence[int], today: date) -> dict[int, int]:
    """Messages of that day by source IP."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT source_ip_id, count FROM ips_sendcount
                WHERE source_ip_id = ANY(%s) AND "window" = %s AND site = ''
                  AND window_start = (%s::date)::timestamp AT TIME ZONE 'UTC'""",
            [list(ip_ids), SendCount.Window.DAY, today],
        )
        return dict(cursor.fetchall())


def read_warmups(ip_ids: Sequence[int]) -> dict[int, date]:
    """The first day of each IP that is being warmed up."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, warmup_started_on FROM ips_sourceip WHERE id = ANY(%s) AND warmup_started_on IS NOT NULL",
            [list(ip_ids)],
        )
        return dict(cursor.fetchall())
