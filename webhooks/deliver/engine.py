"""The deliverer: one event loop in a thread of run_webhooks, a pipeline of look, call and settle.

A look asks the database for webhooks with something due, leases them and loads the next rows of each lane that has room. Each
call is a task of its own. Results are settled together, every 50 ms or 200 of them; until then their rows are held, so
that no look brings them again. With the database gone nothing begins, and results wait.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

import structlog
import uvloop
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from relay_project.db.ids import id_time
from relay_project.mail.text import clean
from relay_project.metrics import Counter, Gauge, Histogram
from webhooks.deliver import look
from webhooks.deliver.call import call_of
from webhooks.deliver.lane import Hook, Lane, Row
from webhooks.deliver.room import Room
from webhooks.deliver.settle import Result, settle
from webhooks.models import DeliveryKind
from webhooks.post import Poster
from webhooks.verdict import Answer, holds_back
from webhooks.write import NOW

LOOK_SECONDS = 1.0  # for what falls due, and for notifications that got lost
AGAIN_SECONDS = 0.01  # between looks that are asked for one after the other
SETTLE_SECONDS, SETTLE_MOST = 0.05, 200
RENEW_SECONDS = look.LEASE_SECONDS / 3
IDLE_SECONDS = 5.0  # after which a lane is left to others
STOP_SECONDS = 10.0  # that calls in flight have at a stop; what is cut is called again
RETRY_SECONDS = 2.0  # between tries to reach a lost database
UNSETTLED_SECONDS = 60.0  # between tries to write what the database refuses whatever is left out
STALLED_SECONDS = 60.0
UNSENDABLE = "The call could not be made."
UNSTORABLE = "The answer could not be stored."
DISCOVER = 0  # no webhook's id: look at all of them

TRIES = Counter("relay_webhook_tries_total", "Calls of webhooks, by what came of them.", ["result"])
DELIVERIES = Counter("relay_webhook_deliveries_total", "Deliveries that are final.", ["result"])
LATENCY = Histogram(
    "relay_webhook_latency_seconds",
    "From an event to the first call about it.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
)
IN_FLIGHT = Gauge("relay_webhook_in_flight", "Calls of webhooks that are being made.")
LANES = Gauge("relay_webhook_lanes", "Webhooks that a process holds, which is 1,000 at most.")

Value = TypeVar("Value")
log = structlog.get_logger(__name__)


class Deliverer:
    """`run` until `stop`; `wake` says which webhooks have something new. Both may be called from any thread."""

    name = "deliverer"

    def __init__(self) -> None:
        self.me = uuid.uuid4()
        self.lanes: dict[int, Lane] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._room = Room(settings.WEBHOOK_IN_FLIGHT)
        self._results: list[Result] = []
        self._wanted: set[int] = set()
        self._asked: set[int] = set()  # those that somebody tries or switches
        self._awake: asyncio.Event
        self._has_results: asyncio.Event
        self._stopping = False
        self._thread = ThreadPoolExecutor(1, "webhooks-database")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leased_until = 0.0  # by our clock, of all lanes
        self._beat_at = time.monotonic()
        self._database_lost = False

    # --- From other threads ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Deliver until stopped."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run())
        self._thread.submit(_close).result()
        self._thread.shutdown()

    def stop(self) -> None:
        """Begin no more calls, settle, let go and end."""
        self._stopping = True
        self._call_soon(lambda: self._awake.set())

    def wake(self, names: str = "") -> None:
        """Look at the webhooks that a notification names, or at all."""
        words = names.split(",")
        asked = {int(word[1:]) for word in words if word[:1] == NOW and word[1:].isdecimal()}
        wanted = asked | {int(word) for word in words if word.isdecimal()}
        self._call_soon(lambda: self._want(wanted or {DISCOVER}, asked))

    def is_alive(self) -> bool:
        """Whether its loop goes round; being without a database counts as that."""
        return time.monotonic() - self._beat_at < STALLED_SECONDS

    def _call_soon(self, what: Callable[[], None]) -> None:
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(what)
            except RuntimeError:  # it has ended
                pass

    def _want(self, webhook_ids: Iterable[int], asked: Iterable[int]) -> None:
        self._wanted |= set(webhook_ids)
        self._asked |= set(asked)
        self._awake.set()

    # --- The loop -------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._loop, self._awake, self._has_results = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        async with Poster() as poster:
            beside = [asyncio.create_task(each) for each in (self._settling(), self._renewing())]
            try:
                await self._looking(poster)
                await self._finish()
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
            await self._let_go()

    async def _looking(self, poster: Poster) -> None:
        next_discovery = 0.0
        while not self._stopping:
            self._beat_at = time.monotonic()
            if self._beat_at >= next_discovery:
                self._wanted.add(DISCOVER)
                next_discovery = self._beat_at + LOOK_SECONDS
            wanted, self._wanted = self._wanted, set()
            self._awake.clear()
            if not await self._look_for(wanted):
                self._wanted |= wanted
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._begin(poster, self.lanes.values())
            await self._sleep(min(next_discovery, self._next_probe()) - time.monotonic())

    async def _sleep(self, seconds: float) -> None:
        """Until woken, or for so long; a little always, so that looks gather what is asked of them."""
        await asyncio.sleep(AGAIN_SECONDS)
        try:
            await asyncio.wait_for(self._awake.wait(), max(seconds, 0.0))
        except TimeoutError:
            pass

    def _next_probe(self) -> float:
        """When the next lane that holds back may go on."""
        now = time.monotonic()
        waits = [lane.rests_until for lane in self.lanes.values() if lane.held and lane.rests_until > now]
        return min(waits, default=now + LOOK_SECONDS)

    async def _look_for(self, wanted: set[int]) -> bool:
        """Look when there is a reason; False when the database is away."""
        if not wanted and not any(lane.wants() for lane in self.lanes.values()):
            return True
        return await self._try("look", partial(self._look, wanted))

    async def _look(self, wanted: set[int]) -> None:
        """Lease what is new, and load what lanes have room for."""
        ids = wanted - {DISCOVER}
        if DISCOVER in wanted:
            ids |= set(await self._in_thread(look.discover))
        for webhook_id in ids & set(self.lanes):
            self.lanes[webhook_id].has_more = True
            self.lanes[webhook_id].is_asked |= webhook_id in self._asked
        self._asked.clear()
        await self._take(ids - set(self.lanes))
        asked = [
            look.Wanted(lane.webhook_id, frozenset(lane.held), count, lane.since(time.monotonic()))
            for lane in self.lanes.values()
            if (count := lane.wants())
        ]
        self._fill(asked, await self._in_thread(look.load, asked))
        LANES.set(len(self.lanes))
        self._room.projects = len({lane.hook.project_id for lane in self.lanes.values() if lane.held and lane.hook})

    async def _take(self, new: set[int]) -> None:
        """Lease lanes for them. Where there are too many, those that rest give way; whoever finds no place comes later."""
        if not new:
            return
        before = time.monotonic()
        if len(self.lanes) + len(new) > look.MOST_LANES:
            await self._give_way(len(self.lanes) + len(new) - look.MOST_LANES, before)
            places = max(look.MOST_LANES - len(self.lanes), 0)
            new = set(random.sample(sorted(new), min(places, len(new))))  # not the first: others would wait for ever
        if not self.lanes:
            self._leased_until = before + look.LEASE_SECONDS
        for webhook_id in await self._in_thread(look.take, self.me, new):
            self.lanes[webhook_id] = Lane(webhook_id, settings.WEBHOOK_CONCURRENCY, idle_since=before)

    async def _give_way(self, wanted: int, now: float) -> None:
        """Leave lanes that nothing is sent to for a while, those with the longest pause first. Their rows lose nothing."""
        resting = [lane for lane in self.lanes.values() if lane.rests_until > now and lane.is_still]
        resting.sort(key=lambda lane: lane.rests_until, reverse=True)
        await self._leave([lane.webhook_id for lane in resting[:wanted]])

    async def _leave(self, webhook_ids: Sequence[int]) -> None:
        """To others."""
        for webhook_id in webhook_ids:
            del self.lanes[webhook_id]
        if webhook_ids:
            await self._in_thread(look.release, self.me, webhook_ids)

    def _fill(self, asked: Iterable[look.Wanted], found: look.Found) -> None:
        now = time.monotonic()
        for each in asked:
            lane = self.lanes.get(each.webhook_id)
            if lane is None:  # its lease was lost meanwhile
                continue
            hook = found.hooks.get(each.webhook_id)
            if hook is None:  # it was deleted
                lane.empty()
                lane.has_more = False
                continue
            lane.equip(hook, now)
            rows = found.rows.get(each.webhook_id, [])
            lane.add(rows)
            lane.learn(rows, now)
            lane.has_more = each.webhook_id in found.full

    # --- Calls ----------------------------------------------------------------------------------------------------

    def _begin(self, poster: Poster, lanes: Iterable[Lane]) -> None:
        """Begin what may: a round of one row of each lane, and another, so that none takes all of the room."""
        now = time.monotonic()
        if now >= self._leased_until or self._stopping:
            return
        lanes = [lane for lane in lanes if lane.held]
        while lanes:
            lanes = [lane for lane in lanes if self._begin_one(poster, lane, now)]
        IN_FLIGHT.set(self._room.busy)

    def _begin_one(self, poster: Poster, lane: Lane, now: float) -> bool:
        """Whether there was room and something to call."""
        if lane.hook is None or not self._room.has(lane.hook.project_id, lane.is_failing):
            return False
        row = lane.take(now)
        if row is None:
            return False
        task = asyncio.create_task(self._call(poster, lane, lane.hook, row))
        self._calls.add(task)
        self._room.enter(lane.hook.project_id)
        task.add_done_callback(partial(self._end, lane.hook.project_id))
        return True

    def _end(self, project_id: int, task: asyncio.Task[None] | None) -> None:
        """A call takes no room any more."""
        if task in self._calls:
            self._calls.discard(task)
            self._room.leave(project_id)

    async def _call(self, poster: Poster, lane: Lane, hook: Hook, row: Row) -> None:
        now = timezone.now()
        if row.is_first_try and row.kind == DeliveryKind.EVENT:
            LATENCY.observe(max((now - id_time(row.event_id)).total_seconds(), 0.0))
        try:
            answer = await poster.post(call_of(row, hook, now))
        except asyncio.CancelledError:
            lane.abandon(row)
            raise
        except Exception:  # an error of ours: the row is tried again as if there had been no answer, its lane goes on
            log.exception("webhooks.unsendable", delivery=row.delivery_id)
            answer = Answer(0, UNSENDABLE)
        finally:
            was_scarce = self._room.is_scarce
            self._end(hook.project_id, asyncio.current_task())
        self._note(lane, Result(row, answer, now))
        self._begin(poster, [lane])
        if lane.wants() or was_scarce:
            self._awake.set()  # also where others wait for room

    def _note(self, lane: Lane, result: Result) -> None:
        answer, now = result.answer, time.monotonic()
        hold = holds_back(answer, timezone.now()).total_seconds()
        lane.finish(result.row, answer.is_success, hold, now)
        lane.idle_since = now
        TRIES.labels(answer.result).inc()
        self._results.append(result)
        if len(self._results) >= SETTLE_MOST:
            self._has_results.set()

    # --- Settle ---------------------------------------------------------------------------------------------------

    async def _settling(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._has_results.wait(), SETTLE_SECONDS)
            except TimeoutError:
                pass
            self._has_results.clear()
            while self._results:
                if not await self._settle_some():
                    await asyncio.sleep(RETRY_SECONDS)

    async def _settle_some(self) -> bool:
        """Settle the first of them; False when the database is away."""
        batch = self._results[:SETTLE_MOST]
        if not await self._try("settle", partial(self._settle, batch)):
            return False
        del self._results[: len(batch)]
        return True

    async def _settle(self, batch: Sequence[Result]) -> None:
        """One transaction; what cannot be written is halved until the bad one stands alone, of whose answer the code is kept.

        One that cannot be written even so waits by itself, held so that it is not sent again: it stops nobody else.
        """
        try:
            await self._write(batch)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._settle(batch[:middle])
                await self._settle(batch[middle:])
                return
            [result] = batch
            log.exception("webhooks.unsettled", delivery=result.row.delivery_id)
            await self._write_plainly(result)

    async def _write_plainly(self, result: Result) -> None:
        plain = replace(result.answer, text=UNSTORABLE, location=None, retry_after=None)
        try:
            await self._write([replace(result, answer=plain)])
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            log.exception("webhooks.unsettled_again", delivery=result.row.delivery_id)
            assert self._loop is not None
            self._loop.call_later(UNSETTLED_SECONDS, self._results.append, result)

    async def _write(self, batch: Sequence[Result]) -> None:
        marked = frozenset(lane.webhook_id for lane in self.lanes.values() if lane.is_marked)
        await self._in_thread(settle, batch, timezone.now(), marked)
        self._forget(batch)

    def _forget(self, batch: Iterable[Result]) -> None:
        now = timezone.now()
        for result in batch:
            lane = self.lanes.get(result.row.webhook_id)
            if lane is not None:
                lane.forget([result.row])
                if result.row.kind != DeliveryKind.TEST:
                    lane.is_marked = not result.answer.is_success
            if result.answer.is_success:
                DELIVERIES.labels("delivered").inc()
            elif result.next_try(now) is None:
                DELIVERIES.labels("failed").inc()
                self._say_failed(result)
        if any(lane.wants() for lane in self.lanes.values()):
            self._awake.set()

    def _say_failed(self, result: Result) -> None:
        row = result.row
        log.info(
            "webhooks.delivery_failed",
            webhook=row.webhook_id,
            delivery=row.delivery_id,
            tries=row.tries + 1,
            code=result.answer.code,
        )

    # --- Leases ---------------------------------------------------------------------------------------------------

    async def _renewing(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            self._beat_at = time.monotonic()
            await self._try("renew", self._renew)

    async def _renew(self) -> None:
        """Leave lanes without work to others, and say that we go on with the rest."""
        now = time.monotonic()
        idle = [
            lane.webhook_id
            for lane in self.lanes.values()
            if not lane.held and not lane.has_more and now - lane.idle_since >= IDLE_SECONDS
        ]
        await self._leave(idle)
        held = set(self.lanes)
        ours = await self._in_thread(look.renew, self.me, held)
        for webhook_id in held - ours:  # another has it; what is in flight is settled, unless it was there first
            log.warning("webhooks.lease_lost", webhook=webhook_id)
            self.lanes.pop(webhook_id).empty()
        self._leased_until = now + look.LEASE_SECONDS

    # --- The end --------------------------------------------------------------------------------------------------

    async def _finish(self) -> None:
        """Give calls in flight their time, then cut them."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=STOP_SECONDS)
        calls = list(self._calls)
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _let_go(self) -> None:
        """Settle what is left, unless the database is away, and leave the lanes to others."""
        while self._results and await self._settle_some():
            pass
        await self._try("release", partial(self._in_thread, look.release, self.me))

    # --- The database ---------------------------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[..., Value], *values: object) -> Value:
        assert self._loop is not None
        return await self._loop.run_in_executor(self._thread, work, *values)

    async def _try(self, step: str, work: Callable[[], Awaitable[object]]) -> bool:
        """False when the database is away, which is told once, or the step failed, which is logged."""
        try:
            await work()
        except (OperationalError, InterfaceError) as error:
            await self._in_thread(_close)  # the next one opens a new connection
            if not self._database_lost:
                log.warning("webhooks.database_lost", step=step, error=clean(str(error), 500).strip())
            self._database_lost = True
            return False
        except Exception:
            log.exception("webhooks.step_failed", step=step)
            return False
        if self._database_lost:
            log.info("webhooks.database_back")
        self._database_lost = False
        return True


def _close() -> None:
    """In the thread whose connection it is: the name `connection` stands for another one in each."""
    connection.close()
