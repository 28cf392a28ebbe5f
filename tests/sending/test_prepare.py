"""sending.deliver.prepare: the same message by threads and by the event loop, and each job its own result."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from sending.deliver import prepare as module
from sending.deliver.cores import Cores
from sending.deliver.load import Job
from sending.deliver.prepare import FEW, Prepared, Preparer
from tests.sending.scene import Scene

pytestmark = pytest.mark.django_db


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def jobs(scene: Scene) -> list[Job]:
    for number in range(2 * FEW + 1):
        scene.send(f"person{number}@a.test")
    return scene.jobs()


def prepare_all(preparer: Preparer, jobs: list[Job]) -> list[Any]:
    async def together() -> list[Any]:
        return await asyncio.gather(*(preparer.prepared(job) for job in jobs), return_exceptions=True)

    return asyncio.run(together())


def test_threads_and_event_loop_make_the_same_messages(threads: ThreadPoolExecutor, jobs: list[Job]) -> None:
    by_threads = prepare_all(Preparer(threads, Cores(has_spare=True)), jobs)
    by_loop = prepare_all(Preparer(threads, Cores(has_spare=False)), jobs)
    assert len(jobs) == 2 * FEW + 1
    assert by_threads == by_loop
    assert all(isinstance(one, Prepared) for one in by_loop)


def test_the_event_loop_prepares_small_messages_where_no_core_is_left(
    threads: ThreadPoolExecutor, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[bool, bool]] = set()
    real = module.prepare

    def noting(job: Job) -> Prepared:
        seen.add((job.size_bytes > module.SMALL, threading.current_thread() is threading.main_thread()))
        return real(job)

    monkeypatch.setattr(module, "prepare", noting)
    large = replace(jobs[1], targets=tuple(large_target(target) for target in jobs[1].targets))
    prepare_all(Preparer(threads, Cores(has_spare=False)), [jobs[0], large, *jobs[2:]])
    assert seen == {(False, True), (True, False)}


def large_target(target: Any) -> Any:
    return replace(target, row=replace(target.row, size_bytes=module.SMALL + 1))


@pytest.mark.parametrize("has_spare", [True, False])
def test_what_one_job_raises_is_its_own_affair(threads: ThreadPoolExecutor, jobs: list[Job], has_spare: bool) -> None:
    broken = replace(jobs[0], stored=None, trouble="the stored message is gone")
    first, *others = prepare_all(Preparer(threads, Cores(has_spare=has_spare)), [broken, *jobs[1:]])
    assert isinstance(first, LookupError)
    assert all(isinstance(one, Prepared) for one in others)


def test_who_has_gone_is_not_waited_for(threads: ThreadPoolExecutor, jobs: list[Job]) -> None:
    async def leave_one() -> list[Any]:
        preparer = Preparer(threads, Cores(has_spare=False))
        tasks = [asyncio.create_task(preparer.prepared(job)) for job in jobs]
        await asyncio.sleep(0)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, *others = asyncio.run(leave_one())
    assert isinstance(first, asyncio.CancelledError)
    assert all(isinstance(one, Prepared) for one in others)
