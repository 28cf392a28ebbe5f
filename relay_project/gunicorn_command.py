"""What `run_web` and `run_live` have in common: they bring the database up to date, then become gunicorn."""

import os
import socket
import sys
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from relay_project import metrics
from relay_project.db.migrate import DatabaseUnavailable, migrate_if_needed
from relay_project.health import CannotListen, cannot_listen


class GunicornCommand(BaseCommand):
    """A role that gunicorn serves at `<ROLE>_BIND`, with its probes at `PROBE_<ROLE>`."""

    role: str  # as in PROBES
    configuration: str  # gunicorn's, `python:` and a module
    application: str
    requires_system_checks: list[str] = []  # noqa: RUF012 — Django's signature; run below, after the migrations

    def handle(self, *args: Any, **options: Any) -> None:
        """Exec gunicorn; returns only by an exception."""
        bind = f"{self.role.upper()}_BIND"
        try:
            _check_free(bind, getattr(settings, bind))
            _check_free(f"PROBE_{self.role.upper()}", settings.PROBES[self.role])
            migrate_if_needed()
        except (CannotListen, DatabaseUnavailable) as error:
            raise CommandError(str(error)) from None
        self.check(tags=["relay"])
        self.check_machine()
        self._become_gunicorn()

    def check_machine(self) -> None:
        """Raise CommandError where the machine does not give what the role needs."""

    def _become_gunicorn(self) -> NoReturn:
        """Its workers share their metrics as that role."""
        metrics.share(self.role)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(settings.BASE_DIR), os.environ.get("PYTHONPATH")]))
        sys.stdout.flush()
        os.execv(  # noqa: S606 — no shell is meant
            sys.executable,
            [sys.executable, "-m", "gunicorn", "--config", self.configuration, "--no-control-socket", self.application],
        )


def _check_free(setting: str, address: tuple[str, int]) -> None:
    """Raise CannotListen, a sentence that names the setting, where gunicorn would try five times and log each."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT are no obstacle
        try:
            probe.bind(address)
        except OSError as error:
            raise cannot_listen(setting, address, error) from None
