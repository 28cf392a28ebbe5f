"""A received mail taken apart: bodies, files, addresses; and any bytes at all."""

from email.message import EmailMessage

from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.received import Written, attachment_of, read_received

PIECES = st.sampled_from(
    [
        b"Content-Type: multipart/mixed; boundary=b\r\n", b"\r\n", b"--b\r\n", b"--b--\r\n", b"From: a, <b@c>, (((\r\n",
        b"Content-Disposition: attachment; filename*0*=utf-8''%ff; filename*2=x\r\n",
        b"Content-Type: text/html; charset=x\r\n",
        b"Content-Transfer-Encoding: base64\r\n", b"Date: Fri, 99 Foo 99999 99:99 +9999999\r\n", b"Message-ID: <\r\n",
        b"Content-Type: message/rfc822\r\n", b"Subject: =?utf-7?b?////?= =?x?q?=?=\r\n", b"\xff\x00\xed\xa0\x80",
        b"Content-Type: \r\n",
        b"Content-Disposition: \r\n", b"Content-ID: <>\r\n",
    ]
)  # fmt: skip


def mail() -> EmailMessage:
    message = EmailMessage()
    message["From"] = '"Döra, of the shop" <dora@example.test>'
    message["To"] = "support@in.shop.example.test, Bob <bob@shop.example.test>"
    message["Subject"] = "Grüße"
    message["Date"] = "Sat, 28 Nov 2026 01:02:03 +0000"
    message["Message-ID"] = "<a1@example.test>"
    message["References"] = "<r1@x> <r2@x>"
    message["Auto-Submitted"] = "auto-replied"
    message.set_content("Hällo\n")
    message.add_alternative('<p>Hällo <img src="cid:logo"></p>', subtype="html")
    message.get_payload()[1].add_related(b"\x89PNG", "image", "png", cid="<logo>")
    message.add_attachment(b"\0\1\2\xff", "application", "pdf", filename="../../Größe.pdf")
    message.add_attachment("a,b\n", filename="list.txt")
    return message


def test_bodies_files_and_addresses_are_read():
    read = read_received(mail().as_bytes().replace(b"\n", b"\r\n"))
    assert read.from_ == (Written("dora@example.test", "Döra, of the shop"),)
    assert [one.address for one in read.to] == ["support@in.shop.example.test", "bob@shop.example.test"]
    assert (read.subject, read.date, read.message_id) == ("Grüße", 1795827723, "a1@example.test")
    assert (read.references, read.auto_submitted) == (("r1@x", "r2@x"), "auto-replied")
    assert (read.text or "").strip() == "Hällo"
    assert "cid:logo" in (read.html or "")
    assert [(one.name, one.type, one.size, one.content_id, one.is_inline) for one in read.attachments] == [
        ("attachment-1", "image/png", 4, "logo", True),
        ("Größe.pdf", "application/pdf", 4, "", False),
        ("list.txt", "text/plain", 4, "", False),
    ]


def test_a_file_is_given_by_its_number_with_its_octets():
    octets = mail().as_bytes().replace(b"\n", b"\r\n")
    found = attachment_of(octets, 2)
    assert found is not None
    assert (found[0].name, found[1]) == ("Größe.pdf", b"\0\1\2\xff")
    assert attachment_of(octets, 0) is None
    assert attachment_of(octets, 4) is None


def test_a_mail_in_a_mail_is_one_file():
    outer = EmailMessage()
    outer.set_content("See below")
    outer.add_attachment(mail())
    read = read_received(outer.as_bytes())
    assert [(one.name, one.type) for one in read.attachments] == [("message.eml", "message/rfc822")]
    assert (read.text or "").strip() == "See below"


@given(st.one_of(st.binary(max_size=400), st.lists(PIECES, max_size=30).map(b"".join)))
def test_any_bytes_give_something(octets: bytes):
    read = read_received(octets)
    for one in read.attachments:
        found = attachment_of(octets, one.number)
        assert found is not None
        assert found[0] == one
    for text in (read.subject, read.text or "", read.html or "", *(one.name for one in read.attachments)):
        assert "\0" not in text
        text.encode()


def test_nested_comments_exhaust_nothing():
    assert read_received(b"From: " + b"(" * 4000 + b"a@b\r\n\r\nx").from_ == ()
