# ruff: noqa: F811 — pytest hands fixtures over by name
"""Mail that is passed on: what leaves, what does not, and the reports that go back to whose mail it was."""

import asyncio
from datetime import timedelta
from typing import Any

import dkim
import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from accounts.models import AuditEntry
from projects.access import Caller
from projects.models import DkimKey, Domain, Event, Project
from relay_project.db.keyring import ring
from relay_project.mail.dkim import Signer, SigningKey, sign, txt_value
from relay_project.mail.srs import rewrite
from relay_project.mail.verp import make_reverse_path
from relay_project.web.errors import Violations
from sending.content import raw_message
from sending.deliver.prepare import prepare
from sending.inbound.mail import Inbound
from sending.inbound.read import Reader
from sending.inbound.reception import InboundReception
from sending.inbound.routing import examine as examining
from sending.inbound.routing import match
from sending.inbound.routing.change import RouteChange, add_domain, add_route, change_route
from sending.inbound.routing.examine import MAX_TRIES, Examiner
from sending.inbound.routing.forward import results_in_words
from sending.models import InboundRoute, ReceivedMail, Recipient, RouteAction, Send, Suppression, UnexaminedMail
from tests.projects.conftest import published  # noqa: F401 — a fixture
from tests.sending.inbound.reports import bounce, came, read
from tests.sending.inbound.test_reception import PEER
from tests.sending.scene import PEM, Scene

NAME = "in.shop.example"
DORA = Signer("example.test", "d1", SigningKey.load(PEM))
PLAIN = (
    b"From: Dora <dora@example.test>\r\nTo: a@in.shop.example\r\nSubject: Hi\r\nMessage-ID: <a@b.test>\r\n\r\nHello\r\n"
)
MAIL = sign(PLAIN, [DORA], 1795315000) + PLAIN
REPORT = b"From: MAILER-DAEMON@one.example\r\nSubject: Undelivered\r\n\r\nNobody has this address.\r\n"


@pytest.fixture
def office(scene: Scene, published: dict[str, list[str]]) -> Scene:
    """Forwards all@in.shop.example to two addresses; DNS has the keys, and lets Dora's server send for her."""
    published["d1._domainkey.example.test"] = [txt_value(PEM)]
    published["rly1._domainkey.shop.example"] = [txt_value(PEM)]
    published["example.test"] = ["v=spf1 ip4:192.0.2.0/24 -all"]
    published["_dmarc.example.test"] = ["v=DMARC1; p=reject"]
    add_domain(scene.project, NAME)
    forward(scene.project, "all", "bob@one.example", "Bob@One.example", "carol@two.example")
    return scene


def forward(project: Project, local: str, *addresses: str, **fields: Any) -> InboundRoute:
    return add_route(
        project, RouteChange(f"{local}@{NAME}", action=RouteAction.FORWARD, forward_to=addresses, **fields)
    )


def received(octets: bytes = MAIL, mail_from: str = "dora@example.test", to: str = f"all@{NAME}") -> ReceivedMail:
    """A mail that came in and was looked at."""
    came(to, octets=octets, mail_from=mail_from)
    Reader().look()
    Examiner().look()
    return ReceivedMail.objects.order_by("-id")[0]


def sent(row: ReceivedMail) -> Send:
    return Send.objects.get(pk=row.forward_send_id)


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("relay_inbound_forwarded_total", {"outcome": outcome}) or 0


def way_back(send: Send, sender: str = "dora@example.test", days: int = 0) -> str:
    made = rewrite(sender, send.pk, "relay.test", ring("return-path"), timezone.now().date() - timedelta(days=days))
    assert made is not None
    return made


def rcpt(mail_from: str, address: str) -> str:
    """What RCPT TO is told."""

    async def ask() -> str:
        reception = InboundReception()
        try:
            return str(await reception.recipient(PEER, None, mail_from, address) or "taken")
        finally:
            await reception.close()

    return asyncio.run(ask())


# --- What leaves ---------------------------------------------------------------------------------------------------


