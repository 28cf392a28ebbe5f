"""mail.mta_sts: records and policies as domains publish them, and whatever else may stand there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.mta_sts import MAX_AGE_SECONDS, MAX_POLICY, InvalidPolicy, Mode, identify, parse_policy

POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        (["v=STSv1;id=1"], "1"),
        (["v=spf1 -all", "v=STSv1; id=a; more=b"], "a"),
        (["v=STSv1 ; id = 7 "], "7"),
        ([], None),
        (["v=STSv1; id=1", "v=STSv1; id=2"], None),
        (["v=STSv1"], None),
        (["v=STSv1; id="], None),
        (["v=STSv1; id=has-a-dash"], None),
        (["v=STSv1; id=" + "x" * 33], None),
        (["v=STSv10; id=1"], None),
        ([" v=STSv1; id=1"], None),
        (["id=1; v=STSv1"], None),
    ],
)
def test_one_well_formed_record_says_that_there_is_a_policy(texts: list[str], found: str | None) -> None:
    """RFC 8461 §3.1: several records are as good as none."""
    assert identify(texts) == found


def test_a_policy_is_read() -> None:
    policy = parse_policy(POLICY)
    assert (policy.mode, policy.mx, policy.max_age) == (
        Mode.ENFORCE,
        ("mail.example.com", "*.example.net"),
        604_800,
    )


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("mail.example.com", True),
        ("MAIL.example.com.", True),
        ("mail2.example.com", False),
        ("mx.example.net", True),
        ("example.net", False),
        ("a.b.example.net", False),
        ("xexample.net", False),
        ("", False),
    ],
)
def test_a_pattern_names_a_host_or_one_label_of_a_domain(host: str, allowed: bool) -> None:
    """RFC 8461 §4.1."""
    assert parse_policy(POLICY).allows(host) is allowed


@pytest.mark.parametrize("ends", [b"\r\n", b"\n"])
def test_lines_may_end_either_way_and_unknown_fields_are_passed_over(ends: bytes) -> None:
    body = ends.join(
        [b"version:STSv1", b"mode:  testing  ", b"colour: blue", b"mx:MX.Example.com.", b"max_age: 1", b""]
    )
    policy = parse_policy(body)
    assert (policy.mode, policy.mx, policy.max_age) == (Mode.TESTING, ("mx.example.com",), 1)


def test_of_a_repeated_field_the_first_counts() -> None:
    """RFC 8461 §3.2."""
    assert parse_policy(POLICY + b"mode: none\r\nmax_age: 1\r\n").mode is Mode.ENFORCE


def test_a_policy_that_is_withdrawn_needs_no_hosts() -> None:
    assert parse_policy(b"version: STSv1\nmode: none\nmax_age: 86400\n").mx == ()


def test_an_age_beyond_a_year_is_a_year() -> None:
    assert parse_policy(POLICY.replace(b"604800", b"9999999999")).max_age == MAX_AGE_SECONDS


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "version"),
        (b"<html>404</html>", "no field"),
        (POLICY.replace(b"STSv1", b"STSv2"), "version"),
        (POLICY.replace(b"enforce", b"Enforce"), "mode"),
        (POLICY.replace(b"604800", b"a week"), "max_age"),
        (POLICY.replace(b"604800", b"-1"), "max_age"),
        (POLICY.replace(b"max_age: 604800\r\n", b""), "max_age"),
        (b"version: STSv1\nmode: enforce\nmax_age: 1\n", "no MX host"),
        (POLICY.replace(b"*.example.net", b"*"), "no host name"),
        (POLICY.replace(b"*.example.net", b"a.*.net"), "no host name"),
        (POLICY.replace(b"*.example.net", b"mx .example"), "no host name"),
        (POLICY + b"\xff\xfe: x\r\n", "not text"),
        (POLICY + b"x: " + b"y" * MAX_POLICY, "longer"),
        (POLICY + b"mx: a.test\n" * 100, "more than 100"),
    ],
)
def test_what_is_no_policy_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(InvalidPolicy, match=reason):
        parse_policy(body)


LINES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"version: STSv1", b"mode: enforce", b"mode: none", b"mx: *.a.test", b"mx:", b"max_age: 60"]),
    ),
    max_size=8,
)


@given(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_no_policy_raises_anything_else(lines: list[bytes], ends: bytes) -> None:
    try:
        policy = parse_policy(ends.join(lines))
    except InvalidPolicy:
        pass
    else:
        assert 0 <= policy.max_age <= MAX_AGE_SECONDS
        assert not policy.allows("somewhere.else.test")


@given(st.lists(st.text(max_size=60) | st.from_regex(r"v=STSv1;? ?(id=\w{0,40};?)?"), max_size=3))
def test_no_record_raises(texts: list[str]) -> None:
    found = identify(texts)
    assert found is None or (found.isascii() and 1 <= len(found) <= 32)
