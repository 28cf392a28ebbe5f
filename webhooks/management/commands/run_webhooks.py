"""`manage.py run_webhooks`: the sequencer, whose positions all go by, the readers, and the calls of webhooks."""

import signal
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandError

from projects.events import FEED_CHANNEL
from relay_project.db.migrate import DatabaseUnavailable, migrate_if_needed
from relay_project.health import CannotListen, serve_probes
from sending.inbound.store import CHANNEL
from webhooks import write
from webhooks.deliver.engine import Deliverer
from webhooks.fan_out import FanOut
from webhooks.listen import hearing, waking
from webhooks.readers import Inbound, Routed, Statistics, running
from webhooks.replaying import Replays
from webhooks.sequencer import Sequencer
from webhooks.tidy import Tidying

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    """Runs until SIGTERM or Ctrl-C; several may run, which share the calls of webhooks, and of whose readers one works."""

    help = "Give events their order, call webhooks, count what events say, and read what came in."
    requires_system_checks = ("relay",)  # all of them would load every page of the web

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate, answer the probes, look."""
        sequencer, statistics, inbound, routed = Sequencer(), Statistics(), Inbound(), Routed()
        fan_out, replays, tidying, deliverer = FanOut(), Replays(), Tidying(), Deliverer()
        loops = (sequencer, statistics, inbound, routed, fan_out, replays, tidying, deliverer)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sequencer.stop())
        try:
            migrate_if_needed()
            with (
                serve_probes("webhooks", alive=lambda: all(loop.is_alive() for loop in loops)),
                running(statistics),
                running(inbound),
                running(routed),
                running(replays),
                running(tidying),
                running(deliverer),
                running(fan_out),
                waking(inbound, CHANNEL),
                waking(fan_out, FEED_CHANNEL),
                hearing(write.CHANNEL, deliverer.wake),
            ):
                log.info("webhooks.started")
                sequencer.run()
        except (CannotListen, DatabaseUnavailable) as error:
            raise CommandError(str(error)) from None
        log.info("webhooks.stopped")
