"""The scenarios that send: `drain` empties a full queue, `end_to_end` accepts while the senders run."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection

from ips.models import SourceIp
from projects.models import Project
from relay_project.bench.facts import facts, percentiles
from relay_project.bench.launch import INSTANCE_DOMAIN
from relay_project.bench.letters import batches
from relay_project.bench.plan import START_SECONDS, BenchError, Plan
from relay_project.bench.process import Cost, Meter, Process
from relay_project.bench.receiver import Arrivals, Receiver
from relay_project.bench.stage import fill, make_stage, read_ledger, server_pid, take, wait_until

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of the senders gave. Times are time.time()."""

    arrivals: Arrivals
    senders_started_at: float
    settled_at: float  # the ledger was empty
    cost: Cost


def drain(plan: Plan, folder: Path) -> dict[str, Any]:
    """Queue all messages, then start the senders and wait for the last one."""
    project = make_stage()
    conditions = facts(plan)
    fill_rate = fill(project, plan)
    run = _send(plan, folder)
    return {
        **_result(plan, run),
        "fill_rate": round(fill_rate, 1),
        "percentiles": percentiles(_attempt_durations(), "an attempt, from its start in the sender to its outcome"),
        **conditions,
    }


def end_to_end(plan: Plan, folder: Path) -> dict[str, Any]:
    """Start the senders on an empty database, then accept; the rate counts from the first accept to the last arrival."""
    project = make_stage()
    conditions = facts(plan)
    asked: list[float] = []
    run = _send(plan, folder, lambda: _accept(project, plan, asked))
    arrived = run.arrivals.first_time()
    latencies = [(arrived[number] - at) * 1000 for number, at in enumerate(asked)]
    result = _result(plan, run)
    if not plan.pace:
        result["rate"] = round(plan.messages / (max(run.arrivals.times) - asked[0]), 1)
    return {
        **result,
        "pace": plan.pace or None,
        "batch": plan.batch,
        "percentiles": percentiles(latencies, "a message, from the call of accept_many() to its arrival at the sink"),
        **conditions,
    }


def _accept(project: Project, plan: Plan, asked: list[float]) -> None:
    """Accept all, at the plan's pace; `asked` gets each message's time."""
    began = time.monotonic()
    for requests in batches(plan.messages, plan.body_bytes, plan.batch):
        if plan.pace:
            time.sleep(max(began + len(asked) / plan.pace - time.monotonic(), 0))
        asked += [time.time()] * len(requests)
        take(project, requests)


def _send(plan: Plan, folder: Path, work: Callable[[], None] = lambda: None) -> Run:
    """Run the senders, do the work once they serve, and wait until all has arrived and is settled."""
    with Receiver(folder) as receiver:
        env = {**receiver.route, "INSTANCE_DOMAIN": INSTANCE_DOMAIN, "SENDER_PROCESSES": str(plan.processes)}
        with Process(["run_senders", "--processes", str(plan.processes)], env, folder) as senders:
            _await_service(plan, senders)
            meter = Meter.start(senders, server_pid())
            work()
            _await_arrivals(plan, receiver, senders)
            _await_settled(plan, senders)
            settled_at = time.time()
            cost = meter.read()
        arrivals = receiver.arrivals()
    _check(plan, arrivals)
    return Run(arrivals, senders.started_at, settled_at, cost)


def _await_service(plan: Plan, senders: Process) -> None:
    """Wait until each process serves an IP; what starting costs is not counted."""

    def is_served() -> bool:
        senders.check_alive()
        return SourceIp.objects.exclude(served_by=None).values("served_by").distinct().count() >= wanted

    wanted = min(len(plan.source_ips), plan.processes)
    if not wait_until(is_served, START_SECONDS):
        raise BenchError(f"The senders did not take the source IPs within {START_SECONDS:.0f} seconds.")


def _await_arrivals(plan: Plan, receiver: Receiver, senders: Process) -> None:
    def all_here() -> bool:
        senders.check_alive()
        return receiver.count() >= plan.messages

    if not wait_until(all_here, plan.deadline_seconds, POLL_SECONDS):
        raise BenchError(
            f"Only {receiver.count():,} of {plan.messages:,} mails arrived within {plan.deadline_seconds:.0f} seconds."
        )


def _await_settled(plan: Plan, senders: Process) -> None:
    def is_settled() -> bool:
        senders.check_alive()
        return read_ledger().waiting == 0

    if not wait_until(is_settled, START_SECONDS, POLL_SECONDS):
        raise BenchError(
            f"{read_ledger().waiting:,} mails still waited {START_SECONDS:.0f} seconds after the last one."
        )
    accepted = read_ledger().accepted
    if accepted != plan.messages:
        raise BenchError(f"The database shows {accepted:,} of {plan.messages:,} recipients as accepted.")


def _check(plan: Plan, arrivals: Arrivals) -> None:
    missing = arrivals.missing(plan.messages)
    if missing:
        raise BenchError(f"{missing:,} of {plan.messages:,} mails did not arrive, although all count as accepted.")


def _result(plan: Plan, run: Run) -> dict[str, Any]:
    times, count = run.arrivals.times, len(run.arrivals.times)
    span = max(times) - times[0]
    return {
        "name": plan.scenario,
        "rate": round((count - 1) / span, 1) if span else None,
        "rate_from_start": round(count / (max(times) - run.senders_started_at), 1),
        "rate_settled": round(count / (run.settled_at - times[0]), 1),
        "rate_by_second": run.arrivals.by_second(),
        "messages": plan.messages,
        "duplicates": run.arrivals.duplicates,
        "missing": run.arrivals.missing(plan.messages),
        "sink_cpu_us": run.arrivals.cpu_us,
        **run.cost.as_record("sender", plan.messages, run.arrivals.cpu_us * count / 1e6),
    }


def _attempt_durations() -> list[float]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT duration_ms FROM sending_attempt")
        return [float(row[0]) for row in cursor.fetchall()]
