"""From an envelope and its MIME to a request: who receives, what is taken out, what stays."""

import contextlib
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.web.errors import Violations
from sending.accept.request import ListUnsubscribe, SendRequest
from sending.models import Priority
from sending.submission.message import read_mail

HEAD = b"From: App <app@demo.test>\r\nTo: Ann <ann@one.example>\r\nSubject: News\r\n"
BODY = b"\r\nHello.\r\n"


def read(
    *recipients: str, fields: bytes = b"", head: bytes = HEAD, body: bytes = BODY, is_test: bool = False
) -> SendRequest:
    return read_mail(head + fields + body, recipients or ("ann@one.example",), is_test=is_test)


def wrong(fields: bytes, **more: bytes) -> list[tuple[str, str]]:
    with pytest.raises(Violations) as refused:
        read(fields=fields, **more)  # type: ignore[arg-type]
    return [(violation.property, violation.message) for violation in refused.value.violations]


def octets(request: SendRequest) -> bytes:
    assert request.raw is not None
    return request.raw.octets


def test_the_envelope_decides_who_receives_and_who_is_named_nowhere_is_a_blind_copy() -> None:
    """Lesson C19: the envelope's Bcc was lost, and who stood in the header alone was sent to."""
    head = HEAD + b"Cc: Carol <carol@two.example>, dan@two.example\r\n"
    request = read("ANN@one.example", "carol@two.example", "secret@three.example", head=head)
    assert [(one.type, one.address, one.name) for one in request.recipients] == [
        ("to", "ANN@one.example", "Ann"),
        ("cc", "carol@two.example", "Carol"),
        ("bcc", "secret@three.example", ""),
    ]
    assert b"secret" not in octets(request)
    assert b"dan@two.example" in octets(request), "the header is the customer's"


def test_the_mime_stays_as_it_is_but_for_bcc_and_fields_of_ours() -> None:
    """Lesson C19: the structure was taken apart and made anew."""
    body = b'Content-Type: multipart/mixed; boundary="=_x"\r\n\r\n--=_x\r\n\r\n  odd   \r\n.\r\n--=_x--\r\n'
    extra = b"Bcc: secret@three.example,\r\n other@three.example\r\nX-Relay-Tags: a\r\nX-Idempotency-Key: k\r\nX-Mine: yes\r\n"
    assert octets(read(fields=extra, body=body)) == HEAD + b"X-Mine: yes\r\n" + body


def test_fields_of_ours_say_what_a_body_of_the_api_would() -> None:
    request = read(
        fields=b"X-Relay-Tags: welcome, q4\r\nx-relay-tags: more\r\n"
        b'X-Relay-Metadata: {"order": "1001",\r\n "who": "J\\u00fcrgen"}\r\n'
        b"X-Relay-Send-After: 2030-12-24T18:00:00+01:00\r\nX-Relay-Priority: bulk\r\nX-Relay-List: Weekly\r\n"
        b"X-Relay-List-Unsubscribe: leave@demo.test\r\nX-Relay-Idempotency-Key: order-1001\r\n"
    )
    assert request.tags == ("welcome", "q4", "more")
    assert request.metadata == {"order": "1001", "who": "Jürgen"}
    assert request.send_after == datetime(2030, 12, 24, 17, tzinfo=UTC)
    assert (request.priority, request.list) == (Priority.BULK, "weekly")
    assert request.list_unsubscribe == ListUnsubscribe("leave@demo.test")
    assert (request.idempotency_key, len(request.fingerprint)) == ("order-1001", 64)
    assert octets(request) == HEAD + BODY


@pytest.mark.parametrize("name", ["X-Relay-Idempotency-Key", "X-Idempotency-Key", "Idempotency-Key"])
def test_an_idempotency_key_may_have_each_of_its_names(name: str) -> None:
    assert read(fields=f"{name}: k\r\n".encode()).idempotency_key == "k"


@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        (b"X-Relay-Nonsense: 1\r\n", "X-Relay-Nonsense", "There is no such field"),
        (b"X-Relay-Metadata: {no}\r\n", "X-Relay-Metadata", "no JSON object"),
        (b"X-Relay-Metadata: [1]\r\n", "metadata", "object of strings"),
        (b"X-Relay-Send-After: tomorrow\r\n", "X-Relay-Send-After", "no time"),
        (b"X-Relay-Send-After: 2026-12-24T18:00:00\r\n", "X-Relay-Send-After", "offset"),
        (b"X-Relay-Send-After: 9999-12-31T23:59:59-12:00\r\n", "send_after", ""),
        (b"X-Relay-Priority: urgent\r\n", "priority", "one of"),
        (b"X-Relay-List: a\r\nX-Relay-List: b\r\n", "X-Relay-List", "once"),
        (b"X-Relay-Tags: ok, <b>\r\n", "tags[1]", "A tag has"),
        (b"X-Idempotency-Key: " + b"k" * 256 + b"\r\n", "X-Idempotency-Key", "255"),
        (b"X-Relay-List-Unsubscribe: yes\r\nList-Unsubscribe: <https://a.example>\r\n", "list_unsubscribe", "already"),
        (b"From: other@demo.test\r\n", "message", "more than once"),
        (b"no field\r\n", "message", "header fields"),
    ],
)
def test_what_is_wrong_is_named_with_its_field_and_rule(fields: bytes, field: str, rule: str) -> None:
    if field == "send_after":
        assert read(fields=fields).send_after is not None, "how far ahead is accept()'s to say"
        return
    [(name, message)] = wrong(fields)
    assert name == field
    assert rule in message


