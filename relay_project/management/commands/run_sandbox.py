"""`manage.py run_sandbox`: a stand-in for the internet's SMTP and DNS on loopback.

In quickstart, tests and benchmarks DNS_RESOLVERS points to its DNS and every domain's mail comes to its inbox. In
production it serves the simulator domain only (SMTP_ROUTES sends that there), and nothing leaves the machine.
"""

import asyncio
import signal
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from relay_project.db.migrate import DatabaseUnavailable, migrate_if_needed
from relay_project.health import CannotListen, cannot_listen, serve_probes
from relay_project.sandbox.certificate import server_context
from relay_project.sandbox.dns import DEFAULT_ZONE, SandboxDns
from relay_project.sandbox.smtp import ReceivedMail, SandboxSmtp
from sending import sandbox_inbox

log = structlog.get_logger()


class Command(BaseCommand):
    """SMTP and DNS on loopback, until SIGTERM."""

    help = "Stand in for the internet: an SMTP server with an inbox, and a DNS server, both on loopback."
    requires_system_checks = ("relay",)  # all of them would load every page of the web

    def add_arguments(self, parser: ArgumentParser) -> None:
        """--smtp-only leaves DNS out, for the simulator domain in production."""
        parser.add_argument("--smtp-only", action="store_true", help="no DNS server")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run both servers."""
        try:
            migrate_if_needed()
            with serve_probes("sandbox"):
                asyncio.run(_serve(with_dns=not options["smtp_only"]))
        except (CannotListen, DatabaseUnavailable) as error:
            raise CommandError(str(error)) from None


async def _serve(with_dns: bool) -> None:
    loop = asyncio.get_running_loop()
    database = ThreadPoolExecutor(2, "inbox")
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    async def received(mail: ReceivedMail) -> None:
        await loop.run_in_executor(database, partial(sandbox_inbox.store, mail, sandbox_inbox.published_txt))

    async def txt(name: str) -> list[str]:
        return await loop.run_in_executor(database, sandbox_inbox.published_txt, name)

    tls, _ = server_context(f"mx.{DEFAULT_ZONE}")
    smtp = SandboxSmtp(*settings.SANDBOX_SMTP, received=received, route=_report_route, tls=tls)
    dns = SandboxDns(*settings.SANDBOX_DNS, txt=txt)
    await _start(smtp, "SANDBOX_SMTP", settings.SANDBOX_SMTP)
    if with_dns:
        await _start(dns, "SANDBOX_DNS", settings.SANDBOX_DNS)
    log.info("sandbox.started", smtp=settings.SANDBOX_SMTP, dns=settings.SANDBOX_DNS if with_dns else None)
    await stopping.wait()
    await smtp.stop()
    if with_dns:
        await dns.stop()
    database.shutdown()


async def _start(server: SandboxSmtp | SandboxDns, setting: str, address: tuple[str, int]) -> None:
    try:
        await server.start()
    except OSError as error:
        raise cannot_listen(setting, address, error) from None


async def _report_route(domain: str) -> tuple[str, int]:
    """Reports go to our own port 25, whatever DNS says of the return path's domain; without one into this inbox."""
    if not settings.SMTP_MX:
        return settings.SANDBOX_SMTP
    host, port = settings.SMTP_MX[0]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 - what any address means here
