"""The scenarios that send: `drain` empties a full queue, `end_to_end` accepts while the senders run."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.db import connection

from ips.models import SourceIp
from queues.models import Queue
from relay_project.bench.facts import facts, percentiles
from relay_project.bench.feed import feeding
from relay_project.bench.history import empty_present
from relay_project.bench.launch import INSTANCE_DOMAIN
from relay_project.bench.letters import TARPIT_DOMAIN, batches
from relay_project.bench.plan import START_SECONDS, BenchError, Plan, Traffic
from relay_project.bench.process import Cost, Meter, Process
from relay_project.bench.receiver import Arrivals, Receiver
from relay_project.bench.specimens import queue_clones
from relay_project.bench.stage import fill, make_stages, read_ledger, server_pid, wait_until, waiting_count
from relay_project.db.ids import id_floor
from relay_project.db.partitions import partition_name, partitioned_tables
from relay_project.sandbox.manners import is_bounced

POLL_SECONDS = 0.1
TARPITTED = 1_000_000_000  # the first number of the mails that wait for the tarpit
FAST_RETRIES = "1s,1s,2s,2s,4s,4s,8s,8s"  # where the sink refuses: the run is to end


@dataclass(slots=True)
class Field:
    """The senders at work, and the sink they deliver to."""

    plan: Plan
    receiver: Receiver
    senders: Process
    meter: Meter

    def await_arrivals(self, mails: int) -> None:
        """Wait until that many have come; raises BenchError when they do not."""

        def are_here() -> bool:
            self.senders.check_alive()
            return self.receiver.count() >= mails

        if not wait_until(are_here, self.plan.deadline_seconds, POLL_SECONDS):
            seconds = self.plan.deadline_seconds
            raise BenchError(f"Only {self.receiver.count():,} of {mails:,} mails arrived within {seconds:.0f} seconds.")

    def await_settled(self, left: int = 0) -> None:
        """Wait until no more than `left` recipients wait; raises BenchError when they do."""

        def is_settled() -> bool:
            self.senders.check_alive()
            return waiting_count() <= left

        if not wait_until(is_settled, START_SECONDS, POLL_SECONDS):
            raise BenchError(f"{waiting_count():,} mails still waited {START_SECONDS:.0f} seconds after the last one.")


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of the senders gave. Times are time.time()."""

    arrivals: Arrivals
    senders_started_at: float
    settled_at: float | None  # the ledger was empty
    cost: Cost


def drain(plan: Plan, folder: Path) -> dict[str, Any]:
    """Fill the queue, then start the senders and wait for the last one, or for as many as were asked for."""
    if plan.history:
        empty_present()
    projects = make_stages(plan.traffic.projects)
    conditions = facts(plan)
    if plan.remote.tarpit_mails:
        tarpit = Traffic(body_bytes=plan.traffic.body_bytes)
        queue_clones(projects[0], plan.remote.tarpit_mails, tarpit, domain=TARPIT_DOMAIN, first=TARPITTED)
    if plan.waiting:
        queue_clones(projects[0], plan.waiting, plan.traffic)
    since = now_id()
    fill_rate = None if plan.waiting else round(fill(projects, plan), 1)
    run = send(plan, folder, since)
    return {
        **result_of(plan, run),
        "fill_rate": fill_rate,
        "waiting": plan.waiting or plan.traffic.mails,
        "history": plan.history,
        "tarpit_mails": plan.remote.tarpit_mails,
        "table_bytes_per_mail": None if plan.waiting else round(_table_bytes() / plan.traffic.mails),
        "percentiles": percentiles(
            _attempt_durations(since), "an attempt, from its start in the sender to its outcome"
        ),
        **conditions,
    }


def end_to_end(plan: Plan, folder: Path) -> dict[str, Any]:
    """Start the senders on an empty database, then accept; the rate counts from the first accept to the last arrival."""
    projects = make_stages(plan.traffic.projects)
    conditions = facts(plan)
    asked: list[float] = []
    with feeding(plan, projects, folder) as feed:
        feed.prepare(list(batches(plan.traffic, plan.batch)))
        run = send(plan, folder, now_id(), lambda: feed.accept(asked))
    accepting = feed.web_seconds or run.cost.own
    run = replace(run, cost=replace(run.cost, others=run.cost.others - feed.web_seconds))
    result = result_of(plan, run)
    if not plan.pace:
        result["rate"] = round(len(run.arrivals.times) / (max(run.arrivals.times) - asked[0]), 1)
    return {
        **result,
        "pace": plan.pace or None,
        "batch": plan.batch,
        "http": plan.http,
        "accept_cpu_us": round(accepting * 1e6 / plan.traffic.mails),
        "percentiles": percentiles(latencies(plan, run.arrivals, asked), feed.of),
        **conditions,
    }


