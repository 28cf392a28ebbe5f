"""How much TLS a mail demands of a host: the first of these that says something.

1. a decision of staff about the recipient's domain;
2. DANE (RFC 7672), where DNSSEC vouches for the way to the host and the host has TLSA records;
3. MTA-STS (RFC 8461), where the domain's policy is `enforce`;
4. staff's decision for all others, else opportunistic: TLS where offered, with any certificate (RFC 7435).
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from ipaddress import ip_address

from django.conf import settings

from ips.refresh_policies import fetcher
from relay_project.mail.mta_sts import Mode
from relay_project.mail.tlsa import DANE_TA, Tlsa, usable, verify
from relay_project.net.conversation import Endpoint, TlsRequirement
from relay_project.net.resolver import HostAnswer, LookupFailed, Resolver
from relay_project.net.smtp_open import Vouch
from relay_project.net.trust import verifying_context
from sending.deliver.policy_book import DomainTls, InDatabase, PolicyBook
from sending.deliver.route import Route


class TlsPolicy(StrEnum):
    """What decided about TLS; the words that stand in the attempt."""

    DANE = "dane"
    MTA_STS = "mta-sts"
    OVERRIDE = "override"
    OPPORTUNISTIC = "opportunistic"
    NONE = "none"  # staff's decision that no STARTTLS is spoken


class HostRefused(Exception):
    """No mail of this domain may go to this host now; the message says why, `policy` whose demand it is."""

    def __init__(self, policy: TlsPolicy, reason: str) -> None:
        super().__init__(reason)
        self.policy = policy


@dataclass(frozen=True, slots=True)
class Demand:
    """What a connection must be to carry a mail. `host` and what follows matter where a certificate is to be checked."""

    requirement: TlsRequirement
    policy: TlsPolicy
    host: str = ""
    tlsa: tuple[Tlsa, ...] = ()
    names: tuple[str, ...] = ()  # that the certificate may be for, where that counts

    def is_met_by(self, former: "Demand") -> bool:
        """Whether a connection opened for a former demand may carry this one as well.

        A certificate was checked for one host by one set of rules, so with that it must be the very same.
        """
        if former is self:
            return True
        if self.requirement is TlsRequirement.VERIFIED:
            return (former.requirement, former.host, former.tlsa, former.names) == (
                self.requirement,
                self.host,
                self.tlsa,
                self.names,
            )
        return former.requirement >= self.requirement

    @property
    def is_strict(self) -> bool:
        """Whether no mail goes without TLS."""
        return self.requirement >= TlsRequirement.ENCRYPTED

    @property
    def vouch(self) -> Vouch | None:
        """What judges the server's certificates by TLSA records; None where authorities do, or nobody."""
        return partial(_vouch, self.tlsa, self.names or (self.host,)) if self.tlsa else None


# Docker's own nameserver in a container: on loopback, and only passes on what some resolver elsewhere says.
DOCKER_FORWARDER = ip_address("127.0.0.11")
OPPORTUNISTIC = Demand(TlsRequirement.OPPORTUNISTIC, TlsPolicy.OPPORTUNISTIC)


@dataclass(slots=True)
class TlsLadder:
    """Decides for each mail and host. `trust_ad`: the resolver's word on DNSSEC is believed."""

    book: PolicyBook
    resolver: Resolver
    trust_ad: bool
    trust: ssl.SSLContext | None = None  # in place of the system's certificates

    @classmethod
    def from_settings(cls, resolver: Resolver, in_database: InDatabase) -> "TlsLadder":
        """As the operator wants it. `in_database` runs a function in a database thread."""
        trust = verifying_context(settings.SMTP_TRUST_FILE) if settings.SMTP_TRUST_FILE else None
        book = PolicyBook(resolver, fetcher(resolver), in_database, settings.MTA_STS)
        return cls(book, resolver, believes(settings.DNS_TRUST_AD, resolver), trust)

    async def rule(self, domain: str, route: Route) -> DomainTls:
        """What holds for a recipient domain; raises PolicyPending."""
        if route.is_fixed:
            return self.book.without_sts(domain)
        return self.book.known(domain) or await self.book.of(domain)

    async def demand(self, rule: DomainTls, domain: str, route: Route, endpoint: Endpoint) -> Demand:
        """What holds for one host of the domain; raises HostRefused."""
        if rule.override is not None:
            return _by_staff(rule.override, endpoint.host)
        enforced = rule.sts if rule.sts is not None and rule.sts.mode is Mode.ENFORCE else None
        dane = await self._dane(domain, endpoint) if self.trust_ad and route.is_authentic else None
        if dane is not None and (dane.tlsa or enforced is None):
            return dane
        if enforced is not None:
            if not enforced.allows(endpoint.host):
                patterns = ", ".join(enforced.mx)
                raise HostRefused(
                    TlsPolicy.MTA_STS,
                    f"{endpoint.host} is an MX of {domain}, but its MTA-STS policy (enforce) allows only {patterns}",
                )
            return Demand(TlsRequirement.VERIFIED, TlsPolicy.MTA_STS, endpoint.host)
        return OPPORTUNISTIC if rule.default is TlsRequirement.OPPORTUNISTIC else _by_staff(rule.default, endpoint.host)

    async def _dane(self, domain: str, endpoint: Endpoint) -> Demand | None:
        """The demand of a host's TLSA records; None where it has none or nothing vouches for its addresses."""
        try:
            where = await self.resolver.host(endpoint.host)
            base, records = await self._records(where, endpoint)
        except LookupFailed as error:  # an attacker could withhold what is there (RFC 7672 §2.1.2)
            reason = f"the TLSA records of {endpoint.host} cannot be looked up: {error}"
            raise HostRefused(TlsPolicy.DANE, reason) from None
        if not records:
            return None
        good = usable(records)
        if not good:  # RFC 7672 §2.2: TLS there must be, although nothing says with which certificate
            return Demand(TlsRequirement.ENCRYPTED, TlsPolicy.DANE)
        names = (base, domain) if any(record.usage == DANE_TA for record in good) else ()
        return Demand(TlsRequirement.VERIFIED, TlsPolicy.DANE, base, good, names)

    async def _records(self, where: HostAnswer, endpoint: Endpoint) -> tuple[str, Sequence[Tlsa]]:
        """The TLSA base domain and its records: where the host's aliases lead, else its own name (RFC 7672 §2.2.3)."""
        if where.authentic:
            for base in dict.fromkeys((where.canonical_name, endpoint.host)):
                if records := await self.resolver.tlsa(base, endpoint.port):
                    return base, records
        return endpoint.host, ()


def believes(trust_ad: str, resolver: Resolver) -> bool:
    """Whether the AD bit counts (DNS_TRUST_AD); `auto`: nobody can stand between this machine and itself."""
    if trust_ad != "auto":
        return trust_ad == "true"
    addresses = [ip_address(address) for address, _ in resolver.nameservers]
    return bool(addresses) and all(one.is_loopback and one != DOCKER_FORWARDER for one in addresses)


def _by_staff(requirement: TlsRequirement, host: str) -> Demand:
    if requirement is TlsRequirement.NONE:
        return Demand(requirement, TlsPolicy.NONE)
    return Demand(requirement, TlsPolicy.OVERRIDE, host if requirement is TlsRequirement.VERIFIED else "")


def _vouch(records: Sequence[Tlsa], names: Sequence[str], chain: Sequence[bytes]) -> str | None:
    reason = verify(records, chain, names, datetime.now(UTC))
    return f"DANE: {reason}" if reason else None
