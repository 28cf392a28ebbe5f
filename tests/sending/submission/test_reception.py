"""Ports 587 and 465 behind the protocol: who may sign in, what is accepted, and what a refusal is called."""

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import DataError, OperationalError, connection
from django.utils import timezone

from projects.api_keys import KeyChange, create_key, update_key
from projects.life import suspend
from projects.limits import set_limits
from projects.scopes import Scope
from relay_project.db import trouble
from relay_project.net.smtp_server.model import Mail, Peer, RcptTo, Service, SmtpReply
from sending.models import IdempotencyRecord, Recipient, Send, Suppression, Waiting
from sending.submission import take as taking
from sending.submission.login import Login, sign_in
from sending.submission.reception import SubmissionReception, with_database
from sending.submission.replies import LATER
from sending.submission.take import Submission, take_together
from tests.sending.scene import Scene

PEER = Peer("192.0.2.7", 4321, "127.0.0.1", 587, Service.SUBMISSION, helo="app.example", tls="TLSv1.3")
STRANGER = Peer("198.51.100.1", 4321, "127.0.0.1", 587, Service.SUBMISSION, tls="TLSv1.3")


@pytest.fixture
def token(scene: Scene) -> str:
    return create_key(scene.project, "SMTP", [Scope.SENDS_SEND], ["192.0.2.0/24"])[1]


@pytest.fixture
def login(token: str) -> Login:
    found = sign_in(PEER, token)
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
    return take_one(mail(text_of(scene, fields, **more), login, *recipients), login)


def take_one(one: Mail, login: Login) -> SmtpReply:
    [reply] = take_together([Submission(one, login)])
    assert reply is not None
    return reply


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

    async def said() -> object:
        reception = SubmissionReception()
        try:
            return await reception.login(PEER, "anybody", secret)
        finally:
            await reception.close()

    if secret in ("", "x" * 5000):
        reply: object = asyncio.run(said())
    else:
        reply = sign_in(PEER, secret)
    assert isinstance(reply, SmtpReply)
    assert (reply.code, reply.enhanced) == (535, "5.7.8")


def test_a_key_is_held_to_what_the_api_holds_it_to(scene: Scene) -> None:
    key, token = create_key(scene.project, "k", [Scope.SENDS_SEND], ["192.0.2.0/24"])
    _, reader = create_key(scene.project, "r", [Scope.SENDS_READ], [])
    said = [str(sign_in(STRANGER, token)), str(sign_in(PEER, reader))]
    update_key(key, KeyChange(is_enabled=False))
    said.append(str(sign_in(PEER, token)))
    update_key(key, KeyChange(is_enabled=True, expires_at=timezone.now() - timedelta(seconds=1)))
    said.append(str(sign_in(PEER, token)))
    assert [reply[:9] for reply in said] == ["535 5.7.8"] * 4
    for reply, word in zip(said, ("Client IP", "scope", "disabled", "expired"), strict=True):
        assert word in reply


def test_a_suspended_project_is_told_its_reason_at_auth_and_on_open_connections(
    scene: Scene, token: str, login: Login
) -> None:
    suspend(scene.project, "we look into complaints", timezone.now())
    assert "we look into complaints" in str(sign_in(PEER, token))
    assert str(take(scene, login)) == "550 5.7.1 This project is suspended: we look into complaints"


def test_a_key_that_is_revoked_sends_nothing_more_on_a_connection_that_stays_open(scene: Scene, login: Login) -> None:
    assert take(scene, login).code == 250
    scene.project.api_keys.all().delete()
    assert str(take(scene, login)) == "550 5.7.1 Invalid API key."
    assert Send.objects.count() == 1


def test_who_guesses_too_much_is_asked_to_wait(scene: Scene, token: str) -> None:
    """Lesson S6."""
    replies = [sign_in(STRANGER, f"{number:032x}") for number in range(70)]
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
        str(take_one(mail(foreign, login), login))
        == "550 5.7.1 Domain other.example is not registered for this project"
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
    found = sign_in(PEER, token)
    assert isinstance(found, Login)
    assert take(scene, found).code == 250
    assert Send.objects.get().is_test


