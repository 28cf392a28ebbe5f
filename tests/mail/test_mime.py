"""The writer, judged by the stdlib's parser, and its bytes, held by golden files."""

import re
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, message_from_string, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import getaddresses
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay_project.mail.headers import HeaderInjection
from relay_project.mail.mime import LATEST_VERSION, WRITERS, Attachment, Message, NamedAddress, compose

GOLDEN = Path(__file__).with_name("golden")
DATE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ALICE = NamedAddress("alice@example.com", "Alice")
BOB = NamedAddress("bob@example.net")


def make(
    *,
    from_: NamedAddress = ALICE,
    to: tuple[NamedAddress, ...] = (BOB,),
    cc: tuple[NamedAddress, ...] = (),
    subject: str | None = "Hello",
    headers: tuple[tuple[str, str], ...] = (),
    text: str | None = "Hi Bob\n",
    html: str | None = None,
    attachments: tuple[Attachment, ...] = (),
    message_id: str = "0190f3c0-0000-7000-8000-000000000001@example.com",
    date: datetime = DATE,
    mailer: str = "Relay v1",
) -> Message:
    """A message with one field out of the ordinary."""
    return Message(from_, to, cc, subject, headers, text, html, attachments, message_id, date, mailer)


def parse(raw: bytes) -> EmailMessage:
    """Read with the judge."""
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def normal(text: str) -> str:
    """A text as it arrives: LF line ends; whether the last line had one is not kept."""
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")


def body(message: EmailMessage, kind: str) -> str | None:
    """The decoded body of one kind."""
    for part in message.walk():
        if part.get_content_type() == f"text/{kind}" and part.get_content_disposition() is None:
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            return normal(payload.decode("utf-8"))
    return None


def check_octets(raw: bytes) -> None:
    """Check the lines: CRLF only, none over 998, header in ASCII unless addresses need more."""
    assert raw.endswith(b"\r\n")
    bare = raw.replace(b"\r\n", b"")
    assert b"\r" not in bare
    assert b"\n" not in bare
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert b"\x00" not in raw


def test_a_plain_message_has_the_contracts_fields_in_order() -> None:
    raw = compose(
        make(
            cc=(NamedAddress("carol@example.net", "Carol"),), headers=(("X-Tag", "a"), ("Reply-To", "help@example.com"))
        )
    )
    assert raw.decode().split("\r\n") == [
        "From: Alice <alice@example.com>",
        "To: bob@example.net",
        "Cc: Carol <carol@example.net>",
        "Subject: Hello",
        "X-Tag: a",
        "Reply-To: help@example.com",
        "Message-ID: <0190f3c0-0000-7000-8000-000000000001@example.com>",
        "X-Mailer: Relay v1",
        "MIME-Version: 1.0",
        "Date: Fri, 02 Jan 2026 03:04:05 +0000",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 7bit",
        "",
        "Hi Bob",
        "",
        "",
    ]


def test_without_to_the_recipients_are_undisclosed() -> None:
    assert b"\r\nTo: undisclosed-recipients:;\r\n" in compose(make(to=()))


def test_the_date_is_written_in_utc() -> None:
    date = datetime(2026, 1, 1, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))
    assert b"\r\nDate: Wed, 31 Dec 2025 23:02:03 +0000\r\n" in compose(make(date=date))


def test_a_subject_may_be_absent_or_empty() -> None:
    assert b"Subject" not in compose(make(subject=None))
    assert parse(compose(make(subject="")))["Subject"] == ""


