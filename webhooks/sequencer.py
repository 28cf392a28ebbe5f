"""The loop that gives events their positions.

Many processes may run it; the advisory lock lets one at a time do the work.
"""

from django.db import connection

from projects.events import sequence_outbox
from relay_project.metrics import Counter
from webhooks.loop import Loop

BATCH = 1000  # events a transaction, about 10 ms of work

SEQUENCED = Counter("relay_events_sequenced_total", "Events that got their position in the feed.")


class Sequencer(Loop):
    """The first of the readers' loops: all others go by what it writes."""

    def __init__(self, batch: int = BATCH) -> None:
        super().__init__("sequencer", self._sequence, batch)

    def _sequence(self) -> int:
        with connection.cursor() as cursor:
            moved = sequence_outbox(cursor, self._batch)
        SEQUENCED.inc(moved)
        return moved