def test_a_mail_leaves_as_it_came_behind_a_seal_that_holds(office: Scene, published: dict[str, list[str]]) -> None:
    before = counted("forwarded")
    row = received()
    send = sent(row)
    assert (send.project_id, send.forwarded_from, send.from_address, send.subject) == (
        office.project.pk, "dora@example.test", "dora@example.test", "Hi",
    )  # fmt: skip
    people = Recipient.objects.filter(send_id=send.pk).order_by("position").values_list("type", "address", "status")
    assert list(people) == [("bcc", "bob@one.example", "queued"), ("bcc", "carol@two.example", "queued")]
    [job, other] = office.jobs()
    assert (job.forwarded_from, job.signers, job.is_signable) == ("dora@example.test", (), True)
    prepared = prepare(job)
    raw = raw_message(send)
    assert raw is not None
    assert (prepared.signature, prepared.message.octets) == (b"", raw)
    assert prepare(other).message == prepared.message
    assert raw.endswith(MAIL)
    added = raw.removesuffix(MAIL).decode()
    assert [line.partition(":")[0] for line in added.splitlines() if line[0] not in " \t"] == [
        "ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results", "Delivered-To", "Received",
    ]  # fmt: skip
    assert "d=shop.example; s=rly1" in added
    for found in ("spf=pass smtp.mailfrom=dora@example.test", "dkim=pass header.d=example.test header.s=d1",
                  "dmarc=pass header.from=example.test", "arc=none smtp.remote-ip=192.0.2.99"):  # fmt: skip
        assert found in added
    assert f"for <all@{NAME}>" in added

    def txt(name: bytes, timeout: int = 5) -> bytes:
        return published[name.decode().rstrip(".")][0].encode()

    assert dkim.arc_verify(raw, dnsfunc=txt)[0] == dkim.CV_Pass
    assert dkim.verify(raw, dnsfunc=txt), "Dora's own signature still holds"
    told = Event.objects.get(kind="inbound.forwarded").payload["inbound"]["forward"]
    assert told == {"to": ["bob@one.example", "carol@two.example"], "send_id": send.pk, "error": None,
                    "returns_send_id": None}  # fmt: skip
    assert not Event.objects.filter(kind="inbound.received").exists()
    assert counted("forwarded") == before + 1


def test_a_chain_grows_and_a_broken_one_is_sealed_as_broken_once(office: Scene) -> None:
    first = raw_message(sent(received()))
    assert first is not None
    again = first.replace(b"Delivered-To", b"X-Was-For")
    second = received(again)
    assert second.authentication["arc"] == {"result": "pass", "domain": "shop.example", "detail": ""}
    assert (raw_message(sent(second)) or b"").startswith(b"ARC-Seal: i=2; cv=pass;")
    broken = received(again.replace(b"Hello", b"HELLO"))
    assert broken.authentication["arc"]["result"] == "fail"
    sealed = raw_message(sent(broken)) or b""
    assert sealed.startswith(b"ARC-Seal: i=2; cv=fail;")
    third = raw_message(sent(received(sealed.replace(b"Delivered-To", b"X-Was-For")))) or b""
    assert third.startswith(b"Delivered-To"), "no set after one that says cv=fail"


def test_without_a_key_of_the_domain_the_instance_seals(office: Scene) -> None:
    DkimKey.objects.filter(domain=office.domain).delete()
    assert b"d=relay.test; s=rly1" in (raw_message(sent(received())) or b"")


