"""Wake-ups, and the facts about procrastinate 3.10 that they rest on."""

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import procrastinate
import psycopg
import pytest
from django.db import IntegrityError, ProgrammingError, connection, transaction
from procrastinate.contrib.django import app

from relay_project import jobs
from sending.deliver import wakeups

QUEUE = jobs.drain_queue(7)


def todo(queue: str = QUEUE) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE queue_name = %s AND status = 'todo'", [queue])
        return int(cursor.fetchone()[0])


@pytest.fixture
def no_jobs(transactional_db):
    """Jobs committed by the test go at its end, and no wake-up of the test before silences its first one."""
    jobs.forget_wakes()
    yield
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


@pytest.fixture
def listener(no_jobs):
    """What a worker's LISTEN connection hears."""
    parameters = connection.get_connection_params()
    keys = ("dbname", "user", "password", "host", "port")
    with psycopg.connect(**{k: parameters[k] for k in keys if parameters.get(k)}, autocommit=True) as listening:
        listening.execute(f'LISTEN "procrastinate_queue_v1#{QUEUE}"')
        yield lambda seconds=2.0: [n.payload for n in listening.notifies(timeout=seconds, stop_after=1)]


def test_the_version_is_the_one_whose_facts_are_pinned_here():
    assert procrastinate.__version__.startswith("3.10.")


@pytest.mark.django_db
def test_one_job_waits_per_queue_however_often_it_is_woken():
    for _ in range(5):
        jobs.wake(jobs.DRAIN, QUEUE)
    jobs.wake(jobs.DRAIN, jobs.drain_queue(8))
    assert (todo(), todo(jobs.drain_queue(8))) == (1, 1)


def test_a_wake_up_is_heard_and_heard_again_while_its_job_still_waits(listener):
    """procrastinate's worker loses a notification that arrives during its fetch; the lock would silence all later ones."""
    jobs.wake(jobs.DRAIN, QUEUE)
    assert len(listener()) == 1, "by procrastinate's own trigger: the channel is the one it listens to"
    jobs.wake(jobs.DRAIN, QUEUE)
    assert len(listener()) == 1, "nothing was inserted, and yet the worker is told"
    assert todo() == 1


def test_a_wake_up_that_follows_another_closely_is_left_out(listener, monkeypatch):
    """Whoever was woken looks on for longer than WAKE_EVERY_SECONDS (tests/sending/test_pace.py)."""
    clock = [100.0]
    monkeypatch.setattr(jobs.time, "monotonic", lambda: clock[0])
    jobs.wake_soon(jobs.DRAIN, QUEUE)
    assert len(listener()) == 1
    clock[0] += jobs.WAKE_EVERY_SECONDS * 0.99
    jobs.wake_soon(jobs.DRAIN, QUEUE)
    jobs.wake_soon(jobs.DRAIN, jobs.drain_queue(8))
    assert listener(0.1) == []
    assert todo(jobs.drain_queue(8)) == 1, "each queue has senders of its own"
    clock[0] += jobs.WAKE_EVERY_SECONDS * 0.02
    jobs.wake_soon(jobs.DRAIN, QUEUE)
    assert len(listener()) == 1, "the job still waits, so this is the second notification of it"


def test_a_wake_up_that_failed_silences_none(no_jobs, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(jobs, "_WAKE", "SELECT nonsense")
        with pytest.raises(ProgrammingError):
            jobs.wake_soon(jobs.DRAIN, QUEUE)
    jobs.wake_soon(jobs.DRAIN, QUEUE)
    assert todo() == 1


def test_the_hint_goes_with_a_transaction_that_rolls_back_and_leaves_after_one_that_commits(listener):
    with transaction.atomic():
        jobs.wake_on_commit(jobs.DRAIN, QUEUE)
        transaction.set_rollback(True)
    assert todo() == 0
    with transaction.atomic():
        jobs.wake_on_commit(jobs.DRAIN, QUEUE)
        assert todo() == 0
    assert todo() == 1
    assert len(listener()) == 1


def test_a_wake_up_that_fails_disturbs_nobody(no_jobs, monkeypatch, caplog):
    def broken(task: str, queue: str) -> None:
        raise psycopg.OperationalError("gone")

    monkeypatch.setattr(jobs, "wake", broken)
    with transaction.atomic():
        jobs.wake_on_commit(jobs.DRAIN, QUEUE)
    assert "gone" in caplog.text


def test_concurrent_wake_ups_leave_one_job(no_jobs):
    def one(_: int) -> None:
        try:
            jobs.wake(jobs.DRAIN, QUEUE)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(20)))
    assert todo() == 1