def test_while_the_database_is_away_clients_are_asked_to_come_again(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(trouble.connection, "close", lambda: closed.append(True))

    def away() -> object:
        raise OperationalError("server closed the connection unexpectedly")

    assert with_database(away) is LATER
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
        assert await reception.recipient(PEER, login, "", "jürgen@one.example") is None
        assert str(await reception.recipient(PEER, login, "", "no address")).startswith("553 5.1.3")
        mails = [mail(text_of(open_scene, body=f"Hello {number}."), login) for number in range(5)]
        replies = await asyncio.gather(*(reception.message(one) for one in mails))
        assert {reply.code for reply in replies} == {250}
        await reception.close()

    asyncio.run(talk())
    assert Send.objects.count() == 5


# --- Several at once --------------------------------------------------------------------------------------------------


def together(*mails: tuple[Mail, Login]) -> list[str]:
    return [str(reply) for reply in take_together([Submission(one, login) for one, login in mails])]


def test_mails_that_come_at_once_have_outcomes_of_their_own(
    scene: Scene, token: str, login: Login, django_assert_max_num_queries: Any
) -> None:
    _, revoked_token = create_key(scene.project, "old", [Scope.SENDS_SEND], ["192.0.2.0/24"])
    revoked = sign_in(PEER, revoked_token)
    assert isinstance(revoked, Login)
    scene.project.api_keys.filter(name="old").delete()
    good = mail(text_of(scene), login)
    with django_assert_max_num_queries(12):
        said = together(
            *((mail(text_of(scene, body=f"{number}"), login), login) for number in range(5)),
            (mail(text_of(scene), revoked), revoked),
            (mail(b"no header", login), login),
            (mail(text_of(scene), login, peer=STRANGER), login),
            (mail(b"From: a@other.example\r\n\r\nx\r\n", login), login),
            (good, login),
        )
    assert [reply[:3] for reply in said] == ["250"] * 5 + ["550", "554", "550", "550", "250"]
    assert Send.objects.count() == 6
    assert {bytes(raw) for raw in Send.objects.values_list("content__raw", flat=True)} >= {good.octets}


def test_the_same_key_in_mails_that_come_at_once_makes_one_send(scene: Scene, login: Login) -> None:
    one = mail(text_of(scene, "X-Idempotency-Key: k\r\n"), login)
    said = together((one, login), (one, login))
    [send] = Send.objects.all()
    assert said == [f"250 2.0.0 Ok: queued as {send.pk}", f"250 2.0.0 Ok: already queued as {send.pk}"]


def test_limits_count_each_of_the_mails_that_come_at_once(scene: Scene, login: Login) -> None:
    set_limits(scene.project, {"sends_per_hour": 2})
    said = together(*((mail(text_of(scene), login), login) for _ in range(4)))
    assert [reply[:9] for reply in said] == ["250 2.0.0"] * 2 + ["451 4.7.1"] * 2
    assert Send.objects.count() == 2


def test_a_mail_that_cannot_be_written_leaves_the_others_alone(
    open_scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = sign_in(PEER, create_key(open_scene.project, "SMTP", [Scope.SENDS_SEND], ["192.0.2.0/24"])[1])
    assert isinstance(login, Login)
    accept = taking.accept_together

    def accept_but(asked: Any, now: Any) -> Any:
        if any("poison" in (request.subject or "") for _, request in asked):
            raise DataError("invalid byte sequence")
        return accept(asked, now)

    monkeypatch.setattr(taking, "accept_together", accept_but)
    poison = text_of(open_scene).replace(b"News", b"poison")
    said = together(*((mail(octets, login), login) for octets in (text_of(open_scene), poison, text_of(open_scene))))
    assert [reply[:3] for reply in said] == ["250", "451", "250"]
    assert Send.objects.count() == 2


def test_a_key_in_flight_elsewhere_keeps_nobody_waiting(scene: Scene, login: Login) -> None:
    submissions = [
        Submission(mail(text_of(scene, "X-Idempotency-Key: k\r\n"), login), login),
        Submission(mail(text_of(scene), login), login),
    ]
    parameters = {name: value for name, value in connection.get_connection_params().items() if name != "cursor_factory"}
    parameters.pop("context", None)
    with psycopg.connect(**parameters) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('k', %s))", [scene.project.pk])
        first = take_together(submissions)
    assert (first[0], str(first[1])[:3]) == (None, "250")
    [again] = take_together(submissions[:1])
    assert str(again).startswith("250 2.0.0 Ok: queued")
    assert Send.objects.count() == 2