def test_a_dead_resolver_leaves_the_chain_to_others(
    office: Scene, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lesson C21."""
    monkeypatch.setattr("sending.inbound.routing.verify.DEADLINE_SECONDS", 0.2)
    sealed = (raw_message(sent(received())) or b"").replace(b"Delivered-To", b"X-Was-For")
    settings.DNS_RESOLVERS = [("127.0.0.1", 9)]
    assert (raw_message(sent(received(sealed))) or b"").startswith(b"Delivered-To")


@pytest.mark.parametrize(
    "octets", [b"Hello\r\n", b"\r\n", b"Subject: x\r\n\r\n\x00\xff", PLAIN.replace(b"Dora", b"\xff")]
)
def test_what_is_hardly_a_mail_is_passed_on_too(office: Scene, octets: bytes) -> None:
    row = received(octets, mail_from="")
    send = sent(row)
    assert send.forwarded_from == "", "the null sender stays one"
    assert (raw_message(send) or b"").endswith(octets)
    assert office.jobs()[0].forwarded_from == ""


def test_an_address_that_bounced_for_good_gets_no_more(office: Scene) -> None:
    send = sent(received())
    read(bounce("bob@one.example"), way_back(send))
    assert Suppression.objects.get().email == "bob@one.example"
    Examiner().look()
    later = sent(received())
    people = Recipient.objects.filter(send_id=later.pk).order_by("position")
    assert list(people.values_list("status", flat=True)) == ["suppressed", "queued"]


# --- What does not leave -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "outcome"),
    [
        (b"Delivered-To: ALL@in.shop.example\r\n" + MAIL, "loop"),
        (b"delivered-to : <all@IN.shop.example> \r\n" + MAIL, "loop"),
        (b"Received: from x by y; z\r\n" * 101 + MAIL, "hops"),
    ],
)
def test_a_mail_that_goes_in_a_circle_stops(office: Scene, octets: bytes, outcome: str) -> None:
    before = counted(outcome)
    row = received(octets)
    assert (row.forward_send_id, row.examined_at is not None) == (None, True)
    assert "circle" in row.forward_error
    assert counted(outcome) == before + 1
    assert Event.objects.get(kind="inbound.forwarded").payload["inbound"]["forward"]["error"] == row.forward_error
    assert sent(received(b"Delivered-To: sales@in.shop.example\r\n" + b"Received: from x by y; z\r\n" * 100 + MAIL))


def test_a_project_that_may_not_send_passes_nothing_on(office: Scene) -> None:
    Project.objects.filter(pk=office.project.pk).update(suspended_at=timezone.now(), suspend_reason="spam")
    assert "may not send" in received().forward_error
    Project.objects.filter(pk=office.project.pk).update(suspended_at=None)
    came(f"all@{NAME}", octets=MAIL)
    Reader().look()
    Domain.objects.filter(pk=office.domain.pk).update(status="suspended")
    Examiner().look()
    assert ReceivedMail.objects.order_by("-id")[0].forward_send_id is None
    assert not Send.objects.exists()


def test_a_mail_waits_for_the_limits_of_its_project_and_not_for_ever(
    office: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    Project.objects.filter(pk=office.project.pk).update(sends_per_hour=1)
    assert sent(received())
    row = received()
    assert (row.forward_send_id, row.forward_error, row.examined_at) == (None, "", None)
    waits = UnexaminedMail.objects.get()
    assert (waits.tries, waits.due_at > timezone.now()) == (0, True)
    UnexaminedMail.objects.update(due_at=timezone.now())
    monkeypatch.setattr("sending.inbound.routing.pass_on.PATIENCE", timedelta(0))
    Examiner().look()
    assert "limit" in ReceivedMail.objects.get(pk=row.pk).forward_error
    assert not UnexaminedMail.objects.exists()


def test_what_an_examiner_dies_with_is_not_tried_for_ever(office: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any) -> Any:
        raise KeyboardInterrupt

    came(f"all@{NAME}", octets=MAIL)
    Reader().look()
    monkeypatch.setattr(examining.pass_on, "prepare", dies)
    for _ in range(MAX_TRIES):
        with pytest.raises(KeyboardInterrupt):
            Examiner().look()
        UnexaminedMail.objects.update(due_at=timezone.now())
    Examiner().look()
    assert "three times" in ReceivedMail.objects.get().forward_error


def test_what_one_mail_stumbles_over_keeps_no_other_waiting(office: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = examining.pass_on.prepare

    def stumbles(row: ReceivedMail, mail: Inbound, *rest: Any) -> Any:
        if b"stumble" in mail.octets:
            raise RuntimeError
        return prepare(row, mail, *rest)

    monkeypatch.setattr(examining.pass_on, "prepare", stumbles)
    for octets in (b"Subject: stumble\r\n" + MAIL, MAIL):
        came(f"all@{NAME}", octets=octets)
    Reader().look()
    for _ in range(MAX_TRIES + 1):
        Examiner().look()
        UnexaminedMail.objects.update(due_at=timezone.now())
    rows = ReceivedMail.objects.order_by("mail_id")
    assert [(row.forward_send_id is None, "three times" in row.forward_error) for row in rows] == [
        (True, True), (False, False),
    ]  # fmt: skip


def test_octets_that_are_no_utf8_ask_nothing_of_the_next_server(office: Scene) -> None:
    received(PLAIN.replace(b"Dora", b"D\xf6ra"))
    assert not prepare(office.jobs()[0]).smtputf8
    received(PLAIN.replace(b"Dora", b"D\xc3\xb6ra"))
    assert prepare(office.jobs()[0]).smtputf8


# --- Reports that go back ------------------------------------------------------------------------------------------


def test_a_bounce_goes_back_to_whose_mail_it_was(office: Scene) -> None:
    """The address comes back in lower case, as many servers write it."""
    send = sent(received())
    path = way_back(send).lower()
    outcome = read(bounce("bob@one.example"), path, octets=REPORT)
    assert outcome is not None
    assert outcome.match.is_proven
    statuses = Recipient.objects.filter(send_id=send.pk).order_by("position").values_list("status", flat=True)
    assert list(statuses) == ["bounced", "queued"]
    before = counted("returned")
    Examiner().look()
    row = ReceivedMail.objects.order_by("-id")[0]
    assert (row.returns_send_id, row.recipients, row.forward_to, row.route_id) == (
        send.pk, [path], ["dora@example.test"], 0,
    )  # fmt: skip
    back = sent(row)
    assert (back.forwarded_from, back.project_id) == ("", office.project.pk)
    raw = raw_message(back) or b""
    assert raw.endswith(REPORT)
    assert raw.startswith(b"Delivered-To: srs0=")
    assert [person.address for person in Recipient.objects.filter(send_id=back.pk)] == ["dora@example.test"]
    assert counted("returned") == before + 1
    assert Event.objects.filter(kind="inbound.forwarded").count() == 1, "the bounce has told already"
    assert read(bounce("bob@one.example"), f"fbl@{'relay.test'}", octets=REPORT) is not None
    assert ReceivedMail.objects.count() == 2, "only what came by the way back goes back"


def test_the_way_back_is_no_relay(office: Scene) -> None:
    """Nobody but a server with a report gets a mail through, and nobody who makes an address up."""
    send = sent(received())
    path = way_back(send)
    forged = path.replace("=dora@", "=eve@")
    assert rcpt("", path) == "taken"
    assert rcpt("eve@evil.example", path).startswith("550 5.7.1 Only a report")
    before = REGISTRY.get_sample_value("relay_inbound_forged_total", {"where": "rcpt"}) or 0
    assert rcpt("", forged).startswith("550 5.7.1 We did not make")
    assert REGISTRY.get_sample_value("relay_inbound_forged_total", {"where": "rcpt"}) == before + 1
    assert rcpt("", way_back(send, days=30)).startswith("550 5.7.1 The mail that this address is about is too old")
    came(path, octets=REPORT, mail_from="eve@evil.example")
    came(way_back(send, days=30), octets=REPORT)
    came(forged, octets=REPORT)
    Reader().look()
    assert not UnexaminedMail.objects.exists()


def test_an_address_without_room_for_srs_comes_back_by_a_token(office: Scene) -> None:
    sender = "bounces+1234567-89ab-all=in.shop.example@em1234.mail.example.test"
    send = sent(received(mail_from=sender))
    assert rewrite(sender, send.pk, "relay.test", ring("return-path"), timezone.now().date()) is None
    came(make_reverse_path(send.pk, office.jobs()[0].attempt_id, "relay.test", ring("return-path")), octets=REPORT)
    Reader().look()
    Examiner().look()
    assert ReceivedMail.objects.get(returns_send_id=send.pk).forward_to == [sender]


def test_a_report_about_a_mail_from_the_null_sender_goes_nowhere(office: Scene) -> None:
    send = sent(received(mail_from=""))
    came(make_reverse_path(send.pk, office.jobs()[0].attempt_id, "relay.test", ring("return-path")), octets=REPORT)
    Reader().look()
    assert not UnexaminedMail.objects.exists()


def test_nobody_gets_the_bounce_of_a_mail_in_their_forged_name(office: Scene, published: dict[str, list[str]]) -> None:
    """Backscatter: SPF said that Dora's server has not sent it."""
    published["example.test"] = ["v=spf1 -all"]
    send = sent(received(PLAIN))
    came(way_back(send), octets=REPORT)
    Reader().look()
    Examiner().look()
    row = ReceivedMail.objects.get(returns_send_id=send.pk)
    assert row.forward_send_id is None
    assert "not shown" in row.forward_error


def test_reports_that_go_back_have_a_limit(office: Scene) -> None:
    send = sent(received())
    for _ in range(11):
        came(way_back(send), octets=REPORT)
    Reader().look()
    Examiner().look()
    rows = ReceivedMail.objects.filter(returns_send_id=send.pk)
    assert (rows.filter(forward_send_id__isnull=False).count(), rows.exclude(forward_error="").count()) == (10, 1)


def test_a_forged_report_about_an_old_mail_of_the_project_is_none_of_the_forwards(office: Scene) -> None:
    """What is quoted in the mail that was passed on is not what the report is about."""
    inner = office.send("ann@six.example")
    token = make_reverse_path(inner.send_id, 5, "relay.test", ring("return-path"))
    send = sent(received(b"X-Was: " + token.encode() + b"\r\n" + PLAIN))
    outcome = read(bounce("bob@one.example"), way_back(send), octets=REPORT + token.encode())
    assert outcome is not None
    assert outcome.match.send_id == send.pk


# --- Routes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addresses", "field", "says"),
    [
        ((), "forward_to", "1 to 10"), (("x",), "forward_to[0]", "valid email"),
        (("a@b.example", "a\0@b.example"), "forward_to[1]", "valid email"),
        (tuple(f"a{i}@b.example" for i in range(11)), "forward_to", "at most 10"),
        (("abuse@relay.test",), "forward_to[0]", "belongs to this installation"),
        (("all@in.shop.example",), "forward_to[0]", "come back"), (("ALL@In.shop.example",), "forward_to[0]", "come back"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_forwarded_to_is_refused(
    office: Scene, addresses: tuple[str, ...], field: str, says: str
) -> None:
    route = InboundRoute.objects.get()
    with pytest.raises(Violations, match=says) as refused:
        change_route(route, RouteChange(forward_to=addresses))
    assert [wrong.property for wrong in refused.value.violations] == [field]
    assert InboundRoute.objects.get().forward_to == ["bob@one.example", "carol@two.example"]
    assert match.rule_of(f"all@{NAME}").forward_to == ("bob@one.example", "carol@two.example")  # type: ignore[union-attr]


def test_a_circle_over_several_routes_is_refused_and_an_exception_is_none(office: Scene) -> None:
    forward(office.project, "b", f"c@{NAME}")
    with pytest.raises(Violations, match="come back"):
        forward(office.project, "c", "x@one.example", f"b@{NAME}")
    forward(office.project, "c", f"all@{NAME}")
    add_route(office.project, RouteChange(f"kept@{NAME}", priority=0))
    assert forward(office.project, "*", f"kept@{NAME}", priority=9)
    with pytest.raises(Violations, match="come back"):
        forward(office.project, "x*", f"x1@{NAME}")


def test_addresses_belong_to_the_action(office: Scene) -> None:
    route = InboundRoute.objects.get()
    with pytest.raises(Violations, match="Only a route with the action forward"):
        change_route(route, RouteChange(action=RouteAction.EVENT, forward_to=("a@b.example",)))
    route = change_route(InboundRoute.objects.get(), RouteChange(action=RouteAction.EVENT))
    assert InboundRoute.objects.get().forward_to is None
    with pytest.raises(Violations, match="1 to 10"):
        change_route(route, RouteChange(action=RouteAction.FORWARD))
    change_route(
        InboundRoute.objects.get(),
        RouteChange(action=RouteAction.FORWARD, forward_to=("a@b.example",)),
    )
    assert received().forward_to == ["a@b.example"]


def test_who_has_it_forwarded_to_whom_is_written_down(office: Scene) -> None:
    change_route(InboundRoute.objects.get(), RouteChange(forward_to=("a@b.example",)), Caller(frozenset()))
    detail = AuditEntry.objects.filter(action="inbound_route.changed").get().detail
    assert detail["forward_to"] == ["a@b.example"]


# --- The results, as they are written ------------------------------------------------------------------------------

TEXTS = st.text(max_size=20) | st.sampled_from(["a\r\nX: y", "a;b", "ä", "pass", "a@b.test", "é@b.test"])


@given(TEXTS, TEXTS, TEXTS, st.sampled_from(["192.0.2.1", "2001:db8::1"]))
def test_no_text_of_others_ends_a_field_of_ours(sender: str, word: str, name: str, peer: str) -> None:
    mail = Inbound(1, sender, (), b"", peer)
    found = {
        "spf": {"result": word, "domain": name},
        "dkim": [{"result": word, "domain": name, "selector": name}],
        "dmarc": {"result": word, "domain": name},
        "arc": {"result": word},
    }
    text = results_in_words(mail, found, "mx.relay.test")
    assert text.isascii()
    assert text.replace("\r\n\t", "").isprintable()
    assert text.count(";") == 4
