"""Django's own mail goes the way of all mail, for the system project."""

from email import message_from_bytes, policy
from email.message import EmailMessage as StandardMessage
from email.mime.image import MIMEImage
from typing import Any

import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives, get_connection, send_mail
from django.db import transaction

from projects.models import Project
from sending.accept.request import Refused
from sending.content import raw_message
from sending.models import Recipient, Send
from tests.sending.scene import Scene

BACKEND = "sending.email_backend.SystemProject"


@pytest.fixture(autouse=True)
def backend(scene: Scene, settings: Any) -> None:
    settings.EMAIL_BACKEND = BACKEND


def parsed() -> StandardMessage:
    raw = raw_message(Send.objects.get())
    assert raw is not None
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, StandardMessage)
    return message


def test_a_message_with_everything_becomes_a_send_of_the_system_project() -> None:
    message = EmailMultiAlternatives(
        subject="Welcome",
        body="Hello, Zoë.",
        from_email="Relay <notices@relay.test>",
        to=["Ann <ann@one.example>", "bob@one.example"],
        cc=["carol@two.example"],
        bcc=["dan@two.example"],
        reply_to=["Help <help@relay.test>"],
        headers={"List-Id": "<notices.relay.test>", "Message-ID": "<ours@relay.test>"},
        attachments=[("notes.txt", "some notes", "text/plain")],
    )
    message.attach_alternative("<p>Hello, Zoë.</p>", "text/html")
    message.attach(MIMEImage(b"\x89PNG", "png"))
    assert message.send() == 1
    send = Send.objects.get()
    assert send.project == Project.objects.get(is_system=True)
    assert list(Recipient.objects.order_by("position").values_list("type", "address", "name")) == [
        ("to", "ann@one.example", "Ann"),
        ("to", "bob@one.example", ""),
        ("cc", "carol@two.example", ""),
        ("bcc", "dan@two.example", ""),
    ]
    mail = parsed()
    assert (mail["From"], mail["Subject"], mail["Reply-To"]) == (
        "Relay <notices@relay.test>", "Welcome", "Help <help@relay.test>"
    )  # fmt: skip
    assert mail["List-Id"] == "<notices.relay.test>"
    assert mail["Message-ID"] != "<ours@relay.test>"
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    assert (text.get_content().strip(), html.get_content().strip()) == ("Hello, Zoë.", "<p>Hello, Zoë.</p>")
    files = [
        (part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
        for part in mail.iter_attachments()
    ]
    assert files == [("notes.txt", "text/plain", b"some notes"), (None, "image/png", b"\x89PNG")]


def test_a_message_in_html_only_has_no_text() -> None:
    message = EmailMessage("Hi", "<b>Hi</b>", "notices@relay.test", ["ann@one.example"])
    message.content_subtype = "html"
    assert message.send() == 1
    assert parsed().get_content_type() == "text/html"


def test_the_short_form_works_with_the_default_sender() -> None:
    assert send_mail("Hi", "Hello", None, ["ann@one.example"]) == 1
    assert Send.objects.get().from_address == "relay@relay.test"


def test_it_leaves_with_the_transaction_that_wrote_it() -> None:
    with transaction.atomic():
        send_mail("Hi", "Hello", None, ["ann@one.example"])
        transaction.set_rollback(True)
    assert not Send.objects.exists()


def test_what_cannot_be_sent_is_refused_unless_the_caller_said_not_to() -> None:
    with pytest.raises(Refused):
        send_mail("Hi", "Hello", "app@elsewhere.example", ["ann@one.example"])
    with get_connection(BACKEND, fail_silently=True) as silent:
        good = EmailMessage("Hi", "Hello", None, ["ann@one.example"])
        bad = EmailMessage("Hi", "Hello", "app@elsewhere.example", ["ann@one.example"])
        assert silent.send_messages([bad, good]) == 1
    assert Send.objects.count() == 1
