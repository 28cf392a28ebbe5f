"""mail.spf: records as domains publish them, and what they let send; the DNS is a table."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.spf import InvalidRecord, Result, check_host, find_record, parse_record

ZONE: dict[tuple[str, str], list[str]] = {
    ("example.com", "TXT"): ["v=spf1 ip4:192.0.2.0/24 include:_spf.relay.example ~all", "other=1"],
    ("_spf.relay.example", "TXT"): ["v=spf1 ip4:198.51.100.7 ip6:2001:db8::/32 -all"],
    ("strict.example", "TXT"): ["v=spf1 a mx -all"],
    ("strict.example", "A"): ["203.0.113.1"],
    ("strict.example", "MX"): ["mx1.strict.example"],
    ("mx1.strict.example", "A"): ["203.0.113.25"],
    ("moved.example", "TXT"): ["v=spf1 redirect=example.com"],
    ("nowhere.example", "TXT"): ["v=spf1 redirect=none.example"],
    ("wide.example", "TXT"): ["v=spf1 a:strict.example/24 ?all"],
    ("open.example", "TXT"): ["v=spf1 +all"],
    ("loop.example", "TXT"): ["v=spf1 include:loop.example -all"],
    ("void.example", "TXT"): ["v=spf1 a:n1.example a:n2.example a:n3.example ip4:192.0.2.1 -all"],
    ("macro.example", "TXT"): ["v=spf1 exists:%{ir}.%{v}._ip.%{d2} -all"],
    ("9.2.0.192.in-addr._ip.macro.example", "A"): ["127.0.0.2"],
    ("two.example", "TXT"): ["v=spf1 -all", "v=spf1 +all"],
    ("typo.example", "TXT"): ["v=spf1 ipv4:192.0.2.1 -all"],
    ("silent.example", "TXT"): ["v=spf1 ip4:192.0.2.1"],
    ("ill.example", "TXT"): ["v=spf1 include:down.example -all"],
}


def lookup(name: str, kind: str) -> Sequence[str]:
    """A name that is not in the table does not exist; one server is down."""
    if name == "down.example":
        raise ConnectionError("no nameserver answered")
    if not any(known == name for known, _ in ZONE):
        raise LookupError(name)
    return ZONE.get((name, kind), [])


@pytest.mark.parametrize(
    ("ip", "domain", "result"),
    [
        ("192.0.2.9", "example.com", Result.PASS),
        ("198.51.100.7", "example.com", Result.PASS),
        ("198.51.100.8", "example.com", Result.SOFTFAIL),
        ("2001:db8::1", "example.com", Result.PASS),
        ("2001:db9::1", "example.com", Result.SOFTFAIL),
        ("203.0.113.1", "strict.example", Result.PASS),
        ("203.0.113.25", "strict.example", Result.PASS),
        ("203.0.113.2", "strict.example", Result.FAIL),
        ("192.0.2.1", "moved.example", Result.PASS),
        ("192.0.2.1", "nowhere.example", Result.PERMERROR),
        ("203.0.113.200", "wide.example", Result.PASS),
        ("203.0.114.200", "wide.example", Result.NEUTRAL),
        ("8.8.8.8", "open.example", Result.PASS),
        ("192.0.2.1", "loop.example", Result.PERMERROR),
        ("192.0.2.1", "void.example", Result.PERMERROR),
        ("192.0.2.9", "macro.example", Result.PASS),
        ("192.0.2.8", "macro.example", Result.FAIL),
        ("192.0.2.1", "two.example", Result.PERMERROR),
        ("192.0.2.1", "typo.example", Result.PERMERROR),
        ("192.0.2.2", "silent.example", Result.NEUTRAL),
        ("192.0.2.2", "ill.example", Result.TEMPERROR),
        ("192.0.2.1", "none.example", Result.NONE),
        ("192.0.2.1", "not a domain", Result.NONE),
    ],
)
def test_record_lets_an_address_send_or_not(ip: str, domain: str, result: Result) -> None:
    assert check_host(ip, domain, lookup).result is result


def test_finding_names_the_term_that_decided() -> None:
    assert check_host("192.0.2.9", "example.com", lookup).term == "ip4:192.0.2.0/24"
    assert check_host("198.51.100.7", "example.com", lookup).term == "include:_spf.relay.example"


def test_terms_that_ask_dns_are_counted() -> None:
    assert check_host("198.51.100.7", "example.com", lookup).lookups == 1
    assert "more than 10 terms" in check_host("192.0.2.1", "loop.example", lookup).term


def test_record_tells_what_it_includes_and_whether_it_is_open() -> None:
    record = parse_record("v=spf1 a include:_spf.Relay.example. redirect=other.example")
    assert record.includes == ("_spf.relay.example", "other.example")
    assert (record.lookups, record.is_open) == (3, False)
    assert parse_record("v=spf1 all").is_open


@pytest.mark.parametrize(
    "text",
    ["v=spf1 include: -all", "v=spf1 ip4:300.1.1.1", "v=spf1 ip4:2001:db8::1", "v=spf1 a/33", "v=spf1 all:x",
     "v=spf1 redirect=a redirect=b", "v=spf2 -all", "v=spf1 ip6:1.2.3.4", "v=spf1 -all/24"],
)  # fmt: skip
def test_what_is_no_record_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(InvalidRecord):
        parse_record(text)


def test_only_the_version_makes_a_record() -> None:
    assert find_record(["v=spf10 -all", "x"]) is None
    assert find_record(["V=SPF1 -all"]) == "V=SPF1 -all"


@given(st.text(max_size=300))
def test_reading_any_text_raises_nothing_else(text: str) -> None:
    try:
        parse_record("v=spf1 " + text)
    except InvalidRecord:
        pass


@given(st.text(alphabet="aimx:/%{}0123456789.dir-+~ include", max_size=120))
def test_evaluating_any_record_never_raises(terms: str) -> None:
    finding = check_host("192.0.2.1", "any.example", lambda name, kind: [f"v=spf1 {terms}"] if kind == "TXT" else [])
    assert finding.result in Result
