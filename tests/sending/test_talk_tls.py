"""sending.deliver.talk over real sockets: what each rung of the TLS ladder lets through, and which connections are shared.

The receiving server, its DNS and its certificates are real; composing and the database stand aside.
"""

import hashlib
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ips.senders import ServedIp
from ips.tls_policies import Changes
from relay_project.mail.mta_sts import Mode, Policy
from relay_project.mail.tlsa import public_key_info
from relay_project.net.resolver import Resolver
from relay_project.net.smtp_message import WireMessage
from relay_project.sandbox.certificate import server_context
from relay_project.sandbox.dns import SandboxDns
from relay_project.sandbox.smtp import CUT, Command, ReceivedMail, SandboxSmtp
from sending.deliver import policy_book
from sending.deliver.claim import Claimed
from sending.deliver.load import Job, Target
from sending.deliver.outcome import AttemptOutcome, GiveBack
from sending.deliver.policy_book import PolicyBook
from sending.deliver.pool import Pool
from sending.deliver.prepare import Prepared
from sending.deliver.route import Router
from sending.deliver.shaper import Shaper
from sending.deliver.talk import Surroundings, Talk
from sending.deliver.tls_ladder import TlsLadder
from tests.mail.test_tlsa import Authority, make

MX = "mx.sandbox.test"
RIGHT, RIGHT_PEM = server_context(MX)
WRONG, WRONG_PEM = server_context("somebody-else.example")
NOW = datetime.now(UTC)


class SignedDns(SandboxDns):
    """A nameserver that validates: it vouches for all it says, and knows TLSA records and IPv6 addresses by host."""

    def __init__(self) -> None:
        super().__init__()
        self.vouches = True
        self.tlsa: list[str] = []
        self.bogus_tlsa = False
        self.v6: list[str] = []
        self.asked: list[str] = []

    async def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        self.asked.append(f"{dns.rdatatype.to_text(question.rdtype)} {question.name}")
        if question.rdtype == dns.rdatatype.TLSA and self.bogus_tlsa:
            response = dns.message.make_response(query)
            response.set_rcode(2)
            return response
        response = await super()._answer(query)
        if response is not None and self.vouches:
            response.flags |= dns.flags.AD
        return response

    async def _records(self, name: dns.name.Name, trouble: str, rdtype: dns.rdatatype.RdataType) -> list[str]:
        if rdtype == dns.rdatatype.TLSA:
            return self.tlsa
        if rdtype == dns.rdatatype.AAAA:
            return self.v6
        return await super()._records(name, trouble, rdtype)


class Ready:
    """A preparer with the same message for every job."""

    async def prepared(self, job: Job) -> Prepared:
        return Prepared(b"", WireMessage.of((b"Subject: hello\r\n\r\nhello\r\n",)), eight_bit=False, smtputf8=False)


@dataclass
class World:
    """A sender's surroundings and the receiver that it talks to."""

    dns: SignedDns
    smtp: SandboxSmtp
    received: list[ReceivedMail]
    around: Surroundings
    overrides: dict[str, str] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    numbers: int = 0
    return_path: str = "relay.test"

    @property
    def book(self) -> PolicyBook:
        return self.around.ladder.book

    async def send(
        self, domain: str = "bank.test", source: str = "127.0.0.1", other: int | None = None
    ) -> AttemptOutcome | GiveBack:
        self.book.overrides = {k: policy_book.TlsRequirement(v) for k, v in self.overrides.items()}
        for name, policy in self.policies.items():
            self.book._found[name] = (time.monotonic() + 60, policy)
        self.numbers += 1
        row = Claimed(self.numbers, 1, 1, 1, domain, self.numbers, 1, 100, 1, 0, NOW, 0, 1)
        target = Target(row, f"ann@{domain}", is_suppressed=False)
        job = Job(
            self.numbers,
            1,
            1,
            1,
            1,
            domain,
            (target,),
            None,
            (),
            "relay.test",
            self.return_path,
            None,
            time.monotonic(),
        )
        return await Talk(job, ServedIp(1, source, source, (1,), other), self.around).run()

    async def outcome(self, domain: str = "bank.test", source: str = "127.0.0.1") -> tuple[str, dict[str, Any], str]:
        """What became of a mail: the verdict, the TLS record and the failure's words."""
        found = await self.send(domain, source)
        assert isinstance(found, AttemptOutcome)
        return found.recipients[0].verdict.outcome.value, found.tls or {}, found.network_error

    def publish(self, usage: int, der: bytes) -> None:
        self.dns.tlsa = [f"{usage} 1 1 {hashlib.sha256(public_key_info(der)).hexdigest()}"]


