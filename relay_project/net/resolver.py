"""DNS look-ups for the delivery of mail: MX, addresses, TXT, with a cache that keeps to the TTLs.

One `Resolver` belongs to one event loop and is used from nowhere else; that is what makes its cache safe without locks.
Django processes without a loop use `txt_records`, which follows the same rules and keeps nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import dns.asyncquery
import dns.exception
import dns.message
import dns.query
import dns.rdata
import dns.rdatatype
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.TLSA
import dns.rdtypes.ANY.TXT
import dns.resolver

from relay_project.mail.mx import MxRecord, is_null_mx
from relay_project.mail.text import clean
from relay_project.mail.tlsa import Tlsa
from relay_project.net.dns_answer import Answer, Attempt, LookupFailed, NameNotFound, Nameserver, ResolverFailure, ask

__all__ = [
    "Answer",
    "HostAnswer",
    "LookupFailed",
    "MxAnswer",
    "NameNotFound",
    "Nameserver",
    "Resolver",
    "ResolverFailure",
    "look_up_all",
    "mx_hosts",
    "txt_records",
    "txt_texts",
]

MAX_TXT = 4_096  # characters kept of one TXT record; an RSA-4096 key takes about 750
MAX_QUERIES = 256  # in flight at once; each holds a socket of its own, so that answers are hard to forge
MAX_CACHED = 50_000  # questions; about 1 KB each
DEFAULT_TIMEOUT_SECONDS = 5.0  # as the C library's resolver waits

# dnspython reports a dead server, a broken response and a closed TCP connection in these ways.
_QUERY_ERRORS = (dns.exception.DNSException, OSError, EOFError, ValueError)

_Question = tuple[str, dns.rdatatype.RdataType]


@dataclass(frozen=True, slots=True)
class MxAnswer:
    """Where the mail of a domain goes (RFC 5321 §5.1)."""

    records: tuple[MxRecord, ...]  # for an implicit MX the domain itself with preference 0; none for a null MX
    implicit: bool = False  # there is no MX record
    null: bool = False  # "this domain accepts no mail" (RFC 7505)
    authentic: bool = False  # a validating nameserver vouches for the MX records


@dataclass(frozen=True, slots=True)
class HostAnswer:
    """Where a host is."""

    addresses: tuple[str, ...]  # IPv6 then IPv4
    canonical_name: str  # where its CNAMEs lead
    authentic: bool  # a validating nameserver vouches for the addresses


@dataclass(slots=True)
class _Kept:
    outcome: Answer | LookupFailed
    until: float  # time.monotonic()


class Resolver:
    """Asks nameservers (addresses with ports; None means those of /etc/resolv.conf) and keeps answers for their TTL."""

    def __init__(
        self,
        nameservers: Sequence[Nameserver] | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        max_cached: int = MAX_CACHED,
    ) -> None:
        self.nameservers = tuple(system_nameservers() if nameservers is None else nameservers)
        self.timeout = timeout
        self.queries = 0  # sent to nameservers, repeated ones included
        self._max_cached = max_cached
        self._kept: OrderedDict[_Question, _Kept] = OrderedDict()
        self._in_flight: dict[_Question, asyncio.Task[Answer | LookupFailed]] = {}
        self._slots = asyncio.Semaphore(MAX_QUERIES)

    async def mx(self, domain: str) -> MxAnswer:
        """The MX records of `domain`, an implicit one, or a null MX; raises NameNotFound or ResolverFailure."""
        answer = await self.lookup(domain, dns.rdatatype.MX)
        records = tuple(map(_mx_record, answer.records))
        if not records:
            return MxAnswer((MxRecord(0, answer.canonical_name),), implicit=True, authentic=answer.authentic)
        if is_null_mx(records):
            return MxAnswer((), null=True, authentic=answer.authentic)
        return MxAnswer(records, authentic=answer.authentic)

    async def addresses(self, host: str) -> list[str]:
        """IPv6 then IPv4 addresses of `host`, perhaps none; raises NameNotFound or ResolverFailure."""
        return list((await self.host(host)).addresses)

    async def host(self, host: str) -> HostAnswer:
        """The addresses of `host`, perhaps none, and whether they are vouched for; raises like `addresses`.

        A family that cannot be looked up is left out as long as the other one has an address.
        """
        questions = ((host.rstrip(".").lower(), rdtype) for rdtype in (dns.rdatatype.AAAA, dns.rdatatype.A))
        known = [self._known(question) for question in questions]
        outcomes: Sequence[Answer | LookupFailed]
        if known[0] is not None and known[1] is not None:
            outcomes = (known[0], known[1])  # two tasks would cost more than all the rest of a mail's routing
        else:
            outcomes = await asyncio.gather(
                self._outcome(host, dns.rdatatype.AAAA), self._outcome(host, dns.rdatatype.A)
            )
        answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        found = tuple(record.to_text() for answer in answers for record in answer.records)
        if not found:
            _raise_worst(outcomes)
        name = next((answer.canonical_name for answer in answers if answer.records), host.rstrip(".").lower())
        return HostAnswer(found, name, all(answer.authentic for answer in answers))

    async def tlsa(self, host: str, port: int) -> tuple[Tlsa, ...]:
        """The TLSA records of a host that its domain vouches for, none where it does not.

        A failure (SERVFAIL is how a validating nameserver says "bogus") raises ResolverFailure.
        """
        try:
            answer = await self.lookup(f"_{port}._tcp.{host}", dns.rdatatype.TLSA)
        except NameNotFound:
            return ()
        return tuple(map(_tlsa, answer.records)) if answer.authentic else ()

    async def txt(self, name: str) -> list[str]:
        """The TXT records at `name`, each with its strings joined; raises NameNotFound or ResolverFailure."""
        return txt_texts(await self.lookup(name, dns.rdatatype.TXT))

    async def lookup(self, name: str, rdtype: dns.rdatatype.RdataType) -> Answer:
        """Any other question, with the AD bit; raises NameNotFound or ResolverFailure, not for an empty answer."""
        outcome = await self._outcome(name, rdtype)
        if isinstance(outcome, LookupFailed):
            # a fresh one: a kept exception would collect the traceback of everybody it was raised for
            raise type(outcome)(outcome.name, outcome.text, outcome.ttl)
        return outcome

    async def aclose(self) -> None:
        """Give up what is being asked."""
        tasks = list(self._in_flight.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _outcome(self, name: str, rdtype: dns.rdatatype.RdataType) -> Answer | LookupFailed:
        question = (name.rstrip(".").lower(), rdtype)
        if (known := self._known(question)) is not None:
            return known
        task = self._in_flight.get(question)
        if task is None:
            task = self._in_flight[question] = asyncio.create_task(self._ask(question))
            task.add_done_callback(lambda _: self._in_flight.pop(question, None))
        # shielded: whoever asked first may be cancelled, the others still wait for the answer
        return await asyncio.shield(task)

    def _known(self, question: _Question) -> Answer | LookupFailed | None:
        kept = self._kept.get(question)
        if kept is None or kept.until <= time.monotonic():
            return None
        self._kept.move_to_end(question)
        return kept.outcome

    async def _ask(self, question: _Question) -> Answer | LookupFailed:
        outcome: Answer | LookupFailed
        try:
            async with self._slots:
                outcome = await self._drive(question)
        except LookupFailed as failed:
            outcome = failed.with_traceback(None)
        self._keep(question, outcome)
        return outcome

    async def _drive(self, question: _Question) -> Answer:
        steps = ask(*question, self.nameservers, self.timeout)
        try:
            attempt = next(steps)
            while True:
                attempt = steps.send(await self._query(attempt))
        except StopIteration as finished:
            return cast(Answer, finished.value)

    async def _query(self, attempt: Attempt) -> dns.message.Message | Exception:
        self.queries += 1
        address, port = attempt.nameserver
        try:
            response, _ = await dns.asyncquery.udp_with_fallback(
                attempt.query, address, timeout=attempt.wait, port=port, ignore_errors=True
            )
        except _QUERY_ERRORS as error:
            return error
        return response

    def _keep(self, question: _Question, outcome: Answer | LookupFailed) -> None:
        self._kept[question] = _Kept(outcome, time.monotonic() + outcome.ttl)
        self._kept.move_to_end(question)
        if len(self._kept) > self._max_cached:
            self._kept.popitem(last=False)


def system_nameservers() -> list[Nameserver]:
    """The nameservers of /etc/resolv.conf; none where there is no such file."""
    try:
        return [(str(address), 53) for address in dns.resolver.Resolver(configure=True).nameservers]
    except dns.resolver.NoResolverConfiguration:
        return []


def txt_records(
    name: str, nameservers: Sequence[Nameserver] | None = None, timeout: float = DEFAULT_TIMEOUT_SECONDS
) -> list[str]:
    """The TXT records at `name`, asked for now and without an event loop; raises NameNotFound or ResolverFailure."""
    steps = ask(name, dns.rdatatype.TXT, system_nameservers() if nameservers is None else nameservers, timeout)
    try:
        attempt = next(steps)
        while True:
            attempt = steps.send(_query_now(attempt))
    except StopIteration as finished:
        return txt_texts(cast(Answer, finished.value))


def look_up_all(
    questions: Sequence[tuple[str, dns.rdatatype.RdataType]],
    nameservers: Sequence[Nameserver] | None = None,
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
) -> list[Answer | LookupFailed]:
    """Many questions at once, asked for now by a thread without an event loop: what came of each, in their order."""

    async def gather() -> list[Answer | LookupFailed]:
        resolver = Resolver(nameservers, timeout)
        return await asyncio.gather(*(resolver._outcome(name, rdtype) for name, rdtype in questions))

    return asyncio.run(gather())


def _query_now(attempt: Attempt) -> dns.message.Message | Exception:
    address, port = attempt.nameserver
    try:
        response, _ = dns.query.udp_with_fallback(
            attempt.query, address, timeout=attempt.wait, port=port, ignore_errors=True
        )
    except _QUERY_ERRORS as error:
        return error
    return response


def _raise_worst(outcomes: Sequence[Answer | LookupFailed]) -> None:
    """A failure to ask outweighs "no such name": that is known only when both questions were answered."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, LookupFailed)]
    failed.sort(key=lambda outcome: isinstance(outcome, NameNotFound))
    if failed:
        raise type(failed[0])(failed[0].name, failed[0].text, failed[0].ttl)


def _mx_record(record: dns.rdata.Rdata) -> MxRecord:
    mx = cast(dns.rdtypes.ANY.MX.MX, record)
    # the root, which stands for "no mail", keeps its dot: without it the host would be empty
    host = mx.exchange.to_text(omit_final_dot=True).lower()
    return MxRecord(mx.preference, host)


def _tlsa(record: dns.rdata.Rdata) -> Tlsa:
    tlsa = cast(dns.rdtypes.ANY.TLSA.TLSA, record)
    return Tlsa(tlsa.usage, tlsa.selector, tlsa.mtype, tlsa.cert)


def mx_hosts(answer: Answer) -> list[str]:
    """The hosts of an answer about MX, the preferred first."""
    return [record.host for record in sorted(map(_mx_record, answer.records), key=lambda record: record.preference)]


def txt_texts(answer: Answer) -> list[str]:
    """The texts of an answer about TXT, each with its strings joined."""
    texts = (b"".join(cast(dns.rdtypes.ANY.TXT.TXT, record).strings) for record in answer.records)
    return [clean(text, MAX_TXT) for text in texts]
