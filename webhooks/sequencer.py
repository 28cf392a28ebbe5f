"""The loop that gives events their positions: looks at the outbox, soon again while there is something, rarely when idle.

Many processes may run it; the advisory lock lets one at a time do the work. It lives without the database by waiting
for it, and ends between two looks.
"""

import threading
from collections.abc import Callable
from time import monotonic

import structlog
from django.db import InterfaceError, OperationalError, connection

from projects.events import sequence_outbox
from relay_project.mail.text import clean
from relay_project.metrics import Counter

BATCH = 1000  # events a transaction, about 10 ms of work
BUSY_SECONDS = 0.2  # a look costs the same for one event as for a hundred, so that a stream of them shares looks
IDLE_SECONDS = 1.0
RETRY_SECONDS = 2.0  # between tries to reach a lost database
STALLED_SECONDS = 60.0  # without a look for this long the process is better started anew

SEQUENCED = Counter("relay_events_sequenced_total", "Events that got their position in the feed.")

log = structlog.get_logger(__name__)


class Sequencer:
    """One loop; `stop` may be called from a signal handler or another thread."""

    def __init__(self, batch: int = BATCH) -> None:
        self._batch = batch
        self._stopping = threading.Event()
        self._last_look = monotonic()
        self._database_lost = False

    def run(self) -> None:
        """Look until stopped."""
        pause = 0.0
        while not self._stopping.wait(pause):
            pause = self.look(pause)
            self._last_look = monotonic()
        connection.close()

    def stop(self) -> None:
        """End after the look that is under way."""
        self._stopping.set()

    def is_alive(self) -> bool:
        """Whether it looked lately; being without a database counts as looking."""
        return monotonic() - self._last_look < STALLED_SECONDS

    def look(self, pause: float = 0.0) -> float:
        """Take one batch; returns the seconds to wait before the next look, given the last wait."""
        moved = self._without_fail(self._sequence)
        if moved is None:
            return RETRY_SECONDS
        if moved == self._batch:
            return 0.0
        return BUSY_SECONDS if moved else min(max(pause * 2, BUSY_SECONDS), IDLE_SECONDS)

    def _sequence(self) -> int:
        with connection.cursor() as cursor:
            moved = sequence_outbox(cursor, self._batch)
        SEQUENCED.inc(moved)
        return moved

    def _without_fail(self, work: Callable[[], int]) -> int | None:
        """The work's result; None when the database is away, which is told once."""
        try:
            result = work()
        except (OperationalError, InterfaceError) as error:
            connection.close()  # the next look opens a new one
            if not self._database_lost:
                log.warning("sequencer.database_lost", error=clean(str(error), 500).strip())
            self._database_lost = True
            return None
        if self._database_lost:
            log.info("sequencer.database_back")
        self._database_lost = False
        return result