def der_of(pem: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    received: list[ReceivedMail] = []

    async def keep(mail: ReceivedMail) -> None:
        received.append(mail)

    async def nothing(domain: str) -> Policy:
        raise AssertionError("no policy is to be fetched here")

    async def no_database(work: Any) -> Changes:
        return Changes((), {})

    async with SignedDns() as names, SandboxSmtp(received=keep, tls=RIGHT) as smtp:
        resolver = Resolver([(names.address, names.port)], timeout=1)
        book = PolicyBook(resolver, nothing, no_database)
        await book.read()
        trust = ssl.create_default_context(cadata=RIGHT_PEM)
        around = Surroundings(
            router=Router(resolver, smtp.port, allow_private=True),
            pool=Pool(),
            shaper=Shaper(),
            preparer=Ready(),  # type: ignore[arg-type]
            return_path_keys=[b"k" * 32],
            conversation_seconds=60,
            ladder=TlsLadder(book, resolver, trust_ad=True, trust=trust),
        )
        yield World(names, smtp, received, around)
        await around.pool.close_idle(older_than=-1)
        await book.aclose()
        await resolver.aclose()


def unmet(policy: str, **more: str) -> dict[str, Any]:
    """What an attempt keeps of a demand without a session."""
    return {"version": None, "cipher": None, "verified": False, "policy": policy, **more}


def enforce(*hosts: str) -> Policy:
    return Policy(Mode.ENFORCE, hosts, 86_400)


# The rungs


async def test_without_a_policy_a_bad_certificate_still_gets_the_mail(world: World) -> None:
    """Lesson C1."""
    world.smtp.tls = WRONG
    verdict, tls, _ = await world.outcome()
    assert verdict == "accepted"
    assert (tls["version"], tls["verified"], tls["policy"]) == ("TLSv1.3", False, "opportunistic")
    assert world.received[0].tls


async def test_without_a_policy_clear_text_will_do(world: World) -> None:
    world.smtp.tls = None
    assert await world.outcome() == ("accepted", {}, "")


async def test_where_starttls_breaks_it_goes_in_clear_and_the_next_mail_on_the_same_connection(world: World) -> None:
    world.smtp.script = lambda command: "454 4.7.0 no" if command.verb == "STARTTLS" else None
    assert (await world.outcome())[:2] == ("accepted", {})
    broken = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # has no certificate, so no handshake succeeds
    world.smtp.tls, world.smtp.script = broken, None
    await world.around.pool.close_idle(older_than=-1)
    before = world.smtp.connections
    assert (await world.outcome())[:2] == ("accepted", {})
    assert (await world.outcome())[:2] == ("accepted", {})
    assert world.smtp.connections - before == 2, "one that failed, and one for both mails"


async def test_an_enforced_policy_delivers_to_the_host_it_names_with_a_valid_certificate(world: World) -> None:
    world.policies["bank.test"] = enforce(MX)
    verdict, tls, _ = await world.outcome()
    assert verdict == "accepted"
    assert (tls["verified"], tls["policy"], tls["mta_sts"]) == (True, "mta-sts", "enforce")


async def test_an_enforced_policy_defers_whatever_is_less(world: World) -> None:
    """RFC 8461 §5: a wrong certificate, no STARTTLS, another host; never clear text."""
    world.policies["bank.test"] = enforce(MX)
    world.smtp.tls = WRONG
    nothing = unmet("mta-sts", mta_sts="enforce")
    verdict, tls, reason = await world.outcome()
    assert (verdict, tls) == ("deferred", nothing)
    assert "TLS handshake" in reason
    world.smtp.tls = None
    assert await world.outcome() == ("deferred", nothing, "the server does not offer STARTTLS")
    world.policies["bank.test"] = enforce("mx.bank.test")
    verdict, tls, reason = await world.outcome()
    assert (verdict, tls) == ("deferred", nothing)
    assert reason == f"{MX} is an MX of bank.test, but its MTA-STS policy (enforce) allows only mx.bank.test"
    assert world.received == []


async def test_a_policy_in_testing_is_named_and_changes_nothing(world: World) -> None:
    world.smtp.tls = WRONG
    world.policies["bank.test"] = Policy(Mode.TESTING, ("elsewhere.test",), 86_400)
    verdict, tls, _ = await world.outcome()
    assert (verdict, tls["policy"], tls["mta_sts"]) == ("accepted", "opportunistic", "testing")


async def test_dane_delivers_to_the_certificate_that_dns_names(world: World) -> None:
    """RFC 7672: no authority is asked, and with usage 3 not even the name counts."""
    world.smtp.tls = WRONG
    world.publish(3, der_of(WRONG_PEM))
    verdict, tls, _ = await world.outcome()
    assert verdict == "accepted"
    assert (tls["verified"], tls["policy"]) == (True, "dane")
    assert f"TLSA _{world.smtp.port}._tcp.{MX}." in world.dns.asked


async def test_dane_delivers_to_a_chain_whose_authority_dns_names(world: World, tmp_path: Path) -> None:
    authority = make(("Private authority",))
    middle = authority.issue("Middle", ca=True)
    world.smtp.tls = chain_context(tmp_path, middle.issue(MX), middle, authority)
    world.publish(2, authority.der)
    verdict, tls, _ = await world.outcome()
    assert (verdict, tls["verified"], tls["policy"]) == ("accepted", True, "dane")
    await world.around.pool.close_idle(older_than=-1)
    world.smtp.tls = chain_context(tmp_path, middle.issue("other.sandbox.test"), middle, authority)
    assert (await world.outcome())[2] == f"DANE: the server's certificate is for none of {MX}, bank.test"


def chain_context(folder: Path, *chain: Authority) -> ssl.SSLContext:
    """A server's TLS context that sends these certificates, its own first."""
    key = chain[0].key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in chain)
    (folder / "chain.pem").write_bytes(key + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem")
    return context


async def test_dane_defers_another_certificate_and_never_falls_back(world: World) -> None:
    world.publish(3, der_of(WRONG_PEM))
    verdict, tls, reason = await world.outcome()
    assert (verdict, tls) == ("deferred", unmet("dane"))
    assert reason == "DANE: no TLSA record matches the server's certificate"
    world.smtp.tls = None
    assert (await world.outcome())[2] == "the server does not offer STARTTLS"
    assert world.received == []


async def test_a_valid_certificate_does_not_help_where_dane_fails(world: World) -> None:
    """RFC 8461 §2: MTA-STS must not override DANE."""
    world.policies["bank.test"] = enforce(MX)
    world.publish(3, der_of(WRONG_PEM))
    assert (await world.outcome())[0] == "deferred"


async def test_bogus_tlsa_records_defer(world: World) -> None:
    world.dns.bogus_tlsa = True
    verdict, tls, reason = await world.outcome()
    assert (verdict, tls) == ("deferred", unmet("dane"))
    assert "TLSA records of mx.sandbox.test cannot be looked up" in reason
    assert world.received == []


async def test_without_dnssec_no_tlsa_record_is_asked_for(world: World) -> None:
    world.dns.vouches = False
    world.publish(3, der_of(WRONG_PEM))
    assert (await world.outcome())[1]["policy"] == "opportunistic"
    assert not [name for name in world.dns.asked if name.startswith("TLSA")]


async def test_a_signed_domain_costs_its_questions_once(world: World) -> None:
    for _ in range(3):
        await world.outcome()
    assert sorted(world.dns.asked) == sorted(
        ["MX bank.test.", "TXT _mta-sts.bank.test.", f"A {MX}.", f"AAAA {MX}.", f"TLSA _{world.smtp.port}._tcp.{MX}."]
    )


@pytest.mark.parametrize(
    ("override", "context", "expected"),
    [
        ("none", RIGHT, ("accepted", None)),
        ("encrypted", WRONG, ("accepted", "override")),
        ("encrypted", None, ("deferred", "override")),
        ("verified", RIGHT, ("accepted", "override")),
        ("verified", WRONG, ("deferred", "override")),
    ],
)
async def test_what_staff_decide_is_what_happens(
    world: World, override: str, context: ssl.SSLContext | None, expected: tuple[str, str | None]
) -> None:
    world.overrides["bank.test"] = override
    world.smtp.tls = context
    verdict, tls, _ = await world.outcome()
    assert (verdict, tls.get("policy")) == expected


# Connections


async def test_several_domains_of_one_host_follow_each_other_on_one_connection(world: World) -> None:
    for domain in ("bank.test", "shop.test", "bank.test"):
        assert (await world.outcome(domain))[0] == "accepted"
    assert world.smtp.connections == 1


async def test_mail_that_wants_a_certificate_checked_gets_a_connection_where_it_was(world: World) -> None:
    await world.outcome("plain.test")
    world.policies["bank.test"] = enforce(MX)
    world.policies["shop.test"] = enforce(MX)
    for domain, policy in (("bank.test", "mta-sts"), ("shop.test", "mta-sts"), ("plain.test", "opportunistic")):
        verdict, tls, _ = await world.outcome(domain)
        assert (verdict, tls["policy"]) == ("accepted", policy)
    assert world.smtp.connections == 2, "the checked one served both that ask for it, and then anybody"


async def test_a_connection_that_was_closed_while_idle_costs_no_attempt(world: World) -> None:
    await world.outcome()
    [parked] = [item for items in world.around.pool.idle.values() for item in items]
    parked.connection.abort()
    assert (await world.outcome())[0] == "accepted"
    assert world.smtp.connections == 2


async def test_a_connection_is_used_again_after_a_recipient_was_refused(world: World) -> None:
    world.smtp.script = lambda command: "550 5.1.1 no" if command.verb == "RCPT" else None
    assert (await world.outcome())[0] == "bounced"
    world.smtp.script = None
    assert (await world.outcome())[0] == "accepted"
    assert world.smtp.connections == 1


async def test_a_loss_after_the_message_never_leads_to_the_next_host(world: World) -> None:
    """Lesson C4; RFC 1047."""
    world.dns._mx = lambda trouble: [f"5 {MX}.", "10 other.sandbox.test."]  # type: ignore[method-assign]
    world.smtp.script = lambda command: CUT if command.verb == "." else None
    verdict, _, reason = await world.outcome()
    assert verdict == "deferred"
    assert "closed the connection" in reason
    assert world.smtp.connections == 1


async def test_a_host_that_does_not_understand_bdat_gets_data_from_then_on(world: World) -> None:
    def script(command: Command) -> str | None:
        return "502 5.5.1 what?" if command.verb == "BDAT" else None

    world.smtp.script = script
    assert (await world.outcome())[0] == "deferred"
    assert (await world.outcome())[0] == "accepted"
    world.around.without_chunking.clear()


async def test_mail_goes_back_while_its_policy_is_being_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_book, "PATIENCE_SECONDS", 0.0)
    found = await world.send("slow.test")
    assert isinstance(found, GiveBack)
    assert found.wait_seconds > 0


