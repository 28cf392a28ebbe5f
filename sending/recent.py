"""A project's recent figures: what was sent, from the roll-ups, and what waits now, from the ledger at a bounded cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection

from relay_project.db.ids import id_floor
from sending.models import RecipientStatus
from sending.statistics.read import read_days, read_figures

DAYS = 30
WAITING_CAP = 2_000  # rows of the ledger looked at


@dataclass(frozen=True, slots=True)
class Counts:
    """Recipients by status in a window."""

    by_status: Mapping[str, int]

    @property
    def total(self) -> int:
        """All recipients."""
        return sum(self.by_status.values())

    @property
    def final(self) -> int:
        """Those whose mail was handed over or refused: what rates are shares of."""
        handed_over = (
            RecipientStatus.ACCEPTED,
            RecipientStatus.BOUNCED,
            RecipientStatus.COMPLAINED,
            RecipientStatus.FAILED,
        )
        return sum(self.by_status.get(status, 0) for status in handed_over)

    def rate(self, status: str) -> float:
        """A status as a share of what is final, 0 to 1."""
        return self.by_status.get(status, 0) / self.final if self.final else 0.0


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the chart."""

    date: date
    counts: Counts


@dataclass(frozen=True, slots=True)
class Recent:
    """The last 24 hours, 7 and 30 days up to now (whole hours), and each of the last 30 UTC days, today the last."""

    day: Counts
    week: Counts
    month: Counts
    days: tuple[Day, ...] = field(default=())


def recent_counts(project_id: int, now: datetime) -> Recent:
    """Recipients by status over the last 30 days, from the roll-ups."""
    today = now.date()
    days = read_days(project_id, today - timedelta(days=DAYS - 1), today)
    windows = (timedelta(hours=24), timedelta(days=7), timedelta(days=DAYS))
    day, week, month = read_figures(project_id, *(now - window for window in windows))
    return Recent(
        Counts(day.by_status()),
        Counts(week.by_status()),
        Counts(month.by_status()),
        tuple(Day(each, Counts(figures.by_status())) for each, figures in days.items()),
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits, by why. `site` and `reason` for what is held; `until` the earliest time that something may happen."""

    state: str  # due, in conversation, later, held
    number: int
    until: datetime | None
    site: str = ""
    reason: str = ""


_WAITING = """
SELECT CASE WHEN w.attempt_id IS NOT NULL THEN 'in conversation' WHEN h.id IS NOT NULL THEN 'held'
            WHEN w.due_at > %(now)s THEN 'later' ELSE 'due' END AS state,
       count(*), min(coalesce(h.next_slot, w.due_at)), coalesce(h.site, ''), coalesce(h.reason, '')
  FROM (SELECT r.id FROM unnest(%(statuses)s::text[]) AS s(status)
         CROSS JOIN LATERAL (
               SELECT id FROM sending_recipient
                WHERE project_id = %(project)s AND status = s.status AND id >= %(floor)s AND id < %(top)s
                ORDER BY id LIMIT %(cap)s) AS r) AS r
  JOIN sending_waiting w ON w.recipient_id = r.id
  LEFT JOIN ips_heldsite h ON h.id = w.held_site_id
 GROUP BY 1, 4, 5 ORDER BY 2 DESC
"""


def what_waits(project_id: int, now: datetime) -> tuple[list[Waiting], bool]:
    """What of a project waits now, grouped by why; and whether there is more than was looked at.

    Mail of test keys is in it: it does wait, and whoever tests looks here for it. The figures of what was sent leave it out.
    """
    values: dict[str, Any] = {
        "project": project_id,
        "statuses": [RecipientStatus.QUEUED.value, RecipientStatus.DEFERRED.value],
        "now": now,
        "floor": id_floor(now - timedelta(days=2 * DAYS)),  # a send_after lies at most 30 days ahead of its accept
        "top": id_floor(now + timedelta(minutes=1)),
        "cap": WAITING_CAP,
    }
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, values)
        groups = [Waiting(*row) for row in cursor.fetchall()]
    return groups, sum(group.number for group in groups) >= WAITING_CAP
