"""The readers beside the sequencer, each in a thread of its own with a connection of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Protocol

from relay_project.metrics import Counter, Gauge
from sending.inbound import read
from sending.inbound.routing.examine import BATCH, Examiner, measure
from sending.statistics import newcomers, outcomes
from sending.statistics.positions import read_lag
from webhooks.loop import Loop

COUNTED = Counter("relay_statistics_events_total", "Events that were counted into the statistics.")
TAKEN = Counter("relay_statistics_sends_total", "Sends that were counted, and made findable by searches.")
LAG = Gauge("relay_statistics_lag_seconds", "How old the oldest event or send is that was not counted yet.", ["reader"])

# After a full batch it rests for half of what that took: catching up leaves mail that leaves meanwhile its share.
REST = 0.5
FULL = 1  # of a look: something was full, so there is more
MORE = 2  # of a look at what came in: something is left; 1: something was there
MEASURE_SECONDS = 5.0


class Statistics(Loop):
    """What is counted, from the event log and from what comes in; one after the other, as they share a lock."""

    def __init__(self) -> None:
        super().__init__("statistics", self._read, FULL, rest=REST, survives=True)

    def _read(self) -> int:
        counted, taken = outcomes.fold_outcomes(), newcomers.read_newcomers()
        late = newcomers.read_latecomers()
        COUNTED.inc(counted)
        TAKEN.inc(taken)
        if counted >= outcomes.BATCH or max(taken, late) >= newcomers.BATCH:
            return FULL
        for reader, seconds in read_lag().items():
            LAG.labels(reader).set(seconds)
        return 0


class Inbound(Loop):
    """What came in: reports, and mail for projects. Woken by whoever stores it (webhooks.listen)."""

    def __init__(self) -> None:
        super().__init__("inbound", self._read, MORE, survives=True)
        self._reader = read.Reader()
        self._measured_at = -1e9

    def _read(self) -> int:
        done = self._reader.look()
        if monotonic() - self._measured_at >= MEASURE_SECONDS:
            self._measured_at = monotonic()
            count, seconds = read.measure(datetime.now(UTC))
            read.UNREAD.set(count)
            read.LAG.set(seconds)
        if self._reader.has_more:
            return MORE
        return min(done, MORE - 1)


class Routed(Loop):
    """Mail of projects' routes: a look at DNS, then its event."""

    def __init__(self) -> None:
        super().__init__("routed", self._examine, BATCH, survives=True)
        self._examiner = Examiner()
        self._measured_at = -1e9

    def _examine(self) -> int:
        done = self._examiner.look()
        if monotonic() - self._measured_at >= MEASURE_SECONDS:
            self._measured_at = monotonic()
            measure(datetime.now(UTC))
        return done


class Runs(Protocol):
    """What may have a thread of its own."""

    name: str

    def run(self) -> None:
        """Until stopped."""

    def stop(self) -> None:
        """End soon; from any thread."""


@contextmanager
def running(loop: Runs) -> Iterator[None]:
    """Run a loop in a thread for the block; at its end it finishes its look."""
    thread = threading.Thread(target=loop.run, name=loop.name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.stop()
        thread.join()
