"""Ports 587 and 465 behind the protocol: who may sign in, what is accepted, and what a refusal is called."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from projects.api_keys import KeyChange, create_key, update_key
from projects.life import suspend
from projects.limits import set_limits
from projects.scopes import Scope
from relay_project.net.smtp_server.model import Mail, Peer, RcptTo, Service, SmtpReply
from sending.models import IdempotencyRecord, Recipient, Send, Suppression, Waiting
from sending.submission import reception as module
from sending.submission.reception import Login, SubmissionReception, _sign_in, _take, _with_database
from sending.submission.replies import LATER
from tests.sending.scene import Scene

PEER = Peer("192.0.2.7", 4321, "127.0.0.1", 587, Service.SUBMISSION, helo="app.example", tls="TLSv1.3")
STRANGER = Peer("198.51.100.1", 4321, "127.0.0.1", 587, Service.SUBMISSION, tls="TLSv1.3")


@pytest.fixture
def token(scene: Scene) -> str:
    return create_key(scene.project, "SMTP", [Scope.SENDS_SEND], ["192.0.2.0/24"])[1]


@pytest.fixture
def login(token: str) -> Login:
    found = _sign_in(PEER, token)
    assert isinstance(found, Login)
    return found


def text_of(scene: Scene, fields: str = "", to: str = "ann@one.example", body: str = "Hello.") -> bytes:
    head = f"From: App <app@{scene.domain.domain}>\r\nTo: {to}\r\nSubject: News\r\n{fields}"
    return f"{head}\r\n{body}\r\n".encode()


def mail(octets: bytes, login: Login, *recipients: str, peer: Peer = PEER) -> Mail:
    return Mail(
        peer, login, "bounces@app.example", tuple(RcptTo(to) for to in recipients or ("ann@one.example",)), octets
    )


def take(scene: Scene, login: Login, fields: str = "", *recipients: str, **more: Any) -> SmtpReply:
    return _take(mail(text_of(scene, fields, **more), login, *recipients), login)


def test_a_mail_is_accepted_as_it_came_and_the_reply_has_the_sends_id(scene: Scene, login: Login) -> None:
    reply = take(scene, login, "", "ann@one.example", "blind@two.example")
    [send] = Send.objects.all()
    assert str(reply) == f"250 2.0.0 Ok: queued as {send.pk}"
    assert bytes(send.content.raw) == text_of(scene)
    kinds = Recipient.objects.order_by("id").values_list("type", "address")
    assert list(kinds) == [("to", "ann@one.example"), ("bcc", "blind@two.example")]
    assert Waiting.objects.count() == 2


@pytest.mark.parametrize("secret", ["", "0" * 32, "x" * 5000, "nul\0", "\ud800"])
def test_a_wrong_password_is_535_at_auth(scene: Scene, secret: str) -> None:
    """Lesson S6."""

    async def sign_in() -> object:
        reception = SubmissionReception()
        try:
            return await reception.login(PEER, "anybody", secret)
        finally:
            await reception.close()

    if secret in ("", "x" * 5000):
        reply: object = asyncio.run(sign_in())
    else:
        reply = _sign_in(PEER, secret)
    assert isinstance(reply, SmtpReply)
    assert (reply.code, reply.enhanced) == (535, "5.7.8")


def test_a_key_is_held_to_what_the_api_holds_it_to(scene: Scene) -> None:
    key, token = create_key(scene.project, "k", [Scope.SENDS_SEND], ["192.0.2.0/24"])
    _, reader = create_key(scene.project, "r", [Scope.SENDS_READ], [])
    said = [str(_sign_in(STRANGER, token)), str(_sign_in(PEER, reader))]
    update_key(key, KeyChange(is_enabled=False))
    said.append(str(_sign_in(PEER, token)))
    update_key(key, KeyChange(is_enabled=True, expires_at=timezone.now() - timedelta(seconds=1)))
    said.append(str(_sign_in(PEER, token)))
    assert [reply[:9] for reply in said] == ["535 5.7.8"] * 4
    for reply, word in zip(said, ("Client IP", "scope", "disabled", "expired"), strict=True):
        assert word in reply


def test_a_suspended_project_is_told_its_reason_at_auth_and_on_open_connections(
    scene: Scene, token: str, login: Login
) -> None:
    suspend(scene.project, "we look into complaints", timezone.now())
    assert "we look into complaints" in str(_sign_in(PEER, token))
    assert str(take(scene, login)) == "550 5.7.1 This project is suspended: we look into complaints"


def test_a_key_that_is_revoked_sends_nothing_more_on_a_connection_that_stays_open(scene: Scene, login: Login) -> None:
    assert take(scene, login).code == 250
    scene.project.api_keys.all().delete()
    assert str(take(scene, login)) == "550 5.7.1 Invalid API key."
    assert Send.objects.count() == 1


def test_who_guesses_too_much_is_asked_to_wait(scene: Scene, token: str) -> None:
    """Lesson S6."""
    replies = [_sign_in(STRANGER, f"{number:032x}") for number in range(70)]
    last = replies[-1]
    assert isinstance(last, SmtpReply)
    assert (last.code, last.enhanced) == (454, "4.7.0")


def test_a_rate_limit_is_a_4xx_reply(scene: Scene, login: Login) -> None:
    """Lesson C19: it was shown as a permanent 554."""
    set_limits(scene.project, {"sends_per_second": 1, "sends_per_hour": 1})
    assert take(scene, login).code == 250
    reply = take(scene, login)
    assert (reply.code, reply.enhanced) == (451, "4.7.1")
    assert "Rate limit exceeded" in reply.text


@pytest.mark.parametrize(
    ("fields", "reply"),
    [
        ("X-Relay-Tags: <b>\r\n", "554 5.6.0 X-Relay-Tags[0]: A tag has"),
        ("X-Relay-Priority: now\r\n", "554 5.6.0 X-Relay-Priority: This value should be one of"),
        ("X-Relay-Foo: now\r\n", "554 5.6.0 X-Relay-Foo: There is no such field"),
        ("Return-Path: <a@b.example>\r\n", "554 5.6.0 message: The header return-path is not allowed."),
        ("X-Relay-Send-After: 99999999999\r\n", "554 5.6.0 X-Relay-Send-After: A mail cannot be scheduled"),
    ],
)
def test_a_refusal_names_the_field_and_the_rule(scene: Scene, login: Login, fields: str, reply: str) -> None:
    assert str(take(scene, login, fields)).startswith(reply)
    assert not Send.objects.exists()


def test_rules_of_accept_have_replies_of_their_own(scene: Scene, login: Login) -> None:
    foreign = b"From: a@other.example\r\nTo: ann@one.example\r\n\r\nx\r\n"
    assert (
        str(_take(mail(foreign, login), login)) == "550 5.7.1 Domain other.example is not registered for this project"
    )
    many = [f"r{number}@one.example" for number in range(21)]
    assert str(take(scene, login, "", *many)).startswith("554 5.5.3 Total number of recipients")
    set_limits(scene.project, {"message_bytes": 200})
    assert (
        str(take(scene, login, body="x" * 300)) == "552 5.3.4 Email size exceeds the maximum allowed size of 200 bytes."
    )


def test_one_idempotency_key_makes_one_send(scene: Scene, login: Login) -> None:
    first = take(scene, login, "X-Idempotency-Key: k\r\nDate: Mon, 1 Jan 2029 10:00:00 +0000\r\n")
    again = take(scene, login, "X-Idempotency-Key: k\r\nDate: Mon, 1 Jan 2029 10:00:09 +0000\r\n")
    [send] = Send.objects.all()
    assert [str(first), str(again)] == [
        f"250 2.0.0 Ok: queued as {send.pk}",
        f"250 2.0.0 Ok: already queued as {send.pk}",
    ]
    other = take(scene, login, "X-Idempotency-Key: k\r\n", body="Bye.")
    assert str(other).startswith("554 5.5.0 This idempotency key was used with a different")
    assert IdempotencyRecord.objects.count() == 1


def test_suppressed_addresses_get_nothing_and_the_reply_is_the_same(scene: Scene, login: Login) -> None:
    Suppression.objects.create(project=scene.project, email="ann@one.example", reason="manual")
    assert take(scene, login).code == 250
    assert Recipient.objects.get().status == "suppressed"


def test_a_test_keys_mail_is_a_test(scene: Scene) -> None:
    _, token = create_key(scene.project, "t", [Scope.SENDS_SEND], ["192.0.2.0/24"], is_test=True)
    found = _sign_in(PEER, token)
    assert isinstance(found, Login)
    assert take(scene, found).code == 250
    assert Send.objects.get().is_test


def test_while_the_database_is_away_clients_are_asked_to_come_again(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(module.connection, "close", lambda: closed.append(True))

    def away() -> object:
        raise OperationalError("server closed the connection unexpectedly")

    assert _with_database(away, LATER) is LATER
    assert (LATER.code, closed) == (451, [True])


def test_the_secret_is_shown_nowhere(login: Login) -> None:
    assert login.secret not in repr(login)


def test_steps_of_a_conversation(open_scene: Scene) -> None:
    reception = SubmissionReception()
    _, token = create_key(open_scene.project, "SMTP", [Scope.SENDS_SEND], ["192.0.2.0/24"])

    async def talk() -> None:
        assert str(await reception.sender(PEER, None, "a@b.example", None)).startswith("530 5.7.0")
        login = await reception.login(PEER, "anybody", token)
        assert isinstance(login, Login)
        assert await reception.sender(PEER, login, "whoever@else.example", 1000) is None
        assert str(await reception.sender(PEER, login, "", 99_000_000)).startswith("552 5.3.4")
        assert await reception.recipient(PEER, login, "", "jürgen@one.example") is None
        assert str(await reception.recipient(PEER, login, "", "no address")).startswith("553 5.1.3")
        mails = [mail(text_of(open_scene, body=f"Hello {number}."), login) for number in range(5)]
        replies = await asyncio.gather(*(reception.message(one) for one in mails))
        assert {reply.code for reply in replies} == {250}
        await reception.close()

    asyncio.run(talk())
    assert Send.objects.count() == 5
