"""`manage.py run_live`: the live stream of events, served by gunicorn's ASGI worker."""

from django.conf import settings
from django.core.management.base import CommandError

from relay_project.gunicorn_command import GunicornCommand
from relay_project.net.files import allow_files

SPARE_FILES = 300  # connections that are refused with a word, the database's, logs, libraries


class Command(GunicornCommand):
    """The live process."""

    help = "Serve the live stream (LIVE_BIND): a project's events as they happen."
    role = "live"
    configuration = "python:relay_project.gunicorn_live_conf"
    application = "relay_project.asgi:application"

    def check_machine(self) -> None:
        """Raise CommandError where the system does not allow as many connections as the settings do."""
        wanted = settings.LIVE_CONNECTIONS + SPARE_FILES
        limit = allow_files(wanted)
        if limit < wanted:
            raise CommandError(
                f"This process may open {limit:,} files: set LIVE_CONNECTIONS to {max(limit - SPARE_FILES, 1):,} at most, "
                "or raise the limit (LimitNOFILE= of systemd, ulimit -Hn)."
            )
