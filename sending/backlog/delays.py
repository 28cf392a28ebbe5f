"""Delays: mail that has waited for DELAY_WARNING_HOURS is told of, once, while it goes on waiting.

Ids are time-ordered, so who has waited for so long is found by the primary key: a reader passes over each id when its time
has come, and whoever still waits then is late. Scheduled and retried mail is found in the same way by the time from which it
waits. How far the readers have come moves in the transaction of the events, so nobody is told of twice. Time in a paused
queue counts: the mail is late all the same.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from projects.events import EventKind, NewEvent, emit_many
from relay_project.db.ids import id_floor
from sending.backlog.expire import in_words
from sending.labels import NONE, labels_of
from sending.statistics.positions import move, position_of

BY_ID, BY_TIME = "delays", "delays of later mail"
ROWS = 1000  # a transaction

_ONE_AT_A_TIME = "SELECT FROM sending_readerposition WHERE name = %s FOR UPDATE"
_ROWS_BY_ID = """
SELECT w.recipient_id, w.recipient_id, w.send_id, w.project_id, w.tries FROM sending_waiting w
 WHERE w.recipient_id > %(after)s AND w.recipient_id <= %(until)s AND w.since IS NULL
 ORDER BY w.recipient_id LIMIT %(rows)s FOR UPDATE
"""
# The times of a campaign's mails are all the same: so those of one time are never parted.
_ROWS_BY_TIME = """
SELECT (extract(epoch FROM w.since) * 1000000)::bigint, w.recipient_id, w.send_id, w.project_id, w.tries
  FROM sending_waiting w
 WHERE w.recipient_id = ANY(ARRAY(
   SELECT recipient_id FROM sending_waiting
    WHERE since > %(after)s AND since <= %(until)s ORDER BY since FETCH FIRST %(rows)s ROWS WITH TIES))
 ORDER BY w.recipient_id FOR UPDATE
"""
_PEOPLE = """
SELECT id, address, status FROM sending_recipient
 WHERE id = ANY(%s) AND id BETWEEN %s AND %s AND status IN ('queued', 'deferred')
"""

Late = tuple[int, int, int, int, int]  # place, recipient, send, project, tries


def tell_of_delays(now: datetime, seconds: float) -> int:
    """Write the events of what has become late, for as long; returns how many."""
    if not settings.DELAY_WARNING:
        return 0
    deadline, told = monotonic() + seconds, 0
    for step in (_step_by_id, _step_by_time):
        while monotonic() < deadline:
            count, is_more = step(now - settings.DELAY_WARNING)
            told += count
            if not is_more:
                break
    return told


def _step_by_id(until: datetime) -> tuple[int, bool]:
    """Some of those whose time began when they were accepted; how many are told, and whether more may be late."""
    with transaction.atomic(), connection.cursor() as cursor:
        end = id_floor(until)
        after = _begin(cursor, BY_ID, end)
        cursor.execute(_ROWS_BY_ID, {"after": after, "until": end, "rows": ROWS})
        rows: list[Late] = cursor.fetchall()
        is_more = len(rows) == ROWS
        move(cursor, BY_ID, rows[-1][0] if is_more else max(after, end))
        return _tell(cursor, rows), is_more


def _step_by_time(until: datetime) -> tuple[int, bool]:
    """The same of mail that began to wait later."""
    with transaction.atomic(), connection.cursor() as cursor:
        after = _begin(cursor, BY_TIME, _micros(until))
        cursor.execute(_ROWS_BY_TIME, {"after": _moment(after), "until": until, "rows": ROWS})
        rows: list[Late] = cursor.fetchall()
        is_more = len(rows) >= ROWS
        move(cursor, BY_TIME, max(row[0] for row in rows) if is_more else max(after, _micros(until)))
        return _tell(cursor, rows), is_more


def _begin(cursor: CursorWrapper, name: str, first: int) -> int:
    """Where a reader goes on, locked; at first it begins here, and tells nothing of the past."""
    cursor.execute(_ONE_AT_A_TIME, [name])
    if cursor.fetchone() is None:
        move(cursor, name, first)
    return position_of(cursor, name)


def _tell(cursor: CursorWrapper, rows: Sequence[Late]) -> int:
    if not rows:
        return 0
    ids = sorted(row[1] for row in rows)
    cursor.execute(_PEOPLE, [ids, ids[0], ids[-1]])
    people = {recipient_id: (address, status) for recipient_id, address, status in cursor.fetchall()}
    known = labels_of(cursor, {row[2] for row in rows})
    events = [
        _event(row, people[row[1]], known.get(row[2], NONE))
        for row in sorted(rows, key=lambda row: row[1])
        if row[1] in people
    ]
    emit_many(cursor, events)
    return len(events)


def _event(row: Late, person: tuple[str, str], labels: Any) -> NewEvent:
    address, status = person
    _, recipient_id, send_id, project_id, tries = row
    text = f"It has waited for more than {in_words(settings.DELAY_WARNING)}."
    payload = {
        "recipient_id": recipient_id,
        "address": address,
        "status": status,
        "try_count": tries,
        "delay": {"source": "waiting", "text": text, "status": None},
        **labels,
    }
    return NewEvent(project_id, EventKind.DELAYED, "send", send_id, payload)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
