"""What a sender knows of receiving domains' TLS policies: in memory, fed from the database, asked without waiting.

MTA-STS (RFC 8461): the record in DNS says whether there is a policy and which; a new one is fetched over HTTPS, kept in
the database for everybody, and holds until it expires. Mail waits a moment for what is being asked, then goes back to
the queue: a policy host that dawdles holds nobody else's place.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
import structlog
from django.db import DatabaseError, InterfaceError

from ips import tls_policies
from ips.tls_policies import ANY_DOMAIN, KnownPolicy
from relay_project.mail.mta_sts import RECORD_LABEL, Policy, identify
from relay_project.metrics import Counter
from relay_project.net.conversation import TlsRequirement
from relay_project.net.resolver import NameNotFound, Resolver, ResolverFailure
from relay_project.net.sts_fetch import FetchFailed

log = structlog.get_logger()

FETCHES = Counter("relay_mta_sts_fetches_total", "MTA-STS policies asked for over HTTPS, by result.", ["result"])

PATIENCE_SECONDS = 3.0  # that mail waits here for a policy; then it goes back, and comes again
FRESH_SECONDS = 60.0  # what was found counts this long before DNS (which has its own TTLs) is asked again
RETRY_SECONDS = 300.0  # between tries to fetch a policy that cannot be had (RFC 8461 §3.3)
READ_SECONDS = 30.0  # between looks into the database
MAX_DOMAINS = 50_000  # kept in memory; a few hundred octets each
MAX_FETCHES = 16  # at once
SLOT_SECONDS = 60.0  # that a fetch waits for the others: mail to a stranger's thousand domains delays no other mail

InDatabase = Callable[[Callable[[], Any]], Awaitable[Any]]
Fetch = Callable[[str], Awaitable[Policy]]


class PolicyPending(Exception):
    """The domain's policy is still being asked for: the mail comes back in a moment."""


@dataclass(frozen=True, slots=True)
class DomainTls:
    """What is to be held to for one recipient domain."""

    override: TlsRequirement | None = None  # staff's decision about this domain
    default: TlsRequirement = TlsRequirement.OPPORTUNISTIC  # where the domain publishes nothing; staff's too
    sts: Policy | None = None


