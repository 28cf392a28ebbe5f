"""sending.api.message: the contract's checks of shape, without a database."""

import base64

import pytest

from relay_project.mail.mime import Attachment, NamedAddress
from relay_project.web.errors import Violations
from relay_project.web.fields import BLANK, NUL
from relay_project.web.json import FormData
from sending.accept.request import RequestedRecipient
from sending.api.attachments import MAX_ATTACHMENT, decode_base64
from sending.api.message import MAX_BODY, read_message
from sending.api.reading import ADDRESS_TYPE, LINE_BREAK, MULTIPLE, NAME_TYPE, NOT_AN_ADDRESS
from sending.models import RecipientType
from tests.sending.api.conftest import mail


def wrong(**fields) -> list[tuple[str, str]]:
    """(property, message) of everything that is wrong with a body."""
    try:
        read_message(mail(**fields))
    except Violations as refused:
        return [(violation.property, violation.message) for violation in refused.violations]
    return []


def request(**fields):
    return read_message(mail(**fields)).request


def type_of(word: str) -> str:
    return f"This value should be of type {word}."


def test_the_least_that_a_body_must_say():
    asked = read_message({"from": "a@example.test", "to": "b@example.test", "body_text": "x"}).request
    assert asked.from_ == NamedAddress("a@example.test")
    assert asked.recipients == (RequestedRecipient(RecipientType.TO, "b@example.test"),)
    assert (asked.subject, asked.body_text, asked.body_html) == ("", "x", None)
    assert (asked.headers, asked.attachments) == ((), ())


def test_an_empty_body_names_every_field_that_is_needed():
    with pytest.raises(Violations) as refused:
        read_message({})
    assert [(v.property, v.message) for v in refused.value.violations] == [
        ("from", BLANK),
        ("to", BLANK),
        ("body_html", "body_html must not be blank if body_text is null"),
        ("body_text", "body_text must not be blank if body_html is null"),
    ]
    assert refused.value.message == "from: This value should not be blank."


def test_unknown_fields_are_ignored():
    assert wrong(colour=5, shape={"a": [None]}) == []


# --- addresses -----------------------------------------------------------------------------------------------------


def test_addresses_come_as_text_as_objects_and_as_lists_of_both():
    asked = request(
        to=["a@example.test", {"email": "b@example.test", "name": "Bob"}],
        cc={"email": "c@example.test", "name": None},
        bcc="d@example.test",
        **{"from": {"email": "shop@example.test", "name": "The Shop"}},
    )
    assert asked.from_ == NamedAddress("shop@example.test", "The Shop")
    assert [(r.type, r.address, r.name) for r in asked.recipients] == [
        ("to", "a@example.test", ""),
        ("to", "b@example.test", "Bob"),
        ("cc", "c@example.test", ""),
        ("bcc", "d@example.test", ""),
    ]


@pytest.mark.parametrize("nobody", [None, "", [], {}, ...])
def test_copies_go_to_nobody_by_default(nobody):
    assert wrong(cc=nobody, bcc=nobody) == []
    assert wrong(to=nobody) == [("to", BLANK)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (..., BLANK),
        (None, BLANK),
        ("", BLANK),
        ({}, BLANK),
        ({"name": "x"}, BLANK),
        ({"email": ""}, BLANK),
        ([], MULTIPLE),
        (["a@example.test"], MULTIPLE),
        (5, ADDRESS_TYPE),
        (False, ADDRESS_TYPE),
        ({"email": 5}, NOT_AN_ADDRESS),
        ({"email": ["a@example.test"]}, NOT_AN_ADDRESS),
        ("nobody", NOT_AN_ADDRESS),
        ("Shop <a@example.test>", NOT_AN_ADDRESS),
        ("a@example.test\r\nBcc: b@example.test", NOT_AN_ADDRESS),
        ("a\0@example.test", NOT_AN_ADDRESS),
        ("x" * 65 + "@example.test", NOT_AN_ADDRESS),
        ({"email": "a@example.test", "name": 5}, NAME_TYPE),
        ({"email": "a@example.test", "name": ["x"]}, NAME_TYPE),
        ({"email": "a@example.test", "name": "x\r\nBcc: y@example.test"}, LINE_BREAK),
        ({"email": "a@example.test", "name": "a\0b"}, NUL),
        (
            {"email": "a@example.test", "name": "x" * 999},
            "This value is too long. It should have 998 characters or less.",
        ),
    ],
)
def test_a_wrong_sender_is_named(value, message):
    assert wrong(**{"from": value}) == [("from", message)]


