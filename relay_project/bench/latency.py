"""The scenario `latency`: single messages at a steady pace, from the call of accept() to the sink's 250.

The pauses are random (exponential, as independent senders make them), so that nothing falls into step with the engine's
own looks. Beside a backlog the messages are another project's, in the same queue and to the same site.
"""

import random
import time
from pathlib import Path
from typing import Any

from projects.models import Project
from relay_project.bench.facts import facts, percentiles
from relay_project.bench.feed import FROM_CALL
from relay_project.bench.letters import letter
from relay_project.bench.outgoing import Field, latencies, senders_at_work
from relay_project.bench.plan import BenchError, Plan, Traffic
from relay_project.bench.process import Cost, Meter
from relay_project.bench.receiver import Arrivals
from relay_project.bench.specimens import queue_clones
from relay_project.bench.stage import make_stages, server_pid, take, wait_until, waiting_count
from sending.accept.request import SendRequest

BACKLOGGED = 1_000_000_000  # the first number of the backlog's mails
WARM_SECONDS = 2.0  # the senders have found their rhythm, and the first connections are made
WARMING = 2_000_000_000  # the numbers of what warms up
ARRIVE_SECONDS = 30.0


def latency(plan: Plan, folder: Path) -> dict[str, Any]:
    """Accept the plan's messages at its pace; the senders run, on an idle system or beside a backlog."""
    projects = make_stages(2 if plan.backlog else 1)
    conditions = facts(plan)
    if plan.backlog:
        few = Traffic(body_bytes=plan.traffic.body_bytes)
        queue_clones(projects[1], plan.backlog, few, sender=1, first=BACKLOGGED)
    mail = [letter(number, traffic=plan.traffic) for number in range(plan.traffic.messages)]
    asked: list[float] = []
    with senders_at_work(plan, folder) as field:
        _warm(field, projects[0])
        meter = Meter.start(field.senders, server_pid(), field.receiver.cpu_seconds())
        began = time.time()
        _accept_at_random(projects[0], plan, mail, asked)
        took = time.time() - began
        left = _await_mine(field, projects[0], plan)
        cost = meter.read(field.receiver.cpu_seconds())
    return {**_result(plan, field.receiver.arrivals(), asked, took, cost), "backlog_left": left, **conditions}


def _warm(field: Field, project: Project) -> None:
    """Send one mail through everything, and let the senders settle."""
    take(project, [letter(WARMING)])
    time.sleep(WARM_SECONDS)
    field.senders.check_alive()


def _accept_at_random(project: Project, plan: Plan, mail: list[SendRequest], asked: list[float]) -> None:
    """One at a time; what is late is sent at once, so that the pace holds on average."""
    rng = random.Random(len(mail))  # noqa: S311 - the same pauses every run
    due = time.monotonic()
    for request in mail:
        due += rng.expovariate(plan.pace)
        time.sleep(max(due - time.monotonic(), 0))
        asked.append(time.time())
        take(project, [request])


def _await_mine(field: Field, project: Project, plan: Plan) -> int:
    """Wait for the last of the messages; returns how many of the backlog were left when it was accepted."""
    left = waiting_count() if plan.backlog else 0

    def are_gone() -> bool:
        field.senders.check_alive()
        return waiting_count(project.pk) == 0

    if not wait_until(are_gone, ARRIVE_SECONDS):
        raise BenchError(f"Mail still waited {ARRIVE_SECONDS:.0f} seconds after the last one was accepted.")
    return left


def _result(plan: Plan, arrivals: Arrivals, asked: list[float], took: float, cost: Cost) -> dict[str, Any]:
    """As outgoing.result_of, of the messages alone; the CPU is everybody's, so only an idle system has it for each."""
    mine = arrivals.of(range(plan.traffic.mails))
    missing = mine.missing(plan.traffic.mails)
    if missing:
        raise BenchError(f"{missing:,} of {plan.traffic.mails:,} mails did not arrive.")
    record = cost.as_record("sender", plan.traffic.mails)
    each = {} if plan.backlog else {**record, "accept_cpu_us": round(cost.own * 1e6 / plan.traffic.mails)}
    return {
        "name": plan.scenario,
        "rate": round(plan.traffic.messages / took, 1),
        "messages": plan.traffic.messages,
        "pace": plan.pace,
        "backlog": plan.backlog,
        "duplicates": mine.duplicates,
        "missing": missing,
        "sink_cpu_us": arrivals.cpu_us,
        **each,
        "sender_peak_mib": record["sender_peak_mib"],
        "cores_busy_elsewhere": record["cores_busy_elsewhere"],
        "percentiles": percentiles(latencies(plan, mine, asked), FROM_CALL),
    }
