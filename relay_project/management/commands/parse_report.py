"""`manage.py parse_report FILE…`: what mails that came back say, one JSON object a line. No settings are needed."""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from relay_project.mail.reports.model import Report, ReportKind
from relay_project.mail.reports.parse import parse_report
from relay_project.mail.reports.shown import report_object

STDIN = "-"


class Command(BaseCommand):
    """Reads files and prints; a file that cannot be read does not stop the rest."""

    help = "Say what bounces, complaints and other reports mean; one JSON object a line."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The files."""
        parser.add_argument(
            "files", nargs="+", metavar="FILE", help="a mail as it came, with its header; - reads one from stdin"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a line for each file; exit code 1 when none could be read."""
        read = 0
        for file in options["files"]:
            try:
                octets = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
            except (OSError, ValueError) as error:
                self._print(_nothing(file, _reason(error)))
                continue
            read += 1
            self._print(as_json(file, parse_report(octets)))
        if not read:
            sys.exit(1)

    def _print(self, found: Mapping[str, object]) -> None:
        self.stdout.write(json.dumps(found))


def as_json(file: str, report: Report) -> dict[str, object]:
    """What is printed for one file."""
    found: dict[str, object] = {"file": file, **report_object(report)}
    return found | ({"error": report.trouble} if report.trouble else {})


def _nothing(file: str, reason: str) -> dict[str, object]:
    return as_json(file, Report(ReportKind.NONE, trouble=reason))


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