@pytest.mark.parametrize("field", ["to", "cc", "bcc"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, ADDRESS_TYPE),
        (True, ADDRESS_TYPE),
        ("nobody", NOT_AN_ADDRESS),
        (["a@example.test", "nobody", "nobody"], NOT_AN_ADDRESS),
        ([["a@example.test"]], MULTIPLE),
        (["a@example.test", []], MULTIPLE),
        ([None], ADDRESS_TYPE),
        ([""], BLANK),
        ([{"name": "x"}], BLANK),
        ([{"email": "a@example.test", "name": 1}], NAME_TYPE),
    ],
)
def test_a_wrong_recipient_is_named_once(field, value, message):
    assert wrong(**{field: value}) == [(field, message)]


def test_of_a_list_that_is_too_long_no_more_is_read_than_shows_it():
    body = mail(to=[f"a{i}@example.test" for i in range(21)] + ["nobody"] * 100_000)
    assert len(read_message(body, most_recipients=20).request.recipients) == 21


# --- texts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"subject": 5}, [("subject", type_of("string"))]),
        ({"subject": "x" * 998}, []),
        ({"subject": "x" * 999}, [("subject", "This value is too long. It should have 998 characters or less.")]),
        ({"subject": "a\r\nBcc: b@example.test"}, [("subject", LINE_BREAK)]),
        ({"subject": "a\0"}, [("subject", NUL)]),
        ({"subject": None}, []),
        ({"body_text": 5}, [("body_text", type_of("string"))]),
        ({"body_html": ["x"]}, [("body_html", type_of("string"))]),
        ({"body_text": "x" * MAX_BODY}, []),
        ({"body_text": "x" * (MAX_BODY + 1)}, [("body_text", "body_text must not exceed 2MB.")]),
        ({"body_html": "ü" * (MAX_BODY + 1)}, [("body_html", "body_html must not exceed 2MB.")]),
        ({"body_html": "a\0b"}, [("body_html", NUL)]),
        ({"body_text": ..., "body_html": "<p>"}, []),
    ],
)
def test_a_wrong_text_is_named(fields, expected):
    assert wrong(**fields) == expected


def test_two_empty_bodies_are_nothing_to_read_unless_the_mail_carries_files():
    nothing = [
        ("body_html", "body_html must not be blank if body_text is null"),
        ("body_text", "body_text must not be blank if body_html is null"),
    ]
    assert wrong(body_text="", body_html="") == wrong(body_text="") == wrong(body_text=None) == nothing
    assert wrong(body_text="", attachments=[{"content": "aGk="}]) == []
    assert wrong(body_text=None, attachments=[{"content": "aGk="}]) == nothing


def test_everything_that_is_wrong_is_named_in_the_bodys_order():
    names = [name for name, _ in wrong(**{"from": [], "to": 5, "subject": 1, "body_html": 2, "headers": 3})]
    assert names == ["from", "to", "subject", "body_html", "headers"]


def test_a_form_says_the_same():
    form = FormData({"from": "a@example.test", "to": ["b@example.test", "c@example.test"], "body_text": "x"})
    assert len(read_message(form).request.recipients) == 2


# --- headers -------------------------------------------------------------------------------------------------------


def test_headers_keep_their_order_and_spelling():
    headers = {"X-Campaign": "spring", "Reply-To": "Hélène <help@example.test>", "list-unsubscribe": ""}
    assert request(headers=headers).headers == tuple(headers.items())


def test_headers_have_a_size_together():
    """Two hundred headers of 64 KB each took five seconds to fold, for each request."""
    message = "This collection is too large. It should have 262144 characters or less."
    assert wrong(headers={f"X-{number}": "a " * 32_768 for number in range(5)}) == [("headers", message)]
    assert wrong(headers={f"X-{number}": "a " * 32_768 for number in range(3)}) == []


