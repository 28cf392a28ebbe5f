"""The console's pages about mail that comes in: domains, routes, and mail that is shown without being trusted."""

import pytest
from django.test import Client

from accounts.models import AuditEntry, User
from projects.models import Domain, Membership, Project
from projects.scopes import SCOPES
from sending.inbound.routing.change import add_domain
from sending.models import InboundMail, InboundRoute, ReceivedMail, ReceivingDomain

pytestmark = pytest.mark.django_db

MAIL = (
    b"From: =?utf-8?q?D=C3=B6ra?= <dora@example.test>\r\nSubject: <b>Hi</b>\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/html\r\n\r\n<script>alert(1)</script><p>Hello</p>\r\n"
    b"--b\r\nContent-Type: text/html; name=evil.html\r\n\r\n<script>alert(2)</script>\r\n--b--\r\n"
)  # fmt: skip


@pytest.fixture
def shop(db: None) -> Project:
    """Alice's, which receives; Bob may only look."""
    project = Project.objects.create(name="Shop", send_type="transactional")
    for name, scopes in (("Alice", list(SCOPES)), ("Bob", ["project.read", "inbound.read"])):
        user = User.objects.create(login=f"{name.lower()}@shop.example", name=name)
        Membership.objects.create(project=project, user=user, scopes=scopes)
    Domain.objects.create(project=project, domain="shop.example", status="active")
    add_domain(project, "in.shop.example", catch_all=True)
    return project


def browser(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(name=name), backend="accounts.sign_in.PasswordBackend")
    return client


@pytest.fixture
def alice(shop: Project) -> Client:
    """Alice's browser."""
    return browser("Alice")


def path(project: Project, rest: str) -> str:
    return f"/console/{project.pk}/{rest}"


def received(project: Project) -> ReceivedMail:
    mail = InboundMail.objects.create(
        peer="192.0.2.1", recipients=["a@in.shop.example"], octets=MAIL, size_bytes=len(MAIL)
    )
    return ReceivedMail.objects.create(
        project_id=project.pk, mail_id=mail.pk, route_id=InboundRoute.objects.get().pk, recipients=["a@in.shop.example"],
        subject="<b>Hi</b>", size_bytes=len(MAIL), hints=["no-tls"],
        authentication={
            "spf": {"result": "softfail", "domain": "example.test", "detail": "~all"}, "dkim": [],
            "dmarc": {"result": "fail", "domain": "example.test", "policy": "reject"},
        },
    )  # fmt: skip


def test_a_domain_is_added_shown_with_its_record_and_removed(shop: Project, alice: Client) -> None:
    answer = alice.post(path(shop, "receiving/new"), {"domain": "mail.shop.example", "catch_all": "on"}, follow=True)
    text = answer.content.decode()
    assert "10 relay.test." in text
    assert "*@mail.shop.example" in text
    for name, says in (("other.example", "verify it first"), ("in.shop.example", "already"), ("x", "full domain name")):
        refused = alice.post(path(shop, "receiving/new"), {"domain": name})
        assert refused.status_code == 400
        assert says in refused.content.decode()
    row = ReceivingDomain.objects.get(domain="mail.shop.example")
    alice.post(path(shop, f"receiving/{row.pk}/remove"))
    assert not ReceivingDomain.objects.filter(pk=row.pk).exists()
    assert AuditEntry.objects.get(action="receiving_domain.removed").actor_label == "Alice"


def test_routes_are_made_changed_and_deleted(shop: Project, alice: Client) -> None:
    row = ReceivingDomain.objects.get()
    form = {"pattern": "Support+*", "action": "event", "priority": "5", "description": "Tickets", "is_enabled": "on"}
    assert alice.post(path(shop, f"receiving/{row.pk}/routes/new"), form).status_code == 302
    made = InboundRoute.objects.get(pattern="support+*")
    for field, value in (("pattern", "a*b"), ("pattern", "*"), ("pattern", ""), ("priority", "-1"), ("action", "x")):
        refused = alice.post(path(shop, f"receiving/{row.pk}/routes/new"), {**form, field: value})
        assert refused.status_code == 400, (field, value)
        assert "errorlist" in refused.content.decode()
    alice.post(path(shop, f"routes/{made.pk}"), {**form, "action": "reject", "is_enabled": ""})
    made.refresh_from_db()
    assert (made.action, made.is_enabled, made.priority) == ("reject", False, 5)
    assert "switched off" in alice.get(path(shop, f"receiving/{row.pk}")).content.decode()
    alice.post(path(shop, f"routes/{made.pk}/delete"))
    assert not InboundRoute.objects.filter(pk=made.pk).exists()


