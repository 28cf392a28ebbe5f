"""sending.preflight.dns: what is said of records as domains publish them; the resolver is a table."""

from collections.abc import Iterator, Sequence
from typing import Any

import dns.rdata
import dns.rdatatype
import pytest

from relay_project.net.resolver import Answer, LookupFailed, NameNotFound, ResolverFailure
from sending.preflight import dns as preflight
from sending.preflight.dns import Sender, check_dns
from sending.preflight.finding import Finding, Level

KEY = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA"
ZONE: dict[tuple[str, str], list[str]] = {
    ("rly._domainkey.shop.example", "TXT"): [f'"v=DKIM1; k=rsa; p={KEY}"'],
    ("_dmarc.shop.example", "TXT"): ['"v=DMARC1; p=reject"'],
    ("relay.example", "TXT"): ['"v=spf1 ip4:192.0.2.0/24 -all"'],
    ("bounces.shop.example", "TXT"): ['"v=spf1 include:relay.example -all"'],
    ("one.example", "MX"): ["10 mx.one.example."],
    ("null.example", "MX"): ["0 ."],
    ("implicit.example", "MX"): [],
    ("implicit.example", "A"): ["192.0.2.9"],
    ("implicit.example", "AAAA"): [],
    ("empty.example", "MX"): [],
    ("empty.example", "A"): [],
    ("empty.example", "AAAA"): [],
}


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[Any, list[str]]]:
    """The table, to be changed; names that begin with `down` get no answer."""
    records = dict(ZONE)

    def look_up(questions: Sequence[Any], nameservers: Any, timeout: float) -> list[Answer | LookupFailed]:
        return [_outcome(records, name, dns.rdatatype.to_text(kind)) for name, kind in questions]

    monkeypatch.setattr(preflight, "look_up_all", look_up)
    return records


def _outcome(records: dict[Any, list[str]], name: str, kind: str) -> Answer | LookupFailed:
    if name.startswith("down"):
        return ResolverFailure(name, "no nameserver answered", 1)
    if (name, kind) not in records:
        return NameNotFound(name, "NXDOMAIN", 1)
    found = tuple(dns.rdata.from_text("IN", kind, text) for text in records[name, kind])
    return Answer(name, found, False, 60)


def sender(**fields: Any) -> Sender:
    usual: dict[str, Any] = {
        "domain": "shop.example",
        "keys": (("rly._domainkey.shop.example", KEY),),
        "return_path": "relay.example",
        "addresses": ("192.0.2.7",),
    }
    return Sender(**{**usual, **fields})


def found(domains: Sequence[str] = (), **fields: Any) -> dict[str, Finding]:
    return {finding.check: finding for finding in check_dns(sender(**fields), domains, "simulator.relay.example")}


def test_well_kept_domain_passes_by_dkim(zone: Any) -> None:
    findings = found(["one.example"])
    assert {finding.level for finding in findings.values()} == {Level.OK}
    assert "by DKIM (policy: reject)" in findings["dmarc"].message


def test_own_return_path_aligns_spf_too(zone: Any) -> None:
    assert "by DKIM and SPF" in found(return_path="bounces.shop.example")["dmarc"].message


def test_missing_key_is_an_error_and_the_policy_makes_it_fatal(zone: Any) -> None:
    del zone["rly._domainkey.shop.example", "TXT"]
    findings = found()
    assert (findings["dkim"].level, findings["dmarc"].level) == (Level.ERROR, Level.ERROR)
    assert "no key" in findings["dkim"].message
    assert "reject" in findings["dmarc"].message


def test_spf_alone_aligns_where_the_return_path_is_the_domains_own(zone: Any) -> None:
    del zone["rly._domainkey.shop.example", "TXT"]
    assert "by SPF (" in found(return_path="bounces.shop.example")["dmarc"].message


def test_other_key_is_told_apart_from_none(zone: Any) -> None:
    zone["rly._domainkey.shop.example", "TXT"] = ['"v=DKIM1; p=AAAA"']
    assert "another key" in found()["dkim"].message


def test_address_that_spf_does_not_name_is_said(zone: Any) -> None:
    assert "does not let 198.51.100.1 send (fail" in found(addresses=("198.51.100.1",))["spf"].message


def test_domain_without_a_policy_is_warned(zone: Any) -> None:
    del zone["_dmarc.shop.example", "TXT"]
    assert found()["dmarc"].level is Level.WARNING


def test_resolver_that_fails_says_nothing(zone: Any) -> None:
    """Lesson C21: what nobody answered is unknown, not wrong."""
    findings = found(["down.example"], keys=(("down._domainkey.shop.example", KEY),), return_path="down.relay.example")
    assert {findings[check].level for check in ("dkim", "spf", "dmarc", "recipients")} == {Level.INFO}


@pytest.mark.parametrize(
    ("domain", "level", "says"),
    [
        ("one.example", Level.OK, "takes mail"),
        ("implicit.example", Level.OK, "takes mail"),
        ("null.example", Level.ERROR, "null MX"),
        ("empty.example", Level.ERROR, "neither"),
        ("gone.example", Level.ERROR, "does not exist"),
    ],
)
def test_recipients_domain_takes_mail_or_not(zone: Any, domain: str, level: Level, says: str) -> None:
    finding = found([domain])["recipients"]
    assert finding.level is level
    assert says in finding.message


def test_simulator_needs_no_dns(zone: Any) -> None:
    assert "recipients" not in found(["simulator.relay.example"])


def test_no_question_is_asked_after_the_deadline(zone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "DEADLINE_SECONDS", 0.0)
    monkeypatch.setattr(preflight, "look_up_all", lambda *_: pytest.fail("asked"))
    assert {finding.level for finding in check_dns(sender(), ["one.example"], "x")} == {Level.INFO}
