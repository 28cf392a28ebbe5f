"""The reader of the event log: each recipient's one moves from the state it was counted in to the one it has now.

What an event takes away is what the recipient's event before it added, by the order of ids: so the sum is where everybody
stands now, in whatever order and batches events are read. Everything counts in the hour in which the mail was accepted:
a bounce that comes a week later changes that hour's rates, and the rates of what was sent then are right for ever.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from projects.events import EventKind
from relay_project.db.ids import by_day, id_time
from sending.models import RecipientStatus
from sending.statistics.latency import bucket_of
from sending.statistics.positions import OUTCOMES, move, position_of, reading
from sending.statistics.tally import Mail, Tally, Way, hour_of

BATCH = 5000  # events a transaction: a quarter of a second's work

# Other kinds about a recipient, such as that its mail is late, move nobody.
_STATES: Mapping[str, RecipientStatus] = {
    f"send.recipient.{status.value}": status
    for status in RecipientStatus
    if f"send.recipient.{status.value}" in set(EventKind)
}
_FEED = """
SELECT position, event_id FROM projects_feedposition WHERE position > %s ORDER BY position LIMIT %s
"""
_SUBJECTS = """
SELECT DISTINCT subject_id FROM projects_event
 WHERE id = ANY(%(ids)s) AND id >= %(low)s AND id <= %(high)s AND kind = ANY(%(kinds)s)
"""
# All that happened to those sends until then: what the batch says, and what was said before.
_STORY = """
SELECT id, subject_id, (payload->>'recipient_id')::bigint, kind, (payload->>'attempt_id')::bigint FROM projects_event
 WHERE subject_id = ANY(%(ids)s) AND id >= %(low)s AND id <= %(until)s AND kind = ANY(%(kinds)s)
"""
_SENDS = """
SELECT id, project_id, queue_id, lower(substring(from_address from '[^@]*$')), message_date, tags
  FROM sending_send WHERE id = ANY(%(ids)s) AND id >= %(low)s AND id <= %(high)s AND NOT is_test
"""
_ATTEMPTS = """
SELECT id, source_ip_id, site FROM sending_attempt WHERE id = ANY(%(ids)s) AND id >= %(low)s AND id <= %(high)s
"""


@dataclass(frozen=True, slots=True)
class _Told:
    """One event of a recipient."""

    event_id: int
    send_id: int
    state: RecipientStatus
    attempt_id: int | None


@dataclass(frozen=True, slots=True)
class _Sent:
    """What is needed of a send; `began` is when its first try was due."""

    mail: Mail
    began: datetime


def fold_outcomes(limit: int = BATCH) -> int:
    """Count up to `limit` events of the feed, in a transaction; returns how many were read.

    0 also when another process is at it.
    """
    with reading() as cursor:
        if cursor is None:
            return 0
        cursor.execute(_FEED, [position_of(cursor, OUTCOMES), limit])
        feed = cursor.fetchall()
        if feed:
            _count(cursor, [event_id for _, event_id in feed])
            move(cursor, OUTCOMES, feed[-1][0])
    return len(feed)


def _count(cursor: CursorWrapper, event_ids: Sequence[int]) -> None:
    kinds = list(_STATES)
    subjects = {row[0] for row in _rows_of(cursor, _SUBJECTS, event_ids, kinds=kinds)}
    stories = _stories(cursor, subjects, max(event_ids), kinds)
    sends = {row[0]: _sent(row) for row in _rows_of(cursor, _SENDS, subjects)}
    attempts = {told.attempt_id for story in stories for told in story if told.attempt_id is not None}
    ways = {row[0]: Way(row[1], row[2]) for row in _rows_of(cursor, _ATTEMPTS, attempts)}
    tally, wanted = Tally(), set(event_ids)
    for story in stories:
        sent = sends.get(story[0].send_id)
        if sent is not None:
            _tell(story, wanted, sent, ways, tally)
    tally.write(cursor, timezone.now())


def _stories(cursor: CursorWrapper, subjects: Iterable[int], until: int, kinds: list[str]) -> list[list[_Told]]:
    """Each recipient's events, the oldest first; those that name no recipient count nobody."""
    found: dict[int, list[_Told]] = defaultdict(list)
    for event_id, send_id, recipient_id, kind, attempt_id in _rows_of(
        cursor, _STORY, subjects, kinds=kinds, until=until
    ):
        if recipient_id is not None:
            found[recipient_id].append(_Told(event_id, send_id, _STATES[kind], attempt_id))
    for story in found.values():
        if len(story) > 1:
            story.sort(key=lambda told: told.event_id)
    return list(found.values())


def _sent(row: tuple[Any, ...]) -> _Sent:
    send_id, project_id, queue_id, domain, message_date, tags = row
    accepted = id_time(send_id)
    return _Sent(
        Mail(project_id, hour_of(accepted), domain or "", queue_id, tuple(tags or ())), max(accepted, message_date)
    )


def _tell(story: Sequence[_Told], wanted: set[int], sent: _Sent, ways: Mapping[int, Way], tally: Tally) -> None:
    """Count the events of the batch in one recipient's story. What names no attempt went the way of the last one."""
    before: RecipientStatus | None = None
    way: Way | None = None
    for told in story:
        old_way, way = way, ways.get(told.attempt_id, way) if told.attempt_id is not None else way
        if told.event_id in wanted:
            if before is not None:
                tally.add(sent.mail, old_way, before.value, -1)
            tally.add(sent.mail, way, told.state.value)
            _count_more(told, before, sent, way, tally)
        before = told.state


def _count_more(told: _Told, before: RecipientStatus | None, sent: _Sent, way: Way | None, tally: Tally) -> None:
    if told.state is RecipientStatus.DEFERRED:
        tally.add(sent.mail, way, "deferrals")
    elif told.state is RecipientStatus.ACCEPTED and before is not RecipientStatus.ACCEPTED:
        took = max(id_time(told.event_id) - sent.began, timedelta())
        tally.add_latency(sent.mail, way, bucket_of(took.total_seconds()))


def _rows_of(cursor: CursorWrapper, statement: str, ids: Iterable[int], **values: Any) -> Iterator[tuple[Any, ...]]:
    """Run a statement for the ids of each day by themselves."""
    for same in by_day(ids):
        cursor.execute(statement, {**values, "ids": same, "low": same[0], "high": same[-1]})
        yield from cursor.fetchall()
