"""The scenario `submission`: mails are submitted to run_smtp over STARTTLS with AUTH; nobody sends.

Over `--connections` that stay open, each with one mail at a time, or (`--reconnect`) with a connection for each mail.
`--slow-peers` hold connections of theirs meanwhile, and hardly say anything.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from email.utils import format_datetime
from itertools import count
from pathlib import Path
from typing import Any

import uvloop
from django.conf import settings
from django.utils import timezone

from relay_project.bench.accept import key_of
from relay_project.bench.facts import facts, percentiles
from relay_project.bench.letters import letter
from relay_project.bench.plan import BenchError, Plan
from relay_project.bench.process import Cost, Meter, Process
from relay_project.bench.slow_peers import slow_peers
from relay_project.bench.smtp_load import SmtpClient, await_smtp
from relay_project.bench.stage import make_stage, read_ledger, server_pid

WARM_SECONDS = 1.0  # first mails import and connect
NAME = "app.example.net"
BODIES = 200  # that the mails share in turn: to write one costs more than to submit it
BOUNDARY = "=_benchmark"
DATA_TO_250 = "a mail, from the end of its data to the 250"


def submission(plan: Plan, folder: Path) -> dict[str, Any]:
    """Submit for the plan's seconds; every mail answered 250 must be in the database."""
    token = key_of(make_stage())
    conditions = facts(plan)
    load = _Load(plan, token, _letters(plan.traffic.body_bytes))
    with Process(["run_smtp"], {}, folder) as smtp:
        await_smtp(smtp, settings.SMTP_SUBMISSION[0])
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            cost = runner.run(_measure(load, smtp))
    missing = load.taken - read_ledger().sends
    if missing > 0:
        raise BenchError(f"{missing:,} mails were answered 250 and are not in the database.")
    messages = len(load.seconds)
    return {
        "name": plan.scenario,
        "rate": round(messages / plan.seconds, 1),
        "messages": messages,
        "duplicates": -missing,
        "missing": 0,
        "connections": plan.connections,
        "reconnect": plan.reconnect,
        "slow_peers": plan.slow_peers,
        "seconds": plan.seconds,
        "percentiles": percentiles([each * 1000 for each in load.seconds], DATA_TO_250),
        "sink_cpu_us": None,
        "client_cpu_us": round(cost.own * 1e6 / messages),
        **cost.as_record("smtp", messages),
        "submission_threads": settings.SUBMISSION_THREADS,
        **conditions,
    }


@dataclass(slots=True)
class _Load:
    """What is submitted, and what became of it: the seconds of each mail of the measured part."""

    plan: Plan
    token: str
    mails: Iterator[tuple[str, bytes]]
    taken: int = 0
    seconds: list[float] = field(default_factory=list)


async def _measure(load: _Load, smtp: Process) -> Cost:
    """Warm up, then measure, beside the slow peers."""
    async with slow_peers(load.plan.slow_peers):
        await _submit(load, WARM_SECONDS)
        load.seconds.clear()
        meter = Meter.start(smtp, server_pid())
        await _submit(load, load.plan.seconds)
        return meter.read()


async def _submit(load: _Load, seconds: float) -> None:
    ends_at = time.perf_counter() + seconds
    one = _connection_for_each if load.plan.reconnect else _kept_connection
    async with asyncio.TaskGroup() as clients:
        for _ in range(load.plan.connections):
            clients.create_task(one(load, ends_at))


async def _kept_connection(load: _Load, ends_at: float) -> None:
    async with SmtpClient(settings.SMTP_SUBMISSION[0], NAME) as client:
        await client.sign_in(load.token)
        while time.perf_counter() < ends_at:
            await _hand_over(load, client)


async def _connection_for_each(load: _Load, ends_at: float) -> None:
    while time.perf_counter() < ends_at:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(SmtpClient(settings.SMTP_SUBMISSION[0], NAME))
            await client.sign_in(load.token)
            await _hand_over(load, client)
            await client.quit()


async def _hand_over(load: _Load, client: SmtpClient) -> None:
    recipient, octets = next(load.mails)
    load.seconds.append(await client.hand_over("bounces@sender.test", [recipient], octets))
    load.taken += 1


def _letters(body_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Recipient and MIME: text and HTML, as most programs write mail."""
    bodies = [_body(number, body_bytes) for number in range(BODIES)]
    date = format_datetime(timezone.now())
    for number in count():
        recipient = f"someone-{number}@r{number % 100}.test"
        head = (
            f"From: The Sender <news@sender.test>\r\nTo: Recipient {number} <{recipient}>\r\n"
            f"Subject: Message {number} of a benchmark\r\nDate: {date}\r\nMessage-ID: <{number}@{NAME}>\r\n"
            f'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="{BOUNDARY}"\r\n\r\n'
        )
        yield recipient, head.encode() + bodies[number % BODIES]


def _body(number: int, size: int) -> bytes:
    """Both parts with their dots stuffed."""
    one = letter(number, size)
    parts = [("plain", one.body_text or ""), ("html", one.body_html or "")]
    texts = [f"--{BOUNDARY}\nContent-Type: text/{kind}; charset=utf-8\n\n{text}\n" for kind, text in parts]
    octets = "".join([*texts, f"--{BOUNDARY}--\n"]).encode().replace(b"\n", b"\r\n")
    return octets.replace(b"\r\n.", b"\r\n..")
