"""Which waiting rows an order of staff is about, and a walk over them by primary key: a bounded stretch at a time.

The walk locks in the order of all others (waiting rows by id) and holds few locks for a short time, however many rows
wait and however few of them fit. It needs no index of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

from relay_project.db.ids import hours_after
from relay_project.mail.address import normalise_domain
from sending.models import Phase

EXAMINED_ROWS = 5000  # looked at by one statement: some 10 ms
LOCKED_ROWS = 1000  # changed by one transaction: what a settle of one of them may have to wait for, some 50 ms
COUNTED_ROWS = 100_000  # a preview says "more than" beyond this
COUNT_MILLISECONDS = 3000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A queue's waiting rows, or those of a project, a recipients' domain or a receiving site of them.

    A row belongs to a site when it is held there, or when its last tries were made there; what has never been tried
    nor held has no site yet.
    """

    queue_id: int
    project_id: int | None = None
    domain: str = ""
    site: str = ""

    @property
    def is_whole_queue(self) -> bool:
        """Nothing but the queue decides."""
        return self.project_id is None and not self.domain and not self.site

    def condition(self) -> str:
        """SQL over `w`, with parameters of `values()`."""
        parts = ["w.queue_id = %(queue)s"]
        if self.project_id is not None:
            parts.append("w.project_id = %(project)s")
        if self.domain:
            parts.append("w.domain = %(domain)s")
        if self.site:
            parts.append(_AT_SITE)
        return " AND ".join(parts)

    def values(self, after_id: int = 0) -> dict[str, Any]:
        """Parameters of `condition()` for rows above an id."""
        floor = max(hours_after(after_id, -1), 0)  # a send is at most an hour older than its recipients
        return {
            "queue": self.queue_id,
            "project": self.project_id,
            "domain": self.domain,
            "site": self.site,
            "floor": floor,
        }


def read_domain(text: str) -> str:
    """A recipients' domain as waiting rows have it, empty for every domain; raises InvalidDomain."""
    return normalise_domain(text.strip()) if text.strip() else ""


_AT_SITE = """(w.held_site_id IN (SELECT id FROM ips_heldsite WHERE site = %(site)s)
  OR w.tries > 0 AND EXISTS (SELECT FROM sending_attempt a WHERE a.send_id = w.send_id AND a.id >= w.send_id
                                AND a.id >= %(floor)s AND a.domain = w.domain AND a.site = %(site)s))"""


@dataclass(frozen=True, slots=True)
class Row:
    """A locked waiting row. `is_scheduled`: its first try is for a later time."""

    recipient_id: int
    send_id: int
    project_id: int
    phase: Phase
    is_in_flight: bool
    is_scheduled: bool


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some locked rows, and where the walk goes on; `end` None: that was all."""

    rows: tuple[Row, ...]
    end: int | None


_END = """
SELECT max(recipient_id) FROM (
  SELECT recipient_id FROM sending_waiting WHERE recipient_id > %s AND recipient_id <= %s ORDER BY recipient_id LIMIT %s) s
"""
_LOCK = """
SELECT w.recipient_id, w.send_id, w.project_id, w.phase, w.attempt_id IS NOT NULL,
       w.phase = 1 AND w.attempt_id IS NULL AND w.tries = 0 AND w.lost = 0 AND w.due_at > %(now)s
  FROM sending_waiting w
 WHERE w.recipient_id > %(after)s AND w.recipient_id <= %(end)s AND {condition}
 ORDER BY w.recipient_id LIMIT %(rows)s FOR UPDATE OF w
"""


def lock_stretch(cursor: CursorWrapper, wanted: Wanted, after_id: int, until_id: int, now: datetime) -> Stretch:
    """Lock the next rows that fit, in the caller's transaction."""
    cursor.execute(_END, [after_id, until_id, EXAMINED_ROWS])
    end: int | None = cursor.fetchone()[0]
    if end is None:
        return Stretch((), None)
    values = {**wanted.values(after_id), "after": after_id, "end": end, "now": now, "rows": LOCKED_ROWS}
    cursor.execute(_LOCK.format(condition=wanted.condition()), values)
    rows = tuple(_row(*row) for row in cursor.fetchall())
    return Stretch(rows, rows[-1].recipient_id if len(rows) == LOCKED_ROWS else end)


def _row(recipient_id: int, send_id: int, project_id: int, phase: int, is_in_flight: bool, is_scheduled: bool) -> Row:
    return Row(recipient_id, send_id, project_id, Phase(phase), is_in_flight, is_scheduled)


@dataclass(frozen=True, slots=True)
class Counted:
    """How many rows fit. `is_more`: counting stopped there."""

    waiting: int
    in_flight: int
    is_more: bool

    @property
    def movable(self) -> int:
        """Those that an order may touch."""
        return max(self.waiting - self.in_flight, 0)

    def __str__(self) -> str:
        more = "more than " if self.is_more else ""
        noun = "recipient waits" if self.waiting == 1 else "recipients wait"
        flight = f"; {self.in_flight:,} of them in flight, which are left alone" if self.in_flight else ""
        return f"{more}{self.waiting:,} {noun}{flight}"


def count(wanted: Wanted) -> Counted | None:
    """How many rows fit now; None when that takes too long to say."""
    statement = f"""SELECT count(*), count(attempt_id) FROM (
        SELECT w.attempt_id FROM sending_waiting w WHERE {wanted.condition()} LIMIT %(most)s) s"""  # noqa: S608
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {COUNT_MILLISECONDS}")
            cursor.execute(statement, {**wanted.values(), "most": COUNTED_ROWS + 1})
            waiting, in_flight = cursor.fetchone()
    except OperationalError:
        return None
    return Counted(min(waiting, COUNTED_ROWS), in_flight, waiting > COUNTED_ROWS)


def movable(rows: Sequence[Row]) -> list[Row]:
    """Those that an order may touch: only settle, give-back and the sweeper move what is in flight."""
    return [row for row in rows if not row.is_in_flight]
