"""Take: claim due rows and load what they need, in one short transaction, so that a failed load leaves nothing claimed.

A row whose data nobody can make sense of must not take the others along: the batch is then loaded attempt by attempt, and
what fails alone becomes a job without a message, which ends as a deferral with its reason, backed off by the schedule.
"""

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, transaction

from ips.senders import ServedIp
from sending.deliver.claim import Claimed, Ring
from sending.deliver.giveback import return_rows
from sending.deliver.load import Job, KeyCache, broken_job, load

log = structlog.get_logger()

FIRST_GUESS = 16 * 1024  # octets a mail, until some have been seen


@dataclass(slots=True)
class Taker:
    """What one sender claims through. Its methods block; one database thread at a time."""

    ring: Ring
    keys: KeyCache = field(default_factory=KeyCache)
    usual_bytes: float = FIRST_GUESS

    def take(self, serving: Sequence[ServedIp], rows: int, octets: int, now: datetime) -> list[Job]:
        """Jobs for the served IPs: about `rows` recipients and `octets` of mail, at least one if anything is due."""
        claimed_at = time.monotonic()
        wanted = max(1, min(rows, int(octets / self.usual_bytes)))
        lease = settings.CONVERSATION_SECONDS + settings.LEASE_GRACE_SECONDS
        try:
            with transaction.atomic():
                share = math.ceil(wanted / len(serving))
                claimed = [row for ip in serving for row in self.ring.claim(ip, share, lease, now)]
                kept, surplus = within_octets(claimed, octets)
                return_rows([(row.recipient_id, row.attempt_id, row.due_at, None) for row in surplus], now)
                jobs = self._load(kept, claimed_at)
        except BaseException:
            self.ring.start_over()
            raise
        if surplus:
            self.ring.start_over()
        for job in jobs:
            self.usual_bytes += (max(job.size_bytes, 1) - self.usual_bytes) / 50
        return jobs

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


def by_attempt(rows: Sequence[Claimed]) -> list[list[Claimed]]:
    """Rows grouped by their attempt, in order."""
    groups: dict[int, list[Claimed]] = defaultdict(list)
    for row in rows:
        groups[row.attempt_id].append(row)
    return list(groups.values())


def within_octets(rows: Sequence[Claimed], octets: int) -> tuple[list[Claimed], list[Claimed]]:
    """Split at the attempt that would go over the allowance; the first attempt always stays."""
    kept: list[Claimed] = []
    surplus: list[Claimed] = []
    used = 0
    for group in by_attempt(rows):
        used += group[0].size_bytes
        (kept if not kept or used <= octets else surplus).extend(group)
    return kept, surplus
