"""`manage.py verify`: is this installation set up so that mail can be sent, and what is to be mended if not?"""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from relay_project import verify
from relay_project.health import HealthResult, as_answer


class Command(BaseCommand):
    """One line a check; exit status 1 when one fails."""

    help = "Check configuration, database, DNS, OIDC, source IPs and secrets, and say what to mend."
    requires_system_checks: list[str] = []  # noqa: RUF012 — they are one of ours

    def add_arguments(self, parser: CommandParser) -> None:
        """--json for programs, --skip for what is known not to be there yet."""
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
        parser.add_argument("--skip", action="append", default=[], choices=verify.NAMES, help="leave a check out")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run and tell."""
        results = []
        for result in verify.run(options["skip"]):
            results.append(result)
            if not options["json"]:
                self._tell(result)
        if options["json"]:
            self.stdout.write(json.dumps(as_answer(results)[1], default=str))
        failures = sum(not result.passed for result in results)
        if failures:
            raise CommandError(f"{failures} of {len(results)} checks failed.")

    def _tell(self, result: HealthResult) -> None:
        encoding = getattr(self.stdout, "encoding", None) or "utf-8"
        good, bad = ("✓", "✗") if encoding.lower().replace("-", "") == "utf8" else ("ok  ", "FAIL")
        mark = self.style.SUCCESS(good) if result.passed else self.style.ERROR(bad)
        line = f"{mark} {result.name.replace('_', ' ')}: {result.detail}"
        self.stdout.write(line.encode(encoding, "replace").decode(encoding))
