"""How much waits, per queue, and for how long: figures for metrics and pages. Bounded by the backlog, never by history."""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection


@dataclass(frozen=True, slots=True)
class Depth:
    """One queue's backlog by phase; `oldest_due_seconds` of what is claimable now (0 when nothing is)."""

    queue_name: str
    due: int
    later: int
    in_flight: int
    held: int
    oldest_due_seconds: float


_DEPTH = """
SELECT q.name, count(w.recipient_id) FILTER (WHERE w.phase = 0),
       count(w.recipient_id) FILTER (WHERE w.phase = 1 AND w.attempt_id IS NULL),
       count(w.recipient_id) FILTER (WHERE w.attempt_id IS NOT NULL),
       count(w.recipient_id) FILTER (WHERE w.phase = 2),
       coalesce(extract(epoch FROM %s - min(w.due_at) FILTER (WHERE w.phase = 0)), 0)
  FROM queues_queue q LEFT JOIN sending_waiting w ON w.queue_id = q.id
 GROUP BY q.name ORDER BY q.name
"""


def read_depths(now: datetime) -> list[Depth]:
    """Every queue's depth, empty ones included (a queue that drained must not keep its last figure, lesson C20)."""
    with connection.cursor() as cursor:
        cursor.execute(_DEPTH, [now])
        return [Depth(name, due, later, flight, held, float(age)) for name, due, later, flight, held, age in cursor]
