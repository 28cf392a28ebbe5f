"""A project that sends, a source IP that carries its mail, and what a conversation would have brought."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import connection
from django.utils import timezone

from ips.models import Sender, Server, SourceIp
from ips.senders import ServedIp
from projects.models import DkimKey, Domain, Event, Project
from queues.models import Queue
from relay_project.mail.classify import classify
from relay_project.mail.dkim import generate_rsa_key, public_key_pem
from relay_project.mail.mime import NamedAddress
from relay_project.mail.reply import FailureKind, NetworkFailure, Reply, Stage
from sending.accept.accept import accept
from sending.accept.request import Accepted, RequestedRecipient, SendRequest
from sending.backlog.ledger import read_ledger
from sending.deliver.claim import Claimed, Ring
from sending.deliver.load import Job, KeyCache, load
from sending.deliver.outcome import AttemptOutcome, GiveBack, RecipientOutcome
from sending.deliver.prepare import prepare
from sending.models import Recipient, RecipientType, Waiting

PEM = generate_rsa_key()  # one for all tests: making one takes a tenth of a second
LEASE_SECONDS = 330.0
OK = Reply(250, "2.0.0", "taken")
LATER = Reply(451, "4.3.0", "try again later")
MISSING = Reply(550, "5.1.1", "no such user")

Result = TypeVar("Result")


@dataclass
class Scene:
    """One project on one queue, served by one sender with one source IP."""

    project: Project
    domain: Domain
    queue: Queue
    ip: ServedIp
    sender: Sender
    ring: Ring = field(init=False)

    def __post_init__(self) -> None:
        self.ring = Ring(self.sender.pk)

    def request(self, *addresses: str, **fields: Any) -> SendRequest:
        kinds = fields.pop("kinds", (RecipientType.TO,) * len(addresses))
        recipients = tuple(RequestedRecipient(kind, address) for kind, address in zip(kinds, addresses, strict=True))
        from_ = fields.pop("from_", NamedAddress(f"app@{self.domain.domain}", "App"))
        return SendRequest(from_, recipients, **{"subject": "News", "body_text": "Hello.\r\n", **fields})

    def send(self, *addresses: str, project: Project | None = None, **fields: Any) -> Accepted:
        """Accept a mail now."""
        return accept(project or self.project, self.request(*addresses, **fields), timezone.now())

    def claim(self, rows: int = 100, now: datetime | None = None, ring: Ring | None = None) -> list[Claimed]:
        """A claim that finds whatever is due."""
        ring = ring or self.ring
        ring.forget()
        return ring.claim(self.ip, rows, LEASE_SECONDS, now or timezone.now())

    def jobs(self, rows: int = 100, now: datetime | None = None) -> list[Job]:
        return load(self.claim(rows, now), KeyCache(), time.monotonic())

    def job(self, now: datetime | None = None) -> Job:
        [job] = self.jobs(now=now)
        return job

    def waiting(self, accepted: Accepted) -> list[Waiting]:
        return list(Waiting.objects.filter(send_id=accepted.send_id).order_by("recipient_id"))

    def statuses(self, accepted: Accepted) -> list[str]:
        rows = Recipient.objects.filter(send_id=accepted.send_id).order_by("position")
        return list(rows.values_list("status", flat=True))

    def kinds(self, accepted: Accepted) -> list[str]:
        """The events of a send after it was accepted, oldest first, without their common beginning."""
        told = Event.objects.filter(subject_id=accepted.send_id).exclude(kind="send.queued")
        events = told.order_by("id").values_list("kind", flat=True)
        return [kind.removeprefix("send.recipient.") for kind in events]

    def other_project(self, name: str = "Other") -> Project:
        project = Project.objects.create(name=name, send_type=self.project.send_type)
        add_domain(project, self.domain.domain)
        return project


def add_domain(project: Project, name: str, status: str = "active") -> Domain:
    """A domain with its key."""
    domain = Domain.objects.create(project=project, domain=name, status=status)
    DkimKey.objects.create(domain=domain, selector="rly1", private_key=PEM, public_key=public_key_pem(PEM))
    return domain


def make_scene(address: str = "192.0.2.1") -> Scene:
    """Everything between accept() and settle() but the network."""
    project = Project.objects.create(name="Shop", send_type="transactional")
    queue, _ = Queue.objects.get_or_create(name="transactional", defaults={"is_default": True})
    server, _ = Server.objects.get_or_create(hostname="here.test")
    sender = Sender.objects.create(server=server, pid=1)
    source_ip = SourceIp.objects.create(
        server=server, queue=queue, address=address, served_by=sender, served_at=timezone.now()
    )
    ip = ServedIp(source_ip.pk, address, address, (queue.pk,))
    return Scene(project, add_domain(project, "shop.example"), queue, ip, sender)


def answered(job: Job, *replies: Reply | None, signature: bytes | None = None, **fields: Any) -> AttemptOutcome:
    """The job's recipients were told these replies (None: the connection was cut); one reply is for all."""
    told = replies if len(replies) == len(job.targets) else replies * len(job.targets)
    return AttemptOutcome(job, tuple(map(_result, job.targets, told)), signature=signature, **fields)


