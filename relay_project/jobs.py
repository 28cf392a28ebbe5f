"""Names of all jobs, and the only place that defers one.

A job is a hint: the work is found from the rows, so a lost or doubled one costs nothing. Procrastinate's worker (3.10)
clears its new-job event after the fetch, so a notification that arrives during a fetch is lost and the queueing lock
would then silence all later ones: `wake` notifies again when one is already waiting.
"""

from django.db import connection, transaction

DRAIN = "sending.drain"  # one waiting at most per queue
SWEEP = "housekeeping.sweep"

# procrastinate's channel of a queue (3.10, procrastinate.utils / schema.sql); tests/test_jobs.py pins it.
_CHANNEL = "procrastinate_queue_v1#"
_WAKE = """
WITH new AS (
  INSERT INTO procrastinate_jobs (queue_name, task_name, priority, queueing_lock, args)
  SELECT %(queue)s, %(task)s, 0, %(lock)s, '{}'::jsonb
   WHERE NOT EXISTS (SELECT FROM procrastinate_jobs WHERE queueing_lock = %(lock)s AND status = 'todo')
  ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING RETURNING id)
SELECT pg_notify(%(channel)s, '{"type": "job_inserted", "job_id": 0}') WHERE NOT EXISTS (SELECT FROM new)
"""


def wake(task: str, queue: str) -> None:
    """Have one job of this name waiting in procrastinate's queue, and its worker told of it. A statement of its own."""
    with connection.cursor() as cursor:
        cursor.execute(_WAKE, {"queue": queue, "task": task, "lock": f"{task}:{queue}", "channel": _CHANNEL + queue})


def wake_on_commit(task: str, queue: str) -> None:
    """`wake` after the transaction's commit; a wake-up that fails never turns a success into an error."""
    transaction.on_commit(lambda: wake(task, queue), robust=True)


def drain_queue(queue_id: int) -> str:
    """The procrastinate queue whose jobs wake the senders of one of our queues."""
    return f"drain-{queue_id}"
