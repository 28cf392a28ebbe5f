"""All streams of a process: one listener, one reading of the feed, and what each gets of it.

A thread reads the feed and hands batches to the loop. A stream that is *joined* takes from them; one that begins, or that
a batch does not fit (it begins after where the stream stands, or was read before its project was asked for), reads the feed
for itself until it has caught up. Positions rise in both, so nothing is missed or queued twice.
"""

import asyncio
import os
import signal
import threading
from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from time import monotonic
from typing import TypeVar

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from projects.events import FEED_CHANNEL
from relay_project.db.ids import id_time
from relay_project.web.errors import UNAVAILABLE, ApiError
from webhooks.listen import waking
from webhooks.live import counts
from webhooks.live.connection import Connection
from webhooks.live.frames import SERVICE_RESTART, Ending, Item
from webhooks.live.reading import BATCH, Batch, feed_end, read_batch
from webhooks.live.tickets import standing
from webhooks.loop import Loop

THREADS = 4  # each with a database connection: for opening streams, resuming them and asking again who may read them
SWEEP_SECONDS = 1.0
RECHECK_SECONDS = 30.0
MAX_OPENING = 300  # requests that wait for those threads; a process that has just started is asked by all at once
RESTART = Ending(SERVICE_RESTART, "The server restarts: come again, from the last event that arrived.")

Answer = TypeVar("Answer")
log = structlog.get_logger(__name__)


class Hub:
    """The streams of a process. Everything but `_read` and what `run` is given happens in the loop's thread."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.is_draining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._of_project: Counts[int] = Counts()
        self._of_network: Counts[str] = Counts()
        self._projects: frozenset[int] = frozenset()  # replaced as a whole: the reading thread looks at it
        self._position: int | None = None  # up to which batches were handed out; None: nobody listens
        self._opening = 0
        self._sweeper: asyncio.Task[None] | None = None
        self._checked_at = 0.0  # who may read

    # --- Its life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to listen, in the running loop."""
        if self._loop is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(THREADS, "live")
        self._reader = Reader(self)
        self._thread = threading.Thread(target=self._reader.serve, name="live-feed", daemon=True)
        self._thread.start()
        self._sweeper = self._loop.create_task(self._sweep())

    async def stop(self) -> None:
        """End the threads."""
        if self._loop is None:
            return
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._reader.stop()
        await self._loop.run_in_executor(None, self._thread.join)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._loop = None

    def drain(self) -> None:
        """Tell all clients that the process ends, after what is queued for them, and take no more."""
        if not self.is_draining:
            self.is_draining = True
            log.info("live.draining", connections=len(self.connections))
        for one in self.connections:
            one.end(RESTART)

    async def run(self, work: Callable[..., Answer], *arguments: object) -> Answer:
        """Do work that asks the database in one of its threads; raises ApiError 503 where that is away."""
        assert self._loop is not None
        return await self._loop.run_in_executor(self._pool, _with_database, work, arguments)

    # --- Who may open one ----------------------------------------------------------------------------------------

    def check_room(self) -> None:
        """Raise ApiError 503 when the process is full, or ends."""
        if self.is_draining:
            raise _busy("The server restarts.")
        if len(self.connections) + self._opening >= settings.LIVE_CONNECTIONS or self._opening >= MAX_OPENING:
            raise _busy("Too many streams are open.")

    def opening(self) -> "_Opening":
        """Counts a request while it waits for the database."""
        return _Opening(self)

    def add(self, one: Connection) -> None:
        """Count it, and let it be swept; raises ApiError 503 over a limit."""
        self.check_room()
        if self._of_project[one.project_id] >= settings.LIVE_PROJECT_CONNECTIONS:
            raise _busy("Too many streams of this project are open.")
        if self._of_network[one.network] >= settings.LIVE_ADDRESS_CONNECTIONS:
            raise _busy("Too many streams are open from your address.")
        self.connections.add(one)
        self._of_project[one.project_id] += 1
        self._of_network[one.network] += 1
        counts.CONNECTIONS.labels(one.transport).inc()
        if one.project_id not in self._projects:
            self._projects |= {one.project_id}
            self._reader.wake()

    def remove(self, one: Connection) -> None:
        """It has ended."""
        self.connections.discard(one)
        counts.CONNECTIONS.labels(one.transport).dec()
        _uncount(self._of_project, one.project_id)
        _uncount(self._of_network, one.network)
        if one.project_id not in self._of_project:
            self._projects -= {one.project_id}

    # --- What they get -------------------------------------------------------------------------------------------

    def join(self, one: Connection) -> bool:
        """Have a stream that has read up to `one.after` take from the batches; False when it must read on."""
        if self._position is None or one.after < self._position:
            return False
        one.is_joined = True
        return True

    def rest(self) -> None:
        """Nobody listens: the next batch begins where the feed then ends."""
        self._position = None

    def deliver(self, batch: Batch) -> None:
        """Queue what each joined stream wants of a batch."""
        self._position = batch.end
        by_project: dict[int, list[Item]] = defaultdict(list)
        for item in batch.items:
            by_project[item.project_id].append(item)
        for one in self.connections:
            if not one.is_joined or one.ending is not None:
                continue
            if one.after < batch.begin or one.project_id not in batch.projects:
                one.fall_behind()
            else:
                one.take(by_project.get(one.project_id, _NOTHING), batch.end)
        if batch.items:
            now = datetime.now(UTC)
            for item in batch.items:
                counts.LAG.observe(max((now - id_time(item.event_id)).total_seconds(), 0))

    # --- Care ----------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Look after the streams until the end: without it nobody would be cut off, nor asked again who may read."""
        self._checked_at = monotonic()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self._look_after()
            except Exception:
                log.exception("live.sweep_failed")

    async def _look_after(self) -> None:
        now = monotonic()
        for one in list(self.connections):
            if one.ending is None and one.is_stalled(now):
                one.cut()
            elif now - one.written_at >= settings.LIVE_HEARTBEAT_SECONDS and one.writing_since is None:
                one.heartbeat_due = True
                one.wake.set()
        if now - self._checked_at >= RECHECK_SECONDS:
            self._checked_at = now
            await self._recheck()
        if not self._reader.is_alive() or not self._thread.is_alive():
            log.error("live.reader_stalled")
            os.kill(os.getpid(), signal.SIGTERM)  # whoever watches over the process starts another

    async def _recheck(self) -> None:
        """End the streams of those who may not read them any more."""
        tickets = {one.ticket for one in self.connections}
        if not tickets:
            return
        try:
            found = await self.run(standing, tickets)
        except ApiError:
            return  # without a database nobody is thrown out
        except DatabaseError:
            log.exception("live.recheck_failed")
            return
        for one in self.connections:
            given = found.get(one.ticket)
            if isinstance(given, Ending):
                one.end(given)
            elif given is not None:
                one.allow(given)


