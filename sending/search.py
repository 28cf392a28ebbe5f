"""Finding sends: newest first, by what people remember of them. Every statement carries a range of ids.

What is common is found by looking at the newest sends themselves, and what is rare or absent by the index over every
day's search texts, so that neither takes longer the more mail there is. The sends and recipients have the last word:
what either way proposes is checked against them. What was accepted so lately that it has no search text yet is always
looked at itself.
"""

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from django.db import connection
from django.db.backends.utils import CursorWrapper

from relay_project.db.ids import MAX_ID, hours_after, id_floor, id_soon, id_time
from relay_project.db.partitions import partition_name
from sending.models import Recipient, Send
from sending.search_terms import SendFilter, conditions, index_values
from sending.statistics.positions import NEWCOMERS, position_of

__all__ = ["SendFilter", "counted_statuses", "find_everybodys", "find_sends", "recipients_by_send"]

LOOKED_AT = 1000  # of the newest sends, first; about five milliseconds
COMMON = 10  # a text that as many of those have is looked for among more of them
LOOKED_AT_COMMON = 20_000
CHECKED = 500  # sends that are checked at once
PROPOSED = 5000  # by the index, at once, at most
BEFORE_INDEX = 5000  # recipients of a status, or sends of a tag, that are looked at before a text is looked for by it
A_MINUTE = 1 / 60  # in hours: a send's recipients have their ids from the statement that drew its own

Search = tuple[CursorWrapper, int, SendFilter]
Steps = Generator[int, None, int]  # ids that fit, newest first; then the id from which on nothing is left to look at


def find_sends(project_id: int, wanted: SendFilter, limit: int, before_id: int | None = None) -> list[Send]:
    """At most `limit` sends of a project, newest first, with ids below `before_id`."""
    low = id_floor(wanted.date_from) if wanted.date_from else 0
    high = min(id_floor(wanted.date_to) if wanted.date_to else MAX_ID, id_soon())
    high = high if before_id is None else min(high, before_id)
    low, high = max(low, 0), max(high, 0)
    if low >= high:
        return []
    if wanted.is_of_dates_only:
        return list(Send.objects.filter(project_id=project_id, pk__gte=low, pk__lt=high).order_by("-pk")[:limit])
    with connection.cursor() as cursor:
        ids = list(islice(_ids((cursor, project_id, wanted), low, high, limit), limit))
    if not ids:
        return []
    found = {send.pk: send for send in Send.objects.filter(pk__in=ids, pk__gte=ids[-1], pk__lte=ids[0])}
    return [found[send_id] for send_id in ids if send_id in found]


def find_everybodys(wanted: SendFilter, limit: int, before_id: int | None = None) -> list[Send]:
    """At most `limit` sends of all projects, newest first, by dates alone: a text would be looked for everywhere."""
    low = id_floor(wanted.date_from) if wanted.date_from else 0
    high = min(
        id_floor(wanted.date_to) if wanted.date_to else MAX_ID, id_soon(), MAX_ID if before_id is None else before_id
    )
    return list(Send.objects.filter(pk__gte=low, pk__lt=high).order_by("-pk")[:limit])


def _ids(search: Search, low: int, high: int, limit: int) -> Iterator[int]:
    """All that fits, newest first, found as it is asked for."""
    _, _, wanted = search
    if wanted.tag:
        end = yield from _by_tag(search, low, high, limit)
    elif wanted.status:
        end = yield from _by_status(search, low, high, limit)
    else:
        end = yield from _look_at_newest(search, low, high, limit)
    if end > low:
        yield from _by_index(search, low, end, limit)


# --- The sends themselves --------------------------------------------------------------------------------------------

_OLDEST_OF_NEWEST = """
SELECT count(*), min(id) FROM (
  SELECT id FROM sending_send WHERE project_id = %(project)s AND id >= %(low)s AND id < %(high)s
   ORDER BY id DESC LIMIT %(rows)s) AS newest
"""
_FITTING = """
SELECT s.id FROM sending_send s WHERE s.project_id = %(project)s AND s.id >= %(low)s AND s.id < %(high)s{conditions}
 ORDER BY s.id DESC LIMIT %(rows)s
"""
_FITTING_OF = """
SELECT s.id FROM sending_send s
 WHERE s.id = ANY(%(ids)s) AND s.project_id = %(project)s AND s.id >= %(low)s AND s.id < %(high)s{conditions}
"""


