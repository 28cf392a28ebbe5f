"""`manage.py run_housekeeping`: periodic work, by procrastinate.

Every such process defers the ticks, the database lets each tick happen once, and whoever is free does it: several may run.
"""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandError
from procrastinate.contrib.django import app

from projects.setup import ensure_instance
from queues.setup import ensure_queues
from relay_project import jobs
from relay_project.db.migrate import DatabaseUnavailable, migrate_if_needed
from relay_project.health import CannotListen, serve_probes

log = structlog.get_logger()

THREADS = 4  # tasks at once; each takes one database connection
RESTART_SECONDS = 2.0


class Command(BaseCommand):
    """A worker on the housekeeping queue, started anew when the database comes back."""

    help = "Do periodic work: partitions, domain checks, sweeps, figures."
    requires_system_checks = ("relay",)  # all of them would load every page of the web

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM."""
        try:
            migrate_if_needed()
            ensure_queues()
            ensure_instance()
            jobs.forget_stalled()
            with serve_probes("housekeeping"):
                asyncio.run(_serve())
        except (CannotListen, DatabaseUnavailable) as error:
            raise CommandError(str(error)) from None


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, "housekeeping"))
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    log.info("housekeeping.started")
    while not stopping.is_set():
        worker = asyncio.create_task(_work())
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait([worker, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        worker.cancel()
        [ended] = await asyncio.gather(worker, return_exceptions=True)
        if not stopping.is_set():
            log.warning("housekeeping.worker_ended", error=str(ended or ""))
            await asyncio.sleep(RESTART_SECONDS)
    log.info("housekeeping.stopped")


async def _work() -> None:
    connector = app.connector.get_worker_connector()  # type: ignore[attr-defined]
    with app.replace_connector(connector) as working:
        async with working.open_async():
            await working.run_worker_async(
                queues=[jobs.HOUSEKEEPING],
                concurrency=THREADS,
                install_signal_handlers=False,
                delete_jobs="always",
                shutdown_graceful_timeout=10,
            )
