"""`manage.py run_webhooks`: the readers: the sequencer, whose positions all go by, the statistics, and what came in."""

import signal
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandError

from relay_project.db.migrate import DatabaseUnavailable, migrate_if_needed
from relay_project.health import CannotListen, serve_probes
from sending.inbound.store import CHANNEL
from webhooks.listen import waking
from webhooks.readers import Inbound, Routed, Statistics, running
from webhooks.sequencer import Sequencer

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    """Runs until SIGTERM or Ctrl-C; several may run, of which one works at a time."""

    help = "Give events their order, count what they say, and read what came in."
    requires_system_checks = ("relay",)  # all of them would load every page of the web

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate, answer the probes, look."""
        sequencer, statistics, inbound, routed = Sequencer(), Statistics(), Inbound(), Routed()
        loops = (sequencer, statistics, inbound, routed)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sequencer.stop())
        try:
            migrate_if_needed()
            with (
                serve_probes("webhooks", alive=lambda: all(loop.is_alive() for loop in loops)),
                running(statistics),
                running(inbound),
                running(routed),
                waking(inbound, CHANNEL),
            ):
                log.info("webhooks.started")
                sequencer.run()
        except (CannotListen, DatabaseUnavailable) as error:
            raise CommandError(str(error)) from None
        log.info("webhooks.stopped")
