"""The first page of the staff admin: what waits, what became of the last day's mail, who sends, and health.

Every figure has a bound: tables with more than SAMPLE_ROWS rows are sampled by blocks (and said to be), a statement ends
after two seconds and its card then says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import OperationalError, connection, transaction
from django.db.models import F
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from ips.health import SILENT_SECONDS
from ips.models import Incident
from relay_project import health
from relay_project.db.ids import id_floor
from relay_project.db.partitions import partition_name

SAMPLE_ROWS = 200_000  # read in about 30 ms
DAY = timedelta(hours=24)
SHOWN = 5  # incidents; the list has them all

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """What waits in one queue. `is_estimate`: from a sample."""

    id: int
    name: str
    paused_at: datetime | None
    due: int
    later: int
    held: int
    in_flight: int
    oldest_due: datetime | None
    is_estimate: bool

    @property
    def total(self) -> int:
        """All of it."""
        return self.due + self.later + self.held + self.in_flight

    @property
    def oldest_age(self) -> str:
        """How long the oldest that could leave has been due."""
        return _age(timezone.now() - self.oldest_due) if self.oldest_due else "–"

    @property
    def url(self) -> str:
        """The queue's page."""
        return reverse("admin:queues_queue_change", args=[self.id])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What recipients were told in the last day."""

    status: str
    number: int
    share: float  # per cent of all
    is_estimate: bool


@dataclass(frozen=True, slots=True)
class SenderFigures:
    """A sender process."""

    id: int
    server: str
    pid: int
    silent_seconds: int
    source_ips: Sequence[str]

    @property
    def is_alive(self) -> bool:
        """By its heartbeat."""
        return self.silent_seconds < SILENT_SECONDS


def context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What templates/admin/index.html shows (unfold's DASHBOARD_CALLBACK)."""
    now = timezone.now()
    with health.bounded_statements():
        results = health.run_all()
    return {
        **context,
        "now": now,
        "queues": waiting_by_queue(),
        "outcomes": outcomes_since(now - DAY, now),
        "senders": senders(),
        "held_sites": held_sites(),
        "incidents": open_incidents(),
        "health": sorted(results, key=lambda result: result.passed),
        "failing": sum(not result.passed for result in results),
    }


_WAITING = """
WITH w AS (
  SELECT queue_id, count(*) FILTER (WHERE phase = 0) AS due,
         count(*) FILTER (WHERE phase = 1 AND attempt_id IS NULL) AS later, count(*) FILTER (WHERE phase = 2) AS held,
         count(*) FILTER (WHERE attempt_id IS NOT NULL) AS in_flight, min(due_at) FILTER (WHERE phase = 0) AS oldest
    FROM sending_waiting TABLESAMPLE SYSTEM (%(percent)s) GROUP BY queue_id)
SELECT q.id, q.name, q.paused_at, coalesce(w.due, 0), coalesce(w.later, 0), coalesce(w.held, 0),
       coalesce(w.in_flight, 0), w.oldest
  FROM queues_queue q LEFT JOIN w ON w.queue_id = q.id ORDER BY q.id
"""


def waiting_by_queue() -> list[QueueFigures] | None:
    """Each queue's backlog; None when it could not be counted in time."""
    percent = _sample(["sending_waiting"])
    rows = _bounded(_WAITING, {"percent": percent})
    if rows is None:
        return None
    return [_figures(row, percent) for row in rows]


def open_incidents() -> list[Incident]:
    """The few that were seen last, those first that nobody has acknowledged."""
    found = Incident.objects.filter(closed_at=None).select_related("source_ip")
    return list(found.order_by(F("acknowledged_at").desc(nulls_first=True), "-last_seen_at")[:SHOWN])


def _age(span: timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def _figures(row: tuple[Any, ...], percent: float) -> QueueFigures:
    key, name, paused_at, *counts, oldest = row
    due, later, held, in_flight = (round(count * 100 / percent) for count in counts)
    return QueueFigures(key, name, paused_at, due, later, held, in_flight, oldest, percent < 100)


_OUTCOMES = """
SELECT recipient_status, count(*) FROM sending_attemptrecipient TABLESAMPLE SYSTEM (%(percent)s)
 WHERE id >= %(floor)s GROUP BY recipient_status
"""
SHOWN_OUTCOMES = ("accepted", "deferred", "bounced", "failed")


def outcomes_since(since: datetime, now: datetime) -> list[Outcome] | None:
    """What recipients were told since then (within the partitions of those days); None when not counted in time."""
    days = [since.date() + timedelta(days=offset) for offset in range((now.date() - since.date()).days + 1)]
    percent = _sample([partition_name("sending_attemptrecipient", day) for day in days])
    rows = _bounded(_OUTCOMES, {"percent": percent, "floor": id_floor(since)})
    if rows is None:
        return None
    counts = {status: round(count * 100 / percent) for status, count in rows}
    total = sum(counts.values())
    return [
        Outcome(status, counts.get(status, 0), 100 * counts.get(status, 0) / total if total else 0.0, percent < 100)
        for status in SHOWN_OUTCOMES
    ]


_SENDERS = """
SELECT s.id, v.hostname, s.pid, greatest(0, extract(epoch FROM clock_timestamp() - s.heartbeat_at)::int),
       array_remove(array_agg(host(i.address) ORDER BY i.id), NULL)
  FROM ips_sender s JOIN ips_server v ON v.id = s.server_id LEFT JOIN ips_sourceip i ON i.served_by_id = s.id
 GROUP BY s.id, v.hostname ORDER BY s.heartbeat_at DESC LIMIT 50
"""


def senders() -> list[SenderFigures]:
    """Sender processes, those heard of last first."""
    return [SenderFigures(*row) for row in _bounded(_SENDERS, {}) or ()]


_HELD = """
SELECT h.site, q.name, h.next_slot, h.reason FROM ips_heldsite h JOIN queues_queue q ON q.id = h.queue_id
 ORDER BY h.next_slot LIMIT 8
"""


def held_sites() -> Rows:
    """The next slots of receiving sites that may not be tried now."""
    return _bounded(_HELD, {}) or []


_ROWS = "SELECT coalesce(sum(greatest(reltuples, 0)), 0) FROM pg_class WHERE oid = ANY(%(tables)s::text[]::regclass[])"
_KNOWN = "SELECT array_agg(relname::text) FROM pg_class WHERE relname = ANY(%(tables)s) AND relkind = 'r'"


def _sample(tables: Sequence[str]) -> float:
    """Which per cent of these tables' blocks to read, so that it is about SAMPLE_ROWS rows."""
    known = _bounded(_KNOWN, {"tables": list(tables)})
    rows = _bounded(_ROWS, {"tables": known[0][0] or []}) if known else None
    estimate = float(rows[0][0]) if rows else 0.0
    return 100.0 if estimate <= SAMPLE_ROWS else 100 * SAMPLE_ROWS / estimate


def _bounded(statement: str, values: dict[str, Any]) -> Rows | None:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {health.STATEMENT_MILLISECONDS}")
            cursor.execute(statement, values)
            rows: Rows = cursor.fetchall()
            return rows
    except OperationalError:  # cancelled by the timeout; a database that is gone fails the page's other queries
        return None
