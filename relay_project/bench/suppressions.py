"""The scenario `suppressions`: a CSV of `--messages` addresses is imported over HTTP, searched, and exported again.

The file is made while it is sent, without a length, so nobody has all of it anywhere.
"""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.db import connection

from projects.api_keys import create_key
from projects.scopes import Scope
from relay_project.bench.accept import ALLOWED, await_web
from relay_project.bench.facts import facts, percentiles
from relay_project.bench.plan import BenchError, Plan
from relay_project.bench.process import Meter, Process
from relay_project.bench.stage import make_stage, server_pid

PIECE = 1_000  # lines sent at once
DOMAINS = 5_000
ASKED = 60  # times each kind of search
PATIENCE_SECONDS = 600
REASONS = ("bounce", "complaint", "unsubscribe", "manual")
SEARCHES = {  # pieces of addresses, each with a number put in
    "common": "@domain-{:02}",
    "rare": "person-{:07}",
    "absent": "qxzw{}",
    "short": "{}",
}


def suppressions(plan: Plan, folder: Path) -> dict[str, Any]:
    """Import, search, export; the import's lines a second are the rate."""
    project = make_stage()
    _, token = create_key(project, "Benchmark", [Scope.SUPPRESSIONS_READ, Scope.SUPPRESSIONS_WRITE], ALLOWED)
    lines, conditions = plan.traffic.messages, facts(plan)
    with Process(["run_web"], {"REQUESTS_PER_MINUTE": "1000000"}, folder) as web:
        await_web(web)
        client = _Client(token)
        meter, began = Meter.start(web, server_pid()), time.perf_counter()
        report = json.loads(client.ask("POST", "/import", _file(lines)))
        seconds = time.perf_counter() - began
        cost = meter.read()
        if (report["added"], report["invalid"]) != (lines, 0):
            raise BenchError(f"The import of {lines:,} lines reported {report}.")
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE sending_suppression")  # as autovacuum does within a minute
        searches = {name: client.search(piece) for name, piece in SEARCHES.items()}
        began = time.perf_counter()
        exported = client.ask("GET", "/export").count(b"\n") - 1
        export_seconds = time.perf_counter() - began
        peak_mib = round(web.peak_bytes() / 2**20, 1)
    if exported != lines:
        raise BenchError(f"The export had {exported:,} of {lines:,} lines.")
    return {
        "name": plan.scenario,
        "rate": round(lines / seconds, 1),
        "messages": lines,
        "import_seconds": round(seconds, 1),
        "export_seconds": round(export_seconds, 1),
        "searches": searches,
        "sink_cpu_us": None,
        **cost.as_record("web", lines),
        "web_peak_mib": peak_mib,
        **conditions,
    }


def _file(lines: int) -> Iterator[bytes]:
    yield b"email,reason,description\n"
    for begin in range(0, lines, PIECE):
        numbers = range(begin, min(begin + PIECE, lines))
        yield "".join(_line(number) for number in numbers).encode()


def _line(number: int) -> str:
    reason = REASONS[number % len(REASONS)]
    return f"person-{number:07}@domain-{number % DOMAINS:04}.example,{reason},550 5.1.1 No such mailbox here\n"


class _Client:
    """One connection that stays open."""

    def __init__(self, token: str) -> None:
        self._http = http.client.HTTPConnection(*settings.WEB_BIND, timeout=PATIENCE_SECONDS)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "text/csv"}

    def ask(self, method: str, path: str, body: Iterator[bytes] | None = None) -> bytes:
        """The answer to one request; raises BenchError for anything but 200."""
        self._http.request(method, f"/api/console/suppressions{path}", body, self._headers)
        answer = self._http.getresponse()
        raw = answer.read()
        if answer.status != 200:
            raise BenchError(f"{method} {path} was answered {answer.status} {raw[:200].decode(errors='replace')}")
        return raw

    def search(self, piece: str) -> dict[str, Any]:
        """What a page of addresses with a piece like this takes, and how many such a page has at most."""
        times, found = [], 0
        for number in range(ASKED):
            query = urlencode({"email": piece.format(number)})
            began = time.perf_counter()
            rows = json.loads(self.ask("GET", f"?{query}"))
            times.append((time.perf_counter() - began) * 1000)
            found = max(found, len(rows))
        return {**(percentiles(times, "a request") or {}), "found": found}
