"""The tolerant MIME reader: every line end, wrong boundaries, and what hostile mail may cost."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.reports.message import (
    MAX_DEPTH,
    MAX_PARTS,
    decoded,
    header,
    headers_in,
    leaves,
    octets_of,
    read_message,
    readable,
)

MAIL = b"""\
From: MAILER-DAEMON@mx.example.net
Subject: =?utf-8?q?Unzustellbar=3A_f=C3=BCr?= Bob
Content-Type: multipart/report; report-type=delivery-status;
 boundary="b1"

A preamble.
--b1
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Gr=FC=DFe

--b1
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; bob@example.net
--b1
Content-Type: message/rfc822

Message-ID: <1@example.com>
Subject: long
 folded

Hello
--b1--
"""


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("before", [b"", b"From MAILER-DAEMON Fri Jan  2 03:04:05 2026\n", b"\n\n"])
def test_every_line_end_and_an_mbox_line_read_the_same(end: bytes, before: bytes) -> None:
    message = read_message((before + MAIL).replace(b"\n", end))
    prose, status, original = leaves(message)
    assert header(message, "subject") == "Unzustellbar: für Bob"
    assert decoded(prose) == "Grüße\n"
    assert decoded(status).splitlines()[-1] == "Final-Recipient: rfc822; bob@example.net"
    assert headers_in(decoded(original)) == [("Message-ID", "<1@example.com>"), ("Subject", "long folded")]


def test_a_boundary_that_is_not_there_is_found() -> None:
    assert len(leaves(read_message(MAIL.replace(b'boundary="b1"', b'boundary="other"')))) == 3
    assert len(leaves(read_message(MAIL.replace(b'; boundary="b1"', b"")))) == 3
    assert len(leaves(read_message(MAIL.replace(b'boundary="b1"', b"boundary=\xffb1")))) == 3


def test_a_cut_mail_keeps_what_came() -> None:
    cut = MAIL[: MAIL.index(b"Hello")]
    assert len(leaves(read_message(cut))) == 3


def test_wrong_encodings_lose_nothing_readable() -> None:
    part = read_message(
        b"Content-Type: text/plain; charset=x-what\nContent-Transfer-Encoding: base64\n\nSGVsbG8gdGhlcm"
    )
    assert octets_of(part) == b"Hello ther"
    assert decoded(part) == "Hello ther"
    assert decoded(read_message(b"Content-Type: text/plain; charset=utf-8\n\ngr\xfc\xdfe")) == "grüße"
    assert header(read_message(b"Subject: =?x-what?q?a=FC?= gr\xc3\xbc\xc3\x9f\n\n"), "Subject") == "aü grüß"


def test_a_character_by_an_absurd_number_keeps_nobody_from_the_rest() -> None:
    page = b"Content-Type: text/html\n\n<p>No such user &#233;&#x" + b"f" * 9000 + b";&#" + b"9" * 9000 + b"; here"
    assert readable(read_message(page)).split() == ["No", "such", "user", "é;;", "here"]


@given(st.binary(max_size=400))
def test_any_octets_are_a_message(octets: bytes) -> None:
    message = read_message(octets)
    for part in leaves(message):
        decoded(part).encode()
        header(part, "subject").encode()


@given(
    st.lists(st.sampled_from([*MAIL.splitlines(keepends=True), b"\n", b"--b1--\n", b"\xff\n", b"--b1\n"]), max_size=60)
)
def test_any_order_of_lines_is_a_message(lines: list[bytes]) -> None:
    for part in leaves(read_message(b"".join(lines))):
        decoded(part)


def nested(levels: int) -> bytes:
    text = b"Content-Type: text/plain\n\nHello\n"
    for level in range(levels):
        name = b"n%d" % level
        text = b'Content-Type: multipart/mixed; boundary="' + name + b'"\n\n--' + name + b"\n" + text
    return text


@pytest.mark.parametrize(
    "octets",
    [
        b"\n" * 2_000_000,
        b"A:\n" * 500_000,
        b"Content-Type: multipart/mixed" + b";" * 1_000_000 + b"\n\n",
        b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n" * 300_000,
        b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b" * 300_000,
        b"Subject: " + b"=?utf-8?q?a?= " * 100_000 + b"\n\n",
        b"Subject: a\n" + b" x\n" * 400_000 + b"\n\n",
        b"From " * 200_000,
        b"From \n" * 200_000,
        nested(2000),
        b"Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n" + b"=" * 1_000_000,
        b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n" + b"\xff=" * 500_000,
    ],
    ids=lambda octets: octets[:30].decode("latin-1"),
)
def test_hostile_mail_costs_little(octets: bytes) -> None:
    begun = time.process_time()
    for part in leaves(read_message(octets)):
        decoded(part)
        header(part, "subject")
    assert time.process_time() - begun < 1, "some tens of milliseconds, and room for a busy machine"


def test_depth_and_number_of_parts_are_bounded() -> None:
    deep = read_message(nested(50))
    assert len(list(deep.walk())) <= MAX_DEPTH + 1
    many = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 1000
    assert len(list(read_message(many).walk())) == MAX_PARTS