# IPv6


async def test_a_source_of_ipv6_reaches_the_addresses_of_its_family(world: World) -> None:
    try:
        server = SandboxSmtp("::1", world.smtp.port, tls=RIGHT)
        await server.start()
    except OSError:
        pytest.skip("no IPv6 loopback here")
    try:
        world.dns.v6 = ["::1"]
        assert (await world.outcome(source="::1"))[0] == "accepted"
        assert (server.connections, world.smtp.connections) == (1, 0)
        assert (await world.outcome(source="127.0.0.1"))[0] == "accepted"
        assert (server.connections, world.smtp.connections) == (1, 1)
        await world.around.pool.close_idle(older_than=-1)
    finally:
        await server.stop()


async def test_a_source_without_any_address_of_its_family_defers(world: World) -> None:
    verdict, _, reason = await world.outcome(source="::1")
    assert verdict == "deferred"
    assert reason == f"none of the addresses of {MX} can be reached from ::1"


async def test_mail_for_a_receiver_of_the_other_family_moves_to_a_source_of_that_one(world: World) -> None:
    found = await world.send(source="::1", other=7)
    assert isinstance(found, GiveBack)
    assert (found.move_to, found.wait_seconds) == (7, 0.0)
    assert world.smtp.connections == 0
    assert isinstance(await world.send(other=7), AttemptOutcome), "one that can reach it keeps it"


async def test_mail_from_names_the_return_path_of_the_from_domain(world: World) -> None:
    await world.send()
    world.return_path = "bounces.shop.test"
    await world.send()
    assert [mail.reverse_path.rpartition("@")[2] for mail in world.received] == ["relay.test", "bounces.shop.test"]
