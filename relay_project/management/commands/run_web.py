"""`manage.py run_web`: the API, the console and the staff admin, served by gunicorn."""

import os
import socket
import sys
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from relay_project import metrics
from relay_project.db.migrate import DatabaseUnavailable, migrate_if_needed
from relay_project.health import CannotListen, cannot_listen

APPLICATION = "relay_project.wsgi:application"
CONFIGURATION = "python:relay_project.gunicorn_conf"


class Command(BaseCommand):
    """Bring the database up to date, then become gunicorn."""

    help = "Serve the API, the console and the staff admin (WEB_BIND, WEB_WORKERS, WEB_THREADS)."
    requires_system_checks: list[str] = []  # noqa: RUF012 — Django's signature; run below, after the migrations

    def handle(self, *args: Any, **options: Any) -> None:
        """Exec gunicorn; returns only by an exception."""
        try:
            check_free("WEB_BIND", settings.WEB_BIND)
            check_free("PROBE_WEB", settings.PROBES["web"])
            migrate_if_needed()
        except (CannotListen, DatabaseUnavailable) as error:
            raise CommandError(str(error)) from None
        self.check(tags=["relay"])
        become_gunicorn("web", CONFIGURATION, APPLICATION)


def become_gunicorn(role: str, configuration: str, application: str) -> NoReturn:
    """Exec gunicorn, whose workers share their metrics as that role."""
    metrics.share(role)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(settings.BASE_DIR), os.environ.get("PYTHONPATH")]))
    sys.stdout.flush()
    os.execv(  # noqa: S606 — no shell is meant
        sys.executable,
        [sys.executable, "-m", "gunicorn", "--config", configuration, "--no-control-socket", application],
    )


def check_free(setting: str, address: tuple[str, int]) -> None:
    """Raise CannotListen, a sentence that names the setting, where gunicorn would try five times and log each."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT are no obstacle
        try:
            probe.bind(address)
        except OSError as error:
            raise cannot_listen(setting, address, error) from None
