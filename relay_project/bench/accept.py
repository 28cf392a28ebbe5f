"""The scenario `accept`: requests to the web process as run_web starts it, of one message or of many; nobody sends."""

import urllib.request
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings

from projects.api_keys import create_key
from projects.limits import bounds_of, set_limits
from projects.models import Project
from projects.scopes import Scope
from relay_project.bench.facts import facts, percentiles
from relay_project.bench.http_load import Target, run_load
from relay_project.bench.plan import START_SECONDS, BenchError, Plan
from relay_project.bench.process import Meter, Process
from relay_project.bench.stage import make_stage, read_ledger, server_pid, wait_until

WARM_SECONDS = 1.0  # each worker's first requests import and connect
ANSWER_SECONDS = 2.0
FROM_ASKED = "a request, from its first byte to its answer"
FROM_DUE = "a request, from when it was due to its answer"
ALLOWED = ("127.0.0.0/24",)  # an API key that sends needs networks


def accept(plan: Plan, folder: Path) -> dict[str, Any]:
    """Ask for the plan's seconds over its connections, at its pace; every message answered 200 must be in the database."""
    project = make_stage()
    token = key_of(project)
    conditions = facts(plan)
    target = Target(settings.WEB_BIND, token, plan.traffic.body_bytes, plan.connections, plan.batch, plan.pace)
    with ExitStack() as running:
        if plan.readers:
            running.enter_context(Process(["run_webhooks"], {}, folder))
        web = running.enter_context(Process(["run_web"], {}, folder))
        await_web(web)
        warm = len(run_load(replace(target, pace=0.0), WARM_SECONDS))
        meter = Meter.start(web, server_pid())
        seconds = run_load(target, plan.seconds)
        cost = meter.read()
    messages = len(seconds) * plan.batch
    missing = warm * plan.batch + messages - read_ledger().sends
    if missing > 0:
        raise BenchError(f"{missing:,} messages were answered 200 and are not in the database.")
    return {
        "name": plan.scenario,
        "rate": round(messages / plan.seconds, 1),
        "messages": messages,
        "duplicates": -missing,
        "missing": 0,
        "connections": plan.connections,
        "batch": plan.batch,
        "pace": plan.pace or None,
        "readers": plan.readers,
        "seconds": plan.seconds,
        "percentiles": percentiles([each * 1000 for each in seconds], FROM_DUE if plan.pace else FROM_ASKED),
        "sink_cpu_us": None,
        **cost.as_record("web", messages),
        "web_workers": settings.WEB_WORKERS,
        "web_threads": settings.WEB_THREADS,
        **conditions,
    }


def key_of(project: Project) -> str:
    """A key that may send, as fast as a project may be allowed to."""
    set_limits(project, {"sends_per_second": bounds_of("sends_per_second")[1]})
    _, token = create_key(project, "Benchmark", [Scope.SENDS_SEND], ALLOWED)
    return token


def await_web(web: Process) -> None:
    """Return when the web process says that it is ready; raises BenchError."""
    await_ready(web, settings.PROBES["web"])


def await_ready(process: Process, probe: tuple[str, int]) -> None:
    """Return when the process says at its probe's address that it is ready; raises BenchError."""
    url = "http://{}:{}/ready".format(*probe)

    def is_ready() -> bool:
        process.check_alive()
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS):  # noqa: S310 - our own address
                return True
        except OSError:  # HTTPError too: 503 while a check fails
            return False

    if not wait_until(is_ready, START_SECONDS, every=0.1):
        raise BenchError(f"{process.name} was not ready within {START_SECONDS:.0f} seconds.")