def _look_at_newest(search: Search, low: int, high: int, limit: int) -> Steps:
    """What fits among the newest sends, and among more of them when it is common there; returns where it stopped."""
    cursor, project_id, _ = search
    end, rows = high, LOOKED_AT
    unindexed = position_of(cursor, NEWCOMERS)
    while True:
        cursor.execute(_OLDEST_OF_NEWEST, {"project": project_id, "low": low, "high": end, "rows": rows})
        looked_at, oldest = cursor.fetchone()
        floor = low if looked_at < rows else min(oldest, max(unindexed, low))
        found = _fitting(search, floor, end, limit)
        yield from found
        end = floor
        if end <= low or rows > LOOKED_AT or len(found) < COMMON:
            return end
        rows = min(LOOKED_AT * limit // len(found) + LOOKED_AT, LOOKED_AT_COMMON)


def _fitting(search: Search, low: int, high: int, rows: int) -> list[int]:
    cursor, project_id, wanted = search
    sql, values = conditions(wanted, low, high)
    cursor.execute(_FITTING.format(conditions=sql), {**values, "project": project_id, "rows": rows})
    return [send_id for (send_id,) in cursor.fetchall()]


def _check(search: Search, ids: Sequence[int]) -> Iterator[int]:
    """Those of the ids that fit, newest first."""
    cursor, project_id, wanted = search
    ordered = sorted(ids, reverse=True)
    for start in range(0, len(ordered), CHECKED):
        some = ordered[start : start + CHECKED]
        sql, values = conditions(wanted, some[-1], some[0] + 1)
        cursor.execute(_FITTING_OF.format(conditions=sql), {**values, "project": project_id, "ids": some})
        yield from sorted((send_id for (send_id,) in cursor.fetchall()), reverse=True)


# --- By the status of recipients -------------------------------------------------------------------------------------

_OF_STATUS = """
SELECT id, send_id FROM sending_recipient
 WHERE project_id = %(project)s AND status = %(status)s AND id >= %(low)s AND id < %(top)s
 ORDER BY id DESC LIMIT %(rows)s
"""


def _by_status(search: Search, low: int, high: int, limit: int) -> Steps:
    """Sends of the newest recipients of a status; returns below which id it has not looked (`low`: it has seen all).

    A send's recipients lie behind it, and those of two sends may lie among each other. So of what was seen only sends
    above the last recipient's id are sure to be the newest; the others wait for the next step.
    """
    cursor, project_id, wanted = search
    top, rows, seen = hours_after(high, A_MINUTE), max(2 * limit, CHECKED), 0
    waiting: set[int] = set()
    while True:
        values: dict[str, Any] = {"project": project_id, "status": wanted.status, "low": low, "top": top, "rows": rows}
        cursor.execute(_OF_STATUS, values)
        found = cursor.fetchall()
        waiting.update(send_id for _, send_id in found if low <= send_id < high)
        is_last = len(found) < rows
        top = low if is_last else found[-1][0]
        sure = [send_id for send_id in waiting if send_id >= top]
        waiting.difference_update(sure)
        yield from _check(search, sure)
        seen += len(found)
        if is_last:
            return low
        if wanted.has_text and seen >= BEFORE_INDEX:
            return min(top, high)


# --- By tag ----------------------------------------------------------------------------------------------------------

_OF_TAG = """
SELECT send_id FROM sending_sendtag
 WHERE project_id = %(project)s AND tag = %(tag)s AND send_id >= %(low)s AND send_id < %(high)s
 ORDER BY send_id DESC LIMIT %(rows)s
"""


def _by_tag(search: Search, low: int, high: int, limit: int) -> Steps:
    """Sends of a tag that fit; returns below which id it has not looked."""
    cursor, project_id, wanted = search
    rows, seen = max(limit, CHECKED), 0
    while True:
        cursor.execute(_OF_TAG, {"project": project_id, "tag": wanted.tag, "low": low, "high": high, "rows": rows})
        found = [send_id for (send_id,) in cursor.fetchall()]
        yield from _check(search, found)
        seen += len(found)
        if len(found) < rows:
            return low
        high = found[-1]
        if wanted.has_text and seen >= BEFORE_INDEX:
            return high


# --- By the index ----------------------------------------------------------------------------------------------------

_PROPOSED = """
SELECT * FROM search_sends(
  %(days)s::text[], %(low)s, %(high)s,
  ARRAY(SELECT search_key(%(project)s, k.kind, lower(k.value))
          FROM unnest(%(kinds)s::text[], %(values)s::text[]) AS k(kind, value)),
  lower(%(sender)s), lower(%(recipient)s), lower(%(subject)s), %(most)s)
"""


def _by_index(search: Search, low: int, high: int, limit: int) -> Iterator[int]:
    """What the index of each day proposes and the rows confirm: as many as are wanted, then more and more."""
    cursor, project_id, wanted = search
    values = index_values(project_id, wanted)
    days, most = _days(cursor, low, high), min(limit + 1, PROPOSED)
    while days and high > low:
        cursor.execute(_PROPOSED, {**values, "days": days, "low": low, "high": high, "most": most})
        proposed = [send_id for (send_id,) in cursor.fetchall()]
        yield from _check(search, proposed)
        if len(proposed) < most:
            return
        high, most = proposed[-1], min(4 * most, PROPOSED)
        days = _days(cursor, low, high)


def _days(cursor: CursorWrapper, low: int, high: int) -> list[str]:
    """The tables of the days that hold ids of the range, the newest first."""
    cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'sending_searchtext'::regclass")
    first, last = (partition_name("sending_searchtext", id_time(end).date()) for end in (low, high))
    return sorted((name for (name,) in cursor.fetchall() if first <= name <= last), reverse=True)


# --- Of a page of sends ----------------------------------------------------------------------------------------------


def recipients_by_send(sends: Sequence[Send]) -> dict[int, list[Recipient]]:
    """The recipients of a page of sends, in the order of their headers."""
    found: dict[int, list[Recipient]] = defaultdict(list)
    if not sends:
        return found
    ids = [send.pk for send in sends]
    rows = Recipient.objects.filter(send_id__in=ids, id__gte=min(ids), id__lt=hours_after(max(ids), 1))
    for recipient in rows.order_by("send_id", "position", "id"):
        found[recipient.send_id].append(recipient)
    return found


def counted_statuses(recipients: Iterable[Recipient]) -> list[tuple[str, int]]:
    """How many recipients stand where: (status, number), the most frequent first."""
    counts: dict[str, int] = defaultdict(int)
    for recipient in recipients:
        counts[recipient.status] += 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
