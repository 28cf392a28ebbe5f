"""`manage.py bench NAME [--json]`: one named benchmark, or a set of them; see docs/performance.md."""

import ipaddress
import json
import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from relay_project.bench.database import given_url
from relay_project.bench.inside import run_inside
from relay_project.bench.launch import run_apart
from relay_project.bench.plan import SCENARIOS, BenchError, Plan
from relay_project.bench.report import write_details, write_file, write_list, write_table
from relay_project.bench.sets import SETS
from relay_project.supervise import sigterm_as_interrupt

INTERRUPTED = 130  # 128 + SIGINT, as shells say it
DEFAULTS = Plan("drain")


class Command(BaseCommand):
    """See the module."""

    help = "Measure: a named scenario, a set of them (quick, full), or `list`."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's signature; the processes check themselves

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("name", choices=[*SCENARIOS, *SETS, "list"])
        parser.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
        parser.add_argument("--messages", type=_count(1, 1_000_000), default=DEFAULTS.messages)
        parser.add_argument("--body-bytes", type=_count(100, 5_000_000), default=DEFAULTS.body_bytes)
        parser.add_argument("--signatures", type=int, choices=(1, 2), default=DEFAULTS.signatures, help="RSA-2048")
        parser.add_argument("--processes", type=_count(1, 16), default=DEFAULTS.processes, help="of the senders")
        parser.add_argument("--source-ips", type=_loopback, default=DEFAULTS.source_ips, help="127.0.0.2,127.0.0.3")
        parser.add_argument("--seconds", type=_count(1, 600), default=DEFAULTS.seconds, help="of `accept`")
        parser.add_argument("--connections", type=_count(1, 64), default=DEFAULTS.connections, help="of `accept`")
        parser.add_argument("--batch", type=_count(1, 1000), default=DEFAULTS.batch, help="messages accepted at once")
        parser.add_argument("--pace", type=float, default=DEFAULTS.pace, help="messages a second of `end_to_end`")
        parser.add_argument("--keep", action="store_true", help="leave the database when done")
        parser.add_argument("--results", type=Path, default=settings.BASE_DIR / "docs" / "benchmarks", help="of sets")
        parser.add_argument("--inside", help=SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run; every refusal is one sentence and exit code 1."""
        name = options["name"]
        if options["inside"]:
            run_inside(options["inside"])
            return
        if name == "list":
            write_list(sys.stdout, SETS.items())
            return
        try:
            with sigterm_as_interrupt():
                if name in SETS:
                    self._run_set(name, options)
                else:
                    self._run_one(name, options)
        except BenchError as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    def _run_one(self, name: str, options: dict[str, Any]) -> None:
        result = self._measure(_plan(name, options), options)
        if options["json"]:
            sys.stdout.write(json.dumps(result) + "\n")
            return
        write_table(sys.stdout, {name: result})
        write_details(sys.stdout, result)

    def _run_set(self, name: str, options: dict[str, Any]) -> None:
        results = {}
        for member, plan in SETS[name].items():
            sys.stderr.write(f"{member} …\n")
            results[member] = self._measure(plan, options)
            write_file(options["results"], member, results[member])
        write_table(sys.stdout, results)
        if options["json"]:
            sys.stdout.write(json.dumps(results) + "\n")

    def _measure(self, plan: Plan, options: dict[str, Any]) -> dict[str, Any]:
        return run_apart(plan, settings.BASE_DIR / "manage.py", given_url(settings.RELAY_HOME), options["keep"])


def _plan(name: str, options: dict[str, Any]) -> Plan:
    fields = {field: options[field] for field in DEFAULTS.as_record() if field != "scenario"}
    return Plan(name, **fields)


def _count(least: int, most: int) -> Any:
    def read(text: str) -> int:
        if not text.isdigit() or not least <= int(text) <= most:
            raise ArgumentTypeError(f"{text!r} is not a number from {least:,} to {most:,}")
        return int(text)

    return read


def _loopback(text: str) -> tuple[str, ...]:
    """Addresses of this machine only: a benchmark's load never leaves it."""
    try:
        addresses = [ipaddress.ip_address(word.strip()) for word in text.split(",")]
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    if not all(address.is_loopback for address in addresses):
        raise ArgumentTypeError(f"{text!r}: only loopback addresses such as 127.0.0.2 are allowed")
    return tuple(str(address) for address in addresses)
