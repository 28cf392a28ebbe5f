"""The loop that gives events their positions.

Many processes may run it; the advisory lock lets one at a time do the work.
"""

from time import monotonic

from django.db import connection

from projects.events import sequence_outbox
from relay_project.metrics import Counter
from webhooks.loop import Loop

BATCH = 1000  # events a transaction, about 10 ms of work
LOOK_SECONDS = 0.05  # an idle look is one small statement, and every reader waits for this one
SHARE = 4  # a look that took long, as beside an old snapshot, is followed by a pause that many times as long at least

SEQUENCED = Counter("relay_events_sequenced_total", "Events that got their position in the feed.")


class Sequencer(Loop):
    """The first of the readers' loops: all others go by what it writes."""

    def __init__(self, batch: int = BATCH) -> None:
        super().__init__("sequencer", self._sequence, batch, pause=(LOOK_SECONDS, LOOK_SECONDS))

    def look(self, pause: float = 0.0) -> float:
        """As every loop, but never busy with looking alone."""
        began = monotonic()
        wanted = super().look(pause)
        return wanted if wanted == 0.0 else max(wanted, SHARE * (monotonic() - began))

    def _sequence(self) -> int:
        with connection.cursor() as cursor:
            moved = sequence_outbox(cursor, self._batch)
        SEQUENCED.inc(moved)
        return moved