class Reader(Loop):
    """Reads the feed for all streams, woken by the sequencer's notification."""

    def __init__(self, hub: Hub) -> None:
        super().__init__("live", self._read, BATCH, survives=True)
        self._hub = hub
        self._at: int | None = None

    def serve(self) -> None:
        """Read until stopped."""
        with waking(self, FEED_CHANNEL):
            self.run()

    def _read(self) -> int:
        projects = self._hub._projects
        if not projects:
            if self._at is not None:
                self._at = None
                self._tell(self._hub.rest)
            return 0
        if self._at is None:
            self._at = feed_end()
            self._tell(self._hub.deliver, Batch(self._at, self._at, projects, []))
            return 0
        batch = read_batch(self._at, projects)
        self._at = batch.end
        if batch.end > batch.begin:
            self._tell(self._hub.deliver, batch)
        return BATCH if batch.is_full else min(batch.end - batch.begin, BATCH - 1)

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        loop = self._hub._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(call, *arguments)


Key = TypeVar("Key")


def _uncount(counted: Counts[Key], key: Key) -> None:
    counted[key] -= 1
    if counted[key] <= 0:
        del counted[key]


class _Opening:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def __enter__(self) -> None:
        self._hub._opening += 1

    def __exit__(self, *_: object) -> None:
        self._hub._opening -= 1


_NOTHING: list[Item] = []


def _busy(message: str) -> ApiError:
    return ApiError(503, message, headers={"Retry-After": "5"})


def _with_database(work: Callable[..., Answer], arguments: tuple[object, ...]) -> Answer:
    for _ in range(2):  # a connection that was lost is noticed by using it
        try:
            return work(*arguments)
        except (OperationalError, InterfaceError):
            connection.close()
    raise ApiError(503, UNAVAILABLE, headers={"Retry-After": "5"})