def test_the_tree_is_as_small_as_the_content_allows() -> None:
    def shape(message: Message) -> str:
        def of(part: EmailMessage) -> str:
            children = ",".join(of(child) for child in part.iter_parts()) if part.is_multipart() else ""
            return f"{part.get_content_subtype()}({children})" if children else part.get_content_subtype()

        return of(parse(compose(message)))

    file, image = Attachment(b"x", "a.pdf"), Attachment(b"y", "a.png", None, "logo")
    assert shape(make()) == "plain"
    assert shape(make(text=None, html="<p>")) == "html"
    assert shape(make(text=None)) == "plain"
    assert shape(make(html="<p>")) == "alternative(plain,html)"
    assert shape(make(attachments=(file,))) == "mixed(plain,pdf)"
    assert shape(make(html="<p>", attachments=(image,))) == "alternative(plain,related(html,png))"
    assert shape(make(text=None, html="<p>", attachments=(image,))) == "related(html,png)"
    assert (
        shape(make(html="<p>", attachments=(file, image, file)))
        == "mixed(alternative(plain,related(html,png)),pdf,pdf)"
    )


@pytest.mark.parametrize(
    "text",
    [
        "ü",
        "x" * 991,
        "trailing \nspace",
        "tab\t",
        "From me\nto you",
        "a\n.\nb",
        ".",
        ".\n",
        "a\n.",
        "\x00",
        "\x1b",
        "a\x0bb",
    ],
)
def test_what_the_way_would_change_is_quoted_printable(text: str) -> None:
    raw = compose(make(text=text))
    assert b"quoted-printable" in raw
    assert body(parse(raw), "plain") == normal(text)
    encoded = raw.partition(b"\r\n\r\n")[2]
    assert all(len(line) <= 76 and line != b"." and not line.startswith(b"From ") for line in encoded.split(b"\r\n"))
    assert all(not line.endswith((b" ", b"\t")) for line in encoded.split(b"\r\n"))


@pytest.mark.parametrize("text", ["", "\n", "a\r\nb\rc\nd", "x" * 990, "..\n. a\nfrom From \tx\n\n\n"])
def test_the_rest_is_7bit(text: str) -> None:
    raw = compose(make(text=text))
    assert b"7bit" in raw
    assert body(parse(raw), "plain") == normal(text)


def test_a_local_part_beyond_ascii_stays_utf_8() -> None:
    raw = compose(make(to=(NamedAddress("jörg@example.com", "Jörg"),)))
    assert "To: =?utf-8?q?J=C3=B6rg?= <jörg@example.com>\r\n".encode() in raw


@pytest.mark.parametrize("bad", ["x\r\ny", "x\ny", "x\ry", "x\x00y"])
@pytest.mark.parametrize(
    "place",
    ["subject", "name", "header name", "header", "message_id", "mailer", "address", "file", "type", "content id"],
)
def test_no_field_can_break_out_of_its_line(place: str, bad: str) -> None:
    message = {
        "subject": lambda: make(subject=bad),
        "name": lambda: make(from_=NamedAddress("alice@example.com", bad)),
        "header name": lambda: make(headers=((bad, "x"),)),
        "header": lambda: make(headers=(("X-Tag", bad),)),
        "message_id": lambda: make(message_id=bad),
        "mailer": lambda: make(mailer=bad),
        "address": lambda: make(to=(NamedAddress(bad + "@example.com"),)),
        "file": lambda: make(attachments=(Attachment(b"", bad),)),
        "type": lambda: make(attachments=(Attachment(b"", "a", bad),)),
        "content id": lambda: make(attachments=(Attachment(b"", "a", None, bad),)),
    }[place]()
    with pytest.raises(HeaderInjection):
        compose(message)


@pytest.mark.parametrize(
    ("name", "declared", "written"),
    [
        ("a.pdf", None, "application/pdf"),
        ("a.PDF", "", "application/pdf"),
        ("a", None, "application/octet-stream"),
        (None, None, "application/octet-stream"),
        ("a.csv", "text/csv; charset=iso-8859-1", "text/csv"),
        ("a.bin", "application/vnd.x+json", "application/vnd.x+json"),
        ("a.eml", "message/rfc822", "application/octet-stream"),
        ("a", "multipart/mixed; boundary=x", "application/octet-stream"),
        ("a", "nonsense", "application/octet-stream"),
        ("a", 'text/plain; x="a\\"', "application/octet-stream"),
    ],
)
def test_an_attachment_has_a_type_that_may_be_base64(name: str | None, declared: str | None, written: str) -> None:
    message = parse(compose(make(attachments=(Attachment(b"\x00\xff", name, declared),))))
    (part,) = message.iter_attachments()
    assert part.get_content_type() == written
    assert part.get_payload(decode=True) == b"\x00\xff"
    assert part.get_filename() == name


