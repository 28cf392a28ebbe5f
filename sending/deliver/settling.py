"""The settle stage's queue and its patience: batches by time and number, repeated while the database is away.

A batch that fails on its data is halved until the bad result stands alone; that one is settled with its texts replaced,
and an alarm: a reply that the database will not take must never be sent again (lesson C3).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError, connection

from relay_project.mail.reply import NetworkFailure, Reply
from relay_project.metrics import Counter
from sending.deliver.giveback import give_back
from sending.deliver.load import Job
from sending.deliver.outcome import AttemptOutcome, GiveBack, RecipientOutcome
from sending.deliver.settle import settle

log = structlog.get_logger()

POISON = Counter("relay_settle_replaced_total", "Results whose texts the database refused; settled with them replaced.")
UNSETTLED = Counter("relay_settle_failed_total", "Results that could not be settled at all; their leases run out.")
STUCK_SECONDS = 2.0  # a settle that has failed for this long stops new conversations
RETRY_SECONDS = 0.5
UNHUNG_SECONDS = 60.0
# A batch has its price, whatever is in it: a mail costs 270 µs in batches of 25, 150 in those of 100 and 120 in those of
# 200. So while much comes it is waited for longer; what a killed sender has not settled grows with it (RFC 1047).
MUCH = 200.0  # results a second
BUSY_SECONDS = 0.2
REPLACED = "(a text that could not be stored was replaced)"

Done = Callable[[Job], None]


@dataclass(slots=True)
class Batch:
    """Results that are settled together."""

    items: list[tuple[AttemptOutcome | GiveBack, Done]]

    def done(self) -> None:
        """Tell each item's owner."""
        for item, tell in self.items:
            tell(item.job)


@dataclass(slots=True)
class Settler:
    """Collects results in the event loop; settles them in the database thread. `seconds`: the wait while little comes."""

    seconds: float
    most: int
    _queue: list[tuple[AttemptOutcome | GiveBack, Done]] = field(default_factory=list)
    _filled: asyncio.Event = field(default_factory=asyncio.Event)
    _full: asyncio.Event = field(default_factory=asyncio.Event)
    _is_closed: bool = False
    _failing_since: float | None = None
    _flow: float = 0.0  # results a second
    _taken_at: float = field(default_factory=time.monotonic)

    @property
    def is_stuck(self) -> bool:
        """The database does not take results: nothing new may be dialled."""
        return self._failing_since is not None and time.monotonic() - self._failing_since > STUCK_SECONDS

    @property
    def patience(self) -> float:
        """Seconds that a result may wait for company."""
        return self.seconds if self._flow < MUCH else BUSY_SECONDS

    def put(self, item: AttemptOutcome | GiveBack, done: Done) -> None:
        """Queue one result."""
        self._queue.append((item, done))
        self._filled.set()
        if len(self._queue) >= self.most:
            self._full.set()

    def close(self) -> None:
        """No more results come: `batches` ends when the queue is empty."""
        self._is_closed = True
        self._filled.set()
        self._full.set()

    async def batches(self) -> AsyncIterator[Batch]:
        """Batches as they fill: at `most` results, or when patience ends."""
        while self._queue or not self._is_closed:
            await self._filled.wait()
            if len(self._queue) < self.most and not self._is_closed:
                try:
                    await asyncio.wait_for(self._full.wait(), self.patience)
                except TimeoutError:
                    pass
            items, self._queue = self._queue[: self.most], self._queue[self.most :]
            self._watch(len(items))
            if not self._is_closed:
                self._reset_events()
            if items:
                yield Batch(items)

    def _watch(self, results: int) -> None:
        now = time.monotonic()
        self._flow, self._taken_at = results / max(now - self._taken_at, 0.001), now

    def _reset_events(self) -> None:
        if not self._queue:
            self._filled.clear()
        if len(self._queue) < self.most:
            self._full.clear()

    def settle(self, batch: Batch) -> None:
        """In the database thread: give back and settle, for as long as it takes the database to come back."""
        outcomes = [item for item, _ in batch.items if isinstance(item, AttemptOutcome)]
        returned = [item for item, _ in batch.items if isinstance(item, GiveBack)]
        self._give_back(returned)
        self._settle_or_halve(outcomes)

    def _give_back(self, items: Sequence[GiveBack]) -> None:
        """Halved like results; what cannot hang on its site waits in its queue for a while."""
        try:
            self._patiently(lambda: give_back(items, datetime.now(UTC)))
        except Exception:
            if len(items) > 1:
                middle = len(items) // 2
                self._give_back(items[:middle])
                self._give_back(items[middle:])
                return
            UNSETTLED.inc()
            log.exception("settle.not_given_back", attempt=items[0].job.attempt_id, site=items[0].site)
            if items[0].site is not None:
                self._give_back([replace(items[0], site=None, wait_seconds=UNHUNG_SECONDS)])

    def _settle_or_halve(self, outcomes: Sequence[AttemptOutcome]) -> None:
        if not outcomes:
            return
        try:
            self._patiently(lambda: settle(outcomes, datetime.now(UTC)))
        except Exception as error:
            if len(outcomes) > 1:
                middle = len(outcomes) // 2
                self._settle_or_halve(outcomes[:middle])
                self._settle_or_halve(outcomes[middle:])
                return
            POISON.inc()
            log.exception("settle.texts_replaced", attempt=outcomes[0].job.attempt_id, error=type(error).__name__)
            self._settle_plain(without_texts(outcomes[0]))

    def _settle_plain(self, outcome: AttemptOutcome) -> None:
        """The last resort. What even so cannot be settled is left to its lease, which ends as a lost attempt."""
        try:
            self._patiently(lambda: settle([outcome], datetime.now(UTC)))
        except Exception:
            UNSETTLED.inc()
            log.exception("settle.left_to_its_lease", attempt=outcome.job.attempt_id, send=outcome.job.send_id)

    def _patiently(self, work: Callable[[], None]) -> None:
        """Repeat what fails on the connection or a deadlock; what fails on its data is raised."""
        while True:
            try:
                work()
            except (OperationalError, InterfaceError) as error:
                self._failing_since = self._failing_since or time.monotonic()
                log.warning("settle.database_trouble", error=f"{type(error).__name__}: {error}".strip())
                connection.close()
                time.sleep(RETRY_SECONDS)
            except DatabaseError as error:
                if isinstance(error, DataError | IntegrityError):
                    raise
                self._failing_since = self._failing_since or time.monotonic()
                log.exception("settle.refused", error=type(error).__name__)
                connection.close()
                time.sleep(RETRY_SECONDS)
            else:
                self._failing_since = None
                return


def without_texts(outcome: AttemptOutcome) -> AttemptOutcome:
    """The same decision without anything that came from outside."""
    return replace(
        outcome,
        recipients=tuple(_plain(recipient) for recipient in outcome.recipients),
        conversations={},
        network_error=REPLACED,
        responded_host=None,
        resolved_hosts=(),
        tls=None,
    )


def _plain(recipient: RecipientOutcome) -> RecipientOutcome:
    reply, failure = recipient.reply, recipient.failure
    return replace(
        recipient,
        reply=Reply(reply.code, None, REPLACED) if reply else None,
        failure=NetworkFailure(failure.kind, REPLACED) if failure else None,
    )
