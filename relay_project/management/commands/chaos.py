"""`manage.py chaos [TRIAL …]`: hurt the product under load and count what that cost; see docs/performance.md."""

import json
import sys
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from relay_project.bench.plan import BenchError
from relay_project.chaos import inside
from relay_project.chaos.judge import Verdict, judge
from relay_project.chaos.reading import EACH, SAYS, read_noise
from relay_project.chaos.trials import MESSAGES, TRIALS, LeftOut
from relay_project.supervise import sigterm_as_interrupt

INTERRUPTED = 130  # 128 + SIGINT, as shells say it
PARSERS = "parsers"  # has no mail to lose, so it has figures of its own
COLUMNS = ("accepted", "arrived", "lost", "stuck", "duplicates", "unexplained", "seconds")
NAMES = {**{name: trial.says for name, trial in TRIALS.items()}, PARSERS: SAYS}


class Command(BaseCommand):
    """See the module."""

    help = "Kill, stop and starve the product's processes under load; count lost, stuck and duplicated mail."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's signature; the processes check themselves

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("trials", nargs="*", metavar="TRIAL", help="all by default; `list` names them")
        parser.add_argument(
            "--messages", type=int, help="of each trial (50 to 50,000; default: 2,000, `webhooks` 50,000)"
        )
        parser.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
        parser.add_argument("--results", type=Path, help="a file for the figures")
        parser.add_argument("--inside", nargs="+", help=SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run; exit code 1 when a promise was broken."""
        if options["inside"]:
            _run_inside(*options["inside"])
            return
        if options["trials"] == ["list"]:
            for name, says in NAMES.items():
                self.stdout.write(f"{name:22} {says}")
            return
        names = options["trials"] or list(NAMES)
        for name in names:
            if name not in NAMES:
                raise CommandError(f"TRIAL: {name!r} is none of {', '.join(NAMES)}.")
        if options["messages"] is not None and not 50 <= options["messages"] <= 50_000:
            raise CommandError("--messages must be from 50 to 50,000.")
        try:
            with sigterm_as_interrupt():
                self._run(names, options)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    def _run(self, names: list[str], options: dict[str, Any]) -> None:
        results: dict[str, dict[str, Any]] = {}
        self.stdout.write(f"{'trial':22} " + " ".join(f"{column:>11}" for column in COLUMNS))
        for name in names:
            results[name] = self._run_one(name, options["messages"])
        record = {"trials": results, "measured_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        if options["results"]:
            _write(options["results"], record)
        if options["json"]:
            self.stdout.write(json.dumps(record))
        broken = [name for name, result in results.items() if result.get("is_good") is False]
        if broken:
            raise CommandError(f"A promise was broken: {', '.join(broken)}.")

    def _run_one(self, name: str, messages: int | None) -> dict[str, Any]:
        if name == PARSERS:
            reading = read_noise((messages or MESSAGES) * EACH)
            self.stdout.write(f"{name:22} {reading}" + ("" if reading.is_good else "  BROKEN"))
            return reading.as_record()
        try:
            verdict = judge(TRIALS[name], messages or TRIALS[name].messages)
        except LeftOut as error:
            self.stdout.write(f"{name:22} left out: {error}")
            return {"left_out": str(error)}
        except BenchError as error:
            self.stdout.write(f"{name:22} {error}")
            return {"error": str(error), "is_good": False}
        self.stdout.write(_line(name, verdict))
        self.stdout.flush()
        return verdict.as_record()


def _write(path: Path, record: dict[str, Any]) -> None:
    """The figures of trials that were not run stay as they are."""
    try:
        earlier = dict(json.loads(path.read_text(encoding="utf-8"))["trials"])
    except (OSError, ValueError, KeyError, TypeError):
        earlier = {}
    trials = {**earlier, **record["trials"]}
    kept = {name: trials[name] for name in NAMES if name in trials}
    path.write_text(json.dumps({**record, "trials": kept}, indent=2) + "\n", encoding="utf-8")


def _line(name: str, verdict: Verdict) -> str:
    record = verdict.as_record()
    figures = " ".join(f"{record[column]:>11,}" for column in COLUMNS)
    told = "" if verdict.told is None else f"\n{'':22} {verdict.told}"
    return f"{name:22} {figures}" + ("" if verdict.is_good else "  BROKEN") + told


def _run_inside(name: str, *words: str) -> None:
    commands: dict[str, Callable[[], None]] = {
        "prepare": inside.prepare,
        "load": lambda: inside.load(int(words[0]), int(words[1]), int(words[2]), int(words[3]), float(words[4])),
        "subscribe": lambda: inside.subscribe(int(words[0]), words[1]),
        "deliveries": lambda: inside.deliveries(int(words[0])),
        "open_mailbox": lambda: inside.open_mailbox(int(words[0]), words[1]),
        "mailbox_events": lambda: inside.mailbox_events(int(words[0])),
        "hurry": lambda: inside.hurry(float(words[0])),
        "report": inside.report,
    }
    settings.DEBUG = False
    commands[name]()
