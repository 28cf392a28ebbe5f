"""Port 25: what is taken, what is refused, and that a 250 means a commit."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest
from django.conf import settings as configured
from django.db import OperationalError
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from relay_project.db.keyring import ring
from relay_project.mail.verp import make_reverse_path
from relay_project.net.smtp_server.model import Mail, Peer, RcptTo, Reception, Service, SmtpReply
from sending.inbound import store as storing
from sending.inbound.addresses import FORGED
from sending.inbound.reception import InboundReception
from sending.models import InboundMail, UnreadMail
from tests.sending.scene import Scene

PEER = Peer("192.0.2.99", 4321, "127.0.0.1", 25, Service.MX, helo="mx.example", tls="TLSv1.3")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def asked(*addresses: str) -> list[SmtpReply | None]:
    """What RCPT TO is told."""

    async def ask() -> list[SmtpReply | None]:
        reception = InboundReception()
        try:
            return [await reception.recipient(PEER, None, "", address) for address in addresses]
        finally:
            await reception.close()

    found: list[SmtpReply | None] = run(ask())
    return found


def mail(*recipients: str, octets: bytes = b"Subject: x\r\n\r\nx\r\n", mail_from: str = "") -> Mail:
    return Mail(PEER, None, mail_from, tuple(RcptTo(address) for address in recipients), octets)


def token(keys: list[bytes] | None = None, domain: str = "relay.test") -> str:
    return make_reverse_path(12345, 67890, domain, keys or ring("return-path"))


def test_it_is_a_reception() -> None:
    reception: Reception = InboundReception()
    refusal = run(reception.login(PEER, "x", "y"))
    assert refusal.code == 503
    assert run(reception.sender(PEER, None, "anyone@example.com", 100)) is None


def test_reports_are_taken_at_signed_paths_and_at_the_names_for_them(open_scene: Scene) -> None:
    open_scene.domain.return_path = "bounces.shop.example"
    open_scene.domain.save()
    ours = [
        token(),
        token().upper(),
        token(domain="bounces.shop.example"),
        token(domain="former.example"),
        "fbl@relay.test",
        "Abuse@Relay.Test",
        "postmaster@relay.test",
        "Postmaster",
        "tls-reports@relay.test",
        "dmarc@relay.test",
        "postmaster@bounces.shop.example",
    ]
    assert [address for address, reply in zip(ours, asked(*ours), strict=True) if reply is not None] == []


def test_all_else_is_refused_at_rcpt(open_scene: Scene) -> None:
    """No open relay, and no mail that would have to be bounced later."""
    open_scene.domain.return_path = "bounces.shop.example"
    open_scene.domain.save()
    unknown = ["info@relay.test", "fbl@bounces.shop.example", "b.short@relay.test", "@relay.test", "abuse+x@relay.test"]
    foreign = [
        "someone@gmail.com", "postmaster@gmail.com", "app@shop.example", "a@b@gmail.com", "x%gmail.com@elsewhere.example",
        "", "nobody", "@", "a@[127.0.0.1]", "a@localhost", "a" * 600 + "@relay.test", "\0@\0", "ü@ü",
    ]  # fmt: skip
    replies = asked(*unknown, *foreign)
    assert {str(reply)[:9] for reply in replies[: len(unknown)]} == {"550 5.1.1"}
    assert {str(reply)[:9] for reply in replies[len(unknown) :]} == {"550 5.7.1"}


def test_a_forged_path_is_refused_and_counted() -> None:
    """Lesson S7: whoever got a mail knows its send, and cannot make a path for it."""
    before = FORGED.labels("rcpt")._value.get()
    genuine = token()
    changed = genuine[:20] + ("a" if genuine[20] != "a" else "b") + genuine[21:]
    assert {str(reply)[:9] for reply in asked(token([b"x" * 32]), changed)} == {"550 5.7.1"}
    assert FORGED.labels("rcpt")._value.get() == before + 2


def test_paths_of_former_secrets_are_taken(settings: Any) -> None:
    before = token()
    settings.APP_SECRETS = ["n" * 40, *settings.APP_SECRETS]
    assert asked(before) == [None]
    settings.APP_SECRETS = ["n" * 40]
    assert asked(before) != [None]


ADDRESSES = st.text(max_size=80) | st.builds(lambda a: f"{a}@{configured.INSTANCE_DOMAIN}", st.text(max_size=60))


@examples(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(addresses=st.lists(ADDRESSES, min_size=5, max_size=10))
def test_no_address_makes_it_raise(open_scene: Scene, addresses: list[str]) -> None:
    for reply in asked(*addresses):
        assert reply is None or reply.code == 550


@pytest.mark.django_db(transaction=True)
def test_with_the_database_away_a_recipient_is_asked_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(address: str) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr("sending.inbound.reception.standing_of", gone)
    [path, name] = asked(token(), "fbl@relay.test")
    assert path is None
    assert str(name) == "451 4.3.0 Not now: try again later"


@pytest.mark.django_db(transaction=True)
def test_mails_that_come_together_share_a_commit_and_each_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    real = storing.insert

    def counted(mails: Any) -> list[int]:
        batches.append(len(mails))
        return real(mails)

    monkeypatch.setattr(storing, "insert", counted)

    async def deliver() -> list[SmtpReply]:
        reception = InboundReception()
        mails = [mail(token(), octets=b"\x00\xff" + bytes([number])) for number in range(30)]
        replies = await asyncio.gather(*(reception.message(one) for one in mails))
        await reception.close()
        return list(replies)

    replies = run(deliver())
    assert {reply.code for reply in replies} == {250}
    assert (sum(batches), len(batches) <= 2) == (30, True)
    ids = [int(reply.text.rpartition(" ")[2]) for reply in replies]
    assert [bytes(InboundMail.objects.get(pk=mail_id).octets)[2] for mail_id in ids] == list(range(30))
    row = InboundMail.objects.get(pk=ids[0])
    assert (row.peer, row.helo_name, row.tls, row.mail_from) == ("192.0.2.99", "mx.example", "TLSv1.3", "")
    assert (row.recipients, row.state, row.size_bytes) == ([token()], "waiting", 3)
    assert set(UnreadMail.objects.values_list("mail_id", flat=True)) == set(ids)


@pytest.mark.django_db(transaction=True)
def test_hostile_texts_are_stored_as_text() -> None:
    async def deliver() -> SmtpReply:
        reception = InboundReception()
        peer = Peer("192.0.2.9", 1, "127.0.0.1", 25, Service.MX, helo="\0\ud800" + "x" * 999)
        hostile = Mail(peer, None, "\0" * 600, (RcptTo("postmaster\0" + "x" * 600),), b"\0\xff\xfe")
        reply = await reception.message(hostile)
        await reception.close()
        return reply

    assert run(deliver()).code == 250
    assert bytes(InboundMail.objects.get().octets) == b"\0\xff\xfe"


@pytest.mark.django_db(transaction=True)
def test_what_the_database_refuses_is_its_own_mails_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    real = storing.insert

    def picky(mails: Any) -> list[int]:
        if any(one.octets == b"bad" for one in mails):
            raise ValueError("not this one")
        return real(mails)

    monkeypatch.setattr(storing, "insert", picky)

    async def deliver() -> list[SmtpReply]:
        reception = InboundReception()
        mails = [mail(token(), octets=octets) for octets in (b"good", b"bad", b"fine")]
        replies = await asyncio.gather(*(reception.message(one) for one in mails))
        await reception.close()
        return list(replies)

    assert [reply.code for reply in run(deliver())] == [250, 451, 250]
    assert InboundMail.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_with_the_database_away_nothing_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    real, gone = storing.insert, threading.Event()

    def flaky(mails: Any) -> list[int]:
        if gone.is_set():
            raise OperationalError("the database went away")
        return real(mails)

    monkeypatch.setattr(storing, "insert", flaky)

    async def deliver() -> list[SmtpReply]:
        reception = InboundReception()
        gone.set()
        first = await reception.message(mail(token()))
        gone.clear()
        second = await reception.message(mail(token()))
        await reception.close()
        return [first, second]

    assert [str(reply)[:9] for reply in run(deliver())] == ["451 4.3.0", "250 2.0.0"]
    assert InboundMail.objects.count() == 1
