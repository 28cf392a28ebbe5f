"""The scenario `webhooks`: events happen, and a receiver on loopback is told of them by run_webhooks.

`--connections` webhooks each get `--messages` events, `--slow-peers` more never answer. With `--pace` the events come one
by one, and what counts is the time from an event's commit to its call; else all are there at once, and what counts is the
rate. The receiver is in this process and answers at once.
"""

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from projects.events import NewEvent, emit
from projects.models import Project
from relay_project.bench.calls import OK, Called
from relay_project.bench.facts import facts, percentiles
from relay_project.bench.plan import BenchError, Plan
from relay_project.bench.process import Meter, Process
from relay_project.bench.stage import make_stage, server_pid, wait_until
from webhooks.models import Webhook

KIND = "domain.created"
HANGING = b"/hang"
EVENTS = 500  # of one transaction
SETTLED_SECONDS = 1.0  # before the clock starts: the process is up and has looked


@dataclass(slots=True)
class _Heard:
    """When each event came, by its id and the path it came to."""

    times: dict[tuple[bytes, bytes], float] = field(default_factory=dict)
    calls: int = 0


class _Receiver(Called):
    """Answers at once, or, where the path says so, never."""

    def __init__(self, heard: _Heard) -> None:
        super().__init__()
        self._heard = heard

    def called(self, path: bytes, fields: Mapping[bytes, bytes], body: bytes) -> None:
        if path.startswith(HANGING):
            return
        self._heard.calls += 1
        self._heard.times.setdefault((path, fields.get(b"webhook-id", b"")), time.time())
        self.transport.write(OK)


def webhooks(plan: Plan, folder: Path) -> dict[str, Any]:
    """Every event must come to every webhook that answers; what came twice is counted."""
    events, endpoints = plan.traffic.messages, plan.connections
    project = make_stage()
    conditions = facts(plan)
    with _receiving() as (url, heard), Process(["run_webhooks"], {"PRIVATE_WEBHOOKS": "true"}, folder) as process:
        _subscribe(project, url, endpoints, plan.slow_peers)
        time.sleep(SETTLED_SECONDS)
        _await(heard, _tell(project, 1), endpoints, 60.0)  # up, with its modules loaded
        heard.times.clear()
        heard.calls = 0
        meter, began = Meter.start(process, server_pid()), time.time()
        committed = _tell(project, events, plan.pace)
        _await(heard, committed, endpoints, plan.deadline_seconds)
        seconds = max(heard.times.values()) - began
        cost = meter.read()
    waits = [(at - committed[event]) * 1000 for (_, event), at in heard.times.items()]
    return {
        "name": plan.scenario,
        "rate": round(events * endpoints / seconds, 1),
        "messages": events,
        "endpoints": endpoints,
        "hanging": plan.slow_peers,
        "twice": heard.calls - len(heard.times),
        "percentiles": percentiles(waits, "an event, from its commit to its call"),
        "sink_cpu_us": None,
        **cost.as_record("webhooks", events * endpoints),
        **conditions,
    }


@contextmanager
def _receiving() -> Iterator[tuple[str, _Heard]]:
    heard, loop, ready = _Heard(), uvloop.new_event_loop(), threading.Event()
    port = 0

    def serve() -> None:
        nonlocal port
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        port = int(listening.getsockname()[1])
        loop.run_until_complete(loop.create_server(lambda: _Receiver(heard), sock=listening))
        ready.set()
        loop.run_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{port}", heard
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def _subscribe(project: Project, url: str, endpoints: int, hanging: int) -> None:
    paths = [f"/{number}" for number in range(endpoints)] + [f"/hang/{number}" for number in range(hanging)]
    Webhook.objects.bulk_create(
        Webhook(project=project, url=url + path, events=[KIND], secret=f"{number:032x}")
        for number, path in enumerate(paths)
    )


def _tell(project: Project, count: int, pace: float = 0.0) -> dict[bytes, float]:
    """Events by their ids, with the time of their commit."""
    committed: dict[bytes, float] = {}
    began = time.monotonic()
    while len(committed) < count:
        if pace:
            time.sleep(max(began + len(committed) / pace - time.monotonic(), 0.0))
        size = 1 if pace else min(EVENTS, count - len(committed))
        rows = [
            NewEvent(project.pk, KIND, "domain", len(committed) + number, {"domain": {"domain": "shop.example"}})
            for number in range(size)
        ]
        ids = emit(*rows)
        at = time.time()
        committed.update((str(event_id).encode(), at) for event_id in ids)
    return committed


def _await(heard: _Heard, committed: dict[bytes, float], endpoints: int, seconds: float) -> None:
    wanted = len(committed) * endpoints
    if not wait_until(lambda: len(heard.times) >= wanted, seconds, every=0.02):
        raise BenchError(f"Of {wanted:,} calls came {len(heard.times):,} in time.")
