"""The scenario `search`: GET /sends of the web process over an archive, one request after the other, by kinds of questions.

Each kind asks with many texts, so that it is the database that answers and not its memory of the last question.
"""

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.db import connection

from projects.api_keys import create_key
from projects.models import Project
from projects.scopes import Scope
from relay_project.bench.accept import ALLOWED, await_web
from relay_project.bench.archive import BIG, FIRST, LAST
from relay_project.bench.build import DAYS
from relay_project.bench.facts import facts, percentiles
from relay_project.bench.plan import BenchError, Plan
from relay_project.bench.process import Process
from relay_project.db.ids import id_floor

ASKED = 200  # times each kind
WARM = 20  # every thread of the web process has its connection and its plans by then
ABSENT = ("qxzw", "vqjx", "zzyq", "jqxk", "wvvq", "xkqz", "qqzj", "zxvw", "kqjz", "vxqq")

Question = Mapping[str, object]


def search(plan: Plan, folder: Path) -> dict[str, Any]:
    """Ask each kind of question so often; the greatest share of what is asked about is in the project with most mail."""
    project = Project.objects.order_by("pk").filter(name__startswith="Benchmark")[0]
    _, token = create_key(project, "Benchmark", [Scope.SENDS_READ], ALLOWED)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM sending_send WHERE project_id = %s AND id > 0", [project.pk])
        of_project = int(cursor.fetchone()[0])
    known = _sample(project.pk)
    with Process(["run_web"], {"REQUESTS_PER_MINUTE": "1000000"}, folder) as web:
        await_web(web)
        client = _Client(token)
        kinds = {name: _ask(client, questions) for name, questions in _kinds(known).items()}
    everything = [ms for times, _ in kinds.values() for ms in times]
    return {
        "name": plan.scenario,
        "rate": round(1000 * len(everything) / sum(everything), 1),
        "messages": len(everything),
        "archive": plan.archive,
        "of_the_project": of_project,
        "searches": {
            name: {**(percentiles(times, "a request") or {}), "found": found} for name, (times, found) in kinds.items()
        },
        "percentiles": percentiles(everything, "a request of any kind"),
        **facts(plan),
    }


class _Client:
    """One connection that stays open."""

    def __init__(self, token: str) -> None:
        self._http = http.client.HTTPConnection(*settings.WEB_BIND)
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, question: Question) -> tuple[float, int]:
        """(milliseconds, sends found)."""
        began = time.perf_counter()
        self._http.request("GET", f"/api/console/sends?{urlencode(question)}", headers=self._headers)
        answer = self._http.getresponse()
        body = answer.read()
        took = (time.perf_counter() - began) * 1000
        if answer.status != 200:
            raise BenchError(f"A search was answered {answer.status} {body[:200].decode(errors='replace')}")
        return took, len(json.loads(body))


def _ask(client: _Client, questions: Iterator[Question]) -> tuple[list[float], int]:
    """Milliseconds of each, and how many sends an answer had at most."""
    asked = [client.get(next(questions)) for _ in range(ASKED + WARM)][WARM:]
    return [took for took, _ in asked], max(found for _, found in asked)


def _sample(project_id: int) -> list[tuple[str, str]]:
    """(address, subject) of some sends of all days."""
    floor = id_floor(datetime.now(UTC) - timedelta(days=DAYS))
    step = (id_floor(datetime.now(UTC)) - floor) // (2 * ASKED)
    found = []
    with connection.cursor() as cursor:
        for at in range(2 * ASKED):
            cursor.execute(
                """SELECT r.address, s.subject FROM sending_send s JOIN sending_recipient r ON r.id = s.id + 1
                    WHERE s.project_id = %(project)s AND s.id >= %(low)s AND s.id < %(high)s
                      AND r.id >= %(low)s AND r.id <= %(high)s ORDER BY s.id LIMIT 1""",
                {"project": project_id, "low": floor + at * step, "high": floor + (at + 1) * step},
            )
            found += cursor.fetchall()
    return found


def _kinds(known: list[tuple[str, str]]) -> dict[str, Iterator[Question]]:
    """Name → questions without end."""
    months_ago = [(datetime.now(UTC) - timedelta(days=back)).date().isoformat() for back in range(1, DAYS)]
    numbers = [word for _, subject in known for word in subject.split() if word.isdigit()]
    return {
        "newest": _each("limit", ["50"]),
        "page": _each("before_id", [str(id_floor(datetime.now(UTC) - timedelta(days=back))) for back in range(1, 29)]),
        "exact": _each("to", [address for address, _ in known]),
        "exact_absent": _each("to", [f"nobody-{n}@gmail.com" for n in range(1000)]),
        "prefix": _each("to_search", [name[:2] for name in FIRST]),
        "prefix_absent": _each("to_search", ["qq", "zz", "xq", "jx", "0x", "vv", "+"]),
        "status": _each("status", ["accepted", "bounced", "deferred"]),
        "status_rare": _each("status", ["failed", "complained", "suppressed"]),
        "status_and_text": _each("to_search", [name[:4] for name in LAST], status="bounced"),
        "dates_and_exact": _dated(months_ago, [address for address, _ in known]),
        "common": _each("to_search", [*BIG, "example", "smith"]),
        "rare": _each(
            "to_search", [address.partition("@")[0] for address, _ in known if any(map(str.isdigit, address))]
        ),
        "absent": _each("to_search", ABSENT),
        "absent_of_common_parts": _each("to_search", [f"{a}.{b}{b}@gmail" for a in FIRST for b in LAST[:3]]),
        "subject_common": _each("subject_search", ["order", "invoice", "password", "parcel"]),
        "subject_rare": _each("subject_search", numbers),
        "subject_absent": _each("subject_search", [f"order 1{n} is gone" for n in range(100)]),
    }


def _each(name: str, values: "list[str] | tuple[str, ...]", **more: str) -> Iterator[Question]:
    while True:
        for value in values:
            yield {name: value, **more}


def _dated(days: list[str], addresses: list[str]) -> Iterator[Question]:
    while True:
        for number, address in enumerate(addresses):
            yield {"to": address, "date_from_search": days[number % len(days)]}
