"""Take: claim due rows and load what they need, in one short transaction, so that a failed load leaves nothing claimed.

A row whose data nobody can make sense of must not take the others along: the batch is then loaded attempt by attempt, and
what fails alone becomes a job without a message, which ends as a deferral with its reason, backed off by the schedule.
"""

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, transaction

from ips.senders import ServedIp
from sending.deliver.claim import Claimed, Ring, by_attempt
from sending.deliver.giveback import hold_rows, return_rows
from sending.deliver.held import HeldMail, divert
from sending.deliver.load import Job, KeyCache, broken_job, load
from sending.deliver.room import Wanted
from sending.deliver.shaper import Shaper
from sending.models import TEST_LANE

log = structlog.get_logger()

FIRST_GUESS = 16 * 1024  # octets a mail, until some have been seen


@dataclass(slots=True)
class Taker:
    """What one sender claims through. Its methods block; one database thread at a time."""

    ring: Ring
    shaper: Shaper
    keys: KeyCache = field(default_factory=KeyCache)
    usual_bytes: float = FIRST_GUESS
    diverted: int = 0  # rows of the last take that went to a held site
    _held: HeldMail = field(init=False)

    def __post_init__(self) -> None:
        """What hangs on held sites is taken by the same gates."""
        self._held = HeldMail(self.shaper)

    def take(self, serving: Sequence[ServedIp], wanted: Wanted, now: datetime) -> list[Job]:
        """Jobs for the served IPs, about as much as is wanted, at least one if anything is due.

        Held mail may take half of the room; what is due, the rest.
        """
        claimed_at = time.monotonic()
        rows = self._rows(wanted)
        try:
            with transaction.atomic():
                held = self._claim_held(serving, max(rows // 2, 1), now, wanted.up_to)
                claimed = self._claim_due(serving, max(rows - len(held), 1), now, wanted.up_to, held)
                due, diverted = divert(claimed, self.shaper, claimed_at)
                hold_rows(diverted, now)
                kept, surplus = within_octets([*held, *due], wanted.octets)
                return_rows([(row.recipient_id, row.attempt_id, row.due_at, None) for row in surplus], now)
                jobs = self._load(kept, claimed_at)
        except BaseException:
            self.ring.start_over()
            raise
        self._held.postpone(now)
        if surplus:
            self.ring.start_over()
        self.diverted = len(diverted)
        for job in jobs:
            self.usual_bytes += (max(job.size_bytes, 1) - self.usual_bytes) / 50
        return jobs

    def take_held(self, serving: Sequence[ServedIp], wanted: Wanted, now: datetime) -> list[Job]:
        """Jobs from held sites alone, for when nothing is due."""
        self.diverted = 0
        if not self._held.is_time:
            return []
        claimed_at = time.monotonic()
        with transaction.atomic():
            jobs = self._load(self._claim_held(serving, self._rows(wanted), now, wanted.up_to), claimed_at)
        self._held.postpone(now)
        return jobs

    def _rows(self, wanted: Wanted) -> int:
        return max(1, min(wanted.rows, int(wanted.octets / self.usual_bytes)))

    def _claim_due(
        self, serving: Sequence[ServedIp], wanted: int, now: datetime, up_to: int, held: Sequence[Claimed] = ()
    ) -> list[Claimed]:
        """In equal parts for the IPs. One that is being warmed up takes its retries, and new mail up to its ceiling.

        What was taken off held sites in the same look (`held`) counts, too.
        """
        share = math.ceil(wanted / len(serving))
        begun = Counter(row.source_ip_id for row in held)
        claimed: list[Claimed] = []
        for ip in serving:
            warm = self.shaper.warm_room(ip.id)
            if warm is None:
                claimed += self.ring.claim(ip, share, _lease_seconds(), now, up_to=up_to)
                continue
            retries = self.ring.claim(ip, share, _lease_seconds(), now, (-ip.id, TEST_LANE), up_to)
            claimed += retries
            if (room := min(share - len(retries), warm - begun[ip.id] - len(retries))) > 0:
                claimed += self.ring.claim(ip, room, _lease_seconds(), now, ip.queue_ids, up_to)
        return claimed

    def _claim_held(self, serving: Sequence[ServedIp], wanted: int, now: datetime, up_to: int) -> list[Claimed]:
        return self._held.take(serving, wanted, self.ring.sender_id, _lease_seconds(), now, up_to)

    def _load(self, rows: Sequence[Claimed], claimed_at: float) -> list[Job]:
        """No savepoint: an error of the database ends the whole claim, and any other leaves the transaction as it is."""
        try:
            return load(rows, self.keys, claimed_at)
        except (DatabaseError, InterfaceError):
            raise
        except Exception:
            log.exception("take.load_failed", rows=len(rows))
        return [self._load_alone(group, claimed_at) for group in by_attempt(rows)]

    def _load_alone(self, group: Sequence[Claimed], claimed_at: float) -> Job:
        try:
            [job] = load(group, self.keys, claimed_at)
        except (DatabaseError, InterfaceError):
            raise
        except Exception as error:
            log.exception("take.unreadable", attempt=group[0].attempt_id, send=group[0].send_id)
            return broken_job(group, claimed_at, f"{type(error).__name__} while reading the stored message")
        return job


def _lease_seconds() -> float:
    return float(settings.CONVERSATION_SECONDS + settings.LEASE_GRACE_SECONDS)


def within_octets(rows: Sequence[Claimed], octets: int) -> tuple[list[Claimed], list[Claimed]]:
    """Split at the attempt that would go over the allowance; the first attempt always stays."""
    kept: list[Claimed] = []
    surplus: list[Claimed] = []
    used = 0
    for group in by_attempt(rows):
        used += group[0].size_bytes
        (kept if not kept or used <= octets else surplus).extend(group)
    return kept, surplus
