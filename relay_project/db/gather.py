"""Work that is cheaper for several callers together than for each: whoever comes while it is being done joins the next round.

A process's threads share one Gather. Who comes first does the work at once, with nobody's company awaited; those who come
meanwhile wait, and the first of them does theirs together as soon as it may. So rounds grow with the load by themselves,
and each caller has its answer only when the round that it was in is over: a commit for many is a commit for each.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, NoReturn, TypeVar

from django.db import InterfaceError, OperationalError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Abandoned(RuntimeError):
    """The thread that led the round ended without an outcome, so nobody knows what became of it."""


class Gather(Generic[Item, Result]):
    """`Gather(work).do(item)` from any thread; `work` gives a result for each of its items, in their order.

    An error of one member is its own: a round that failed is done again one by one, so `work` raises only while nothing is
    committed. With the connection lost nobody knows whether the commit came through: then nothing is repeated, and all of
    the round hear of it.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Result]], most: int) -> None:
        self._work = work
        self._most = most  # items of a round
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket[Item, Result]] = deque()
        self._is_led = False

    def do(self, item: Item) -> Result:
        """The item's result, when the round that it was in is over; raises what went wrong there."""
        ticket: _Ticket[Item, Result] = _Ticket(item)
        with self._lock:
            self._waiting.append(ticket)
            leads, self._is_led = not self._is_led, True
        if not leads:
            ticket.wait()
        if ticket.outcome is None:
            self._lead()
        assert ticket.outcome is not None
        return ticket.outcome()

    def _lead(self) -> None:
        """One round, with the caller's own item first in it; then the next one's turn."""
        with self._lock:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]
        try:
            self._settle(group)
        finally:
            with self._lock:
                following = self._waiting[0] if self._waiting else None
                self._is_led = following is not None
            if following is not None:
                following.wake()
            for ticket in group:
                ticket.outcome = ticket.outcome or _raiser(Abandoned("the work ended early"))
                ticket.wake()

    def _settle(self, group: "Sequence[_Ticket[Item, Result]]") -> None:
        try:
            results = self._work([ticket.item for ticket in group])
        except Exception as error:  # noqa: BLE001 — raised in the thread of each whom it concerns
            if len(group) > 1 and not isinstance(error, OperationalError | InterfaceError):
                for ticket in group:
                    self._settle([ticket])
                return
            for ticket in group:
                ticket.outcome = _raiser(error)
            return
        for ticket, result in zip(group, results, strict=True):
            ticket.outcome = partial(_same, result)


class _Ticket(Generic[Item, Result]):
    """An item that waits, and what became of it."""

    __slots__ = ("_gate", "item", "outcome")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.outcome: Callable[[], Result] | None = None  # gives the result, or raises
        self._gate = threading.Lock()  # a third of what an Event costs
        self._gate.acquire()

    def wait(self) -> None:
        """Until it has its outcome, or it is its turn to lead."""
        self._gate.acquire()

    def wake(self) -> None:
        """Let it go on."""
        self._gate.release()


def _same(result: Result) -> Result:
    return result


def _raiser(error: Exception) -> Callable[[], NoReturn]:
    """Raises the error in the thread that asks; several may, each with a traceback of its own."""

    def fail() -> NoReturn:
        raise error.with_traceback(None)

    return fail
