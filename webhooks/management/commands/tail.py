"""`manage.py tail PROJECT`: a project's events as they happen, straight from the database."""

import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

import psycopg
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from projects.access import MAX_PROJECT_ID
from projects.events import EventKind
from projects.models import Project
from relay_project.db.ids import MAX_ID
from relay_project.mail.text import clean
from relay_project.web.fields import parse_integer
from webhooks.tail import follow


class Command(BaseCommand):
    """Runs until Ctrl-C."""

    help = "Print a project's events as they happen."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("project", help="Its id, or its name.")
        parser.add_argument("--json", action="store_true", help="The whole body of each event, a line each.")
        parser.add_argument("--after", type=_event_id, help="Begin after this event; 0: with the oldest that is kept.")
        parser.add_argument("--kinds", type=_kinds, help="Only these, such as send.recipient.bounced,domain.created.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            project = _project(options["project"])
            for line in follow(project.pk, options["after"], options["kinds"], in_full=options["json"]):
                self.stdout.write(line)
                self.stdout.flush()
        except KeyboardInterrupt:
            pass
        except BrokenPipeError:  # `tail … | head`
            sys.stderr.close()
        except (DatabaseError, psycopg.Error) as error:
            raise CommandError(f"The database does not answer: {clean(str(error), 300).strip()}") from None


def _project(named: str) -> Project:
    number = parse_integer(named)
    found = Project.objects.filter(pk=number) if number and 0 < number <= MAX_PROJECT_ID else Project.objects.none()
    found = found or (Project.objects.filter(name=named) if "\0" not in named else Project.objects.none())
    if len(found) > 1:
        ids = ", ".join(str(project.pk) for project in found[:10])
        raise CommandError(f"Several projects have this name: give one of the ids {ids}.")
    if not found:
        raise CommandError("No project has that id or name.")
    return found[0]


def _event_id(text: str) -> int:
    number = parse_integer(text)
    if number is None or not 0 <= number <= MAX_ID:
        raise ArgumentTypeError(f"{text!r} is not the id of an event")
    return number


def _kinds(text: str) -> frozenset[str]:
    kinds = frozenset(word.strip() for word in text.split(",") if word.strip())
    unknown = sorted(kinds - {kind.value for kind in EventKind})
    if unknown or not kinds:
        raise ArgumentTypeError(f"{(unknown or [text])[0]!r} is no kind of event; docs/events.md names them")
    return kinds
