"""The console's pages without a browser: closed to strangers, deaf to nonsense, whole or in parts as asked."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry
from projects.console.urls import inside
from projects.models import ApiKey, Domain, Invitation, Membership
from sending.console.urls import urlpatterns
from sending.models import Attempt, Content, InboundRoute, Recipient
from tests.browser.seed import Seeded, seed
from webhooks.console.urls import urlpatterns as about_webhooks
from webhooks.models import Webhook

pytestmark = pytest.mark.django_db


@pytest.fixture
def rows(db: None) -> Seeded:
    return seed(datetime.now(UTC), sends=3, days=1)


@pytest.fixture
def visit(rows: Seeded) -> Any:
    """`visit("alice", path, method)` → the response."""

    def go(who: str, path: str, method: str = "get", data: Any = None, **headers: str) -> Any:
        client = Client(raise_request_exception=True)
        if who:
            client.force_login(getattr(rows, who), backend="accounts.sign_in.PasswordBackend")
        return getattr(client, method)(path, data=data, headers=headers)

    return go


def pages(rows: Seeded, project_id: int) -> Iterator[str]:
    """Every address below a project, with ids that exist in the shop."""
    ids = {
        "send_uuid": rows.send.uuid,
        "message_id": rows.message.pk,
        "domain_id": rows.domain.pk,
        "key_id": ApiKey.objects.filter(project=rows.shop).earliest("pk").pk,
        "suppression_id": rows.suppression.pk,
        "webhook_id": Webhook.objects.filter(project=rows.shop).earliest("pk").pk,
        "mailbox_id": rows.mailbox.pk,
        "token_id": rows.mailbox.tokens.earliest("pk").pk,
        "delivery_id": rows.delivery.pk,
        "invitation_id": Invitation.objects.filter(project=rows.shop).earliest("pk").pk,
        "membership_id": Membership.objects.filter(project=rows.shop).earliest("pk").pk,
        "received_id": rows.received.pk,
        "replay_id": rows.webhook.replays.latest("pk").pk,
        "number": 0,
        "route_id": InboundRoute.objects.filter(project=rows.shop).earliest("pk").pk,
    }
    for pattern in (*inside, *urlpatterns, *about_webhooks):
        names = pattern.pattern.converters
        of_receiving = {"domain_id": rows.receiving.pk} if "/receiving/" in str(pattern.pattern) else {}
        found = {**ids, **of_receiving}
        yield reverse(pattern.name, kwargs={"project_id": project_id, **{name: found[name] for name in names}})


@pytest.mark.parametrize("method", ["get", "post"])
def test_every_page_of_a_project_is_closed_to_a_stranger(rows: Seeded, visit: Any, method: str) -> None:
    for path in pages(rows, rows.shop.pk):
        assert visit("charlie", path, method).status_code in (404, 405), path
        response = visit("", path, method)
        assert response.status_code == 405 or response["Location"].startswith("/sign-in?next="), path


@pytest.mark.parametrize("method", ["get", "post"])
def test_objects_of_one_project_are_not_found_in_another(rows: Seeded, visit: Any, method: str) -> None:
    """Alice may enter both: the id in the address decides nothing."""
    before = Domain.objects.count(), ApiKey.objects.filter(is_enabled=True).count(), Membership.objects.count()
    for path in pages(rows, rows.empty.pk):
        names_an_object = any(
            str(part) in path
            for part in (
                rows.send.uuid,
                *(
                    "sandbox/",
                    "domains/",
                    "keys/",
                    "webhooks/",
                    "mailboxes/",
                    "members/",
                    "invitations/",
                    "receiv",
                    "routes/",
                ),
                f"s/{rows.suppression.pk}/",
            )
        )
        is_list_or_new = path.endswith(("/new", "/receiving", "/received")) and not path.endswith("/routes/new")
        if names_an_object and not is_list_or_new:
            assert visit("alice", path, method).status_code in (404, 405), path
    assert (
        Domain.objects.count(),
        ApiKey.objects.filter(is_enabled=True).count(),
        Membership.objects.count(),
    ) == before


def test_a_member_who_may_only_look_changes_nothing(rows: Seeded, visit: Any) -> None:
    for path in pages(rows, rows.shop.pk):
        assert visit("bob", path, "post").status_code in (403, 405), path
        assert visit("sam", path, "post").status_code in (403, 405), path


@pytest.mark.parametrize(
    "query",
    [
        "status=nonsense",
        "before_id=-1",
        "before_id=99999999999999999999",
        "before_id=abc",
        "date=custom&since=0001-01-01&until=9999-12-31",
        "date=custom&since=tomorrow",
        "date=nonsense",
        "from_text=%00",
        "subject_text=%25%27%3B--",
        "to_text=" + "x" * 3000,
        "part=nonsense",
    ],
)
def test_nonsense_in_the_filters_is_no_error(rows: Seeded, visit: Any, query: str) -> None:
    assert visit("alice", f"/console/{rows.shop.pk}/sends?{query}").status_code == 200
    assert visit("alice", f"/console/{rows.shop.pk}/sandbox?{query}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/sandbox/9999999999999999999999",
        "/domains/9999999999999999999999",
        "/sends/d792ac29-1b90-456f-98c0-69b205dc74a1",
        "/sends/123",
    ],
)
def test_ids_that_cannot_be_are_not_found(rows: Seeded, visit: Any, path: str) -> None:
    assert visit("alice", f"/console/{rows.shop.pk}{path}").status_code == 404
    assert visit("alice", f"/console/9999999999999999999999{path}").status_code == 404


def test_htmx_gets_the_part_and_everybody_else_the_page(rows: Seeded, visit: Any) -> None:
    path = f"/console/{rows.shop.pk}/sends"
    part, page = visit("alice", path, **{"HX-Request": "true"}), visit("alice", path)
    assert b"<html" not in part.content
    assert b"<html" in page.content
    assert "HX-Request" in part["Vary"]
    boosted = visit("alice", path, **{"HX-Request": "true", "HX-Boosted": "true"})
    assert b"<html" in boosted.content


def test_a_part_asked_for_after_signing_out_reloads_the_page(rows: Seeded, visit: Any) -> None:
    response = visit("", f"/console/{rows.shop.pk}", **{"HX-Request": "true"})
    assert response["HX-Refresh"] == "true"
    assert response.content == b""


def test_a_demand_of_tls_that_was_not_met_is_named_on_the_page_of_the_send(rows: Seeded, visit: Any) -> None:
    unmet = {"version": None, "cipher": None, "verified": False, "policy": "mta-sts"}
    attempts = Attempt.objects.filter(send_id=rows.send.pk, domain="university.example")
    assert attempts.update(tls=unmet)
    page = visit("alice", f"/console/{rows.shop.pk}/sends/{rows.send.uuid}").content.decode()
    assert "TLS was demanded by MTA-STS; no session" in page


def test_html_of_a_mail_stands_under_a_policy_of_its_own(rows: Seeded, visit: Any) -> None:
    for path in (f"/sends/{rows.send.uuid}/preview.html", f"/sandbox/{rows.message.pk}/preview.html"):
        policy = visit("alice", f"/console/{rows.shop.pk}{path}")["Content-Security-Policy"]
        assert policy.startswith("sandbox ")
        assert "allow-scripts" not in policy
        assert "default-src 'none'" in policy
        assert "img-src data:;" in policy
    with_images = visit("alice", f"/console/{rows.shop.pk}/sends/{rows.send.uuid}/preview.html?images=1")
    assert "img-src data: https:;" in with_images["Content-Security-Policy"]


def test_what_a_mail_says_is_never_markup_of_ours(rows: Seeded, visit: Any) -> None:
    evil = "<script>alert(1)</script>"
    type(rows.send).objects.filter(pk=rows.send.pk).update(subject=evil, from_name=evil)
    type(rows.message).objects.filter(pk=rows.message.pk).update(
        subject=evil, from_header=evil, data=f"Subject: {evil}\r\nX-{evil}: a\r\n\r\n{evil}\xff".encode("latin-1")
    )
    for path in (
        "",
        "/sends",
        f"/sends/{rows.send.uuid}",
        f"/sends/{rows.send.uuid}/raw",
        "/sandbox",
        f"/sandbox/{rows.message.pk}",
    ):
        content = visit("alice", f"/console/{rows.shop.pk}{path}").content
        assert evil.encode() not in content, path


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no header at all",
        b"Content-Type: text/html; charset=nonsense\r\n\r\n\xff\xfe",
        b"Content-Type: multipart/mixed\r\n\r\nno boundary",
        b"Content-Type: multipart/alternative; boundary=a\r\n\r\n--a\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!\r\n--a--",
        b"Subject: =?utf-8?b?broken?=\r\nFrom: \xff\x00\r\n\r\n\x00",
        b"Content-Disposition: attachment; filename*=utf-8''%ff%00\r\nContent-Type: message/rfc822\r\n\r\nx",
    ],
)
def test_a_received_mail_of_any_shape_is_shown(rows: Seeded, visit: Any, data: bytes) -> None:
    type(rows.message).objects.filter(pk=rows.message.pk).update(data=data)
    path = f"/console/{rows.shop.pk}/sandbox/{rows.message.pk}"
    assert visit("alice", path).status_code == 200
    assert visit("alice", f"{path}/raw.eml").content == data
    assert visit("alice", f"{path}/preview.html").status_code in (200, 404)


def test_the_theme_goes_back_to_our_own_pages_only(rows: Seeded, visit: Any) -> None:
    def back(referer: str) -> str:
        return str(visit("", "/console/theme", "post", {"theme": "dark"}, Referer=referer)["Location"])

    assert back("http://testserver/console/2/sends?status=queued") == "/console/2/sends?status=queued"
    assert back("http://elsewhere.example/x") == "/console/"
    assert back("http://testserver//elsewhere.example") == "/console/"
    assert visit("", "/console/theme", "post", {"theme": "pink"}).cookies.get("relay_theme") is None


def test_the_page_shows_the_message_id_that_the_mail_has(rows: Seeded, visit: Any) -> None:
    path = f"/console/{rows.shop.pk}/sends/{rows.send.uuid}"
    assert visit("alice", path).context["message_id"] == f"{rows.send.uuid}@shop.example"
    raw = b"From: shop@shop.example\r\nMessage-ID: <own.1@shop.example>\r\n\r\nHi\r\n"
    Content.objects.filter(pk=rows.send.content_id).update(raw=raw)
    assert visit("alice", path).context["message_id"] == "own.1@shop.example"
    Content.objects.filter(pk=rows.send.content_id).update(raw=raw.replace(b"Message-ID", b"X-Id"))
    assert visit("alice", path).context["message_id"] == f"{rows.send.uuid}@shop.example"


def test_staff_who_read_a_mail_are_written_down_and_members_are_not(rows: Seeded, visit: Any) -> None:
    send = f"/console/{rows.shop.pk}/sends/{rows.send.uuid}"
    for path in ("preview", "preview.html", "raw", "raw.eml"):
        assert visit("alice", f"{send}/{path}").status_code == 200
        assert visit("bob", f"{send}/{path}").status_code == 200
    assert visit("sam", send).status_code == 200, "the journey is not the content"
    assert not AuditEntry.objects.filter(action="content.viewed").exists()
    for path in ("preview", "preview.html", "raw", "raw.eml"):
        assert visit("sam", f"{send}/{path}").status_code == 200
    content = f"/api/console/sends/uuid/{rows.send.uuid}/content"
    assert visit("sam", content, **{"X-Project-ID": str(rows.shop.pk)}).status_code == 200
    entry = AuditEntry.objects.get(action="content.viewed")
    assert (entry.actor_id, entry.subject_id, entry.project_id) == (rows.sam.pk, rows.send.pk, rows.shop.pk)


@pytest.mark.parametrize("query", ["", "?period=24h&by=provider", "?period=1y&by=ip", "?by=tag", "?period=%00&by=all"])
def test_the_page_of_numbers_shows_what_was_counted(rows: Seeded, visit: Any, query: str) -> None:
    page = visit("alice", f"/console/{rows.shop.pk}/statistics{query}")
    assert page.status_code == 200
    assert "Recipients" in page.content.decode()
    assert "Nothing was counted" in visit("alice", f"/console/{rows.empty.pk}/statistics{query}").content.decode()


def test_the_page_of_numbers_adds_up(rows: Seeded, visit: Any) -> None:
    context = visit("alice", f"/console/{rows.shop.pk}/statistics?period=1y&by=domain").context
    everybody = Recipient.objects.filter(project_id=rows.shop.pk).count()
    assert context["tile"].total == everybody
    assert sum(bar.total for bar in context["bars"]) == everybody
    assert sum(row.recipients for row in context["rows"]) == everybody