@dataclass(slots=True)
class PolicyBook:
    """The policies of one sender process. `in_database` runs a function in a database thread."""

    resolver: Resolver
    fetch: Fetch
    in_database: InDatabase
    is_enabled: bool = True  # whether MTA-STS is honoured
    overrides: dict[str, TlsRequirement] = field(default_factory=dict)
    _kept: dict[str, KnownPolicy] = field(default_factory=dict)
    _found: dict[str, tuple[float, Policy | None]] = field(default_factory=dict)
    _asking: "dict[str, asyncio.Task[Policy | None]]" = field(default_factory=dict)
    _retry_at: dict[str, float] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)
    _read_at: datetime | None = None
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_FETCHES))

    # --- the questions ---------------------------------------------------------------------------------------------

    def known(self, domain: str) -> DomainTls | None:
        """What holds for a domain, where nothing has to be asked: nearly every mail."""
        if self._read_at is None:
            return None
        if (override := self.overrides.get(domain)) is not None or not self.is_enabled:
            return DomainTls(override, self._default)
        found = self._found.get(domain)
        return DomainTls(None, self._default, found[1]) if found and found[0] > time.monotonic() else None

    async def of(self, domain: str) -> DomainTls:
        """What holds for a domain; raises PolicyPending when that takes longer than mail should wait."""
        if (known := self.known(domain)) is not None:
            return known
        if self._read_at is None:  # the database has not told yet what must be held to
            raise PolicyPending
        task = self._asking.get(domain)
        if task is None:
            task = self._asking[domain] = asyncio.create_task(self._ask(domain))
            task.add_done_callback(lambda _: self._asking.pop(domain, None))
        try:
            return DomainTls(None, self._default, await asyncio.wait_for(asyncio.shield(task), PATIENCE_SECONDS))
        except TimeoutError:
            raise PolicyPending from None

    def without_sts(self, domain: str) -> DomainTls:
        """What holds where the operator chose the route: staff's decisions only."""
        return DomainTls(self.overrides.get(domain), self._default)

    @property
    def _default(self) -> TlsRequirement:
        return self.overrides.get(ANY_DOMAIN, TlsRequirement.OPPORTUNISTIC)

    # --- MTA-STS ---------------------------------------------------------------------------------------------------

    async def _ask(self, domain: str) -> Policy | None:
        policy = await self._discover(domain)
        if len(self._found) >= MAX_DOMAINS:
            self._found.clear()
        self._found[domain] = (time.monotonic() + FRESH_SECONDS, policy)
        if policy is not None:
            self._used.add(domain)
        return policy

    async def _discover(self, domain: str) -> Policy | None:
        """The policy to hold to: the kept one, unless DNS names another that can be fetched (RFC 8461 §5.1)."""
        kept = self._kept.get(domain)
        valid = kept.valid(datetime.now(UTC)) if kept is not None else None
        try:
            policy_id = identify(await self.resolver.txt(f"{RECORD_LABEL}.{domain}"))
        except (NameNotFound, ResolverFailure):
            return valid
        if policy_id is None or (valid is not None and kept is not None and kept.policy_id == policy_id):
            return valid
        if self._retry_at.get(domain, 0.0) > time.monotonic():
            return valid
        return await self._fetched(domain, policy_id) or valid

    async def _fetched(self, domain: str, policy_id: str) -> Policy | None:
        """The policy from its host, kept for everybody; None when it cannot be had now, which is noted."""
        now = datetime.now(UTC)
        try:
            await asyncio.wait_for(self._slots.acquire(), SLOT_SECONDS)
        except TimeoutError:
            FETCHES.labels("crowded").inc()
            log.warning("mta_sts.fetch_crowded", domain=domain)
            return None
        try:
            policy = await self.fetch(domain)
        except FetchFailed as error:
            FETCHES.labels("failed").inc()
            log.info("mta_sts.fetch_failed", domain=domain, error=str(error))
            if len(self._retry_at) >= MAX_DOMAINS:
                self._retry_at.clear()
            self._retry_at[domain] = time.monotonic() + RETRY_SECONDS
            await self._written(lambda error=error: tls_policies.store_failure(domain, str(error), now))  # type: ignore[misc]
            return None
        finally:
            self._slots.release()
        FETCHES.labels("fetched").inc()
        log.info("mta_sts.fetched", domain=domain, mode=policy.mode.value, policy_id=policy_id)
        self._kept[domain] = KnownPolicy(domain, policy_id, policy, now + policy.lifetime)
        await self._written(lambda: tls_policies.store(domain, policy_id, policy, now))
        return policy

    # --- the database ----------------------------------------------------------------------------------------------

    async def keep_reading(self) -> None:
        """Follow what the others store and staff decide, until cancelled."""
        while True:
            await self.read()
            await asyncio.sleep(READ_SECONDS if self._read_at is not None else 1.0)

    async def read(self) -> None:
        """Learn what has changed; all of it the first time. With the database away the next look tries again."""
        now, used = datetime.now(UTC), frozenset(self._used)
        changes = await self._written(lambda: tls_policies.read_changes(self._read_at))
        if changes is None:
            return
        self.overrides = {domain: TlsRequirement(requirement) for domain, requirement in changes.overrides.items()}
        for policy in changes.policies:
            self._kept[policy.domain] = policy
            self._found.pop(policy.domain, None)
        self._read_at = now
        if used and await self._written(lambda: tls_policies.mark_used(used, now)) is not None:
            self._used -= used

    async def _written(self, work: Callable[[], Any]) -> Any:
        try:
            return await self.in_database(work)
        except (DatabaseError, InterfaceError, psycopg.Error, OSError) as error:
            log.warning("tls_policies.database_trouble", error=f"{type(error).__name__}: {error}".strip())
            return None

    async def aclose(self) -> None:
        """Give up what is being asked."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
