"""`manage.py run_smtp`: mail that comes in by SMTP, from other servers and from customers."""

import asyncio
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
import uvloop
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, connection

from ips.register import server_name
from relay_project.db.migrate import DatabaseUnavailable, migrate_if_needed
from relay_project.db.trouble import note_trouble
from relay_project.health import CannotListen, Check, HealthResult, failed, passed, run_all, run_check, serve_probes
from relay_project.net.files import allow_files
from relay_project.net.smtp_server.certificates import Certificates
from relay_project.net.smtp_server.limits import Limits
from relay_project.net.smtp_server.listener import Listener
from relay_project.net.smtp_server.model import Service
from relay_project.net.smtp_server.server import SmtpServer
from sending.inbound.reception import InboundReception
from sending.smtp_servers import REPORT_SECONDS, SmtpServerReport, forget, tell
from sending.submission.reception import SubmissionReception

FILES = 256  # beside those of connections: the database's, logs, libraries
# How long a thread that has heard from the database waits for the event loop to let go of the interpreter, and the other way
# round. With Python's 5 ms a mail submitted over few connections took 12 ms, most of them waits of that kind.
SWITCH_SECONDS = 0.0005

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    """Runs until SIGTERM or Ctrl-C."""

    help = "Take mail by SMTP: reports and mail for projects' domains, and mail that customers submit."
    requires_system_checks = ("relay",)  # all of them would load every page of the web

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate, then serve."""
        try:
            migrate_if_needed()
            sys.setswitchinterval(SWITCH_SECONDS)
            allow_files(settings.SMTP_CONNECTIONS + FILES)
            uvloop.run(_serve())
        except (CannotListen, DatabaseUnavailable) as error:
            raise CommandError(str(error)) from None
        log.info("smtp.stopped")


async def _serve() -> None:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    inbound, submission = InboundReception(), SubmissionReception()
    server = make_server(inbound, submission)
    with serve_probes("smtp", ready=lambda: [*run_all("smtp"), smtp_check(server)], alive=server.is_alive):
        await server.start()
        log.info("smtp.started", hostname=settings.SMTP_HOSTNAME)
        telling = asyncio.create_task(_tell(server))
        await stopping.wait()
        log.info("smtp.stopping", connections=server.open_connections)
        telling.cancel()
        await server.stop(settings.SHUTDOWN_SECONDS)
        await asyncio.gather(inbound.close(), submission.close(), asyncio.to_thread(_forget))


async def _tell(server: SmtpServer) -> None:
    """Let the other processes know how this one is, until cancelled."""
    while True:
        report = report_of(server)
        await asyncio.to_thread(with_trouble, partial(tell, report, datetime.now(UTC)))
        await asyncio.sleep(REPORT_SECONDS)


def report_of(server: SmtpServer) -> SmtpServerReport:
    """What this process says of itself."""
    certificates = server.house.certificates
    return SmtpServerReport(
        server=server_name(),
        listeners=[f"{listener.service} {listener.where}" for listener in server.listeners],
        connections=server.open_connections,
        self_signed=certificates.is_self_signed,
        expires_at=certificates.expires_at.isoformat() if certificates.expires_at else None,
        troubles=server.troubles(),
    )


def with_trouble(work: Callable[[], None]) -> None:
    """In a thread that keeps no connection; while the database is away nobody would read it."""
    try:
        work()
    except (DatabaseError, InterfaceError) as error:
        note_trouble("smtp.report", error)
    finally:
        connection.close()


def _forget() -> None:
    with_trouble(partial(forget, server_name()))


def make_server(inbound: InboundReception, submission: SubmissionReception) -> SmtpServer:
    """The server that the settings describe."""
    addresses = {
        Service.MX: settings.SMTP_MX,
        Service.SUBMISSION: settings.SMTP_SUBMISSION,
        Service.SUBMISSIONS: settings.SMTP_SUBMISSIONS,
    }
    return SmtpServer(
        {Service.MX: inbound, Service.SUBMISSION: submission, Service.SUBMISSIONS: submission},
        [Listener(service, *address) for service, listed in addresses.items() for address in listed],
        limits(),
        Certificates(settings.SMTP_HOSTNAME, settings.SMTP_CERTIFICATE_FILE, settings.SMTP_KEY_FILE),
        hostname=settings.SMTP_HOSTNAME,
        domain=settings.INSTANCE_DOMAIN,
    )


def limits() -> Limits:
    """What the settings say."""
    has_customers = bool(settings.SMTP_SUBMISSION or settings.SMTP_SUBMISSIONS)
    return Limits(
        message_octets=settings.MAX_MESSAGE_BYTES,
        octets_in_flight=settings.SMTP_BYTES_IN_FLIGHT,
        mx_recipients=settings.SMTP_MX_RECIPIENTS,
        connections=settings.SMTP_CONNECTIONS,
        reserved_connections=settings.SMTP_RESERVED_CONNECTIONS if has_customers else 0,
        peer_connections=settings.SMTP_PEER_CONNECTIONS,
        peer_connections_per_minute=settings.SMTP_PEER_CONNECTIONS_PER_MINUTE,
        data_rate=settings.SMTP_DATA_RATE,
        session_seconds=settings.SMTP_SESSION_SECONDS,
        fruitless_seconds=settings.SMTP_FRUITLESS_SECONDS,
        auth_failures=settings.SMTP_AUTH_FAILURES,
        auth_pause_seconds=settings.SMTP_AUTH_PAUSE_SECONDS,
        unlimited=tuple(settings.SMTP_UNLIMITED_PEERS),
        proxies=tuple(settings.SMTP_PROXIES),
    )


def smtp_check(server: SmtpServer) -> HealthResult:
    """Everybody who should can connect, with a certificate that is what the files hold (lesson C18)."""

    def look() -> HealthResult:
        troubles = server.troubles()
        figures = {"connections": server.open_connections, "self_signed": server.house.certificates.is_self_signed}
        if troubles:
            return failed(" ".join(troubles), **figures)
        where = ", ".join(f"{listener.service} {listener.where}" for listener in server.listeners)
        return passed(f"listening: {where or 'nowhere'}", **figures)

    return run_check(Check("smtp", frozenset({"smtp"}), look))
