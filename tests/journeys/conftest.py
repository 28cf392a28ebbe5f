"""A small internet on loopback, and sender processes that deliver to it: the real engine, SMTP and DNS."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from projects.models import DkimKey, Domain, Project
from projects.setup import ensure_instance
from queues.setup import ensure_queues
from relay_project.mail.dkim import generate_rsa_key, public_key_pem
from relay_project.mail.mime import NamedAddress
from relay_project.sandbox.certificate import server_context
from relay_project.sandbox.dns import SandboxDns
from relay_project.sandbox.smtp import Command, ReceivedMail, SandboxSmtp
from sending.accept.accept import accept
from sending.accept.request import Accepted, RequestedRecipient, SendRequest
from sending.backlog.ledger import Ledger, read_ledger
from sending.models import Attempt, AttemptRecipient, Recipient, RecipientType, Waiting

REPOSITORY = Path(__file__).parents[2]
PEM = generate_rsa_key()
PATIENCE = 30.0  # seconds that a journey may take on a busy machine


@dataclass
class Internet:
    """The sandbox's servers, in a thread of their own. `script` answers in the SMTP server's place."""

    received: list[ReceivedMail] = field(default_factory=list)
    received_at: list[float] = field(default_factory=list)
    smtp: SandboxSmtp = field(init=False)
    dns: SandboxDns = field(init=False)
    _thread: threading.Thread = field(init=False)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def start(self) -> None:
        context, _ = server_context("not.the.right.name.test")
        self.smtp = SandboxSmtp(received=self._take, tls=context, slow_seconds=1.0)
        self.dns = SandboxDns(ttl=1)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.call(self.smtp.start())
        self.call(self.dns.start())

    def stop(self) -> None:
        self.call(self.smtp.stop())
        self.call(self.dns.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def call(self, work: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(10)

    async def _take(self, mail: ReceivedMail) -> None:
        self.received.append(mail)
        self.received_at.append(time.monotonic())

    def script(self, answer: Callable[[Command], Any] | None) -> None:
        self.smtp.script = answer


@dataclass
class World:
    """The internet, a project with a domain, and whatever senders a test starts."""

    internet: Internet
    project: Project
    domain: Domain
    senders: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def send(self, *addresses: str, **fields: Any) -> Accepted:
        return accept(self.project, self.request(*addresses, **fields), timezone.now())

    def request(self, *addresses: str, **fields: Any) -> SendRequest:
        fields = {"subject": "A journey", "body_text": "Hello.\r\n", **fields}
        recipients = tuple(RequestedRecipient(RecipientType.TO, address) for address in addresses)
        return SendRequest(NamedAddress(f"app@{self.domain.domain}", "App"), recipients, **fields)

    def start_sender(self, **environment: str) -> "subprocess.Popen[bytes]":
        ours = {
            "DATABASE_URL": database_url(),
            "DJANGO_SETTINGS_MODULE": "relay_project.settings",
            "APP_SECRET": settings.APP_SECRETS[0],
            "SOURCE_IPS": "127.0.0.2,127.0.0.3",
            "DNS_RESOLVERS": f"127.0.0.1:{self.internet.dns.port}",
            "OUTGOING_SMTP_PORT": str(self.internet.smtp.port),
            "RETRY_SCHEDULE": "1s,1s,1s",
            "SHUTDOWN_SECONDS": "5",
        }
        sender = subprocess.Popen(
            [sys.executable, "manage.py", "run_senders", "--child"],
            cwd=REPOSITORY,
            env={**os.environ, **ours, **self.environment, **environment},
            stderr=None if os.environ.get("SHOW_SENDERS") else subprocess.DEVNULL,
        )
        self.senders.append(sender)
        return sender

    def stop_senders(self) -> list[int]:
        for sender in self.senders:
            if sender.poll() is None:
                sender.send_signal(signal.SIGTERM)
        codes = [sender.wait(60) for sender in self.senders]  # a machine may be busy with others
        self.senders.clear()
        return codes

    def recipients(self, accepted: Accepted) -> list[Recipient]:
        return list(Recipient.objects.filter(send_id=accepted.send_id).order_by("position"))

    def statuses(self, accepted: Accepted) -> list[str]:
        return [recipient.status for recipient in self.recipients(accepted)]

    def attempts(self, accepted: Accepted) -> list[Attempt]:
        return list(Attempt.objects.filter(send_id=accepted.send_id).order_by("id"))

    def results(self, accepted: Accepted) -> list[AttemptRecipient]:
        return list(AttemptRecipient.objects.filter(send_id=accepted.send_id).order_by("id"))

    def waits(self, accepted: Accepted) -> list[Waiting]:
        return list(Waiting.objects.filter(send_id=accepted.send_id))

    def ledger(self) -> Ledger:
        return read_ledger()


def database_url() -> str:
    """The test database's, for a process of its own."""
    parameters = connection.get_connection_params()
    host, port = parameters["host"], parameters.get("port", "")
    where = f"/{parameters['dbname']}?host={host}&port={port}" if port else f"/{parameters['dbname']}?host={host}"
    return f"postgresql://{parameters['user']}:{parameters.get('password', '')}@{where}"


def eventually(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Return what the condition gives once that is true; fail when it does not become true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


def add_domain(project: Project, name: str, pem: str = PEM) -> Domain:
    """A verified domain."""
    domain = Domain.objects.create(
        project=project, domain=name, status="active", status_changed_at=datetime.now().astimezone()
    )
    DkimKey.objects.create(domain=domain, selector="rly1", private_key=pem, public_key=public_key_pem(pem))
    return domain


@pytest.fixture
def internet() -> Iterator[Internet]:
    internet = Internet()
    internet.start()
    yield internet
    internet.stop()


@pytest.fixture
def world(transactional_db: None, internet: Internet) -> Iterator[World]:
    ensure_queues()
    ensure_instance()
    project = Project.objects.create(name="Shop", send_type="transactional")
    world = World(internet, project, add_domain(project, "shop.example"))
    yield world
    internet.script(None)
    world.stop_senders()
