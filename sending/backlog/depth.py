"""How much waits, per queue, and for how long: figures for metrics and pages. They cost by the backlog, not by history."""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from projects.life import STOPPED


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


# A loose index scan: one probe per (lane, priority, project) with something due, however much that is.
_OLDEST = f"""
WITH RECURSIVE walk AS (
  (SELECT lane, priority, project_id, queue_id, due_at FROM sending_waiting WHERE phase = 0
    ORDER BY lane, priority, project_id, due_at, recipient_id LIMIT 1)
  UNION ALL
  SELECT n.* FROM walk, LATERAL (
    SELECT lane, priority, project_id, queue_id, due_at FROM sending_waiting w WHERE w.phase = 0
       AND (w.lane, w.priority, w.project_id) > (walk.lane, walk.priority, walk.project_id)
     ORDER BY lane, priority, project_id, due_at, recipient_id LIMIT 1) n)
SELECT min(due_at) FROM walk WHERE queue_id NOT IN (SELECT id FROM queues_queue WHERE paused_at IS NOT NULL)
   AND project_id NOT IN ({STOPPED})
"""  # noqa: S608 — a constant


def oldest_due_seconds(now: datetime) -> float:
    """How long the oldest mail has stood that no pause and no suspension keeps; cheap with any backlog."""
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST)
        oldest = cursor.fetchone()[0]
    return max((now - oldest).total_seconds(), 0.0) if oldest else 0.0


def read_depths(now: datetime) -> list[Depth]:
    """Every queue's depth, empty ones included (a queue that drained must not keep its last figure, lesson C20)."""
    with connection.cursor() as cursor:
        cursor.execute(_DEPTH, [now])
        return [Depth(name, due, later, flight, held, float(age)) for name, due, later, flight, held, age in cursor]
