"""`manage.py run_webhooks`: the readers of the event log. Today the sequencer, whose positions all others go by."""

import signal
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandError

from relay_project.db.migrate import DatabaseUnavailable, migrate_if_needed
from relay_project.health import CannotListen, serve_probes
from webhooks.sequencer import Sequencer

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    """Runs until SIGTERM or Ctrl-C; several may run, of which one works at a time."""

    help = "Give events their order, for everybody who reads the event log."

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate, answer the probes, look."""
        sequencer = Sequencer()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sequencer.stop())
        try:
            migrate_if_needed()
            with serve_probes("webhooks", alive=sequencer.is_alive):
                log.info("webhooks.started")
                sequencer.run()
        except (CannotListen, DatabaseUnavailable) as error:
            raise CommandError(str(error)) from None
        log.info("webhooks.stopped")
