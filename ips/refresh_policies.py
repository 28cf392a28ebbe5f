"""Refreshing MTA-STS policies before they expire (RFC 8461 §3.3), away from any mail that waits for them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog
from django.conf import settings

from ips import tls_policies
from ips.tls_policies import KnownPolicy
from relay_project.mail.mta_sts import RECORD_LABEL, Policy, identify
from relay_project.net.resolver import LookupFailed, Resolver
from relay_project.net.sts_fetch import FetchFailed, fetch_policy
from relay_project.net.trust import verifying_context

log = structlog.get_logger()

AT_ONCE = 8  # fetches
AT_MOST = 200  # policies a run; a run comes every hour, and takes minutes when every host is silent

Fetch = Callable[[str], Awaitable[Policy]]


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What came of one look: a policy, or why there is none; neither where the domain names no policy any more."""

    domain: str
    policy_id: str
    policy: Policy | None = None
    error: str = ""


def fetcher(resolver: Resolver) -> Fetch:
    """Fetch policies as the operator's settings say."""
    trust = verifying_context(settings.SMTP_TRUST_FILE) if settings.SMTP_TRUST_FILE else None
    return partial(
        fetch_policy, resolver=resolver, port=settings.MTA_STS_PORT, allow_private=settings.PRIVATE_MX, trust=trust
    )


def refresh(now: datetime) -> tuple[int, int]:
    """Look at the policies that are a day old; returns how many were fetched and how many could not be."""
    due = tls_policies.due_for_refresh(now, AT_MOST) if settings.MTA_STS else []
    results = asyncio.run(_look_at_all(due)) if due else []
    for result in results:
        if result.policy is not None:
            tls_policies.store(result.domain, result.policy_id, result.policy, now)
        elif result.error:
            log.info("mta_sts.refresh_failed", domain=result.domain, error=result.error)
            tls_policies.store_failure(result.domain, result.error, now)
    return sum(result.policy is not None for result in results), sum(bool(result.error) for result in results)


async def _look_at_all(due: Sequence[KnownPolicy]) -> list[Refreshed]:
    resolver, slots = Resolver(settings.DNS_RESOLVERS or None), asyncio.Semaphore(AT_ONCE)
    fetch = fetcher(resolver)
    try:
        return await asyncio.gather(*(_look_at(one, resolver, fetch, slots) for one in due))
    finally:
        await resolver.aclose()


async def _look_at(known: KnownPolicy, resolver: Resolver, fetch: Fetch, slots: asyncio.Semaphore) -> Refreshed:
    async with slots:
        try:
            policy_id = identify(await resolver.txt(f"{RECORD_LABEL}.{known.domain}"))
            if policy_id is None:  # withdrawn: what is kept holds until it expires, and is not prolonged
                return Refreshed(known.domain, "")
            return Refreshed(known.domain, policy_id, await fetch(known.domain))
        except (LookupFailed, FetchFailed) as error:
            return Refreshed(known.domain, "", error=str(error))
