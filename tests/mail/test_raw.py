"""mail.raw: a message that comes as MIME is kept as it is, and refused with a sentence where it cannot be sent."""

import time
from datetime import UTC, datetime
from email import policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.raw import InvalidRaw, _quick_addresses, complete, message_id_of, parts_of, read_raw

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
MAIL = (
    b"From: =?utf-8?q?J=C3=B6rg?= <joerg@shop.example>\r\nTo: Ann <ann@one.example>, bob@two.example\r\n"
    b"Cc: cy@three.example\r\nBcc: hidden@four.example\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nHi\r\n"
    b"--b\r\nContent-Type: text/html\r\n\r\n<p>Hi</p>\r\n--b--\r\n"
)


def test_header_says_who_and_what() -> None:
    raw = read_raw(MAIL)
    assert (raw.from_.address, raw.from_.name, raw.subject) == ("joerg@shop.example", "Jörg", "Grüße")
    assert [one.address for one in (*raw.to, *raw.cc, *raw.bcc)] == [
        "ann@one.example", "bob@two.example", "cy@three.example", "hidden@four.example"
    ]  # fmt: skip
    assert raw.message_id is None


def test_bcc_goes_and_nothing_else_changes() -> None:
    assert read_raw(MAIL).octets == MAIL.replace(b"Bcc: hidden@four.example\r\n", b"")


def test_folded_bcc_goes_with_all_its_lines() -> None:
    raw = read_raw(b"From: a@b.example\nBCC: x@y.example,\n z@y.example\nX-Last: 1\n\nbody")
    assert raw.octets == b"From: a@b.example\r\nX-Last: 1\r\n\r\nbody\r\n"
    assert len(raw.bcc) == 2


def test_what_is_missing_stands_in_front() -> None:
    kept = read_raw(MAIL).octets
    done = complete(kept, "id@shop.example", NOW, [("List-Unsubscribe", "<https://x.example>")])
    assert done.endswith(kept)
    assert done[: -len(kept)] == (
        b"List-Unsubscribe: <https://x.example>\r\nMessage-ID: <id@shop.example>\r\n"
        b"Date: Fri, 27 Nov 2026 12:00:00 +0000\r\n"
    )


def test_what_is_there_stays_alone() -> None:
    kept = read_raw(
        b"From: a@b.example\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-Id: <own@b.example>\r\n\r\nx\r\n"
    ).octets
    assert message_id_of(kept) == "own@b.example"
    assert complete(kept, "other@b.example", NOW) == kept


def test_parts_are_those_that_a_reader_sees() -> None:
    parts = parts_of(MAIL)
    assert (parts.text, parts.html) == ("Hi", "<p>Hi</p>")
    assert parts.headers["subject"] == "Grüße"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "does not begin"),
        (b"no header at all", "does not begin"),
        (b"To: a@b.example\r\n\r\nx", "exactly one"),
        (b"From: a@b.example, c@d.example\r\n\r\nx", "exactly one"),
        (b"From: a@b.example\r\nFrom: c@d.example\r\n\r\nx", "more than once"),
        (b"From: a@b.example\r\nTo: nobody\r\n\r\nx", "not an e-mail address"),
        (b"From: a@b.example\r\nReturn-Path: <a@b.example>\r\n\r\nx", "return-path"),
        (b"From: a@b.example\r\nMessage-ID: none\r\n\r\nx", "Message-ID"),
        (b"From: a@b.example\r\n\r\n" + b"x" * 999, "998"),
        (b"From: a@b.example\r\n\r\n\0", "NUL"),
        (b"From: a@b.example\r\n" + b"X: y\r\n" * 501 + b"\r\nx", "500"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_a_reason(data: bytes, says: str) -> None:
    with pytest.raises(InvalidRaw, match=says):
        read_raw(data)


@given(st.binary(max_size=400))
def test_any_octets_are_read_or_refused(data: bytes) -> None:
    for candidate in (data, b"From: a@b.example\r\nTo: " + data, b"From: a@b.example\r\n\r\n" + data):
        try:
            kept = read_raw(candidate).octets
        except InvalidRaw:
            continue
        assert b"\n" not in kept.replace(b"\r\n", b"")
        complete(kept, "id@b.example", NOW)
        parts_of(kept)


ADDRESSING = st.text(st.sampled_from('abJ .,<>@"=?:;()\\é\t-_'), max_size=40)


@given(ADDRESSING)
def test_plain_address_fields_are_read_as_the_stdlib_reads_them(text: str) -> None:
    """The quick way for what nearly all mail has must not see other recipients or another sender."""
    candidates = [text, f"J Smith <a.b@x.example>, {text}", f"{text} <a@x.example>"]
    for candidate in candidates:
        quick = _quick_addresses(candidate)
        if quick is not None:
            found = policy.default.header_factory("to", candidate).addresses
            assert quick == [(one.addr_spec, one.display_name) for one in found]


def test_a_field_with_a_space_before_its_colon_is_refused() -> None:
    """Readers differ in whether that is a field at all, and a signature does not cover it."""
    with pytest.raises(InvalidRaw, match="space before its colon"):
        read_raw(b"From: a@b.example\r\nSubject : x\r\n\r\nx")


def test_ten_megabytes_of_line_ends_are_looked_through_without_copies() -> None:
    text = b"From: a@b.example\r\n\r\n" + b"\r\n" * 5_000_000
    began = time.process_time()
    assert len(read_raw(text).octets) == len(text)
    assert time.process_time() - began < 1.0


def nested(depth: int) -> bytes:
    heads = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(depth))
    return b"From: a@b.example\r\n" + heads + b"Content-Type: text/plain\r\n\r\nhi\r\n"


BOMBS = {
    "nested": nested(20_000),
    "parts": b"From: a@b.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    + b"--b\r\nContent-Type: text/html\r\n\r\nx\r\n" * 100_000,
    "folded": b"From: a@b.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain"
    + b";\r\n x=y" * 500_000
    + b"\r\n\r\nx\r\n--b--\r\n",
    "parameters": b"From: a@b.example\r\nContent-Type: text/plain"
    + b"".join(b';\r\n x*%d="a"' % n for n in range(15_000))
    + b"\r\n\r\nx\r\n",
    "messages": b"From: a@b.example\r\n" + b"Content-Type: message/rfc822\r\n\r\n" * 50_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_built_to_exhaust_a_reader_does_not(name: str) -> None:
    """A page that shows such a mail failed with RecursionError, or held its worker for a minute."""
    began = time.process_time()
    parts_of(read_raw(BOMBS[name]).octets)
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize(
    "octets", [b"From: a@b.example\r\n" + b"X: y\r\n" * 1_000_000, b"X-Giant: " + b"a" * 10_000_000]
)
def test_a_header_of_a_million_lines_is_refused_at_once(octets: bytes) -> None:
    began = time.process_time()
    with pytest.raises(InvalidRaw, match="262144 octets"):
        read_raw(octets + b"\r\n\r\nx")
    assert time.process_time() - began < 1.0
