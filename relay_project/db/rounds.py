"""Work for an event loop that is cheaper for several callers together: what gathers while a round is done is the next one.

As relay_project.db.gather does it among threads. A thread with a connection of its own does the rounds, so they grow with
the load by themselves: nobody's company is awaited. Where there are several threads, the others begin only when much
waits, as when a round takes long.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from django.db import connection

Item = TypeVar("Item")
Result = TypeVar("Result")


class Rounds(Generic[Item, Result]):
    """`await rounds.do(item)`; `work` gives a result for each of its items, in their order.

    What `work` raises is raised for all items of the round. `weigh`: an item's octets, of which a round has at most
    `most_octets` unless a single item has more.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        name: str,
        weigh: Callable[[Item], int],
        *,
        most: int,
        most_octets: int,
        threads: int = 1,
    ) -> None:
        self._work, self._weigh = work, weigh
        self._most, self._most_octets = most, most_octets
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._threads = [ThreadPoolExecutor(1, name) for _ in range(threads)]
        self._idle = list(self._threads)
        self._tasks: set[asyncio.Task[None]] = set()

    async def do(self, item: Item) -> Result:
        """The item's result, when the round that it was in is over."""
        told: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, told))
        all_idle = len(self._idle) == len(self._threads)
        if all_idle or (self._idle and len(self._waiting) >= self._most):
            task = asyncio.create_task(self._go_round(self._idle.pop()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await told

    async def close(self) -> None:
        """Finish what waits, and let go of the connections."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(thread, close_connection) for thread in self._threads))
        for thread in self._threads:
            thread.shutdown()

    async def _go_round(self, thread: ThreadPoolExecutor) -> None:
        """Round after round, until nobody waits."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)  # whoever is ready in this turn of the loop comes along
        try:
            while self._waiting:
                group = self._take()
                try:
                    results = await loop.run_in_executor(thread, self._work, [item for item, _ in group])
                except Exception as error:  # noqa: BLE001 — raised for each whom it concerns
                    _tell([told for _, told in group], error)
                else:
                    for (_, told), result in zip(group, results, strict=True):
                        if not told.done():  # else its connection is gone
                            told.set_result(result)
        finally:
            self._idle.append(thread)

    def _take(self) -> list[tuple[Item, "asyncio.Future[Result]"]]:
        """The first of what waits, as much as one round may carry."""
        octets = count = 0
        for item, _ in self._waiting[: self._most]:
            octets += self._weigh(item)
            if count and octets > self._most_octets:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group


def _tell(waiting: "Sequence[asyncio.Future[Result]]", error: Exception) -> None:
    for told in waiting:
        if not told.done():
            told.set_exception(error)


def close_connection() -> None:
    """That of the thread in which this runs: `connection.close` itself, looked up elsewhere, is somebody else's."""
    connection.close()