@pytest.mark.parametrize("empty", [None, {}, [], ...])
def test_no_headers(empty):
    assert request(headers=empty).headers == ()


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ("X-A: b", type_of("array")),
        ("", type_of("array")),
        (0, type_of("array")),
        (False, type_of("array")),
        (["b"], "The header key 0 must be a string."),
        ({"123": "b"}, "The header key 123 must be a string."),
        ({"X-A": 5}, "The header value of X-A must be a string."),
        ({"X-A": None}, "The header value of X-A must be a string."),
        ({"SUBJECT": "b"}, "The header SUBJECT is not allowed as a custom header."),
        ({"Dkim-Signature": "b"}, "The header Dkim-Signature is not allowed as a custom header."),
        (
            {"X-A": "b\r\nBcc: c@example.test"},
            "The header value of X-A should not contain line breaks or NUL characters.",
        ),
        ({"X-A": "b\0"}, "The header value of X-A should not contain line breaks or NUL characters."),
        ({"X-A\r\nBcc": "b"}, "'X-A\\r\\nBcc' is not a valid header name."),
        ({"X A": "b"}, "'X A' is not a valid header name."),
        ({"": "b"}, "'' is not a valid header name."),
        ({"X-A": "b" * 65_537}, "The header value of X-A is too long. It should have 65536 characters or less."),
        ({f"X-{i}": "" for i in range(201)}, "This collection should contain 200 elements or less."),
    ],
)
def test_a_wrong_header_is_named(headers, message):
    assert wrong(headers=headers) == [("headers", message)]


# --- attachments ---------------------------------------------------------------------------------------------------


def test_attachments_are_decoded():
    content = base64.b64encode(bytes(range(256))).decode()
    asked = request(
        attachments=[{"content": content, "name": "a.bin", "content_type": "image/png"}, {"content": "aGk"}]
    )
    assert asked.attachments == (Attachment(bytes(range(256)), "a.bin", "image/png"), Attachment(b"hi"))


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("aGk=", b"hi"),
        ("aGk", b"hi"),
        ("a\r\nG k\n=", b"hi"),
        ("aGk=aGk=", None),
        ("aGk==", None),
        ("a", None),
        ("=", None),
        ("!!!!", None),
        ("aGk-", None),
        ("ü", None),
    ],
)
def test_base64_is_read_strictly(text, content):
    assert decode_base64(text) == content


def test_the_first_attachment_that_is_no_base64_is_known_by_its_index():
    message = read_message(mail(attachments=[{"content": "aGk="}, {"content": "!"}, {"content": "?"}]))
    assert message.undecodable == 1


ONE = {"content": "aGk="}


@pytest.mark.parametrize(
    ("attachments", "field", "message"),
    [
        ("x", "attachments", type_of("array")),
        ({"content": "aGk="}, "attachments", type_of("array")),
        ([ONE] * 11, "attachments", "You can attach a maximum of 10 files."),
        (["x"], "attachments[0]", type_of("array")),
        ([ONE, {}], "attachments[1][content]", "This field is missing."),
        ([{"content": None}], "attachments[0][content]", BLANK),
        ([{"content": ""}], "attachments[0][content]", BLANK),
        ([{"content": 5}], "attachments[0][content]", type_of("string")),
        (
            [{"content": "x" * (MAX_ATTACHMENT + 1)}],
            "attachments[0][content]",
            "Attachment content must not exceed 10MB.",
        ),
        ([{**ONE, "cid": "x"}], "attachments[0][cid]", "This field was not expected."),
        ([{**ONE, "name": 5}], "attachments[0][name]", type_of("string")),
        ([{**ONE, "name": "a\r\nb"}], "attachments[0][name]", LINE_BREAK),
        ([{**ONE, "name": "a\0b"}], "attachments[0][name]", NUL),
        ([{**ONE, "content_type": 5}], "attachments[0][content_type]", type_of("string")),
        (
            [{**ONE, "content_type": "a/b\r\nX: y"}],
            "attachments[0][content_type]",
            "This value is not a valid content type.",
        ),
    ],
)
def test_a_wrong_attachment_is_named(attachments, field, message):
    assert wrong(attachments=attachments) == [(field, message)]
