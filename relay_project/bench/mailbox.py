"""The scenario `mailbox`: `--messages` items are deposited, received and acknowledged, an eighth of them one by one.

Each part begins when the one before has ended, over `--connections` to the web process as run_web starts it. Every item
must have come out once and be acknowledged in the database.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings

from relay_project.bench.accept import await_web
from relay_project.bench.facts import facts, percentiles
from relay_project.bench.http_load import Target, run_exchange
from relay_project.bench.plan import BenchError, Plan
from relay_project.bench.process import Meter, Process
from relay_project.bench.stage import make_stage, server_pid
from webhooks.mailbox.manage import MailboxChange, create_mailbox, create_token
from webhooks.models.mailbox import MailboxItem, TokenKind

SINGLE_SHARE = 8  # one in so many items is deposited, received and acknowledged by a request of its own
LEASE_SECONDS = 3600  # nothing is handed out again meanwhile
WARM_REQUESTS = 200  # each worker's first requests import and connect


@dataclass(frozen=True, slots=True)
class _Box:
    """A mailbox, with a token for either side."""

    name: str
    deposit: str
    receive: str


Request = tuple[_Box, bytes]  # and whose it is
Ids = list[tuple[_Box, list[str]]]  # of each answer


def mailbox(plan: Plan, folder: Path) -> dict[str, Any]:
    """The six parts; the rate is that of single deposits."""
    most = ceil(plan.traffic.messages / plan.mailboxes)
    if most > settings.MAILBOX_MAX_ITEMS:
        raise BenchError(f"{plan.mailboxes} mailboxes do not hold {plan.traffic.messages:,} items: --mailboxes.")
    boxes = list(_boxes(plan.mailboxes))
    conditions = facts(plan)
    with Process(["run_web"], {"MAILBOX_REQUESTS_PER_MINUTE": "10000000"}, folder) as web:
        await_web(web)
        bench = _Bench(plan, web, boxes)
        bench.warm()
        singles = plan.traffic.messages // SINGLE_SHARE
        batches = ceil((plan.traffic.messages - singles) / plan.batch)
        items = singles + batches * plan.batch
        stored = bench.part("deposit", 1, bench.deposits(0, singles, 1), 202)
        stored += bench.part("deposit_batch", plan.batch, bench.deposits(singles, batches, plan.batch), 202)
        ids = _ids(stored)
        received = _ids(bench.part("receive", 1, bench.receives(singles, 1), 200))
        ones = list(received)
        received += _ids(bench.part("receive_batch", plan.batch, bench.receives(batches, plan.batch), 200))
        _compare("received", ids, received)
        acked = _ids(bench.part("ack", 1, bench.acks(ones), 200))
        acked += _ids(bench.part("ack_batch", plan.batch, bench.acks(received[len(ones) :]), 200))
        _compare("acknowledged", ids, acked)
    kept = MailboxItem.objects.filter(acked_at__isnull=False).count() - WARM_REQUESTS
    if kept != items:
        raise BenchError(f"{kept:,} of {items:,} items are acknowledged in the database.")
    return {
        "name": plan.scenario,
        "rate": bench.parts["deposit"]["rate"],
        "messages": items,
        "parts": bench.parts,
        "connections": plan.connections,
        "batch": plan.batch,
        "mailboxes": plan.mailboxes,
        "percentiles": percentiles(bench.times["deposit"], "a single deposit, from its first byte to its answer"),
        "web_cpu_us": bench.parts["deposit"]["web_cpu_us"],
        "postgresql_cpu_us": bench.parts["deposit"]["postgresql_cpu_us"],
        "sink_cpu_us": None,
        "web_peak_mib": max(part["web_peak_mib"] for part in bench.parts.values()),
        "web_workers": settings.WEB_WORKERS,
        "web_threads": settings.WEB_THREADS,
        **conditions,
    }


class _Bench:
    """The load, and what each part of it came to."""

    def __init__(self, plan: Plan, web: Process, boxes: Sequence[_Box]) -> None:
        self._target = Target(settings.WEB_BIND, "", plan.traffic.body_bytes, plan.connections)
        self._web = web
        self._boxes = boxes
        self._filler = "x" * plan.traffic.body_bytes
        self.parts: dict[str, dict[str, Any]] = {}
        self.times: dict[str, list[float]] = {}

    def warm(self) -> None:
        """Deposit, receive and acknowledge a few."""
        self._ask(self.deposits(-WARM_REQUESTS, WARM_REQUESTS, 1), 202)
        _, answers = self._ask(self.receives(WARM_REQUESTS, 1), 200)
        self._ask(self.acks(_ids(answers)), 200)

    def part(self, name: str, batch: int, requests: Iterable[Request], status: int) -> list[tuple[_Box, bytes]]:
        """All requests; the answers, each with its mailbox."""
        prepared = list(requests)
        meter, began = Meter.start(self._web, server_pid()), time.perf_counter()
        seconds, answers = self._ask(prepared, status)
        took = time.perf_counter() - began
        items = len(prepared) * batch
        self.times[name] = [each * 1000 for each in seconds]
        points = percentiles(self.times[name], "a request") or {}
        self.parts[name] = {
            "rate": round(items / took, 1),
            "p50": points.get("p50"),
            "p99": points.get("p99"),
            **meter.read().as_record("web", items),
        }
        return answers

    def deposits(self, first: int, requests: int, batch: int) -> Iterator[Request]:
        """Each with a payload of its own, round the mailboxes."""
        for turn in range(requests):
            numbers = range(first + turn * batch, first + (turn + 1) * batch)
            items = [{"payload": {"number": number, "text": self._filler}} for number in numbers]
            body = orjson.dumps(items[0] if batch == 1 else {"items": items})
            box = self._boxes[turn % len(self._boxes)]
            yield box, self._post(box, "", box.deposit, body)

    def receives(self, requests: int, limit: int) -> Iterator[Request]:
        """As many as there are to fetch, round the mailboxes as the deposits went."""
        for turn in range(requests):
            box = self._boxes[turn % len(self._boxes)]
            head = self._head("GET", f"{box.name}/receive?limit={limit}&lease={LEASE_SECONDS}", box.receive)
            yield box, head + b"\r\n"

    def acks(self, received: Ids) -> Iterator[Request]:
        """What each answer handed out."""
        for box, ids in received:
            yield box, self._post(box, "/ack", box.receive, orjson.dumps({"ids": ids}))

    def _ask(self, requests: Iterable[Request], status: int) -> tuple[list[float], list[tuple[_Box, bytes]]]:
        pairs = list(requests)
        seconds, answers = run_exchange(self._target, [octets for _, octets in pairs], status)
        return seconds, [(pairs[place][0], body) for place, body in answers]

    def _post(self, box: _Box, what: str, token: str, body: bytes) -> bytes:
        head = self._head("POST", box.name + what, token)
        return head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def _head(self, method: str, path: str, token: str) -> bytes:
        host = "{}:{}".format(*self._target.address)
        return f"{method} /v1/mailbox/{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n".encode()


def _boxes(count: int) -> Iterator[_Box]:
    project = make_stage()
    for number in range(count):
        made = create_mailbox(project, f"bench-{number}", MailboxChange())
        tokens = [create_token(made, kind, "bench")[1] for kind in (TokenKind.DEPOSIT, TokenKind.RECEIVE)]
        yield _Box(made.name, *tokens)


def _ids(answers: Iterable[tuple[_Box, bytes]]) -> Ids:
    """Of an answer of any of the calls."""
    return [(box, _ids_of(orjson.loads(body))) for box, body in answers]


def _ids_of(answer: Mapping[str, Any]) -> list[str]:
    if "acked" in answer:
        return list(answer["acked"])
    return [item["id"] for item in answer["items"]] if "items" in answer else [answer["id"]]


def _compare(word: str, wanted: Ids, found: Ids) -> None:
    there = [number for _, several in wanted for number in several]
    came = [number for _, several in found for number in several]
    if len(set(there)) != len(there) or sorted(there) != sorted(came):
        raise BenchError(
            f"Of {len(there):,} items {len(set(there) & set(came)):,} were {word}, in {len(came):,} answers."
        )
