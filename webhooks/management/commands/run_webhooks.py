"""`manage.py run_webhooks`: the readers of the event log: the sequencer, whose positions all go by, and the statistics."""

import signal
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandError

from relay_project.db.migrate import DatabaseUnavailable, migrate_if_needed
from relay_project.health import CannotListen, serve_probes
from webhooks.readers import Statistics, running
from webhooks.sequencer import Sequencer

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    """Runs until SIGTERM or Ctrl-C; several may run, of which one works at a time."""

    help = "Give events their order, and count what they say."

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate, answer the probes, look."""
        sequencer, statistics = Sequencer(), Statistics()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sequencer.stop())
        try:
            migrate_if_needed()
            with (
                serve_probes("webhooks", alive=lambda: sequencer.is_alive() and statistics.is_alive()),
                running(statistics),
            ):
                log.info("webhooks.started")
                sequencer.run()
        except (CannotListen, DatabaseUnavailable) as error:
            raise CommandError(str(error)) from None
        log.info("webhooks.stopped")
