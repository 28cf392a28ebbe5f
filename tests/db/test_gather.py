"""Gathering: nobody waits for company, nobody is answered early, and one member's error is its own."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from django.db import DataError, OperationalError

from relay_project.db.gather import Abandoned, Gather

PATIENCE = 10.0  # seconds, for what happens at once


class Works:
    """Work that waits at a gate, and remembers its rounds."""

    def __init__(self, fails: Callable[[Sequence[int]], BaseException | None] = lambda items: None) -> None:
        self.rounds: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.fails = fails

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.rounds.append(list(items))
        self.begun.release()
        assert self.gate.acquire(timeout=PATIENCE)
        if error := self.fails(items):
            raise error
        return [item * 10 for item in items]

    def open(self, rounds: int = 1000) -> None:
        self.gate.release(rounds)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as threads:
        yield threads


def join(gather: Gather[int, int], pool: ThreadPoolExecutor, *items: int) -> list["Future[int]"]:
    """Have threads come one after the other, each surely in the queue before the next."""
    calls = []
    for item in items:
        before = len(gather._waiting)
        calls.append(pool.submit(gather.do, item))
        while len(gather._waiting) == before and not calls[-1].done():
            pass
    return calls


def busy(works: Works, pool: ThreadPoolExecutor, most: int = 50) -> tuple[Gather[int, int], "Future[int]"]:
    """A gather whose first round is under way."""
    gather = Gather(works, most)
    first = pool.submit(gather.do, 0)
    assert works.begun.acquire(timeout=PATIENCE)
    return gather, first


def test_who_comes_alone_is_served_at_once() -> None:
    works = Works()
    works.open()
    gather = Gather(works, 50)
    assert [gather.do(1), gather.do(2)] == [10, 20]
    assert works.rounds == [[1], [2]]


def test_who_comes_meanwhile_shares_the_next_round_and_is_answered_after_it(pool: ThreadPoolExecutor) -> None:
    works = Works()
    gather, first = busy(works, pool)
    others = join(gather, pool, 1, 2, 3)
    works.open(1)
    assert first.result(PATIENCE) == 0
    assert works.begun.acquire(timeout=PATIENCE)
    assert works.rounds == [[0], [1, 2, 3]]
    assert not any(other.done() for other in others), "their round is not over"
    works.open()
    assert [other.result(PATIENCE) for other in others] == [10, 20, 30]


def test_a_round_has_its_bound_and_the_rest_come_next(pool: ThreadPoolExecutor) -> None:
    works = Works()
    gather, _ = busy(works, pool, most=2)
    others = join(gather, pool, 1, 2, 3, 4, 5)
    works.open()
    assert [other.result(PATIENCE) for other in others] == [10, 20, 30, 40, 50]
    assert works.rounds == [[0], [1, 2], [3, 4], [5]]
    assert gather.do(6) == 60, "and it goes on"


def test_a_member_that_fails_fails_alone(pool: ThreadPoolExecutor) -> None:
    works = Works(lambda items: DataError("2 is bad") if 2 in items else None)
    gather, _ = busy(works, pool)
    others = join(gather, pool, 1, 2, 3)
    works.open()
    assert [others[0].result(PATIENCE), others[2].result(PATIENCE)] == [10, 30]
    with pytest.raises(DataError, match="2 is bad"):
        others[1].result(PATIENCE)
    assert works.rounds == [[0], [1, 2, 3], [1], [2], [3]]


def test_with_the_database_gone_nothing_is_repeated_and_all_of_the_round_hear_of_it(pool: ThreadPoolExecutor) -> None:
    """Whether the commit came through is not known: doing it again could send twice."""
    works = Works(lambda items: OperationalError("gone") if 1 in items else None)
    gather, _ = busy(works, pool)
    others = join(gather, pool, 1, 2)
    works.open()
    for other in others:
        with pytest.raises(OperationalError, match="gone"):
            other.result(PATIENCE)
    assert works.rounds == [[0], [1, 2]]
    assert gather.do(3) == 30


def test_when_the_leader_dies_its_round_is_told_and_the_next_goes_on(pool: ThreadPoolExecutor) -> None:
    works = Works(lambda items: SystemExit("the worker is aborted") if 1 in items else None)
    gather, _ = busy(works, pool, most=2)
    leader, member, after = join(gather, pool, 1, 2, 3)
    works.open()
    with pytest.raises(SystemExit):
        leader.result(PATIENCE)
    with pytest.raises(Abandoned):
        member.result(PATIENCE)
    assert after.result(PATIENCE) == 30


def test_everybody_gets_their_own_result_under_load() -> None:
    gather: Gather[int, int] = Gather(lambda items: [item * 10 for item in items], 7)

    def call(start: int) -> bool:
        return all(gather.do(item) == item * 10 for item in range(start, start + 500))

    with ThreadPoolExecutor(12) as threads:
        assert all(threads.map(call, range(0, 6000, 500)))