def test_an_inline_image_can_be_named_by_the_html() -> None:
    image = Attachment(b"png", "logo.png", "image/png", "<logo@example.com>")
    raw = compose(make(html='<img src="cid:logo@example.com">', attachments=(image,)))
    assert b"Content-ID: <logo@example.com>\r\n" in raw
    assert b'Content-Disposition: inline;\r\n filename="logo.png"\r\n' in raw


def test_a_boundary_cannot_be_guessed_from_another_message() -> None:
    def boundaries(message: Message) -> set[bytes]:
        return set(re.findall(rb'boundary="([^"]+)"', compose(message)))

    first = make(html="<p>", attachments=(Attachment(b"x"), Attachment(b"x", None, None, "i")))
    known = boundaries(first)
    assert len(known) == 3
    quoting = make(text="".join(f"--{b.decode()}--\n--{b.decode()}\n" for b in known), html="<p>")
    assert not boundaries(quoting) & known
    assert body(parse(compose(quoting)), "plain") == normal(quoting.text or "")


def test_an_unknown_version_is_refused() -> None:
    assert max(WRITERS) == LATEST_VERSION
    with pytest.raises(KeyError):
        compose(make(), version=LATEST_VERSION + 1)


# --- everything at once ---------------------------------------------------------------------------------------------

LINE = st.text(
    st.one_of(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), st.sampled_from(' \t=?"\\;,é')), max_size=80
)
BODY = st.one_of(
    st.none(),
    st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("\r\n .=\tF")), max_size=400),
    st.lists(
        st.sampled_from(["From ", "\n", "\r\n", ".", " ", "=", "x" * 75, "x" * 74, "ü", "\r", "--=_a"]), max_size=12
    ).map("".join),
)
ADDRESS = st.from_regex(r"\A[a-z0-9+_-]{1,20}(\.[a-z0-9]{1,5})?@[a-z]{1,10}\.example\Z")
MAILBOX = st.builds(NamedAddress, ADDRESS, st.one_of(st.none(), LINE))
FILE = st.builds(
    Attachment,
    st.binary(max_size=200),
    st.one_of(st.none(), LINE),
    st.sampled_from([None, "image/png"]),
    st.sampled_from([None, None, "a1"]),
)
MESSAGES = st.builds(
    make,
    from_=MAILBOX,
    to=st.lists(MAILBOX, max_size=3).map(tuple),
    cc=st.lists(MAILBOX, max_size=2).map(tuple),
    subject=st.one_of(st.none(), LINE),
    headers=st.lists(
        st.tuples(st.sampled_from(["X-A", "X-B", "Feedback-ID"]), LINE), max_size=2, unique_by=lambda h: h[0]
    ).map(tuple),
    text=BODY,
    html=BODY,
    attachments=st.lists(FILE, max_size=3).map(tuple),
    date=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)


def squeezed(text: str) -> str:
    """A display name or value with its white space collapsed, as readers do."""
    return " ".join(text.split())


def display_names(raw: bytes, name: str) -> list[str]:
    """The names in an address field, by the stdlib's older reader: the newer one parts long names with a space."""
    value = message_from_bytes(raw, policy=policy.compat32)[name]
    if value is None or value == "undisclosed-recipients:;":
        return []
    names = [name for name, _ in getaddresses(["".join(value.splitlines())])]
    return [squeezed(str(make_header(decode_header(name)))) for name in names]


