"""`manage.py run_senders`: the engine, in as many processes as cores share this host's source IPs."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ips.models import SourceIp
from ips.register import HostWatch, NameTaken, register_patiently
from ips.senders import Registration
from projects.setup import ensure_instance
from queues.setup import ensure_queues
from relay_project import metrics
from relay_project.db.migrate import DatabaseUnavailable, migrate_if_needed
from relay_project.health import CannotListen, ProbeServer, run_all, serve_probes
from relay_project.supervise import Death, Program, Supervisor
from sending.deliver import process
from sending.deliver.engine import Engine, default_processes

log = structlog.get_logger()


class Command(BaseCommand):
    """With one process it is the engine itself; with several it starts them, and answers the probes for all."""

    help = "Send mail: claim what is due, deliver it, settle the results."
    requires_system_checks = ("relay",)  # all of them would load every page of the web

    def add_arguments(self, parser: ArgumentParser) -> None:
        """--processes; --child is how the command starts its own children."""
        parser.add_argument("--processes", type=int, default=0, help="sender processes (0: cores, at most one an IP)")
        parser.add_argument("--child", action="store_true", help="run one engine without probes")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM."""
        try:
            migrate_if_needed()
            ensure_queues()
            ensure_instance()
            server = register_patiently()
            ips = SourceIp.objects.filter(server=server, is_enabled=True, gone_at=None).count()
            count = 1 if options["child"] else options["processes"] or default_processes(ips)
            if count > 1:
                self._supervise(count)
            else:
                self._serve(server.pk, with_probes=not options["child"])
        except (CannotListen, DatabaseUnavailable, NameTaken) as error:
            raise CommandError(str(error)) from None

    def _serve(self, server_id: int, with_probes: bool) -> None:
        engine = Engine(Registration(server_id, HostWatch()))
        if not with_probes:
            process.run(engine)
            return
        probes = ProbeServer(
            "senders", settings.PROBES["senders"], lambda: run_all("senders"), alive=lambda: engine.is_alive
        )
        with probes:
            process.run(engine)

    def _supervise(self, count: int) -> None:
        metrics.share("senders")
        argv = [sys.executable, str(Path(sys.argv[0]).resolve()), "run_senders", "--child"]
        programs = [Program(f"sender-{number}", argv) for number in range(1, count + 1)]
        stop_seconds = settings.SHUTDOWN_SECONDS + 5
        with (
            serve_probes("senders"),
            Supervisor(programs, None, _on_death, stop_seconds) as supervisor,
        ):
            supervisor.run()
        metrics.stop_sharing()


def _on_death(death: Death) -> None:
    metrics.forget_child(death.pid)
    log.error("sender.died", child=death.name, pid=death.pid, how=death.how, restart_in_seconds=death.pause_seconds)
