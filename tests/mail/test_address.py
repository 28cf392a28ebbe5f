"""Mailboxes, domains and suppression keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.address import (
    InvalidAddress,
    InvalidDomain,
    Mailbox,
    normalise_domain,
    parse_mailbox,
    suppression_key,
)


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("alice@example.com", "alice", "example.com"),
        ("Alice+Tag@EXAMPLE.com", "Alice+Tag", "example.com"),
        ("a.b-c_d!e#f@mail.example.co.uk", "a.b-c_d!e#f", "mail.example.co.uk"),
        ("bob@bücher.example", "bob", "xn--bcher-kva.example"),
        ("jörg@example.com", "jörg", "example.com"),
        ("o'hara@example.com.", "o'hara", "example.com"),
    ],
)
def test_a_bare_address_is_read(text: str, local: str, domain: str) -> None:
    assert parse_mailbox(text) == Mailbox(local, domain)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "@example.com",
        "alice@",
        "Alice <alice@example.com>",
        "<alice@example.com>",
        "alice@localhost",
        "alice@[192.0.2.1]",
        "alice@192.0.2.1",
        '"alice smith"@example.com',
        "alice smith@example.com",
        "alice@exam ple.com",
        "alice@example.com\r\nRCPT TO:<bob@example.com>",
        "alice\x00@example.com",
        "a..b@example.com",
        ".a@example.com",
        "a.@example.com",
        "a@b@example.com",
        "alice@-example.com",
        "alice@example..com",
        "alice@under_score.example.com",
        "zero\u200bwidth@example.com",
        "x" * 65 + "@example.com",
        "ä" * 33 + "@example.com",
        "a@" + "b" * 64 + ".example",
        "a@" + ".".join(["b" * 60] * 5),
        "alice@exa\ud800mple.com",
    ],
)
def test_what_smtp_cannot_carry_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress):
        parse_mailbox(text)


def test_smtputf8_is_needed_for_the_local_part_only() -> None:
    assert parse_mailbox("jörg@example.com").needs_smtputf8
    assert not parse_mailbox("joerg@bücher.example").needs_smtputf8


def test_equal_domains_have_one_spelling() -> None:
    """Lesson C15: case-sensitive grouping opened extra connections."""
    assert normalise_domain("Example.COM.") == normalise_domain("example.com") == "example.com"
    assert normalise_domain("BÜCHER.example") == normalise_domain("xn--BCHER-kva.example")


@pytest.mark.parametrize(
    "text", ["", ".", "com", "1.2.3.4", "a..b.c", "*.example.com", "exa mple.com", "\u2603.\ufffd"]
)
def test_what_is_no_domain_is_refused(text: str) -> None:
    with pytest.raises(InvalidDomain):
        normalise_domain(text)


def test_suppression_ignores_case_and_spelling() -> None:
    """Lesson C8: suppressions were case-sensitive and not normalised."""
    keys = {suppression_key(a) for a in ("Bob@Example.com", "bob@EXAMPLE.COM.", " bob@example.com ")}
    assert keys == {"bob@example.com"}
    assert suppression_key("x@Bücher.example") == "x@xn--bcher-kva.example"
    assert suppression_key("ju\u0308rgen@example.com") == suppression_key("JÜRGEN@example.com")


@given(st.text())
def test_reading_any_text_gives_a_mailbox_or_refuses(text: str) -> None:
    try:
        mailbox = parse_mailbox(text)
    except InvalidAddress:
        return
    assert parse_mailbox(mailbox.address) == mailbox


@given(st.text())
def test_a_suppression_key_is_stable(text: str) -> None:
    key = suppression_key(text)
    assert suppression_key(key) == key