@given(MESSAGES)
@example(make(text="From " * 40 + "\nFrom a\n.\n" + "x" * 75 + "From b"))
def test_a_reader_gets_everything_back(message: Message) -> None:
    raw = compose(message)
    check_octets(raw)
    assert compose(message) == raw
    parsed = parse(raw)
    assert parsed["Subject"] == (None if message.subject is None else message.subject.strip(" \t"))
    assert parsed["Message-ID"] == f"<{message.message_id}>"
    assert parsed["Date"].datetime == message.date.replace(microsecond=0)
    for name, mailboxes in (("From", (message.from_,)), ("To", message.to), ("Cc", message.cc)):
        addresses = parsed[name].addresses if parsed[name] is not None else ()
        assert [a.addr_spec for a in addresses] == [m.address for m in mailboxes]
        assert display_names(raw, name) == [squeezed(m.name or "") for m in mailboxes]
    for name, value in message.headers:
        assert parsed[name] == value.strip(" \t")
    if message.text is not None or message.html is None:
        assert body(parsed, "plain") == normal(message.text or "")
    if message.html is not None:
        assert body(parsed, "html") == normal(message.html)
    files = [part for part in parsed.walk() if part.get_content_disposition()]
    by_place = sorted(message.attachments, key=lambda file: file.content_id is None)
    assert [part.get_payload(decode=True) for part in files] == [file.content for file in by_place]
    assert [part.get_filename() or "" for part in files] == [(file.name or "").strip() for file in by_place]


@given(
    st.builds(
        make,
        subject=st.text(),
        headers=st.tuples(st.tuples(st.text(), st.text())),
        text=st.text(st.characters()),
        message_id=st.text(),
        mailer=st.text(),
        to=st.tuples(st.builds(NamedAddress, st.text(), st.text())),
        attachments=st.tuples(st.builds(Attachment, st.binary(), st.text(st.characters()), st.text(), st.text())),
    )
)
def test_anything_is_written_safely_or_refused(message: Message) -> None:
    try:
        check_octets(compose(message))
    except HeaderInjection:
        return


# --- golden files ---------------------------------------------------------------------------------------------------

GOLDEN_MESSAGES = {
    "plain": make(),
    "alternative": make(
        text="Grüße\n",
        html="<p>Grüße</p>\n",
        subject="Grüße aus Köln, und noch viel mehr, damit die Zeile umbrochen wird",
    ),
    "names": make(
        from_=NamedAddress("alice@example.com", 'Alice "A." Smith'),
        to=(
            NamedAddress("jörg@example.com", "Jörg"),
            NamedAddress("b@example.com", "日本語の名前"),
            NamedAddress("c@example.com"),
        ),
        cc=tuple(NamedAddress(f"user{i}@example.com", f"User {i}") for i in range(5)),
        headers=(("List-Unsubscribe", "<https://example.com/u?x=1>"), ("Reply-To", "Jörg <help@example.com>")),
    ),
    "hard-body": make(text="From me\n.\ntrailing \n\n" + "x" * 1200 + "\n\ttab\t\n=3D\x07\n", html="<p>\r\n..\r\n</p>"),
    "files": make(
        html='<img src="cid:logo">',
        attachments=(
            Attachment(
                bytes(range(256)), "Rechnung März (Köln) mit einem sehr langen Namen, der nicht in eine Zeile passt.pdf"
            ),
            Attachment(b"PNG", "logo.png", "image/png", "logo"),
            Attachment(b"", 'quote"d.txt', "text/plain; charset=utf-8"),
        ),
    ),
    "undisclosed": make(to=(), subject=None, text=None, html="<p>Hi</p>"),
}


@pytest.mark.parametrize("name", GOLDEN_MESSAGES)
def test_version_1_still_writes_the_same_bytes(name: str) -> None:
    assert compose(GOLDEN_MESSAGES[name], version=1) == (GOLDEN / f"v1-{name}.eml").read_bytes()


def test_a_utf_8_header_is_read_back() -> None:
    raw = compose(GOLDEN_MESSAGES["names"])
    parsed = message_from_string(raw.decode("utf-8"), policy=policy.default)
    assert [(a.display_name, a.addr_spec) for a in parsed["To"].addresses] == [
        ("Jörg", "jörg@example.com"),
        ("日本語の名前", "b@example.com"),
        ("", "c@example.com"),
    ]
