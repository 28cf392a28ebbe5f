"""The scenario `live`: streams of one project in one run_live, mail that is accepted at a steady pace, and a restart.

Half of the streams are server-sent events, half are WebSockets; all clients live in this process, on the same cores. While
the second half of the mail is accepted, another run_live takes over, as in a rolling restart: each client that is told of
it goes on there, from the last event it has, after a moment of its own. Every stream must have every event, once.
"""

import asyncio
import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, connections

from projects.api_keys import create_key
from projects.models import Project
from projects.scopes import Scope
from relay_project.bench.accept import await_ready
from relay_project.bench.facts import facts, percentiles
from relay_project.bench.letters import letter
from relay_project.bench.plan import BenchError, Plan
from relay_project.bench.process import Meter, Process
from relay_project.bench.stage import make_stage, server_pid, take
from relay_project.bench.streams import Address, Closed, EventStream, Refused, Stream, WebSocket
from relay_project.db.ids import id_time
from relay_project.net.files import allow_files
from relay_project.quickstart.ports import LOOPBACK, choose_ports

OPENING = 50  # clients that knock at once
ARRIVE_SECONDS = 30.0  # for the last event to reach the last client
AFTER_RESTART_SECONDS = 2.0  # the old process still has some of them
OF = "an event, from its time (before its commit) until the last of all streams has it"