def test_a_second_try_of_a_mail_has_the_fingerprint_of_the_first() -> None:
    """Clients make Date, Message-ID and boundaries anew each time."""

    def tried(date: bytes, boundary: bytes, words: bytes = b"Hello.", to: str = "ann@one.example") -> str:
        fields = b"Date: %b\r\nMessage-ID: <%b@x>\r\nX-Idempotency-Key: k\r\n" % (date, boundary)
        body = b'Content-Type: multipart/mixed;\r\n boundary="%b"\r\n\r\n--%b\r\n\r\n%b\r\n--%b--\r\n'
        return read(to, fields=fields, body=body % (boundary, boundary, words, boundary)).fingerprint

    first = tried(b"Mon, 1 Jan 2029 10:00:00 +0000", b"--=_111")
    assert tried(b"Mon, 1 Jan 2029 10:00:07 +0000", b"--=_222") == first
    assert tried(b"Mon, 1 Jan 2029 10:00:07 +0000", b"--=_222", words=b"Bye.") != first
    assert tried(b"Mon, 1 Jan 2029 10:00:07 +0000", b"--=_222", to="bob@one.example") != first


def test_headers_in_utf_8_are_read_as_such() -> None:
    head = "From: Jürgen <app@demo.test>\r\nTo: Ännchen <ann@one.example>\r\nSubject: Grüße\r\n".encode()
    request = read(head=head)
    assert (request.from_.name, request.subject, request.recipients[0].name) == ("Jürgen", "Grüße", "Ännchen")


LINES = st.lists(st.binary(max_size=60).map(lambda line: re.sub(rb"[\r\n]", b"", line)), max_size=12)


@given(LINES)
def test_no_octets_break_it(lines: list[bytes]) -> None:
    for start in (b"", HEAD, HEAD + b"X-Relay-Metadata: "):
        with contextlib.suppress(Violations):
            read_mail(start + b"\r\n".join(lines) + b"\r\n", ["ann@one.example"], is_test=False)


# --- As an enemy ------------------------------------------------------------------------------------------------------

INJECTED = "=?utf-8?q?a=0D=0ABcc=3A_victim=40one=2Eexample?="


@pytest.mark.parametrize(
    "field",
    [
        f"X-Relay-Tags: {INJECTED}",
        f"X-Relay-List: {INJECTED}",
        f"X-Relay-List-Unsubscribe: {INJECTED}",
        f"X-Relay-Priority: {INJECTED}",
        f"X-Relay-Send-After: {INJECTED}",
        f"X-Relay-Metadata: {INJECTED}",
        f"X-Idempotency-Key: {INJECTED}",
        f"X-Relay-Metadata: {chr(123)}{chr(125)}\r\nX-Relay-Metadata: {chr(123)}{chr(125)}",
        "X-Relay-Metadata: " + "[" * 900,
        "X-Relay-Metadata: " + "\r\n ".join(["[" * 900] * 200),
        "X-Idempotency-Key: " + "\r\n ".join(["k" * 90] * 4),
        "X-Relay-Tags: " + ",".join(["t"] * 450),
    ],
    ids=lambda text: text[:24] + str(len(text)),
)
def test_no_field_of_ours_brings_a_line_of_its_own_into_the_mail(field: str) -> None:
    """Encoded words may hold line ends, and JSON any depth: they are refused, never written."""
    with pytest.raises(Violations):
        read_mail(f"From: a@b.example\r\n{field}\r\n\r\nx\r\n".encode(), ["ann@one.example"], is_test=False)


def test_line_ends_in_subjects_are_spaces_and_in_names_they_are_refused() -> None:
    octets = f"From: a@b.example\r\nSubject: {INJECTED}\r\n\r\nx\r\n"
    subject = read_mail(octets.encode(), ["ann@one.example"], is_test=False).subject or ""
    assert not any(char in subject for char in "\r\n\0")
    for name in ("From", "To"):
        octets = f"{name}: {INJECTED} <a@b.example>\r\nX-From: a@b.example\r\n\r\nx\r\n"
        with pytest.raises(Violations):
            read_mail(octets.encode(), ["ann@one.example"], is_test=False)