def latencies(plan: Plan, arrivals: Arrivals, asked: Sequence[float]) -> list[float]:
    """Milliseconds from when it was asked for to the sink's 250, for each mail that came."""
    each = plan.traffic.recipients
    return [
        (came - asked[number // each]) * 1000
        for number, came in arrivals.first_time().items()
        if 0 <= number < len(asked) * each
    ]


@contextmanager
def senders_at_work(plan: Plan, folder: Path) -> Iterator[Field]:
    """The sink, and the senders once each of them serves a source IP; until then nothing leaves, so all begin at once."""
    with Receiver(folder, plan) as receiver:
        env = {**receiver.route, "INSTANCE_DOMAIN": INSTANCE_DOMAIN, "SENDER_PROCESSES": str(plan.processes)}
        if not plan.remote.is_kind:
            env["RETRY_SCHEDULE"] = FAST_RETRIES
        Queue.objects.update(paused_at=datetime.now(UTC))
        with Process(["run_senders", "--processes", str(plan.processes)], env, folder) as senders:
            _await_service(plan, senders)
            meter = Meter.start(senders, server_pid(), receiver.cpu_seconds())
            Queue.objects.update(paused_at=None)
            yield Field(plan, receiver, senders, meter)


def send(plan: Plan, folder: Path, since: int, work: Callable[[], None] = lambda: None) -> Run:
    """Run the senders, do the work once they serve, and wait until all has arrived and is settled."""
    with senders_at_work(plan, folder) as field:
        work()
        field.await_arrivals(wanted(plan))
        settled_at = None
        if not plan.waiting:
            left = plan.remote.tarpit_mails
            field.await_settled(left)
            settled_at = time.time()
            _check_ledger(plan, since)
        cost = field.meter.read(field.receiver.cpu_seconds())
    arrivals = field.receiver.arrivals()
    if plan.waiting:
        arrivals = arrivals.first(plan.traffic.mails)
    elif plan.remote.tarpit_mails:
        arrivals = arrivals.of(range(plan.traffic.mails))
    _check_arrivals(plan, arrivals)
    return Run(arrivals, field.senders.started_at, settled_at, cost)


def wanted(plan: Plan) -> int:
    """How many mails the sink is to take: those whose mailbox it does not bounce."""
    if not plan.remote.bounce:
        return plan.traffic.mails
    addresses = (each.address for _, batch in batches(plan.traffic, 1000) for one in batch for each in one.recipients)
    return sum(not is_bounced(f"RCPT TO:<{address}>".encode(), plan.remote.bounce) for address in addresses)


def result_of(plan: Plan, run: Run) -> dict[str, Any]:
    """What every scenario that sends reports."""
    times, count = run.arrivals.times, len(run.arrivals.times)
    span = max(times) - times[0]
    return {
        "name": plan.scenario,
        "rate": round((count - 1) / span, 1) if span else None,
        "rate_from_start": round(count / (max(times) - run.senders_started_at), 1),
        "rate_settled": round(count / (run.settled_at - times[0]), 1) if run.settled_at else None,
        "rate_by_second": run.arrivals.by_second(),
        "messages": plan.traffic.messages,
        "duplicates": run.arrivals.duplicates,
        "missing": wanted(plan) - len(set(run.arrivals.numbers)),
        "dkim_signatures_seen": run.arrivals.sample.lower().count(b"dkim-signature:"),
        "connections": run.arrivals.connections,
        "handshakes": run.arrivals.handshakes,
        "sink_cpu_us": run.arrivals.cpu_us,
        **run.cost.as_record("sender", count),
    }


def _await_service(plan: Plan, senders: Process) -> None:
    """Wait until each process serves an IP; what starting costs is not counted."""

    def is_served() -> bool:
        senders.check_alive()
        return SourceIp.objects.exclude(served_by=None).values("served_by").distinct().count() >= processes

    processes = min(len(plan.source_ips), plan.processes)
    if not wait_until(is_served, START_SECONDS):
        raise BenchError(f"The senders did not take the source IPs within {START_SECONDS:.0f} seconds.")


def _check_ledger(plan: Plan, since: int) -> None:
    ledger = read_ledger(since)
    final = ledger.accepted + ledger.bounced
    if final != plan.traffic.mails or (ledger.accepted < wanted(plan) and plan.remote.is_kind):
        raise BenchError(
            f"The database shows {ledger.accepted:,} of {plan.traffic.mails:,} recipients as accepted and "
            f"{ledger.bounced:,} as bounced."
        )


def _check_arrivals(plan: Plan, arrivals: Arrivals) -> None:
    missing = wanted(plan) - len(set(arrivals.numbers))
    if missing > 0 and not plan.waiting:
        raise BenchError(f"{missing:,} of {wanted(plan):,} mails did not arrive, although all count as accepted.")


def now_id() -> int:
    """The least id of what comes now."""
    return id_floor(datetime.now(UTC))


def _attempt_durations(since: int) -> list[float]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT duration_ms FROM sending_attempt WHERE id >= %s", [since])
        return [float(row[0]) for row in cursor.fetchall()]


def _table_bytes() -> int:
    """What the mail of today takes on disk, with indexes."""
    today = datetime.now(UTC).date()
    with connection.cursor() as cursor:
        names = [partition_name(table, today) for table, _ in partitioned_tables(cursor)]
        cursor.execute("SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(%s::text[]) AS name", [names])
        return int(cursor.fetchone()[0])
