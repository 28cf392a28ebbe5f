"""The scenario `reports`: `--messages` mails have left, and each of them comes back as a report, over `--connections`.

First run_smtp takes them while nobody reads, then run_webhooks reads what is there: a rate for each.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from django.conf import settings
from django.db import connection

from ips.models import SourceIp
from relay_project.bench.facts import facts, percentiles
from relay_project.bench.letters import batches
from relay_project.bench.plan import BenchError, Plan
from relay_project.bench.process import Meter, Process
from relay_project.bench.smtp_load import SmtpClient, await_smtp
from relay_project.bench.stage import make_stage, server_pid, take, wait_until
from relay_project.db.keyring import ring
from relay_project.mail.simulator import REFUSALS, Kind
from relay_project.mail.verp import make_reverse_path
from relay_project.sandbox import reports as written
from sending.inbound.addresses import PURPOSE

KINDS = (Kind.MISSING, Kind.BUSY, Kind.SPAM, Kind.DISABLED, Kind.COMPLAINT)  # in turn
REPORTER = "mx.example.net"
ORIGINAL_HEADERS = 2_000  # octets that a report returns
# What the engine writes of mail that was taken; the waiting rows go.
_LEAVE = """
WITH attempts AS (
  INSERT INTO sending_attempt (send_id, project_id, queue_id, source_ip_id, status, try_count, domain, site,
         resolved_mx_hosts, smtp_conversations, network_error, is_lost, duration_ms)
  SELECT send_id, project_id, queue_id, %s, 'accepted', 1, domain, domain, '[]', '{}', '', false, 5 FROM sending_waiting
  RETURNING id, send_id),
told AS (
  INSERT INTO sending_attemptrecipient (attempt_id, send_id, recipient_id, recipient_status, smtp_code, smtp_message,
         category, rule, is_suppressed)
  SELECT a.id, a.send_id, w.recipient_id, 'accepted', 250, 'taken', 'accepted', 'accepted', false
    FROM attempts a JOIN sending_waiting w USING (send_id)),
gone AS (DELETE FROM sending_waiting),
moved AS (UPDATE sending_recipient r SET status = 'accepted', try_count = 1)
SELECT a.send_id, a.id, r.address FROM attempts a JOIN sending_recipient r USING (send_id)
"""
_FOUND = """
SELECT (SELECT count(*) FROM sending_feedback), (SELECT count(*) FROM sending_inboundmail WHERE state = 'applied'),
       (SELECT count(*) FROM sending_recipient WHERE status IN ('bounced', 'complained')),
       (SELECT count(*) FROM projects_event WHERE kind IN ('send.recipient.bounced', 'send.recipient.complained'))
"""


@dataclass(frozen=True, slots=True)
class _Report:
    """What comes back: to whom, and its octets with their dots stuffed."""

    path: str
    octets: bytes


@dataclass(frozen=True, slots=True)
class _Left:
    """A mail that left for one recipient."""

    path: str
    address: str


def reports(plan: Plan, folder: Path) -> dict[str, Any]:
    """Store, then read; the rate is that of reading. Every report must have moved its recipient, once."""
    wanted = plan.traffic.messages
    mails = [_report(left, number) for number, left in enumerate(_mail_that_left(plan))]
    conditions = facts(plan)
    with Process(["run_smtp"], {}, folder) as smtp:
        await_smtp(smtp, settings.SMTP_MX[0])
        began, server = time.perf_counter(), Meter.start(smtp, server_pid())
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            seconds = runner.run(_store(mails, plan.connections))
        stored = wanted / (time.perf_counter() - began)
        storing = server.read().as_record("smtp", wanted)
    with Process(["run_webhooks"], {}, folder) as webhooks:
        if not wait_until(lambda: _unread() < wanted, plan.deadline_seconds, every=0.01):
            raise BenchError("Nobody read the reports.")
        meter, left, began = Meter.start(webhooks, server_pid()), _unread(), time.perf_counter()
        if not wait_until(lambda: _unread() == 0, plan.deadline_seconds):
            raise BenchError(f"{_unread():,} reports were not read in time.")
        read = left / (time.perf_counter() - began)
        cost = meter.read()
    if (found := _found()) != (wanted,) * 4:
        raise BenchError(f"Of {wanted:,} reports came feedback, marks, states and events as {found}.")
    return {
        "name": plan.scenario,
        "rate": round(read, 1),
        "stored_per_second": round(stored, 1),
        "messages": wanted,
        "connections": plan.connections,
        "report_bytes": len(mails[0].octets),
        "percentiles": percentiles([each * 1000 for each in seconds], "a report, from RCPT to the 250"),
        "sink_cpu_us": None,
        "smtp_cpu_us": storing["smtp_cpu_us"],
        **cost.as_record("webhooks", left),
        **conditions,
    }


def _mail_that_left(plan: Plan) -> Iterator[_Left]:
    project = make_stage()
    for _, requests in batches(plan.traffic, plan.batch):
        take(project, requests)
    with connection.cursor() as cursor:
        cursor.execute(_LEAVE, [SourceIp.objects.values_list("pk", flat=True)[0]])
        rows = cursor.fetchall()
        cursor.execute("ANALYZE")  # as autovacuum does within a minute
    keys = ring(PURPOSE)
    for send_id, attempt_id, address in rows:
        yield _Left(make_reverse_path(send_id, attempt_id, settings.INSTANCE_DOMAIN, keys), address)


def _report(left: _Left, number: int) -> _Report:
    """Its report, as a large receiver would write it."""
    kind, now = KINDS[number % len(KINDS)], datetime.now(UTC)
    headers = f"Subject: News\r\nTo: {left.address}\r\nX-Padding: {'x' * 60}\r\n" + f"X-More: {'y' * 60}\r\n" * (
        ORIGINAL_HEADERS // 70
    )
    about = written.Reported(left.path, left.address, f"{headers}\r\n".encode(), "192.0.2.1", "mx.relay.test", now)
    refusal = REFUSALS.get(kind)
    octets = written.bounce(about, refusal, REPORTER, now) if refusal else written.complaint(about, REPORTER, now)
    return _Report(left.path, octets.replace(b"\r\n.", b"\r\n.."))


async def _store(mails: Sequence[_Report], connections: int) -> list[float]:
    """Each connection hands over one after the other; the seconds that each took."""
    waiting = iter(mails)
    seconds: list[float] = []

    async def connection_of_many() -> None:
        async with SmtpClient(settings.SMTP_MX[0], REPORTER) as client:
            for mail in waiting:
                began = time.perf_counter()
                await client.hand_over("", [mail.path], mail.octets)
                seconds.append(time.perf_counter() - began)

    await asyncio.gather(*(connection_of_many() for _ in range(connections)))
    return seconds


def _unread() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM sending_unreadmail")
        return int(cursor.fetchone()[0])


def _found() -> tuple[int, ...]:
    with connection.cursor() as cursor:
        cursor.execute(_FOUND)
        return tuple(cursor.fetchone())
