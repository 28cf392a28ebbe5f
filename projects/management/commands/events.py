"""`manage.py events`: what can happen, from the code's own registry."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from projects.event_registry import PAGE, REGISTRY, page_text


class Command(BaseCommand):
    """See the module."""

    help = "List the kinds of events that webhooks, mailboxes and the live stream tell of."
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What may be said."""
        parser.add_argument("--write", action="store_true", help="write docs/events.md anew, for developers")

    def handle(self, *args: Any, **options: Any) -> None:
        """Say it, or write it."""
        if options["write"]:
            PAGE.write_text(page_text(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
            self.stdout.write(f"Written: {PAGE}")
            return
        for kind, row in REGISTRY.items():
            self.stdout.write(f"{kind.value:32} {row.short}")