def test_a_route_forwards_and_its_mail_says_where_to(shop: Project, alice: Client) -> None:
    row = ReceivingDomain.objects.get()
    form = {
        "pattern": "team",
        "action": "forward",
        "forward_to": "bob@one.example,\r\n  carol@two.example ",
        "is_enabled": "on",
    }
    assert alice.post(path(shop, f"receiving/{row.pk}/routes/new"), form).status_code == 302
    made = InboundRoute.objects.get(pattern="team")
    assert made.forward_to == ["bob@one.example", "carol@two.example"]
    assert (
        "bob@one.example\ncarol@two.example</textarea>" in alice.get(path(shop, f"routes/{made.pk}")).content.decode()
    )
    assert "to bob@one.example, carol@two.example" in alice.get(path(shop, f"receiving/{row.pk}")).content.decode()
    for wrong, says in (("", "1 to 10"), ("x", "valid email"), ("abuse@relay.test", "belongs to this installation")):
        refused = alice.post(path(shop, f"routes/{made.pk}"), {**form, "forward_to": wrong})
        assert refused.status_code == 400
        assert says in refused.content.decode()
    alice.post(path(shop, f"routes/{made.pk}"), {**form, "action": "event"})
    made.refresh_from_db()
    assert made.forward_to is None
    made.delete()
    mail = received(shop)
    ReceivedMail.objects.filter(pk=mail.pk).update(forward_to=["bob@one.example"], forward_error="It is <large>.")
    assert "not forwarded" in alice.get(path(shop, "received")).content.decode()
    page = alice.get(path(shop, f"received/{mail.pk}")).content.decode()
    assert "&lt;bob@one.example&gt;" in page
    assert "It is &lt;large&gt;." in page
    ReceivedMail.objects.filter(pk=mail.pk).update(forward_error="", returns_send_id=5, forward_send_id=6)
    assert "goes back" in alice.get(path(shop, "received")).content.decode()
    assert "a forward that is gone" in alice.get(path(shop, f"received/{mail.pk}")).content.decode()


def test_a_domain_that_is_no_longer_the_projects_says_so(shop: Project, alice: Client) -> None:
    Domain.objects.update(status="suspended")
    assert (
        "Nothing is received" in alice.get(path(shop, f"receiving/{ReceivingDomain.objects.get().pk}")).content.decode()
    )


def test_a_mail_is_shown_and_none_of_it_runs(shop: Project, alice: Client) -> None:
    mail = received(shop)
    assert "&lt;b&gt;Hi&lt;/b&gt;" in alice.get(path(shop, "received")).content.decode()
    text = alice.get(path(shop, f"received/{mail.pk}")).content.decode()
    assert "<script>alert" not in text
    assert 'sandbox="allow-popups' in text
    assert "policy: reject" in text
    assert "Came in clear text" in text
    html = alice.get(path(shop, f"received/{mail.pk}/preview.html"))
    assert html["Content-Security-Policy"].startswith("sandbox")
    assert "img-src data:;" in html["Content-Security-Policy"]
    for rest, content in (("raw.eml", MAIL), ("files/1", b"<script>alert(2)</script>")):
        file = alice.get(path(shop, f"received/{mail.pk}/{rest}"))
        assert file.content == content
        assert file["Content-Disposition"].startswith("attachment")
        assert file["X-Content-Type-Options"] == "nosniff"
        assert file["Content-Type"] != "text/html"
    assert alice.get(path(shop, f"received/{mail.pk}/files/2")).status_code == 404
    InboundMail.objects.all().delete()
    assert "content is gone" in alice.get(path(shop, f"received/{mail.pk}")).content.decode()


def test_others_do_not_come_in_and_who_may_look_changes_nothing(shop: Project, alice: Client) -> None:
    mail, row, route = received(shop), ReceivingDomain.objects.get(), InboundRoute.objects.get()
    elsewhere = Project.objects.create(name="Elsewhere", send_type="transactional")
    charlie = User.objects.create(login="charlie@x.example", name="Charlie")
    Membership.objects.create(project=elsewhere, user=charlie, scopes=list(SCOPES))
    theirs, bob = browser("Charlie"), browser("Bob")
    looking = ("received", f"received/{mail.pk}", "receiving", f"receiving/{row.pk}")
    changing = ("receiving/new", f"receiving/{row.pk}/routes/new", f"routes/{route.pk}")
    posts = (f"receiving/{row.pk}/check", f"receiving/{row.pk}/remove", f"routes/{route.pk}/delete")
    for rest in looking + changing:
        assert theirs.get(path(shop, rest)).status_code == 404
        if rest.endswith(tuple(str(one.pk) for one in (mail, row, route))):
            assert theirs.get(path(elsewhere, rest)).status_code == 404, rest
    for rest in looking:
        assert bob.get(path(shop, rest)).status_code == 200
    for rest in changing + posts:
        assert bob.post(path(shop, rest), {"domain": "b.shop.example"}).status_code == 403
        assert theirs.post(path(shop, rest)).status_code == 404
    assert (ReceivingDomain.objects.count(), InboundRoute.objects.count()) == (1, 1)
