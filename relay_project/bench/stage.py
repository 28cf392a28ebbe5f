"""What must be there before mail can be sent: queues, source IPs, projects, their domains and keys; and queued mail."""

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
from relay_project.bench.letters import batches, sender_domain
from relay_project.bench.plan import BenchError, Plan
from relay_project.db.migrate import migrate_if_needed
from sending.accept.accept import accept_many
from sending.accept.request import Refused, SendRequest


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the database says about a run's mail."""

    sends: int
    accepted: int
    bounced: int
    waiting: int


def make_stage() -> Project:
    """Fill an empty database with everything but mail; returns the project that sends."""
    return make_stages(1)[0]


def make_stages(projects: int) -> list[Project]:
    """Fill a database with everything but mail, where it is not there yet; returns the projects that send.

    All domains have their keys, as always: unsigned mail does not leave. Whether mail is signed by the instance domain
    too depends on the one that this process's settings name, which accept() stores with each send (bench.launch).
    """
    migrate_if_needed()
    ensure_queues()
    with override_settings(INSTANCE_DOMAIN=INSTANCE_DOMAIN):
        ensure_instance()
    register_host(datetime.now(UTC))
    SourceIp.objects.update(queue=Queue.objects.get(name=SendType.TRANSACTIONAL))
    return [_project(number) for number in range(projects)]


def _project(number: int) -> Project:
    domain = Domain.objects.filter(domain=sender_domain(number)).select_related("project").first()
    if domain is None:
        project = Project.objects.create(name=f"Benchmark {number}", send_type=SendType.TRANSACTIONAL)
        domain = Domain.objects.create(project=project, domain=sender_domain(number), status=DomainStatus.ACTIVE)
        create_dkim_key(domain, "bench")
    return domain.project


def fill(projects: Sequence[Project], plan: Plan) -> float:
    """Queue all messages; returns how many a second were accepted."""
    spent = 0.0
    for project, requests in batches(plan.traffic, plan.batch):
        began = time.perf_counter()
        take(projects[project], requests)
        spent += time.perf_counter() - began
    return plan.traffic.messages / spent


def take(project: Project, requests: Sequence[SendRequest]) -> None:
    """Accept a batch; raises BenchError for a refusal."""
    for outcome in accept_many(project, requests, datetime.now(UTC)):
        if isinstance(outcome, Refused):
            raise BenchError(f"A message was refused: {outcome.message}")


def read_ledger(since: int = 0) -> Ledger:
    """Counts of sends, of recipients by how they ended, and of rows that wait; of ids from `since` on."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT (SELECT count(*) FROM sending_send WHERE id >= %(since)s),
                      (SELECT count(*) FROM sending_recipient WHERE id >= %(since)s AND status = 'accepted'),
                      (SELECT count(*) FROM sending_recipient WHERE id >= %(since)s AND status IN ('bounced', 'failed')),
                      (SELECT count(*) FROM sending_waiting)""",
            {"since": since},
        )
        return Ledger(*cursor.fetchone())


def waiting_count(project_id: int | None = None) -> int:
    """How many recipients wait, of one project or of all."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM sending_waiting WHERE %(project)s::bigint IS NULL OR project_id = %(project)s",
            {"project": project_id},
        )
        return int(cursor.fetchone()[0])


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
