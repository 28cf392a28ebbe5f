"""One webhook's calls in a process: their order, how many at once, and holding back while nothing works. Pure.

Order: calls begin in the order of the feed, and the first try about one subject (a send, a domain) waits for the one before
it about that subject, so that a receiver hears of a mail in the order of what happened to it. A try that failed goes to the
ladder and holds up nothing: another order would let one bad call stop an endpoint for a day.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from webhooks.models import DeliveryKind

FIRST_WINDOW = 4.0  # calls at once to begin with; more with each that succeeds, half as many when one fails
FLOOR_SECONDS = 3.0
MARGIN = timedelta(seconds=2)
FAILURES_BEFORE_PAUSE = 5  # in a row
MAX_PAUSE_SECONDS = 60.0  # between probes of an endpoint where nothing works
MAX_HOLD_SECONDS = 3600.0  # what a busy receiver may ask for
TESTS_BEYOND = 1  # a test that somebody waits for goes out beside a full window, and while the lane rests


@dataclass(frozen=True, slots=True)
class Row:
    """A waiting delivery that is due, with what is sent."""

    delivery_id: int
    webhook_id: int
    subject_id: int
    kind: str
    due_at: datetime
    tries: int
    event_id: int
    url: str
    body: str

    @property
    def is_first_try(self) -> bool:
        """Whether it keeps its place in the order."""
        return self.tries == 0


@dataclass(frozen=True, slots=True)
class Hook:
    """What a webhook's calls are made with; `secrets` with the present one first."""

    secrets: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]
    is_enabled: bool
    is_failing: bool
    held_seconds: float = 0.0  # for which its receiver asked to be left alone
    project_id: int = 0


@dataclass(slots=True)
class Lane:
    """`add` rows, `take` what may begin, `finish` what was answered, `forget` what is settled."""

    webhook_id: int
    max_window: int
    hook: Hook | None = None
    is_marked: bool = False  # the database says that it is failing
    has_more: bool = True  # there may be rows that were not loaded
    is_asked: bool = False  # somebody has just tried it, or switched it on or off
    idle_since: float = 0.0
    held: dict[int, Row] = field(default_factory=dict)  # loaded, in flight, or answered and not settled
    in_flight: int = 0
    failures: int = 0  # in a row
    window: float = FIRST_WINDOW
    paused_until: float = 0.0  # after failures
    held_until: float = 0.0  # as its receiver asked
    _floor: datetime | None = None  # where loading goes on, past what was deleted
    _floor_until: float = 0.0
    _ready: deque[Row] = field(default_factory=deque)
    _subjects: set[int] = field(default_factory=set)  # of first tries in flight

    def equip(self, hook: Hook, now: float) -> None:
        """What its calls are made with from now on. One that is switched on again does not rest."""
        if (
            self.hook is None and hook.is_failing
        ):  # it failed before this process had it: one call shows whether it still does
            self.window, self.failures = 1.0, FAILURES_BEFORE_PAUSE - 1
        self.hook, self.is_marked = hook, hook.is_failing
        if not hook.is_enabled:
            self.empty()
        if not hook.is_enabled or (self.is_asked and not hook.is_failing):
            self.failures, self.paused_until, self.held_until = 0, 0.0, 0.0
        if hook.is_enabled and hook.held_seconds > 0:
            self.held_until = max(self.held_until, now + hook.held_seconds)

    def add(self, rows: Iterable[Row]) -> None:
        """Rows that were loaded, in their order, tests before all; those that are held already are passed over."""
        self.is_asked = False
        for row in rows:
            if row.delivery_id not in self.held:
                self.held[row.delivery_id] = row
                (self._ready.appendleft if row.kind == DeliveryKind.TEST else self._ready.append)(row)

    def learn(self, rows: Sequence[Row], now: float) -> None:
        """Where the rows that were loaded end. What waits before is looked for again every few seconds: a row may commit
        late, or be due again."""
        if now >= self._floor_until:
            self._floor, self._floor_until = None, now + FLOOR_SECONDS
        if rows:
            self._floor = rows[-1].due_at - MARGIN

    def since(self, now: float) -> datetime | None:
        """From where on to load: not over the remains of all that was delivered lately."""
        return self._floor if now < self._floor_until and not self.is_asked else None

    def wants(self) -> int:
        """How many rows to load: so that there is a next one while those in flight are answered."""
        if not self.has_more:
            return 0
        return max(2 * int(self.window) - len(self._ready), int(self.is_asked))

    def take(self, now: float) -> Row | None:
        """The next row to send, which is then in flight; None when none may begin now."""
        is_open = self.in_flight < int(self.window) and now >= self.rests_until
        if not is_open and self.in_flight >= int(self.window) + TESTS_BEYOND:
            return None
        for at, row in enumerate(self._ready):
            if not is_open and row.kind != DeliveryKind.TEST:
                return None  # tests are the first of those that are ready
            if row.is_first_try and row.subject_id in self._subjects:
                continue
            del self._ready[at]
            if row.is_first_try:
                self._subjects.add(row.subject_id)
            self.in_flight += 1
            return row
        return None

    def finish(self, row: Row, succeeded: bool, hold_seconds: float, now: float) -> None:
        """A call was answered, or not in time."""
        self._land(row)
        if hold_seconds > 0:
            self.held_until = max(self.held_until, now + min(hold_seconds, MAX_HOLD_SECONDS))
        if succeeded:
            self.failures, self.paused_until = 0, 0.0
            self.window = min(self.window + max(1.0, min(self.window, FIRST_WINDOW)), float(self.max_window))
            return
        self.window = max(self.window / 2, 1.0)
        if now < self.paused_until:  # it was in flight when the pause began: of one outage, not of one more
            return
        self.failures += 1
        excess = self.failures - FAILURES_BEFORE_PAUSE
        if excess >= 0:
            self.paused_until = now + min(2.0 ** min(excess, 10), MAX_PAUSE_SECONDS)

    def abandon(self, row: Row) -> None:
        """A call was cut; the row is as it was."""
        self._land(row)
        self.held.pop(row.delivery_id, None)
        self.has_more = True

    def forget(self, rows: Iterable[Row]) -> None:
        """They are settled."""
        for row in rows:
            self.held.pop(row.delivery_id, None)

    def empty(self) -> None:
        """Let go of what has not begun, as when the webhook was disabled."""
        for row in self._ready:
            self.held.pop(row.delivery_id, None)
        self._ready.clear()

    @property
    def rests_until(self) -> float:
        """When calls may begin again, but for tests."""
        return max(self.paused_until, self.held_until)

    @property
    def is_still(self) -> bool:
        """Whether nothing of it is in flight, or answered and not settled."""
        return len(self.held) == len(self._ready)

    @property
    def is_failing(self) -> bool:
        """Whether its last calls came to nothing."""
        return self.failures >= FAILURES_BEFORE_PAUSE

    def _land(self, row: Row) -> None:
        self.in_flight -= 1
        if row.is_first_try:
            self._subjects.discard(row.subject_id)
