"""`manage.py run_live`: the live stream of events, served by gunicorn's ASGI worker."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from relay_project.db.migrate import DatabaseUnavailable, migrate_if_needed
from relay_project.health import CannotListen
from relay_project.management.commands.run_web import become_gunicorn, check_free
from relay_project.net.files import allow_files

APPLICATION = "relay_project.asgi:application"
CONFIGURATION = "python:relay_project.gunicorn_live_conf"
SPARE_FILES = 300  # connections that are refused with a word, the database's, logs, libraries


class Command(BaseCommand):
    """Bring the database up to date, then become gunicorn."""

    help = "Serve the live stream (LIVE_BIND): a project's events as they happen."
    requires_system_checks: list[str] = []  # noqa: RUF012 — Django's signature; run below, after the migrations

    def handle(self, *args: Any, **options: Any) -> None:
        """Exec gunicorn; returns only by an exception."""
        try:
            check_free("LIVE_BIND", settings.LIVE_BIND)
            check_free("PROBE_LIVE", settings.PROBES["live"])
            migrate_if_needed()
        except (CannotListen, DatabaseUnavailable) as error:
            raise CommandError(str(error)) from None
        self.check(tags=["relay"])
        _check_files(allow_files(settings.LIVE_CONNECTIONS + SPARE_FILES))
        become_gunicorn("live", CONFIGURATION, APPLICATION)


def _check_files(limit: int) -> None:
    """Raise CommandError where the system does not allow as many connections as the settings do."""
    if limit < settings.LIVE_CONNECTIONS + SPARE_FILES:
        raise CommandError(
            f"This process may open {limit:,} files: set LIVE_CONNECTIONS to {max(limit - SPARE_FILES, 1):,} at most, or "
            "raise the limit (LimitNOFILE= of systemd, ulimit -Hn)."
        )
