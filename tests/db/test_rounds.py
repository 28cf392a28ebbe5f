"""Rounds of an event loop: nobody waits for company, what gathers meanwhile goes together, and all hear of an error."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from relay_project.db.rounds import Rounds

PATIENCE = 10.0  # seconds, for what happens at once


class Works:
    """Work that waits at a gate, and remembers its rounds."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.rounds.append(list(items))
        self.begun.release()
        assert self.gate.acquire(timeout=PATIENCE)
        if 13 in items:
            raise ValueError("thirteen")
        return [item * 10 for item in items]

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=PATIENCE)


def rounds_of(works: Works, most: int = 50, most_octets: int = 1000, threads: int = 1) -> Rounds[int, int]:
    return Rounds(works, "test", lambda item: item, most=most, most_octets=most_octets, threads=threads)


async def test_who_comes_while_a_round_is_done_shares_the_next() -> None:
    works = Works()
    rounds = rounds_of(works)
    first = asyncio.create_task(rounds.do(1))
    await works.has_begun()
    others = [asyncio.create_task(rounds.do(item)) for item in (2, 3, 4)]
    await asyncio.sleep(0)
    works.gate.release(2)
    assert await asyncio.gather(first, *others) == [10, 20, 30, 40]
    assert works.rounds == [[1], [2, 3, 4]]
    works.gate.release()
    assert await rounds.do(5) == 50, "who comes the moment a round has ended begins another"
    await rounds.close()


async def test_a_round_has_a_bound_of_octets_and_a_large_item_is_one_by_itself() -> None:
    works = Works()
    rounds = rounds_of(works, most_octets=100)
    works.gate.release(10)
    await asyncio.gather(*(rounds.do(item) for item in (60, 30, 20, 500, 1)))
    assert works.rounds == [[60, 30], [20], [500], [1]]
    await rounds.close()


async def test_another_thread_begins_when_a_whole_round_waits() -> None:
    works = Works()
    rounds = rounds_of(works, most=3, threads=2)
    told = [asyncio.create_task(rounds.do(1))]
    await works.has_begun()
    told += [asyncio.create_task(rounds.do(item)) for item in (2, 3)]
    await asyncio.sleep(0)
    assert works.rounds == [[1]]
    told.append(asyncio.create_task(rounds.do(4)))
    await works.has_begun()
    assert works.rounds == [[1], [2, 3, 4]]
    works.gate.release(2)
    await asyncio.gather(*told)
    await rounds.close()


async def test_an_error_is_raised_for_all_of_its_round_and_the_next_one_is_done() -> None:
    works = Works()
    rounds = rounds_of(works)
    works.gate.release(2)
    outcomes = await asyncio.gather(rounds.do(1), rounds.do(13), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["thirteen", "thirteen"]
    assert await rounds.do(2) == 20
    await rounds.close()


async def test_who_has_gone_is_not_told_and_closing_waits_for_what_is_done() -> None:
    works = Works()
    rounds = rounds_of(works)
    gone, there = asyncio.create_task(rounds.do(1)), asyncio.create_task(rounds.do(2))
    await works.has_begun()
    gone.cancel()
    closing = asyncio.create_task(rounds.close())
    await asyncio.sleep(0)
    works.gate.release()
    await closing
    assert await there == 20
    with pytest.raises(asyncio.CancelledError):
        await gone
