"""A reader's loop: looks at once again while there is more, soon while there is something, rarely when idle.

It lives without the database by waiting for it, and ends between two looks.
"""

import threading
from collections.abc import Callable
from time import monotonic

import structlog
from django.db import InterfaceError, OperationalError, connection

from relay_project.mail.text import clean

BUSY_SECONDS = 0.2  # a look costs the same for one row as for a hundred, so that a stream of them shares looks
IDLE_SECONDS = 1.0
RETRY_SECONDS = 2.0  # between tries to reach a lost database
FAILED_SECONDS = 30.0  # after an error of ours: the same rows are tried again
STALLED_SECONDS = 60.0  # without a look for this long the process is better started anew

log = structlog.get_logger(__name__)


class Loop:
    """One loop over `work()`, which returns how much it did, `batch` at most; `stop` may be called from anywhere.

    `rest`: how long it pauses after a full batch, as a share of the time that one took; others get that much of the
    machine. `pause`: the waits after a look that found something, and at most when idle. With `survives` an
    error of ours is logged and tried again; else it ends the loop.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], int],
        batch: int,
        *,
        rest: float = 0.0,
        survives: bool = False,
        pause: tuple[float, float] = (BUSY_SECONDS, IDLE_SECONDS),
    ) -> None:
        self.name = name
        self._work = work
        self._batch = batch
        self._rest = rest
        self._survives = survives
        self._busy, self._idle = pause
        self._stopping = threading.Event()
        self._woken = threading.Event()  # to look at once; also to stop
        self._last_look = monotonic()
        self._database_lost = False

    def run(self) -> None:
        """Look until stopped."""
        pause = 0.0
        while not self._stopping.is_set():
            if pause and self._woken.wait(pause):
                pause = 0.0
            self._woken.clear()
            if self._stopping.is_set():
                break
            pause = self.look(pause)
            self._last_look = monotonic()
        connection.close()

    def stop(self) -> None:
        """End after the look that is under way."""
        self._stopping.set()
        self._woken.set()

    def wake(self) -> None:
        """Look at once, or again at once after the look that is under way."""
        self._woken.set()

    def is_alive(self) -> bool:
        """Whether it looked lately; being without a database counts as looking."""
        return monotonic() - self._last_look < STALLED_SECONDS

    def look(self, pause: float = 0.0) -> float:
        """Do one batch; returns the seconds to wait before the next look, given the last wait."""
        began = monotonic()
        try:
            done = self._without_fail()
        except Exception:
            if not self._survives:
                raise
            log.exception(f"{self.name}.failed")
            return FAILED_SECONDS
        if done is None:
            return RETRY_SECONDS
        if done >= self._batch:
            return (monotonic() - began) * self._rest
        return self._busy if done else min(max(pause * 2, self._busy), self._idle)

    def _without_fail(self) -> int | None:
        """What the work did; None when the database is away, which is told once."""
        try:
            done = self._work()
        except (OperationalError, InterfaceError) as error:
            connection.close()  # the next look opens a new one
            if not self._database_lost:
                log.warning(f"{self.name}.database_lost", error=clean(str(error), 500).strip())
            self._database_lost = True
            return None
        if self._database_lost:
            log.info(f"{self.name}.database_back")
        self._database_lost = False
        return done