def _result(target: Any, reply: Reply | None) -> RecipientOutcome:
    if reply is None:
        failure = NetworkFailure(FailureKind.CUT, "the connection was cut")
        return RecipientOutcome(target, classify(Stage.DATA_CLOSE, None, failure), None, failure)
    stage = Stage.DATA_CLOSE if reply.code < 300 else Stage.RCPT
    return RecipientOutcome(target, classify(stage, reply), reply)


def signed(job: Job) -> bytes:
    return prepare(job).signature


def given_back(job: Job, **fields: Any) -> GiveBack:
    return GiveBack(job, **fields)


def check_ledger() -> None:
    """Nothing is silent, nothing is stray."""
    ledger = read_ledger()
    assert ledger.is_good, ledger


def later(**difference: float) -> datetime:
    return timezone.now() + timedelta(**difference)


@contextmanager
def in_threads(number: int) -> Iterator[Callable[[Callable[[int], Result]], list[Result]]]:
    """Run something in so many threads at once, each on a connection of its own; the results in order."""
    gate = threading.Barrier(number)

    with ThreadPoolExecutor(number) as pool:

        def run(work: Callable[[int], Result]) -> list[Result]:
            def one(index: int) -> Result:
                try:
                    connection.ensure_connection()
                    gate.wait(10)
                    return work(index)
                finally:
                    connection.close()

            return list(pool.map(one, range(number)))

        yield run


@contextmanager
def elsewhere() -> Iterator[Callable[[Callable[[], Result]], Result]]:
    """Run something on another connection that stays open: a second process, as the database sees it."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda work: pool.submit(work).result(20)
        pool.submit(lambda: connection.close()).result(20)


def insert_waiting(scene: Scene, count: int, **columns: Any) -> None:
    """Many waiting rows at once, without sends; `columns` are SQL expressions over i."""
    row = {
        "recipient_id": "i", "send_id": "i", "project_id": str(scene.project.pk), "queue_id": str(scene.queue.pk),
        "lane": str(scene.queue.pk), "priority": "0", "domain": "'one.example'", "size_bytes": "100", "phase": "0",
        "due_at": "now() - interval '1 hour' + i * interval '1 ms'", "tries": "0", "lost": "0",
        **columns,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO sending_waiting ({', '.join(row)}) SELECT {', '.join(row.values())} "
            f"FROM generate_series(1, {count}) AS i"
        )


def plans(work: Callable[[], object], words: Sequence[str] = ("SELECT", "UPDATE", "DELETE", "WITH")) -> list[Any]:
    """The plan of every statement that `work` runs, each as (sql, EXPLAIN's tree)."""
    found: list[Any] = []

    def explain(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.lstrip().upper().startswith(tuple(words)):
            with context["connection"].connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params)
                found.append((sql, cursor.fetchone()[0][0]["Plan"]))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        work()
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)
