"""When a sender looks for due mail again: at once when it is woken from rest, a little later when more may be coming.

Every look costs a claim, a load and a settle, however few mails it finds. So looks keep a distance, and mails that come
close after each other share them. After a wake-up or a find the sender is *attentive*: it looks at that distance for a
while, and whoever accepts mail may rely on it instead of waking it again (relay_project.jobs, WAKE_EVERY_SECONDS). Then
it comes to rest: pauses double up to LOOK_MAX_SECONDS, by which due retries and mail whose wake-up got lost are found.
"""

from dataclasses import dataclass

from relay_project.jobs import WAKE_EVERY_SECONDS

LOOK_MIN_SECONDS = 0.02  # from the beginning of a look to the next: half of it is added to a busy queue's latency
LOOK_MAX_SECONDS = 1.0  # at rest
ATTENTIVE_SECONDS = 2 * WAKE_EVERY_SECONDS  # longer than accepts rely on it, by a look that takes its time
MANY_ROWS = 32  # of one look: more is probably due, so the next one follows at once


@dataclass(slots=True)
class Pace:
    """The rhythm of one sender's looks. Times are time.monotonic()."""

    looked_at: float = -1e9  # when the last look began
    attentive_until: float = -1e9
    pause: float = LOOK_MAX_SECONDS  # from the beginning of the last look
    is_woken: bool = True  # something is said to be due: at the start nobody knows
    is_full: bool = False  # the last look found much

    def wake(self, clock: float) -> None:
        """Somebody says that something is due."""
        self.is_woken = True
        self._attend(clock)

    def begin(self, clock: float) -> None:
        """A look begins: what is said from now on is for the next one."""
        self.looked_at = clock
        self.is_woken = False

    def end(self, rows: int, clock: float) -> None:
        """A look found so many rows."""
        self.is_full = rows >= MANY_ROWS
        if rows:
            self._attend(clock)
        elif clock >= self.attentive_until:
            self.pause = min(self.pause * 2, LOOK_MAX_SECONDS)

    def delay(self, clock: float) -> float:
        """Seconds until the next look."""
        if self.is_full:
            return 0.0
        return max(self.looked_at + (LOOK_MIN_SECONDS if self.is_woken else self.pause) - clock, 0.0)

    def _attend(self, clock: float) -> None:
        self.attentive_until = clock + ATTENTIVE_SECONDS
        self.pause = LOOK_MIN_SECONDS