@pytest.mark.django_db
def test_the_queueing_lock_is_unique_among_jobs_that_wait_whatever_their_time():
    """And a second one aborts the transaction: why `wake` asks first and says ON CONFLICT."""
    insert = (
        "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, queueing_lock, args, scheduled_at, status) "
        "VALUES ('q', 't', 0, 'lock', '{}', %s, %s)"
    )
    with connection.cursor() as cursor:
        cursor.execute(insert, ["2099-01-01T00:00:00Z", "todo"])
        with pytest.raises(IntegrityError), transaction.atomic():
            cursor.execute(insert, [None, "todo"])
        cursor.execute(insert, [None, "doing"])


def worker(workers: int, heartbeat_age: timedelta) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - %s) RETURNING id", [heartbeat_age]
        )
        return int(cursor.fetchone()[0])


@pytest.mark.django_db
def test_jobs_of_dead_workers_are_forgotten_and_those_of_living_ones_are_not():
    with connection.cursor() as cursor:
        ids = {}
        for name, status, owner in (
            ("orphan", "doing", None),
            ("dead", "doing", worker(1, timedelta(hours=1))),
            ("alive", "doing", worker(2, timedelta(seconds=20))),
            ("waiting", "todo", None),
        ):
            cursor.execute(
                """INSERT INTO procrastinate_jobs (queue_name, task_name, priority, args, status, worker_id)
                   VALUES ('q', 't', 0, '{}', %s, %s) RETURNING id""",
                [status, owner],
            )
            ids[name] = cursor.fetchone()[0]
        assert jobs.forget_stalled() == 2
        cursor.execute("SELECT id FROM procrastinate_jobs WHERE queue_name = 'q' ORDER BY id")
        assert [row[0] for row in cursor.fetchall()] == [ids["alive"], ids["waiting"]]


def test_every_task_is_known_by_its_name_with_a_bounded_retry_and_one_waiting_at_most():
    app.perform_import_paths()
    periodic = {task.name: task for task in app.periodic_registry.periodic_tasks.values() for task in [task.task]}
    assert {"relay.partitions", "relay.hourly", "sending.upkeep", "sending.hourly", "sending.ledger"} <= set(periodic)
    for name, task in periodic.items():
        assert task.queueing_lock == name
        assert task.lock is None, "a running lock would wait for a dead worker's job for ever (issue 1408)"
        assert task.queue == jobs.HOUSEKEEPING
        assert task.retry_strategy is not None, "a graceful stop loses jobs without one"
    assert app.tasks[jobs.DRAIN].retry_strategy is not None


def test_a_real_worker_takes_the_wake_up_from_its_queue(no_jobs):
    """End to end, once: what `wake` inserts is a job that procrastinate runs, finishes and deletes."""
    woken: list[bool] = []
    wake = functools.partial(woken.append, True)
    wakeups.listen(wake)
    jobs.wake(jobs.DRAIN, QUEUE)

    async def work() -> None:
        with app.replace_connector(app.connector.get_worker_connector()) as working:
            async with working.open_async():
                await working.run_worker_async(
                    queues=[QUEUE], wait=False, listen_notify=False, install_signal_handlers=False,
                    delete_jobs="always",
                )  # fmt: skip

    asyncio.run(work())
    wakeups.unlisten(wake)
    assert woken
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE queue_name = %s", [QUEUE])
        assert cursor.fetchone()[0] == 0


def test_nothing_else_defers_jobs():
    """One module knows how (design): no other file of the product calls procrastinate's defer."""
    root = Path(jobs.__file__).parents[1]
    floors = ("relay_project", "accounts", "projects", "queues", "ips", "sending", "webhooks")
    sources = [path for floor in floors for path in (root / floor).rglob("*.py")]
    assert not [path for path in sources if ".defer(" in path.read_text() and "procrastinate" in path.read_text()]
