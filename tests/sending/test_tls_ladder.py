"""sending.deliver.tls_ladder: who decides about TLS, and which connection may carry which mail."""

from dataclasses import replace

import pytest

from relay_project.mail.mta_sts import Mode, Policy
from relay_project.mail.tlsa import Tlsa
from relay_project.net.conversation import Endpoint, TlsRequirement
from relay_project.net.resolver import HostAnswer, Resolver, ResolverFailure
from sending.deliver.policy_book import DomainTls
from sending.deliver.route import Route
from sending.deliver.tls_ladder import OPPORTUNISTIC, Demand, HostRefused, TlsLadder, TlsPolicy, believes

MX = "mx.bank.test"
HERE = Endpoint(MX, "192.0.2.1")
ROUTE = Route("bank", (MX,), 25)
SECURE = replace(ROUTE, is_authentic=True)
KEY = Tlsa(3, 1, 1, b"\1" * 32)
AUTHORITY = Tlsa(2, 0, 1, b"\2" * 32)
USELESS = Tlsa(1, 0, 1, b"\3" * 32)
ENFORCE = Policy(Mode.ENFORCE, (MX,), 86_400)


class Names:
    """DNS: where hosts are, and their TLSA records."""

    def __init__(self, *records: Tlsa, authentic: bool = True, alias_of: str = MX, bogus: bool = False) -> None:
        self.records, self.authentic, self.alias_of, self.bogus = records, authentic, alias_of, bogus
        self.asked: list[str] = []

    async def host(self, host: str) -> HostAnswer:
        return HostAnswer(("192.0.2.1",), self.alias_of, self.authentic)

    async def tlsa(self, host: str, port: int) -> tuple[Tlsa, ...]:
        self.asked.append(f"_{port}._tcp.{host}")
        if self.bogus:
            raise ResolverFailure(host, "SERVFAIL", 3)
        return self.records if host == MX else ()


async def demand(rule: DomainTls, names: Names, route: Route = ROUTE, trust_ad: bool = True) -> Demand:
    ladder = TlsLadder(None, names, trust_ad)  # type: ignore[arg-type]
    return await ladder.demand(rule, "bank.test", route, HERE)


async def test_without_any_policy_tls_is_opportunistic() -> None:
    """Lesson C1."""
    assert await demand(DomainTls(), Names()) is OPPORTUNISTIC


async def test_dane_is_asked_for_only_where_dnssec_vouches_for_the_way_there() -> None:
    """RFC 7672 §2.2: for all others not even a question is asked."""
    for route, names, trust_ad in (
        (ROUTE, Names(KEY), True),
        (SECURE, Names(KEY, authentic=False), True),
        (SECURE, Names(KEY), False),
    ):
        assert await demand(DomainTls(), names, route, trust_ad) is OPPORTUNISTIC
        assert names.asked == []
    assert await demand(DomainTls(), Names(), SECURE) is OPPORTUNISTIC


async def test_usable_records_demand_the_certificate_they_name() -> None:
    found = await demand(DomainTls(), Names(KEY, USELESS), SECURE)
    assert found == Demand(TlsRequirement.VERIFIED, TlsPolicy.DANE, MX, (KEY,))
    assert found.vouch is not None
    assert "DANE" in (found.vouch([b"another certificate"]) or "")
    named = await demand(DomainTls(), Names(AUTHORITY), SECURE)
    assert named.names == (MX, "bank.test"), "with an authority the name counts (RFC 7672 §3.2.2)"


async def test_unusable_records_still_demand_tls() -> None:
    """RFC 7672 §2.2."""
    assert await demand(DomainTls(), Names(USELESS), SECURE) == Demand(TlsRequirement.ENCRYPTED, TlsPolicy.DANE)


async def test_a_host_whose_records_cannot_be_looked_up_is_not_used() -> None:
    """RFC 7672 §2.1.2: SERVFAIL is how a validating nameserver says "bogus"."""
    with pytest.raises(HostRefused, match=r"TLSA records of mx\.bank\.test cannot be looked up"):
        await demand(DomainTls(), Names(bogus=True), SECURE)


async def test_records_are_looked_for_where_an_alias_leads_then_at_the_name_itself() -> None:
    names = Names(KEY, alias_of="real.host.test")
    assert (await demand(DomainTls(), names, SECURE)).host == MX
    assert names.asked == ["_25._tcp.real.host.test", f"_25._tcp.{MX}"]


