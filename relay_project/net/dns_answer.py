"""What a DNS response means to us: the rules that the asynchronous resolver and the synchronous look-up share.

`ask` is a generator without I/O: it yields the next `Attempt`, is sent the response or the exception that came of it,
and returns an `Answer` (perhaps empty) or raises `NameNotFound` or `ResolverFailure`. Caching times follow RFC 2308.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype

MAX_CNAMES = 8  # hops from response to response; working mail domains need one or two
MAX_TTL_SECONDS = 86_400.0  # a day, so that a mistake does not outlive its mending by long (RFC 8767 §4 caps at 7 days)
MAX_NEGATIVE_TTL_SECONDS = 3_600.0  # RFC 2308 §5: one to three hours have been found to work well
FAILURE_TTL_SECONDS = 3.0  # so that a burst of mail to one broken domain asks once; RFC 2308 §7 allows 5 minutes
UDP_PAYLOAD = 1_232  # octets that cross every path unfragmented (DNS Flag Day 2020)
ROUNDS = 2  # over the nameservers within one timeout: a lost datagram is asked for again
SHORTEST_WAIT_SECONDS = 1.0  # for one try, however many nameservers share the timeout

Nameserver = tuple[str, int]


class LookupFailed(Exception):
    """The question about `name` got no answer, and may be asked again after `ttl` seconds."""

    def __init__(self, name: str, text: str, ttl: float) -> None:
        self.name = name
        self.text = text
        self.ttl = ttl
        super().__init__(f"{name}: {text}")


class NameNotFound(LookupFailed, LookupError):
    """NXDOMAIN, or not a domain name at all: no such name."""


class ResolverFailure(LookupFailed, ConnectionError):
    """SERVFAIL, REFUSED or no response in time: this says nothing about the name, ask again later."""


class _Unusable(Exception):
    """This response settles nothing; the next nameserver may know."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The records of one type at a name, CNAMEs followed; no records means that the name has none of that type."""

    canonical_name: str  # without the trailing dot
    records: tuple[dns.rdata.Rdata, ...]
    authentic: bool  # every response had the AD bit (RFC 6840 §5.8); worth what the path to the nameserver is worth
    ttl: float  # seconds it may be kept


@dataclass(frozen=True, slots=True)
class Attempt:
    """One query for one nameserver, and the seconds to wait for its response."""

    query: dns.message.QueryMessage
    nameserver: Nameserver
    wait: float


Outcome = dns.message.Message | Exception


def ask(
    name: str, rdtype: dns.rdatatype.RdataType, nameservers: Sequence[Nameserver], timeout: float
) -> Generator[Attempt, Outcome, Answer]:
    """Ask for `rdtype` at `name`, following CNAMEs that the nameserver left to us, all within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    target, authentic, ttl = _parse_name(name), True, MAX_TTL_SECONDS
    for _ in range(MAX_CNAMES + 1):
        answer, unfinished = yield from _ask_servers(name, target, rdtype, nameservers, timeout, deadline)
        authentic, ttl = authentic and answer.authentic, min(ttl, answer.ttl)
        if unfinished is None:
            return Answer(answer.canonical_name, answer.records, authentic, ttl)
        target = unfinished
    raise ResolverFailure(name, f"more than {MAX_CNAMES} CNAMEs in a row", FAILURE_TTL_SECONDS)


def _parse_name(name: str) -> dns.name.Name:
    try:
        return dns.name.from_text(name)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise NameNotFound(name, f"not a domain name: {error}", MAX_NEGATIVE_TTL_SECONDS) from error


def _ask_servers(
    asked: str,
    target: dns.name.Name,
    rdtype: dns.rdatatype.RdataType,
    nameservers: Sequence[Nameserver],
    timeout: float,
    deadline: float,
) -> Generator[Attempt, Outcome, tuple[Answer, dns.name.Name | None]]:
    wait = max(timeout / (ROUNDS * max(len(nameservers), 1)), min(SHORTEST_WAIT_SECONDS, timeout / ROUNDS))
    trouble = "no nameserver is configured"
    for nameserver in [*nameservers] * ROUNDS:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            break
        outcome = yield Attempt(make_query(target, rdtype), nameserver, min(wait, remaining))
        try:
            return read_response(asked, outcome)
        except _Unusable as unusable:
            trouble = f"{nameserver[0]} port {nameserver[1]}: {unusable}"
    raise ResolverFailure(asked, trouble, FAILURE_TTL_SECONDS)


def make_query(name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> dns.message.QueryMessage:
    """A question with EDNS that asks for the AD bit without the DNSSEC records (RFC 6840 §5.7)."""
    query = dns.message.make_query(name, rdtype, use_edns=0, payload=UDP_PAYLOAD)
    query.flags |= dns.flags.AD
    return query


def read_response(asked: str, outcome: Outcome) -> tuple[Answer, dns.name.Name | None]:
    """The answer, with the name to go on at when a CNAME chain is unfinished; raises NameNotFound or _Unusable."""
    if isinstance(outcome, Exception):
        raise _Unusable(_describe(outcome)) from outcome
    rcode = outcome.rcode()
    if not isinstance(outcome, dns.message.QueryMessage) or rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise _Unusable(dns.rcode.to_text(rcode))
    try:
        chain = outcome.resolve_chaining()
    except dns.exception.DNSException as error:
        raise _Unusable(_describe(error)) from error
    negative_ttl = min(float(chain.minimum_ttl), MAX_NEGATIVE_TTL_SECONDS)
    if rcode == dns.rcode.NXDOMAIN:
        raise NameNotFound(asked, "no such domain (NXDOMAIN)", negative_ttl)
    name, authentic = chain.canonical_name.to_text(omit_final_dot=True).lower(), bool(outcome.flags & dns.flags.AD)
    if chain.answer is not None:
        ttl = min(float(chain.minimum_ttl), MAX_TTL_SECONDS)
        return Answer(name, tuple(chain.answer), authentic, ttl), None
    unfinished = bool(chain.cnames) and not _has_soa(outcome)
    return Answer(name, (), authentic, negative_ttl), chain.canonical_name if unfinished else None


def _has_soa(response: dns.message.QueryMessage) -> bool:
    """A response that means "no such records" carries the zone's SOA (RFC 2308 §2.2)."""
    return any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority)


def _describe(error: Exception) -> str:
    if isinstance(error, dns.exception.Timeout | TimeoutError):
        return "no response in time"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
