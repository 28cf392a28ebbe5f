"""The reader of what comes in: each send is read once, soon after its accept, counted, and made findable.

Accepting writes no event, and nothing for statistics or searches: those rows would cost a mail as much as the mail itself
does. Ids order by time, so the tail of the sends is read instead. A transaction may commit after its ids were passed: so
the tail is read a second time, ten minutes later, for what came late; that a send has its search text, written in the
transaction in which it is counted, says that it was.
"""

from datetime import datetime, timedelta
from typing import Any

from django.db.backends.utils import CursorWrapper

from relay_project.db.ids import hours_after, id_floor, id_time
from sending.statistics.positions import LATECOMERS, NEWCOMERS, move, position_of, reading
from sending.statistics.tally import Mail, Tally, hour_of

LAG = timedelta(seconds=2)  # behind the clock: what is accepted has its ids for a moment before it commits
LATE_LAG = timedelta(minutes=10)
BATCH = 2000  # sends a transaction

_TAIL = """
SELECT count(*), max(id) FROM (
  SELECT id FROM sending_send WHERE id >= %(low)s AND id < %(high)s ORDER BY id LIMIT %(rows)s) AS tail
"""
_TAKE = r"""
WITH fresh AS MATERIALIZED (
  SELECT s.id, s.project_id, s.queue_id, lower(s.from_address) AS sender, lower(coalesce(s.subject, '')) AS subject, s.tags,
         s.is_test
    FROM sending_send s
   WHERE s.id >= %(low)s AND s.id < %(high)s AND NOT EXISTS (
     SELECT FROM sending_searchtext t WHERE t.send_id = s.id AND t.send_id >= %(low)s AND t.send_id < %(high)s)
), person AS MATERIALIZED (
  SELECT f.id, f.project_id, r.position, lower(r.address) AS address
    FROM fresh f JOIN sending_recipient r ON r.send_id = f.id
   WHERE r.id >= %(low)s AND r.id < %(top)s
), people AS (
  SELECT id, count(*) AS number, E'\n' || string_agg(address, E'\n' ORDER BY position) || E'\n' AS addresses,
         array_agg(search_key(project_id, 't', address))
           || array_agg(search_key(project_id, 't-', left(address, 1))) FILTER (WHERE address ~ '^[\W_]') AS keys
    FROM person GROUP BY id
), added AS (
  INSERT INTO sending_searchtext (send_id, keys, from_text, to_text, subject_text)
  SELECT f.id, p.keys || search_key(f.project_id, 'p', '') || search_key(f.project_id, 'f', f.sender)
           || ARRAY(SELECT search_key(f.project_id, 'g', lower(tag)) FROM unnest(f.tags) AS tag)
           || CASE WHEN f.sender ~ '^[\W_]' THEN ARRAY[search_key(f.project_id, 'f-', left(f.sender, 1))] END
           || CASE WHEN f.subject ~ '^[\W_]' THEN ARRAY[search_key(f.project_id, 's-', left(f.subject, 1))] END,
         f.sender, p.addresses, f.subject
    FROM fresh f JOIN people p ON p.id = f.id ORDER BY f.id
  ON CONFLICT (send_id) DO NOTHING
  RETURNING send_id)
SELECT f.project_id, f.queue_id, substring(f.sender from '[^@]*$') AS domain, f.id / %(hour)s AS hour, f.tags,
       sum(p.number)
  FROM added a JOIN fresh f ON f.id = a.send_id JOIN people p ON p.id = f.id
 WHERE NOT f.is_test
 GROUP BY 1, 2, 3, 4, 5
"""
HOUR_OF_IDS = id_floor(datetime.fromisoformat("2020-01-01T01:00:00+00:00"))


def read_newcomers(limit: int = BATCH) -> int:
    """Take up to `limit` sends of the tail, in a transaction; returns how many were read."""
    return _read(NEWCOMERS, LAG, limit)


def read_latecomers(limit: int = BATCH) -> int:
    """The same once more behind it, for what committed late."""
    return _read(LATECOMERS, LATE_LAG, limit)


def _read(name: str, lag: timedelta, limit: int) -> int:
    with reading() as cursor:
        if cursor is None:
            return 0
        low = position_of(cursor, name)
        high = hours_after(_clock(cursor), -lag / timedelta(hours=1))
        if high <= low:
            return 0
        cursor.execute(_TAIL, {"low": low, "high": high, "rows": limit})
        found, last = cursor.fetchone()
        if found == limit:
            high = last + 1
        if found:
            _take(cursor, low, high)
        move(cursor, name, high)
    return int(found)


def _take(cursor: CursorWrapper, low: int, high: int) -> None:
    """Write the search texts of what has none yet, and count it."""
    values: dict[str, Any] = {"low": low, "high": high, "top": hours_after(high, 1), "hour": HOUR_OF_IDS}
    cursor.execute(_TAKE, values)
    tally = Tally()
    for project_id, queue_id, domain, hour, tags, number in cursor.fetchall():
        mail = Mail(project_id, hour_of(id_time(hour * HOUR_OF_IDS)), domain or "", queue_id, tuple(tags or ()))
        tally.add(mail, None, "total", int(number))
    tally.write(cursor, id_time(high))


def _clock(cursor: CursorWrapper) -> int:
    """The least id that could be made now, by the clock that makes them."""
    cursor.execute("SELECT id_floor(clock_timestamp())")
    return int(cursor.fetchone()[0])
