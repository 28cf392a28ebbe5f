"""mail.dmarc: policies as domains publish them, found on the way up, and what is aligned."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.dmarc import (
    Action,
    InvalidPolicy,
    find_policy,
    find_record,
    is_aligned,
    organisational_domain,
    parse_policy,
)

ZONE = {
    "_dmarc.example.com": [
        "v=DMARC1; p=reject; sp=quarantine; adkim=s; pct=50; rua=mailto:a@example.com,mailto:b@x.test"
    ],
    "_dmarc.news.example.org": ["v=DMARC1; p=none"],
    "_dmarc.example.org": ["v=DMARC1;p=quarantine"],
    "_dmarc.co.test": ["v=DMARC1; p=reject; psd=y"],
    "_dmarc.broken.example": ["v=DMARC1; p=maybe"],
    "_dmarc.twice.example": ["v=DMARC1; p=none", "v=DMARC1; p=reject"],
}


def lookup(name: str) -> Sequence[str]:
    if name not in ZONE:
        raise LookupError(name)
    return ZONE[name]


def test_policy_is_read_in_full() -> None:
    policy = parse_policy(ZONE["_dmarc.example.com"][0])
    assert (policy.action, policy.subdomains) == (Action.REJECT, Action.QUARANTINE)
    assert (policy.strict_dkim, policy.strict_spf, policy.percent) == (True, False, 50)
    assert policy.reports_to == ("mailto:a@example.com", "mailto:b@x.test")
    assert policy.action_for(is_subdomain=True) is Action.QUARANTINE


def test_subdomains_follow_the_domain_unless_it_says_otherwise() -> None:
    assert parse_policy("v=DMARC1; p=reject").subdomains is Action.REJECT


def test_record_without_a_usable_policy_counts_as_none_where_it_asks_for_reports() -> None:
    assert parse_policy("v=DMARC1; p=maybe; rua=mailto:a@b.test").action is Action.NONE


@pytest.mark.parametrize("text", ["v=DMARC1", "v=DMARC1; p=maybe", "v=spf1 -all", "v=dmarc1; p=none"])
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(InvalidPolicy):
        parse_policy(text)


def test_policy_is_the_domains_own_or_the_nearest_above() -> None:
    own, above = find_policy("news.example.org", lookup), find_policy("deep.shop.example.com", lookup)
    assert own is not None
    assert own.policy.action is Action.NONE
    assert above is not None
    assert above.domain == "example.com"
    assert find_policy("other.test", lookup) is None
    assert find_policy("twice.example", lookup) is None
    with pytest.raises(InvalidPolicy):
        find_policy("broken.example", lookup)


def test_organisation_is_the_highest_domain_that_publishes() -> None:
    assert organisational_domain("a.news.example.org", lookup) == "example.org"
    assert organisational_domain("shop.co.test", lookup) == "shop.co.test"
    assert organisational_domain("other.test", lookup) == "other.test"


@pytest.mark.parametrize(
    ("identifier", "from_domain", "strict", "organisation", "aligned"),
    [
        ("example.com", "example.com", True, None, True),
        ("mail.example.com", "example.com", True, None, False),
        ("mail.example.com", "example.com", False, None, True),
        ("example.com", "mail.example.com", False, None, True),
        ("bounce.example.com", "news.example.com", False, None, False),
        ("bounce.example.com", "news.example.com", False, "example.com", True),
        ("notexample.com", "example.com", False, None, False),
        ("relay.example", "shop.example", False, "example", False),
    ],
)
def test_alignment(identifier: str, from_domain: str, strict: bool, organisation: str | None, aligned: bool) -> None:
    assert is_aligned(identifier, from_domain, strict=strict, organisation=organisation) is aligned


def test_walk_asks_few_names_whatever_the_depth() -> None:
    asked: list[str] = []

    def none(name: str) -> Sequence[str]:
        asked.append(name)
        return []

    find_policy(".".join("abcdefghijklmnop") + ".example.com", none)
    assert len(asked) == 8


@given(st.text(max_size=200))
def test_reading_any_text_raises_nothing_else(text: str) -> None:
    find_record([text])
    try:
        parse_policy("v=DMARC1;" + text)
    except InvalidPolicy:
        pass
