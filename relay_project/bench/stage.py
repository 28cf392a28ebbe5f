"""What must be there before mail can be sent: queues, source IPs, a project, its domain and keys; and queued mail."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import connection
from django.test.utils import override_settings

from ips.models import SourceIp
from ips.register import register_host
from projects.dkim_keys import create_dkim_key
from projects.models import Domain, DomainStatus, Project, SendType
from projects.setup import ensure_instance
from queues.models import Queue
from queues.setup import ensure_queues
from relay_project.bench.launch import INSTANCE_DOMAIN
from relay_project.bench.letters import SENDER_DOMAIN, batches
from relay_project.bench.plan import BenchError, Plan
from relay_project.db.migrate import migrate_if_needed
from sending.accept.accept import accept_many
from sending.accept.request import Refused, SendRequest


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the database says about a run's mail."""

    sends: int
    accepted: int
    waiting: int


def make_stage() -> Project:
    """Fill an empty database with everything but mail; returns the project that sends.

    Both domains have their keys, as always: unsigned mail does not leave. Whether mail is signed by the instance
    domain too depends on the one that this process's settings name, which accept() stores with each send (bench.launch).
    """
    migrate_if_needed()
    ensure_queues()
    with override_settings(INSTANCE_DOMAIN=INSTANCE_DOMAIN):
        ensure_instance()
    register_host(datetime.now(UTC))
    SourceIp.objects.update(queue=Queue.objects.get(name=SendType.TRANSACTIONAL))
    project = Project.objects.create(name="Benchmark", send_type=SendType.TRANSACTIONAL)
    domain = Domain.objects.create(project=project, domain=SENDER_DOMAIN, status=DomainStatus.ACTIVE)
    create_dkim_key(domain, "bench")
    return project


def fill(project: Project, plan: Plan) -> float:
    """Queue all messages; returns how many a second were accepted."""
    spent = 0.0
    for requests in batches(plan.messages, plan.body_bytes, plan.batch):
        began = time.perf_counter()
        take(project, requests)
        spent += time.perf_counter() - began
    return plan.messages / spent


def take(project: Project, requests: Sequence[SendRequest]) -> None:
    """Accept a batch; raises BenchError for a refusal."""
    for outcome in accept_many(project, requests, datetime.now(UTC)):
        if isinstance(outcome, Refused):
            raise BenchError(f"A message was refused: {outcome.message}")


def read_ledger() -> Ledger:
    """Counts of sends, of recipients that the sink accepted, and of rows that still wait."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT (SELECT count(*) FROM sending_send),
                      (SELECT count(*) FROM sending_recipient WHERE status = 'accepted'),
                      (SELECT count(*) FROM sending_waiting)"""
        )
        return Ledger(*cursor.fetchone())


def wait_until(condition: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Whether the condition came true within that time."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(every)
    return True


def server_pid() -> int | None:
    """The process id of our own PostgreSQL, None where DATABASE_URL was given."""
    return int(os.environ["BENCH_SERVER_PID"]) if os.environ.get("BENCH_SERVER_PID") else None