async def test_an_enforced_policy_demands_a_valid_certificate_of_a_host_that_it_names() -> None:
    found = await demand(DomainTls(sts=ENFORCE), Names())
    assert found == Demand(TlsRequirement.VERIFIED, TlsPolicy.MTA_STS, MX)
    assert found.vouch is None
    with pytest.raises(HostRefused, match=r"MTA-STS policy \(enforce\) allows only mail\.bank\.test"):
        await demand(DomainTls(sts=replace(ENFORCE, mx=("mail.bank.test",))), Names())


@pytest.mark.parametrize("mode", [Mode.TESTING, Mode.NONE])
async def test_a_policy_that_is_not_enforced_changes_nothing(mode: Mode) -> None:
    assert await demand(DomainTls(sts=Policy(mode, ("elsewhere.test",), 60)), Names()) is OPPORTUNISTIC


async def test_dane_comes_before_mta_sts() -> None:
    """RFC 8461 §2; where its records are of no use, the policy's check is the stronger one."""
    elsewhere = replace(ENFORCE, mx=("elsewhere.test",))
    assert (await demand(DomainTls(sts=elsewhere), Names(KEY), SECURE)).policy is TlsPolicy.DANE
    assert (await demand(DomainTls(sts=ENFORCE), Names(USELESS), SECURE)).policy is TlsPolicy.MTA_STS


async def test_staff_decide_above_all_for_a_domain_and_below_all_for_the_rest() -> None:
    by_staff = DomainTls(TlsRequirement.ENCRYPTED, sts=ENFORCE)
    assert await demand(by_staff, Names(KEY), SECURE) == Demand(TlsRequirement.ENCRYPTED, TlsPolicy.OVERRIDE)
    assert (await demand(DomainTls(TlsRequirement.VERIFIED), Names())).host == MX
    assert await demand(DomainTls(TlsRequirement.NONE), Names()) == Demand(TlsRequirement.NONE, TlsPolicy.NONE)
    for_all = DomainTls(default=TlsRequirement.ENCRYPTED)
    assert (await demand(for_all, Names())).requirement is TlsRequirement.ENCRYPTED
    assert (await demand(replace(for_all, sts=ENFORCE), Names())).policy is TlsPolicy.MTA_STS
    assert (await demand(for_all, Names(KEY), SECURE)).policy is TlsPolicy.DANE


def test_a_connection_is_shared_only_where_nothing_was_promised_that_it_does_not_keep() -> None:
    none = Demand(TlsRequirement.NONE, TlsPolicy.NONE)
    encrypted = Demand(TlsRequirement.ENCRYPTED, TlsPolicy.OVERRIDE)
    sts = Demand(TlsRequirement.VERIFIED, TlsPolicy.MTA_STS, MX)
    other_host = replace(sts, host="mx2.bank.test")
    by_staff = replace(sts, policy=TlsPolicy.OVERRIDE)
    dane = Demand(TlsRequirement.VERIFIED, TlsPolicy.DANE, MX, (KEY,))
    named = Demand(TlsRequirement.VERIFIED, TlsPolicy.DANE, MX, (AUTHORITY,), (MX, "bank.test"))
    also_named = replace(named, names=(MX, "shop.test"))
    every = [none, OPPORTUNISTIC, encrypted, sts, other_host, by_staff, dane, named, also_named]
    met = {
        index: [n for n, former in enumerate(every) if wanted.is_met_by(former)] for index, wanted in enumerate(every)
    }
    assert met == {
        0: [0, 1, 2, 3, 4, 5, 6, 7, 8],
        1: [1, 2, 3, 4, 5, 6, 7, 8],
        2: [2, 3, 4, 5, 6, 7, 8],
        3: [3, 5],
        4: [4],
        5: [3, 5],
        6: [6],
        7: [7],
        8: [8],
    }


@pytest.mark.parametrize(
    ("setting", "nameservers", "believed"),
    [
        ("auto", [("127.0.0.1", 53)], True),
        ("auto", [("::1", 53), ("127.0.0.53", 53)], True),
        ("auto", [("127.0.0.1", 53), ("192.0.2.53", 53)], False),
        ("auto", [("127.0.0.11", 53)], False),
        ("auto", [], False),
        ("true", [("192.0.2.53", 53)], True),
        ("false", [("127.0.0.1", 53)], False),
    ],
)
def test_dnssec_is_believed_from_this_machine_or_on_the_operators_word(
    setting: str, nameservers: list[tuple[str, int]], believed: bool
) -> None:
    assert believes(setting, Resolver(nameservers)) is believed
