"""net.resolver and net.dns_answer against real DNS servers on loopback."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest

from relay_project.mail.mx import MxRecord
from relay_project.net import dns_answer
from relay_project.net.resolver import NameNotFound, Resolver, ResolverFailure, txt_records
from relay_project.sandbox.dns import SandboxDns

KEY = "v=DKIM1; k=rsa; p=" + "A" * 700


def texts(name: str) -> list[str]:
    return [KEY, 'with "quotes" and \\ and ü'] if name == "sel._domainkey.alice.test" else []


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxDns]:
    async with SandboxDns(txt=texts) as server:
        yield server


@pytest.fixture
async def resolver(sandbox: SandboxDns) -> AsyncIterator[Resolver]:
    resolver = Resolver([(sandbox.address, sandbox.port)], timeout=0.4)
    yield resolver
    await resolver.aclose()


Answering = Callable[[dns.message.Message], dns.message.Message | None]


class Scripted(SandboxDns):
    """A nameserver that answers with whatever the test says."""

    def __init__(self, answering: Answering) -> None:
        super().__init__()
        self._answering = answering

    async def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        return self._answering(query)


def response(query: dns.message.Message, *rrsets: tuple[str, str, str], ttl: int = 60) -> dns.message.Message:
    made = dns.message.make_response(query)
    for name, rdtype, text in rrsets:
        section = made.authority if rdtype == "SOA" else made.answer
        section.append(dns.rrset.from_text(name, ttl, "IN", rdtype, text))
    return made


async def in_thread(call: Callable[[], list[str]]) -> list[str]:
    return await asyncio.to_thread(call)


async def test_mx_records_are_found(resolver: Resolver) -> None:
    answer = await resolver.mx("Example.ORG")
    assert answer.records == (MxRecord(10, "mx.sandbox.test"),)
    assert not answer.implicit
    assert not answer.null


async def test_a_domain_without_mx_is_its_own_implicit_mx(resolver: Resolver) -> None:
    answer = await resolver.mx("no-mx.example.org")
    assert answer.implicit
    assert answer.records == (MxRecord(0, "no-mx.example.org"),)


async def test_null_mx_is_flagged(resolver: Resolver) -> None:
    """Lesson C15: a null MX is no host to connect to."""
    answer = await resolver.mx("null-mx.example.org")
    assert answer.null
    assert answer.records == ()


async def test_two_hosts_keep_their_preferences(resolver: Resolver) -> None:
    answer = await resolver.mx("two-hosts.example.org")
    assert set(answer.records) == {MxRecord(5, "dead.sandbox.test"), MxRecord(10, "mx.sandbox.test")}
    assert await resolver.addresses("dead.sandbox.test") == ["127.0.0.99"]


async def test_nxdomain_is_name_not_found(resolver: Resolver) -> None:
    with pytest.raises(NameNotFound, match="NXDOMAIN"):
        await resolver.mx("nxdomain.example.org")
    with pytest.raises(NameNotFound):
        await resolver.addresses("nxdomain.example.org")


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".test", "." + "y.", "ü" * 80])
async def test_what_is_no_domain_name_is_not_found(resolver: Resolver, name: str) -> None:
    with pytest.raises(NameNotFound, match="not a domain name"):
        await resolver.mx(name)


async def test_servfail_is_a_temporary_failure_and_not_kept_for_long(resolver: Resolver) -> None:
    """Lesson C2: a hiccup of the DNS says nothing about the domain."""
    with pytest.raises(ResolverFailure, match="SERVFAIL") as caught:
        await resolver.mx("servfail.example.org")
    assert caught.value.ttl <= 5


async def test_silence_is_a_temporary_failure_within_the_timeout(resolver: Resolver) -> None:
    begun = time.monotonic()
    with pytest.raises(ResolverFailure, match="no response in time"):
        await resolver.mx("timeout.example.org")
    assert time.monotonic() - begun < 2


async def test_no_nameserver_at_the_port_is_a_temporary_failure(sandbox: SandboxDns) -> None:
    resolver = Resolver([("127.0.0.99", sandbox.port)], timeout=0.4)
    with pytest.raises(ResolverFailure):
        await resolver.mx("example.org")


async def test_without_any_nameserver_the_failure_says_so() -> None:
    with pytest.raises(ResolverFailure, match="no nameserver"):
        await Resolver([]).mx("example.org")


async def test_the_second_nameserver_answers_when_the_first_refuses(sandbox: SandboxDns) -> None:
    def refuse(query: dns.message.Message) -> dns.message.Message:
        made = dns.message.make_response(query)
        made.set_rcode(dns.rcode.REFUSED)
        return made

    async with Scripted(refuse) as first:
        resolver = Resolver([(first.address, first.port), (sandbox.address, sandbox.port)], timeout=2)
        assert (await resolver.mx("example.org")).records
        assert first.questions == 1


async def test_truncated_answers_are_asked_for_over_tcp(resolver: Resolver) -> None:
    answer = await resolver.mx("truncated.example.org")
    assert answer.records == (MxRecord(10, "mx.sandbox.test"),)


async def test_answers_are_kept_for_their_ttl(resolver: Resolver) -> None:
    await resolver.mx("example.org")
    await resolver.mx("EXAMPLE.org.")
    assert resolver.queries == 1


async def test_negative_answers_are_kept_too(resolver: Resolver) -> None:
    for _ in range(2):
        with pytest.raises(NameNotFound):
            await resolver.mx("nxdomain.example.org")
    await resolver.mx("no-mx.example.org")
    await resolver.mx("no-mx.example.org")
    assert resolver.queries == 2


async def test_an_expired_answer_is_asked_for_again() -> None:
    async with SandboxDns(ttl=0) as server:
        resolver = Resolver([(server.address, server.port)])
        await resolver.mx("example.org")
        await resolver.mx("example.org")
        assert resolver.queries == 2


async def test_the_cache_is_bounded(sandbox: SandboxDns) -> None:
    resolver = Resolver([(sandbox.address, sandbox.port)], max_cached=2)
    for number in (1, 2, 3, 1):
        await resolver.mx(f"d{number}.test")
    assert resolver.queries == 4
    assert len(resolver._kept) == 2


async def test_one_question_is_in_flight_once(resolver: Resolver) -> None:
    """Lesson C16: many conversations ask for one domain at the same time."""
    answers = await asyncio.gather(*(resolver.mx("example.org") for _ in range(50)))
    assert resolver.queries == 1
    assert len(set(answers)) == 1


async def test_a_cancelled_asker_does_not_cancel_the_others(resolver: Resolver) -> None:
    first = asyncio.create_task(resolver.mx("example.org"))
    second = asyncio.create_task(resolver.mx("example.org"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).records
    assert resolver.queries == 1


async def test_cnames_in_one_response_are_followed() -> None:
    def answering(query: dns.message.Message) -> dns.message.Message:
        return response(query, ("a.test.", "CNAME", "b.test."), ("b.test.", "MX", "10 mx.b.test."))

    async with Scripted(answering) as server:
        assert (await Resolver([(server.address, server.port)]).mx("a.test")).records == (MxRecord(10, "mx.b.test"),)


async def test_a_cname_whose_target_was_left_out_is_asked_for() -> None:
    def answering(query: dns.message.Message) -> dns.message.Message:
        if query.question[0].name.to_text() == "a.test.":
            return response(query, ("a.test.", "CNAME", "b.test."))
        return response(query, ("b.test.", "MX", "10 mx.b.test."))

    async with Scripted(answering) as server:
        assert (await Resolver([(server.address, server.port)]).mx("a.test")).records == (MxRecord(10, "mx.b.test"),)


async def test_the_implicit_mx_of_an_alias_is_its_target() -> None:
    """RFC 5321 §5.1: the name that a CNAME leads to is processed as if it were the initial name."""

    def answering(query: dns.message.Message) -> dns.message.Message:
        return response(query, ("a.test.", "CNAME", "b.test."), ("test.", "SOA", "ns.test. h.test. 1 1 1 1 60"))

    async with Scripted(answering) as server:
        answer = await Resolver([(server.address, server.port)]).mx("a.test")
        assert answer.implicit
        assert answer.records == (MxRecord(0, "b.test"),)


async def test_an_endless_chain_of_cnames_is_a_failure() -> None:
    def answering(query: dns.message.Message) -> dns.message.Message:
        name = query.question[0].name.to_text()
        return response(query, (name, "CNAME", f"x{name}"))

    async with Scripted(answering) as server:
        with pytest.raises(ResolverFailure, match="CNAMEs"):
            await Resolver([(server.address, server.port)]).mx("a.test")


async def test_the_ad_bit_is_shown() -> None:
    def answering(query: dns.message.Message) -> dns.message.Message:
        made = response(query, ("a.test.", "MX", "10 mx.a.test."))
        made.flags |= query.flags & dns.flags.AD
        return made

    async with Scripted(answering) as server:
        assert (await Resolver([(server.address, server.port)]).mx("a.test")).authentic


async def test_the_ad_bit_is_not_invented(resolver: Resolver) -> None:
    assert not (await resolver.mx("example.org")).authentic


async def test_addresses_are_v6_then_v4() -> None:
    def answering(query: dns.message.Message) -> dns.message.Message:
        is_v6 = query.question[0].rdtype == dns.rdatatype.AAAA
        return response(query, ("h.test.", "AAAA", "2001:db8::1") if is_v6 else ("h.test.", "A", "192.0.2.1"))

    async with Scripted(answering) as server:
        assert await Resolver([(server.address, server.port)]).addresses("h.test") == ["2001:db8::1", "192.0.2.1"]


async def test_one_family_that_cannot_be_asked_for_does_not_hide_the_other() -> None:
    def answering(query: dns.message.Message) -> dns.message.Message:
        if query.question[0].rdtype == dns.rdatatype.A:
            return response(query, ("h.test.", "A", "192.0.2.1"))
        made = dns.message.make_response(query)
        made.set_rcode(dns.rcode.SERVFAIL)
        return made

    async with Scripted(answering) as server:
        assert await Resolver([(server.address, server.port)]).addresses("h.test") == ["192.0.2.1"]


async def test_half_an_answer_without_addresses_is_a_failure() -> None:
    def answering(query: dns.message.Message) -> dns.message.Message:
        made = response(query, ("test.", "SOA", "ns.test. h.test. 1 1 1 1 60"))
        if query.question[0].rdtype == dns.rdatatype.A:
            made.set_rcode(dns.rcode.SERVFAIL)
        return made

    async with Scripted(answering) as server:
        with pytest.raises(ResolverFailure):
            await Resolver([(server.address, server.port)]).addresses("h.test")


async def test_a_host_without_addresses_has_none() -> None:
    def answering(query: dns.message.Message) -> dns.message.Message:
        return response(query, ("test.", "SOA", "ns.test. h.test. 1 1 1 1 60"))

    async with Scripted(answering) as server:
        assert await Resolver([(server.address, server.port)]).addresses("h.test") == []


async def test_txt_strings_are_joined(resolver: Resolver) -> None:
    assert sorted(await resolver.txt("sel._domainkey.alice.test")) == sorted(texts("sel._domainkey.alice.test"))
    assert await resolver.txt("other.test") == []


async def test_txt_without_a_loop_follows_the_same_rules(sandbox: SandboxDns) -> None:
    servers = [(sandbox.address, sandbox.port)]
    name = "sel._domainkey.alice.test"
    assert sorted(await in_thread(lambda: txt_records(name, servers))) == sorted(texts(name))
    assert await in_thread(lambda: txt_records("other.test", servers)) == []
    with pytest.raises(NameNotFound):
        await in_thread(lambda: txt_records("nxdomain.test", servers))
    with pytest.raises(ResolverFailure):
        await in_thread(lambda: txt_records("servfail.test", servers))
    with pytest.raises(ResolverFailure):
        await in_thread(lambda: txt_records("timeout.test", servers, timeout=0.3))


async def test_an_asynchronous_txt_callback_is_awaited() -> None:
    async def slowly(name: str) -> list[str]:
        await asyncio.sleep(0)
        return [name]

    async with SandboxDns(txt=slowly) as server:
        assert await Resolver([(server.address, server.port)]).txt("A.test") == ["a.test"]


async def test_negative_answers_without_soa_are_kept_shortly() -> None:
    async with Scripted(response) as server:
        answer = await Resolver([(server.address, server.port)]).lookup("a.test", dns.rdatatype.MX)
        assert answer.ttl <= dns_answer.MAX_NEGATIVE_TTL_SECONDS


async def test_the_resolver_works_under_uvloop_too(sandbox: SandboxDns) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def ask() -> list[MxRecord]:
        resolver = Resolver([(sandbox.address, sandbox.port)])
        return [*(await resolver.mx("example.org")).records, *(await resolver.mx("truncated.example.org")).records]

    def run() -> list[MxRecord]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(ask())

    assert await asyncio.to_thread(run) == [MxRecord(10, "mx.sandbox.test")] * 2
