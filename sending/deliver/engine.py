"""The engine: a pipeline of claim, talk and settle that lives as long as its process.

*Claim* refills whenever less than half of the in-flight allowance (rows and bytes) is used. *Talk*: each job is a task of
its own, so no stage waits for a batch's slowest member. *Settle*: every 50 ms (200 while much comes) or 200 results, one
transaction. Claim and settle are plain functions with SQL over Django's connection, called in one database thread each.
With the database gone, results wait in memory and nothing new is dialled.
"""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import psycopg
import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from ips.senders import Registration, ServedIp
from relay_project.db.keyring import ring
from relay_project.mail.classify import Category, Outcome, Verdict
from relay_project.mail.reply import FailureKind, NetworkFailure
from relay_project.metrics import Counter, Gauge
from relay_project.net.resolver import Resolver
from sending.backlog.stopped import stopped_projects
from sending.deliver import giveback, wakeups
from sending.deliver.claim import Ring, lanes_of
from sending.deliver.cores import Cores
from sending.deliver.glance import is_anything_due
from sending.deliver.load import Job
from sending.deliver.outcome import AttemptOutcome, GiveBack, RecipientOutcome
from sending.deliver.pace import LOOK_MAX_SECONDS, Pace
from sending.deliver.pool import Pool
from sending.deliver.prepare import Preparer
from sending.deliver.room import Room
from sending.deliver.route import Router
from sending.deliver.settling import Settler
from sending.deliver.shaper import Shaper, exchange
from sending.deliver.take import Taker
from sending.deliver.talk import Surroundings, Talk
from sending.deliver.tally import count_attempt, publish
from sending.deliver.tls_ladder import TlsLadder

log = structlog.get_logger()

IN_FLIGHT = Gauge("relay_mails_in_flight", "Recipients claimed and not yet settled.", multiprocess_mode="livesum")
LOOKS = Counter("relay_looks_total", "Looks of the senders for due mail, by what they found.", ["found"])
UNFORESEEN = Counter("relay_unforeseen_failures_total", "Attempts that ended in an error nobody foresaw (see the log).")

# What people read; the error itself is in the log.
OUR_ERROR = "an error of ours; the log names it by this attempt's id"

SWEEP_SECONDS = 0.9  # less than a sender at rest waits between looks: each of them sweeps
SETTLE_SECONDS = 0.05
SETTLE_RESULTS = 200
LOCK_LOSS_SECONDS = 5.0  # without its lock a sender may be declared dead after this; it must have let go by then
SIGNING_THREADS = 2  # RSA releases the GIL; see cores.py
URGENT_LOOK_SECONDS = 0.1  # between looks for urgent mail while bulk fills the room

Result = TypeVar("Result")