@dataclass(slots=True)
class Watcher:
    """One client: what it got, and when."""

    is_socket: bool
    got: list[tuple[int, float]] = field(default_factory=list)
    last: str | None = None
    opened: int = 0

    async def watch(self, addresses: Sequence[Address], headers: dict[str, str], ready: asyncio.Semaphore) -> None:
        """Read for ever; at the first address, and at the next when that one ends."""
        kind = WebSocket if self.is_socket else EventStream
        for address in addresses:
            async with ready:
                query = "" if self.last is None else f"after={self.last}"
                stream = await self._open(kind, address, query, headers)
            self.opened += 1
            try:
                await self._read(stream)
            except (Closed, asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                stream.close()
            await asyncio.sleep(random.uniform(0.1, 1.0))  # noqa: S311 — a shorter moment than the server asks for

    async def _open(self, kind: type[Stream], address: Address, query: str, headers: dict[str, str]) -> Stream:
        while True:
            try:
                return await kind.open(address, query, headers)  # type: ignore[attr-defined, no-any-return]
            except (Refused, ConnectionError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.5)

    async def _read(self, stream: Stream) -> None:
        async for event_id, kind, data in stream:  # type: ignore[attr-defined]
            if "." in kind and event_id:
                self.got.append((int(event_id), time.time()))
                self.last = event_id
            elif kind == "hello":
                self.last = json.loads(data)["id"]


class Watchers:
    """All clients, in a thread of their own."""

    def __init__(self, count: int, addresses: Sequence[Address], token: str) -> None:
        self.all = [Watcher(number % 2 == 1) for number in range(count)]
        self._addresses = addresses
        self._headers = {"Authorization": f"Bearer {token}"}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @contextmanager
    def watching(self) -> Iterator["Watchers"]:
        """Open all streams, and let them run for the block."""
        self._thread.start()
        future = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        tasks = future.result(60)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
            asyncio.run_coroutine_threadsafe(asyncio.wait(tasks), self._loop).result(30)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _start(self) -> list["asyncio.Task[None]"]:
        ready = asyncio.Semaphore(OPENING)
        return [asyncio.create_task(one.watch(self._addresses, self._headers, ready)) for one in self.all]

    def await_all(self, opened: int, seconds: float) -> None:
        """Until each stream was opened so often; raises BenchError."""
        give_up = time.monotonic() + seconds
        while (missing := sum(one.opened < opened for one in self.all)) > 0:
            if time.monotonic() > give_up:
                raise BenchError(f"{missing:,} of {len(self.all):,} streams were not opened within {seconds:.0f} s.")
            time.sleep(0.05)

    def await_events(self, wanted: int) -> None:
        """Until each has so many; the caller counts what is missing."""
        give_up = time.monotonic() + ARRIVE_SECONDS
        while any(len(one.got) < wanted for one in self.all) and time.monotonic() < give_up:
            time.sleep(0.05)


def live(plan: Plan, folder: Path) -> dict[str, Any]:
    """Measure the plan's streams over its messages, then over as many again while the process is replaced."""
    allow_files(2 * plan.connections + 1000)
    project = make_stage()
    _, token = create_key(project, "Benchmark", [Scope.SENDS_READ])
    conditions = facts(plan)
    limits = dict.fromkeys(
        ("LIVE_CONNECTIONS", "LIVE_PROJECT_CONNECTIONS", "LIVE_ADDRESS_CONNECTIONS"), str(plan.connections + 100)
    )
    other = choose_ports({"LIVE_BIND": 0, "PROBE_LIVE": 0})
    successor = limits | {name: f"{LOOPBACK}:{port}" for name, port in other.items()}
    with ExitStack() as running:
        running.enter_context(Process(["run_webhooks"], {}, folder))
        first = running.enter_context(Process(["run_live"], limits, folder))
        await_ready(first, settings.PROBES["live"])
        addresses = [settings.LIVE_BIND, (LOOPBACK, other["LIVE_BIND"])]
        began = time.monotonic()
        watchers = running.enter_context(Watchers(plan.connections, addresses, token).watching())
        watchers.await_all(1, 60)
        opened_in = time.monotonic() - began
        meter = Meter.start(first, server_pid())
        took = _accept_paced(project, plan, 0)
        watchers.await_events(plan.traffic.messages)
        cost = meter.read()
        steady = _events(project)
        points = percentiles(_until_all(watchers, steady), OF)
        peak = first.peak_bytes()
        _restart(running, first, successor, folder, other["PROBE_LIVE"], project, plan, watchers)
        events = _events(project)
        missing, duplicates = _check(watchers, events)
    return {
        "name": plan.scenario,
        "rate": round(len(steady) * plan.connections / took, 1),
        "messages": plan.traffic.messages,
        "pace": plan.pace,
        "connections": plan.connections,
        "opened_in_seconds": round(opened_in, 2),
        "events": len(events),
        "missing": missing,
        "duplicates": duplicates,
        "live_peak_mib": round(peak / 2**20, 1),
        "live_cpu_us": round(cost.process * 1e6 / max(len(steady) * plan.connections, 1), 1),
        "sink_cpu_us": None,
        "percentiles": points,
        **conditions,
    }


def _restart(
    running: ExitStack,
    first: Process,
    successor: dict[str, str],
    folder: Path,
    probe: int,
    project: Project,
    plan: Plan,
    watchers: Watchers,
) -> None:
    """Replace the process while mail goes on, and wait until everybody has everything."""
    other = folder / "successor"
    other.mkdir()
    second = running.enter_context(Process(["run_live"], successor, other))
    await_ready(second, (LOOPBACK, probe))
    accepting = threading.Thread(target=_accept_apart, args=(project, plan), daemon=True)
    accepting.start()
    time.sleep(AFTER_RESTART_SECONDS)
    first.ask_to_stop()
    watchers.await_all(2, 60)
    accepting.join()
    watchers.await_events(2 * plan.traffic.messages)  # each has one: that it is queued


def _accept_apart(project: Project, plan: Plan) -> None:
    try:
        _accept_paced(project, plan, plan.traffic.messages)
    finally:
        connections.close_all()


def _accept_paced(project: Project, plan: Plan, first: int) -> float:
    """Accept the plan's messages one at a time; returns the seconds it took."""
    began = time.monotonic()
    for number in range(plan.traffic.messages):
        time.sleep(max(began + number / plan.pace - time.monotonic(), 0))
        take(project, [letter(first + number, traffic=plan.traffic)])
    return time.monotonic() - began


_EVENTS = """
SELECT feed.event_id FROM projects_feedposition feed JOIN projects_event event ON event.id = feed.event_id
 WHERE feed.project_id = %s AND event.kind LIKE 'send.%%' AND event.id > 0 ORDER BY feed.position
"""


def _events(project: Project) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(_EVENTS, [project.pk])
        return [event_id for (event_id,) in cursor.fetchall()]


def _until_all(watchers: Watchers, events: Sequence[int]) -> list[float]:
    """Milliseconds from each event's time to its last arrival."""
    latest = dict.fromkeys(events, 0.0)
    for one in watchers.all:
        for event_id, at in one.got:
            if event_id in latest:
                latest[event_id] = max(latest[event_id], at)
    return [(at - id_time(event_id).timestamp()) * 1000 for event_id, at in latest.items()]


def _check(watchers: Watchers, events: Sequence[int]) -> tuple[int, int]:
    """(missing, duplicates) over all streams; the order must be the feed's."""
    missing = duplicates = 0
    for one in watchers.all:
        got = [event_id for event_id, _ in one.got]
        missing += len(set(events) - set(got))
        duplicates += len(got) - len(set(got))
    if missing:
        raise BenchError(f"{missing:,} events did not reach all of {len(watchers.all):,} streams.")
    return missing, duplicates
