"""`manage.py bench NAME [--json]`: a scenario, a comparison, or a set of them; see docs/performance.md and docs/sizing.md."""

import ipaddress
import json
import os
import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, BooleanOptionalAction
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from relay_project.bench.database import given_url
from relay_project.bench.inside import run_inside
from relay_project.bench.kept import DEFAULT_ROOT
from relay_project.bench.launch import Place
from relay_project.bench.pages import render
from relay_project.bench.peers.compare import why_not
from relay_project.bench.plan import OPTIONS, BenchError
from relay_project.bench.repeat import Entry, measure
from relay_project.bench.report import write_details, write_file, write_list, write_table
from relay_project.bench.scenarios import COMPARISONS, SCENARIOS
from relay_project.bench.sets import SETS
from relay_project.supervise import sigterm_as_interrupt

INTERRUPTED = 130  # 128 + SIGINT, as shells say it
RECORDED = settings.BASE_DIR / "docs" / "benchmarks"
WRITING_SETS = {"full"}  # whose results are kept when nobody says where


class Command(BaseCommand):
    """See the module."""

    help = "Measure: a scenario, a comparison or a set (quick, full); `list` names them, `render` writes the pages."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's signature; the processes check themselves

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        names = [*SCENARIOS, *COMPARISONS, *SETS, "list", "render"]
        parser.add_argument("name", choices=names, nargs="?", default="list")
        parser.add_argument("--list", action="store_true", help="what there is, with the options of each")
        parser.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
        parser.add_argument("--repeat", type=_count(1, 99), help="so often; a comparison takes turns. Medians count")
        parser.add_argument("--only", type=_words, help="of a set: titles of results, such as drain,starttls")
        parser.add_argument("--cores", type=_count(1, 1024), help="use only so many cores of the machine")
        parser.add_argument("--keep", action="store_true", help="leave the database when done")
        parser.add_argument("--results", type=Path, help="a folder for the results as files")
        parser.add_argument("--history-folder", type=Path, default=DEFAULT_ROOT, help="where the history is kept")
        parser.add_argument("--inside", help=SUPPRESS)
        _add_plan_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run; every refusal is one sentence and exit code 1."""
        name = options["name"]
        if options["inside"]:
            run_inside(options["inside"])
        elif options["list"] or name == "list":
            write_list(sys.stdout, SETS.items())
        elif name == "render":
            for page in render(settings.BASE_DIR / "docs"):
                sys.stdout.write(f"{page}\n")
        else:
            self._measure(name, options)

    def _measure(self, name: str, options: dict[str, Any]) -> None:
        given = {option: options[option] for option in OPTIONS if options.get(option) is not None}
        try:
            with sigterm_as_interrupt():
                _use_cores(options["cores"])
                if name in SETS:
                    _refuse_options(name, given)
                    _refuse_strangers(name, options["only"])
                    self._run_set(name, options)
                else:
                    self._run_one(name, Entry(name, given, options["repeat"] or 1), options)
        except BenchError as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    def _run_one(self, name: str, entry: Entry, options: dict[str, Any]) -> None:
        say = _say if entry.repeat > 1 or name in COMPARISONS else _keep_quiet
        result = measure(name, entry, _place(options), say)
        if options["results"]:
            write_file(options["results"], name, result)
        if options["json"]:
            sys.stdout.write(json.dumps(result) + "\n")
            return
        write_table(sys.stdout, {name: result})
        write_details(sys.stdout, result)

    def _run_set(self, name: str, options: dict[str, Any]) -> None:
        folder = options["results"] or (RECORDED if name in WRITING_SETS else None)
        results, failed = {}, []
        for title, entry in SETS[name].items():
            if options["only"] and title not in options["only"]:
                continue
            if reason := _why_left_out(entry):
                _say(f"{title} is left out: {reason}")
                continue
            asked = Entry(entry.name, entry.options, options["repeat"] or entry.repeat)
            try:
                results[title] = measure(title, asked, _place(options), _say)
            except BenchError as error:  # the others are measured all the same
                _say(f"{title}: {error}")
                failed.append(title)
                continue
            if folder:
                write_file(folder, title, results[title])
        write_table(sys.stdout, results)
        if options["json"]:
            sys.stdout.write(json.dumps(results) + "\n")
        if failed:
            raise BenchError(f"No result for {', '.join(failed)}.")


def _add_plan_options(parser: ArgumentParser) -> None:
    """The options of plans; None is what nobody said, and each scenario has its own default (`--list`)."""
    add = parser.add_argument
    add("--messages", type=_count(1, 10_000_000))
    add("--body-bytes", type=_count(100, 5_000_000))
    add("--recipients", type=_count(1, 20), help="of each message, all in one domain")
    add("--projects", type=_count(1, 1000), help="that send in turn")
    add("--domains", type=_count(1, 10_000), help="of recipients")
    add("--html-share", type=_share, help="of messages that have HTML beside the text")
    add("--attachment-share", type=_share, help="of messages that have an attachment")
    add("--attachment-bytes", type=_count(1, 5_000_000))
    add("--sites", type=_count(1, 5000), help="addresses on loopback that take the mail")
    add("--starttls", action=BooleanOptionalAction, help="the sink offers STARTTLS")
    add("--chunking", action=BooleanOptionalAction, help="the sink offers CHUNKING")
    add("--defer", type=_share, help="of tries that the sink defers")
    add("--bounce", type=_share, help="of mailboxes that do not exist")
    add("--drop", type=_share, help="of tries whose connection is closed at RCPT")
    add("--cut", type=_share, help="of messages that are taken without a 250 (RFC 1047)")
    add("--tarpit-mails", type=_count(0, 10_000_000), help="waiting for a site that answers late")
    add("--tarpit-seconds", type=float, help="before each of its replies")
    add("--signatures", type=int, choices=(1, 2), help="RSA-2048")
    add("--ifma", action=BooleanOptionalAction, help="signing may use AVX-512 IFMA, where there is such a thing")
    add("--processes", type=_count(1, 64), help="of the senders")
    add("--source-ips", type=_loopback, help="such as 127.0.0.2,127.0.0.3")
    add("--seconds", type=_count(1, 600), help="of `accept` and `submission`")
    add("--connections", type=_count(1, 5000), help="of `accept`, `submission`, `end_to_end`, `live` and `mailbox`")
    add("--reconnect", action=BooleanOptionalAction, help="`submission` with a connection for each mail")
    add("--slow-peers", type=_count(0, 900), help="that hold connections beside `submission`")
    add("--batch", type=_count(1, 1000), help="messages accepted at once")
    add("--http", action=BooleanOptionalAction, help="`end_to_end` through POST /sends/batch")
    add("--readers", action=BooleanOptionalAction, help="`accept` beside run_webhooks")
    add("--pace", type=float, help="messages a second; 0: as fast as it can")
    add("--backlog", type=_count(0, 10_000_000), help="of another project, waiting")
    add("--waiting", type=_count(0, 10_000_000), help="mails put into the tables by COPY in place of accepting")
    add("--mailboxes", type=_count(1, 1000), help="of `mailbox`, which the items go round")
    add("--archive", type=_count(30_000, 100_000_000), help="sends that `search` looks in")
    add("--history", type=_count(0, 100_000_000), help="finished recipients over 30 daily partitions")


def _place(options: dict[str, Any]) -> Place:
    url = given_url(settings.RELAY_HOME)
    return Place(settings.BASE_DIR / "manage.py", url, options["keep"], options["history_folder"].absolute())


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _why_left_out(entry: Entry) -> str | None:
    """What this machine or its configuration cannot do, so that the rest of a set is measured all the same."""
    if entry.name == "history" and given_url(settings.RELAY_HOME):
        return "it has a server of its own, and DATABASE_URL names another."
    return why_not() if entry.name == "peers" else None


def _keep_quiet(line: str) -> None:
    """One run needs no word of what runs."""


def _refuse_options(name: str, given: dict[str, Any]) -> None:
    if given:
        raise BenchError(f"The set {name} has plans of its own; options belong to single scenarios.")


def _refuse_strangers(name: str, titles: Sequence[str] | None) -> None:
    if unknown := set(titles or ()) - SETS[name].keys():
        raise BenchError(f"The set {name} has no {sorted(unknown)[0]}; it has {', '.join(SETS[name])}.")


def _use_cores(count: int | None) -> None:
    """Keep this process and all it starts on the first so many cores."""
    if count is None:
        return
    there = sorted(os.sched_getaffinity(0))
    if count > len(there):
        raise BenchError(f"This machine has {len(there)} cores for us, not {count}.")
    os.sched_setaffinity(0, there[:count])


def _count(least: int, most: int) -> Any:
    def read(text: str) -> int:
        if not text.isdigit() or not least <= int(text) <= most:
            raise ArgumentTypeError(f"{text!r} is not a number from {least:,} to {most:,}")
        return int(text)

    return read


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ArgumentTypeError(f"{text!r} is not a share from 0 to 1")
    return share


def _loopback(text: str) -> tuple[str, ...]:
    """Addresses of this machine only: a benchmark's load never leaves it."""
    try:
        addresses = [ipaddress.ip_address(word.strip()) for word in text.split(",")]
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    if not all(address.is_loopback for address in addresses):
        raise ArgumentTypeError(f"{text!r}: only loopback addresses such as 127.0.0.2 are allowed")
    return tuple(str(address) for address in addresses)