@dataclass(slots=True)
class Engine:
    """One sender process's engine. `run` until `stop`."""

    registration: Registration
    router: Router = field(
        default_factory=lambda: Router(
            Resolver(settings.DNS_RESOLVERS or None),
            settings.OUTGOING_SMTP_PORT,
            settings.SMTP_ROUTES,
            allow_private=settings.PRIVATE_MX,
        )
    )
    pool: Pool = field(default_factory=Pool)
    shaper: Shaper = field(init=False)
    talks: dict[int, tuple[Talk, "asyncio.Task[None]"]] = field(default_factory=dict)
    in_flight: dict[int, Job] = field(default_factory=dict)  # claimed and not settled, by attempt id
    beat_at: float = field(default_factory=time.monotonic)  # the event loop's own sign of life
    _taker: Taker = field(init=False)
    _settler: Settler = field(init=False)
    _around: Surroundings = field(init=False)
    _ladder: TlsLadder = field(init=False)
    _pace: Pace = field(default_factory=Pace)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _has_room: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _claim_thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "claim"))
    _settle_thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "settle"))
    _signing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(SIGNING_THREADS, "sign"))
    _cores: Cores = field(default_factory=Cores)
    _draining_ips: set[int] = field(default_factory=set)
    _room: Room = field(default_factory=Room)
    _lock_lost_at: float | None = None
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _swept_at: float = 0.0

    def __post_init__(self) -> None:
        """The parts that share this engine's state."""
        self.shaper = Shaper({route.rpartition(":")[0] for route in self.router.routes.values()})
        self._taker = Taker(Ring(self.registration.sender_id), self.shaper)
        self._settler = Settler(SETTLE_SECONDS, SETTLE_RESULTS)
        self._ladder = TlsLadder.from_settings(self.router.resolver, self._in_claim_thread)
        self._around = Surroundings(
            router=self.router,
            pool=self.pool,
            shaper=self.shaper,
            preparer=Preparer(self._signing, self._cores),
            return_path_keys=ring("return-path"),
            conversation_seconds=settings.CONVERSATION_SECONDS,
            ladder=self._ladder,
            chunking=settings.SMTP_CHUNKING,
        )

    # --- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until stopped; then finish what is under way, give back the rest, and leave."""
        await self._in_claim_thread(self.registration.start)
        self._taker.ring.sender_id = self.registration.sender_id
        await self._refresh()
        await self._ladder.book.read()
        wakeups.listen(self._woken)
        log.info("sender.started", sender=self.registration.sender_id, ips=self._addresses())
        settling = asyncio.create_task(self._settle_loop())
        heart = asyncio.create_task(self._heart_loop())
        policies = asyncio.create_task(self._ladder.book.keep_reading())
        try:
            await self._look_loop()
        finally:
            wakeups.unlisten(self._woken)
            await self._wind_down()
            self._settler.close()
            await settling
            heart.cancel()
            policies.cancel()
            await asyncio.gather(heart, policies, self._ladder.book.aclose(), return_exceptions=True)
            publish()
            await self._leave()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping.set()
        self._wake.set()
        self._has_room.set()

    async def _wind_down(self) -> None:
        """Jobs that were not dialled go back at once; conversations may finish within SHUTDOWN_SECONDS."""
        for talk, task in list(self.talks.values()):
            if not talk.is_dialled:
                task.cancel()
        tasks = [task for _, task in self.talks.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=settings.SHUTDOWN_SECONDS)
        for talk, task in list(self.talks.values()):
            if talk.connection is not None:
                talk.connection.abort("the sender is shutting down")
            else:
                task.cancel()
        await asyncio.gather(*(task for _, task in self.talks.values()), return_exceptions=True)

    async def _leave(self) -> None:
        await self.pool.close_idle(older_than=-1)
        try:
            await self._in_claim_thread(self._exchange)
            await self._in_claim_thread(self.registration.stop)
        except (DatabaseError, InterfaceError, psycopg.Error):
            log.warning("sender.left_without_database", sender=self.registration.sender_id)
        for thread in (self._claim_thread, self._settle_thread):
            await asyncio.get_running_loop().run_in_executor(thread, close_connection)
            thread.shutdown()
        self._signing.shutdown()
        log.info("sender.stopped", sender=self.registration.sender_id)

    # --- claim -----------------------------------------------------------------------------------------------------

    async def _look_loop(self) -> None:
        while not self._stopping.is_set():
            if self._may_claim():
                is_likely = self._pace.is_woken or self._pace.is_full
                if not self._pace.is_full or self._pace.is_woken:
                    self._taker.ring.forget()  # something may be new, or nothing left
                self._pace.begin(time.monotonic())
                jobs = await self._guarded(lambda: self._look(is_likely))  # noqa: B023 - awaited at once
                for job in jobs:
                    self._start(job)
                moved = sum(len(job.targets) for job in jobs) + self._taker.diverted
                self._pace.end(moved, time.monotonic())
                LOOKS.labels("something" if jobs else "nothing").inc()
            await self._rest()

    async def _rest(self) -> None:
        """Until it is time for the next look, or until there is room for what it finds."""
        if not self._may_claim() or not self._room.is_free:
            self._has_room.clear()
            await until(self._has_room, URGENT_LOOK_SECONDS if self._may_claim() else LOOK_MAX_SECONDS)
            return
        await asyncio.sleep(0)  # the others have their turn, even if the next look is due
        while not self._stopping.is_set() and (delay := self._pace.delay(time.monotonic())):
            self._wake.clear()
            await until(self._wake, delay)

    def _woken(self) -> None:
        """A wake-up job says that something is due."""
        self._pace.wake(time.monotonic())
        self._wake.set()
        if self._room.is_free_for_urgent:
            self._has_room.set()

    def _may_claim(self) -> bool:
        is_able = self._lock_lost_at is None and not self._settler.is_stuck
        return is_able and self._room.is_free_for_urgent and bool(self._serving())

    def _serving(self) -> list[ServedIp]:
        return [ip for ip in self.registration.ips.values() if ip.id not in self._draining_ips]

    def _look(self, is_likely: bool) -> list[Job]:
        """In the claim thread: free what is lost, promote what fell due, take what is due.

        Where nothing says that anything is (`is_likely`), a glance comes first.
        """
        now = datetime.now(UTC)
        if time.monotonic() - self._swept_at > SWEEP_SECONDS:
            self._swept_at = time.monotonic()
            lost = giveback.sweep(now)
            if lost:
                log.warning("sender.swept", rows=lost)
            if giveback.promote(now) or lost:
                self._taker.ring.forget()
        serving, wanted = self._serving(), self._room.wanted
        if not is_likely and not is_anything_due([lane for ip in serving for lane in lanes_of(ip)]):
            return self._taker.take_held(serving, wanted, now)
        return self._taker.take(serving, wanted, now)

    # --- talk ------------------------------------------------------------------------------------------------------

    def _start(self, job: Job) -> None:
        self.in_flight[job.attempt_id] = job
        self._room.weigh(job, 1)
        if not job.is_test:
            self.shaper.count(job.source_ip_id, 1)
        ip = self.registration.ips.get(job.source_ip_id)
        if ip is None:
            self._settler.put(GiveBack(job), self._settled)
            return
        talk = Talk(job, ip, self._around)
        self.talks[job.attempt_id] = (talk, asyncio.create_task(self._talk(talk)))

    async def _talk(self, talk: Talk) -> None:
        """Run one job and hand its outcome to settle, whatever happens."""
        outcome: AttemptOutcome | GiveBack
        try:
            outcome = await talk.run()
        except asyncio.CancelledError:
            if talk.is_dialled:
                failure = NetworkFailure(FailureKind.CUT, "the sender is shutting down")
                outcome = unforeseen(talk, failure, Category.TEMPORARY)
            else:
                outcome = GiveBack(talk.job)
        except Exception:
            UNFORESEEN.inc()
            log.exception("attempt.unforeseen_failure", attempt=talk.job.attempt_id, send=talk.job.send_id)
            outcome = unforeseen(talk, NetworkFailure(FailureKind.PROTOCOL, OUR_ERROR), Category.INFRASTRUCTURE)
        self.talks.pop(talk.job.attempt_id, None)
        if talk.job.is_test:
            pass  # no figure of ours tells of it
        elif isinstance(outcome, GiveBack):
            self.shaper.count(talk.ip.id, -1)
        else:
            count_attempt(outcome, talk.ip.address, time.monotonic() - talk.job.claimed_at)
        self._settler.put(outcome, self._settled)

    # --- settle ----------------------------------------------------------------------------------------------------

    async def _settle_loop(self) -> None:
        async for batch in self._settler.batches():
            await asyncio.get_running_loop().run_in_executor(self._settle_thread, self._settler.settle, batch)
            batch.done()

    def _settled(self, job: Job) -> None:
        """In the event loop, when a job's rows have left our hands."""
        if self.in_flight.pop(job.attempt_id, None) is not None:
            self._room.weigh(job, -1)
        if self._room.is_free:
            self._has_room.set()

    # --- alive -----------------------------------------------------------------------------------------------------

    async def _heart_loop(self) -> None:
        while True:
            self.beat_at = time.monotonic()
            IN_FLIGHT.set(self._room.rows)
            self._cores.look()
            publish()
            try:
                await self.pool.close_idle()
                await self._guarded(self._beat)
                self._check_lock()
                self.shaper.tick()
                await self._release_drained()
            except Exception:
                log.exception("sender.heart_trouble", sender=self.registration.sender_id)  # the next beat tries again
            await asyncio.sleep(1.0)

    def _beat(self) -> list[Job]:
        """In the claim thread."""
        self.registration.beat()
        if not self.registration.holds_lock and not self.registration.retake_locks():
            raise InterfaceError("the sender's lock is held by somebody else")
        self._draining_ips |= self.registration.refresh_ips()
        self._draining_ips -= set(self.registration.ips)  # taken back before they were let go
        self._exchange()
        stopped = stopped_projects()
        self._around.stopped_projects.update(stopped)
        self._around.stopped_projects.intersection_update(stopped)
        self._lock_lost_at = None
        return []

    def _check_lock(self) -> None:
        if self._lock_lost_at is not None and time.monotonic() - self._lock_lost_at > LOCK_LOSS_SECONDS:
            for talk, task in list(self.talks.values()):
                if not talk.is_dialled:
                    task.cancel()
                elif talk.connection is not None:
                    talk.connection.abort("the sender lost its lock in the database")

    async def _release_drained(self) -> None:
        busy = {job.source_ip_id for job in self.in_flight.values()}
        for ip_id in self._draining_ips - busy:
            self._draining_ips.discard(ip_id)
            await self._guarded(lambda ip_id=ip_id: self._release(ip_id))  # type: ignore[misc]

    def _release(self, ip_id: int) -> list[Job]:
        self.registration.release(ip_id)
        return []

    def _exchange(self) -> None:
        """In the claim thread: lessons and limits; followed in the event loop, before what is claimed next."""
        ip_ids = list(self.registration.ips)
        tables = exchange(self.shaper, ip_ids, datetime.now(UTC))
        self._loop.call_soon_threadsafe(self.shaper.obey, tables, ip_ids)

    async def _refresh(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._in_claim_thread(self.registration.refresh_ips)
        await self._in_claim_thread(self._exchange)

    def _addresses(self) -> list[str]:
        return [ip.address for ip in self.registration.ips.values()]

    @property
    def is_alive(self) -> bool:
        """The event loop turns."""
        return time.monotonic() - self.beat_at < 30

    # --- threads ---------------------------------------------------------------------------------------------------

    async def _in_claim_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._claim_thread, work)

    async def _guarded(self, work: Callable[[], list[Job]]) -> list[Job]:
        """Database work that may find the database gone: logged, the connection dropped, tried again by the caller's loop."""
        try:
            return await self._in_claim_thread(work)
        except (DatabaseError, InterfaceError, psycopg.Error, OSError) as error:
            if work == self._beat and self._lock_lost_at is None:
                self._lock_lost_at = time.monotonic()
            log.warning("sender.database_trouble", error=f"{type(error).__name__}: {error}".strip())
            await self._in_claim_thread(close_connection)
            await asyncio.sleep(0.5)
            return []


def unforeseen(talk: Talk, failure: NetworkFailure, category: Category) -> AttemptOutcome:
    """What ended without a verdict is a deferral; the schedule bounds how often."""
    verdict = Verdict(Outcome.DEFERRED, category, suppress=False, rule="unforeseen")
    return AttemptOutcome(
        job=talk.job,
        recipients=tuple(RecipientOutcome(target, verdict, None, failure) for target in talk.job.targets),
        site=talk.route.site if talk.route else "",
        resolved_hosts=talk.route.hosts if talk.route else (),
        responded_host=talk.responded_host,
        conversations=talk.conversations,
        tls=talk.tls,
        network_error=failure.text,
        duration_ms=round((time.monotonic() - talk.job.claimed_at) * 1000),
        is_dialled=talk.is_dialled,
    )


async def until(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, or for the time to pass."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        pass


def close_connection() -> None:
    """Close the calling thread's database connection (Django's `connection` is one a thread)."""
    connection.close()


def default_processes(ip_count: int) -> int:
    """At most as many sender processes as cores share the host's IPs."""
    return settings.SENDER_PROCESSES or max(1, min(os.cpu_count() or 1, ip_count))
