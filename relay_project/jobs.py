"""Names of all jobs, and the only place that defers one.

A job is a hint: the work is found from the rows, so a lost or doubled one costs nothing. Procrastinate's worker (3.10)
clears its new-job event after the fetch, so a notification that arrives during a fetch is lost and the queueing lock
would then silence all later ones: `wake` notifies again when one is already waiting.

A wake-up costs more than accepting a mail does. So a process leaves out those that follow its last one within
WAKE_EVERY_SECONDS: whoever was woken keeps looking for longer than that (sending.deliver.pace).
"""

import time
from collections.abc import Callable
from datetime import timedelta

from django.db import connection, transaction
from procrastinate import RetryStrategy
from procrastinate.contrib.django import app

DRAIN = "sending.drain"  # one waiting at most per queue
WAKE_EVERY_SECONDS = 0.1  # of one process for one queue
OPERATIONS = "sending.operations"  # staff gave an order over waiting mail
STOPPED = "sending.stopped"  # a project was suspended or archived: its waiting mail is put in order
HOUSEKEEPING = "housekeeping"  # the procrastinate queue of periodic work, taken by run_housekeeping
STALLED_AFTER = timedelta(minutes=10)  # a job still `doing` without its worker's heartbeat for this long is nobody's

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


_woken_at: dict[str, float] = {}  # procrastinate queue → time.monotonic()


def wake(task: str, queue: str) -> None:
    """Have one job of this name waiting in procrastinate's queue, and its worker told of it. A statement of its own."""
    with connection.cursor() as cursor:
        cursor.execute(_WAKE, {"queue": queue, "task": task, "lock": f"{task}:{queue}", "channel": _CHANNEL + queue})


def wake_on_commit(task: str, queue: str) -> None:
    """`wake_soon` after the transaction's commit; a wake-up that fails never turns a success into an error."""
    transaction.on_commit(lambda: wake_soon(task, queue), robust=True)


def wake_soon(task: str, queue: str) -> None:
    """`wake`, unless this process did so just now: then its answer is still under way, or lasts.

    What counts is when the former wake-up *began*: it is answered after that, and the looks go on for longer than
    WAKE_EVERY_SECONDS from its answer, so one of them begins after the commit that this call follows.
    """
    began = time.monotonic()
    if began - _woken_at.get(queue, -1e9) < WAKE_EVERY_SECONDS:
        return
    wake(task, queue)
    _woken_at[queue] = began


def forget_wakes() -> None:
    """Have the next `wake_soon` wake: for tests, whose database is not the one of a moment ago."""
    _woken_at.clear()


def drain_queue(queue_id: int) -> str:
    """The procrastinate queue whose jobs wake the senders of one of our queues."""
    return f"drain-{queue_id}"


PeriodicTask = Callable[[int], None]


def every(cron: str, name: str) -> Callable[[PeriodicTask], PeriodicTask]:
    """Make a function a periodic task (5 or 6 fields, the sixth being seconds); procrastinate defers it once a tick.

    At most one waits at a time. A failure is logged by the worker; the next tick is its retry.
    """

    def register(function: PeriodicTask) -> PeriodicTask:
        task = app.task(
            name=name, queue=HOUSEKEEPING, queueing_lock=name, retry=RetryStrategy(max_attempts=1), pass_context=False
        )(function)
        app.periodic(cron=cron)(task)
        return function

    return register


def forget_stalled() -> int:
    """Delete jobs that a dead worker left `doing`: every job is a hint or a periodic tick, so none is run again."""
    with connection.cursor() as cursor:
        cursor.execute(
            """DELETE FROM procrastinate_jobs j WHERE j.status = 'doing' AND NOT EXISTS (
                 SELECT FROM procrastinate_workers w WHERE w.id = j.worker_id
                    AND w.last_heartbeat > now() - make_interval(secs => %s))""",
            [STALLED_AFTER.total_seconds()],
        )
        return int(cursor.rowcount)
