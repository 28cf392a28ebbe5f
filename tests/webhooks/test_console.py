"""The console's pages about webhooks, without a browser."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from projects.models import Notice
from webhooks.console.forms import HIDDEN
from webhooks.mailbox.manage import create_token
from webhooks.models import DisabledReason, Mailbox, Webhook, WebhookDelivery, WebhookReplay
from webhooks.models.mailbox import TokenKind
from webhooks.subscriptions import headers_of
from webhooks.switch import disable

pytestmark = pytest.mark.django_db
URL = "https://shop.example.test/relay"


@pytest.fixture
def browser(alice: Any) -> Client:
    client = Client()
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    return client


@pytest.fixture
def place(project: Any) -> str:
    return f"/console/{project.pk}/webhooks"


def test_a_webhook_is_made_changed_switched_and_deleted(browser, place):
    page = browser.post(f"{place}/new", {"url": URL, "events": ["domain.created"], "description": "Shop"})
    webhook = Webhook.objects.get()
    assert page.status_code == 200
    assert webhook.secret in page.content.decode()
    assert "no-store" in page["Cache-Control"]
    assert webhook.secret not in browser.get(place).content.decode()
    assert webhook.secret not in browser.get(f"{place}/{webhook.pk}").content.decode()
    assert webhook.secret not in browser.get(f"{place}/{webhook.pk}/edit").content.decode()
    changed = browser.post(f"{place}/{webhook.pk}/edit", {"url": URL, "events": ["domain.deleted"], "description": ""})
    assert changed.status_code == 302
    browser.post(f"{place}/{webhook.pk}/switch", {"enabled": "0"})
    after = Webhook.objects.get()
    assert (after.events, after.description, after.is_enabled) == (["domain.deleted"], None, False)
    assert browser.post(f"{place}/{webhook.pk}/secret", {"overlap_hours": "7"}).status_code == 302
    page = browser.post(f"{place}/{webhook.pk}/secret", {"overlap_hours": "24"})
    assert Webhook.objects.get().previous_secret == webhook.secret
    assert Webhook.objects.get().secret in page.content.decode()
    assert Webhook.objects.get().secret != webhook.secret
    assert browser.post(f"{place}/{webhook.pk}/delete").status_code == 302
    assert not Webhook.objects.exists()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"url": "http://127.0.0.1/", "events": ["domain.created"]}, "private address"),
        ({"url": "nonsense", "events": ["domain.created"]}, "not a valid URL"),
        ({"url": URL}, "Choose at least one event."),
        ({"url": URL, "events": ["nonsense"]}, "nonsense"),
    ],
)
def test_what_is_wrong_is_said_at_the_field(browser, place, said, told, settings):
    settings.PRIVATE_WEBHOOKS = False
    page = browser.post(f"{place}/new", said)
    assert page.status_code == 400
    assert told in page.content.decode()
    assert not Webhook.objects.exists()


@pytest.fixture
def webhook(browser, place):
    browser.post(f"{place}/new", {"url": URL, "events": ["domain.created"]})
    return Webhook.objects.get()


def test_values_of_headers_are_written_and_never_shown(browser, place, webhook):
    form = {"url": URL, "events": ["domain.created"], "tags": "a, b", "domains": "shop.example"}
    edit = f"{place}/{webhook.pk}/edit"
    assert browser.post(edit, {**form, "headers": "X-Key: s3cret\r\nX-Two: 2"}).status_code == 302
    page = browser.get(edit).content.decode()
    assert "s3cret" not in page
    assert "s3cret" not in browser.get(f"{place}/{webhook.pk}").content.decode()
    assert browser.post(edit, {**form, "headers": f"X-Key: {HIDDEN}\n"}).status_code == 302
    webhook.refresh_from_db()
    assert headers_of(webhook) == {"X-Key": "s3cret"}
    assert (webhook.tags, webhook.domains) == (["a", "b"], ["shop.example"])
    for wrong in ("no colon", "Host: x", f"X-New: {HIDDEN}", "X-A: 1\nX-A: 2"):
        assert browser.post(edit, {**form, "headers": wrong}).status_code == 400, wrong


def test_a_mailbox_may_be_named_by_a_did_with_a_port_and_its_page_says_how_to_call_it(browser, project):
    page = browser.post(f"/console/{project.pk}/mailboxes/new", {"name": "did:web:shop.example%3A8443"}, follow=True)
    assert "/v1/mailbox/did:web:shop.example%253A8443</code>" in page.content.decode().replace("<wbr>", "")
    token = create_token(Mailbox.objects.get(), TokenKind.DEPOSIT, "till")[1]
    sent = {"data": {"payload": 1}, "content_type": "application/json", "headers": {"Authorization": f"Bearer {token}"}}
    assert Client().post("/v1/mailbox/did:web:shop.example%253A8443", **sent).status_code == 202
    assert Client().post("/v1/mailbox/did:web:shop.example%3A8443", **sent).status_code == 404


def test_a_test_is_sent_and_its_delivery_shown(browser, place, webhook):
    answer = browser.post(f"{place}/{webhook.pk}/test", {"event": "send.recipient.bounced"})
    made = WebhookDelivery.objects.get()
    assert answer["Location"] == f"{place}/deliveries/{made.pk}"
    assert "5.1.1" in browser.get(answer["Location"]).content.decode()
    assert made.event in browser.get(f"{place}/{webhook.pk}?status=pending").content.decode()
    assert "Nothing fits" in browser.get(f"{place}/{webhook.pk}?status=failed").content.decode()
    assert browser.post(f"{place}/deliveries/{made.pk}/retry").status_code == 302
    assert WebhookDelivery.objects.count() == 2


def test_a_range_of_time_and_what_failed_are_told_again(browser, place, webhook):
    of = f"{place}/{webhook.pk}/replay"
    browser.post(of, {"replay-begin": "2026-11-20T00:00:00", "replay-end": "2026-11-21T00:00"})
    browser.post(of, {"replay-only_failed": "1"})
    assert list(WebhookReplay.objects.values_list("only_failed", flat=True)) == [True, False]
    for wrong in ({"replay-begin": "tomorrow"}, {"replay-begin": "2026-11-21", "replay-end": "2026-11-20"}):
        assert browser.post(of, wrong).status_code == 302
    assert ">The end must be after the beginning." in browser.get(f"{place}/{webhook.pk}").content.decode()
    assert WebhookReplay.objects.count() == 2
    newest = WebhookReplay.objects.latest("pk")
    assert browser.post(f"{of}/{newest.pk}/stop").status_code == 302
    newest.refresh_from_db()
    assert newest.finished_at is not None
    assert ", stopped at" in browser.get(f"{place}/{webhook.pk}").content.decode()
    assert browser.post(f"{of}/{newest.pk + 1}/stop").status_code == 404


def test_one_that_relay_gave_up_is_enabled_by_one_click(browser, place, webhook):
    disable(webhook, DisabledReason.FAILING)
    assert Notice.objects.get().subject == "A webhook is disabled"
    assert "Relay has disabled this webhook" in browser.get(f"{place}/{webhook.pk}").content.decode()
    since = Webhook.objects.get(pk=webhook.pk).disabled_at
    enabled = browser.post(f"{place}/{webhook.pk}/switch", {"enabled": "1"})
    webhook.refresh_from_db()
    assert (webhook.is_enabled, webhook.disabled_reason) == (True, "")
    page = browser.get(enabled["Location"]).content.decode()
    assert f'value="{since:%Y-%m-%dT%H:%M:%S}"' in page, "what it missed is told by another click"
    for nonsense in ("", "x", "-1", 10**30):
        assert browser.get(f"{place}/{webhook.pk}?missed={nonsense}").status_code == 200
    disable(webhook, DisabledReason.BY_HAND)
    assert Notice.objects.count() == 1, "what somebody did is no news"


def test_a_delivery_looks_for_its_first_answer_and_waits_with_a_disabled_webhook(browser, place, webhook, project):
    with connection.cursor() as cursor:
        cursor.execute("SELECT new_id()")
        [made] = cursor.fetchone()
    about = {"pk": made, "event_id": made, "event": "domain.created", "url": URL, "request_body": "{}"}
    WebhookDelivery.objects.create(project_id=project.pk, webhook_id=webhook.pk, next_try_at=datetime.now(UTC), **about)
    assert "every 2s" in browser.get(f"{place}/deliveries/{made}").content.decode()
    disable(webhook, DisabledReason.BY_HAND)
    for path in (f"/deliveries/{made}", f"/{webhook.pk}"):
        page = browser.get(place + path).content.decode()
        assert "every 2s" not in page
        assert re.search(r"when (the webhook is )?enabled", page)


def test_the_last_answer_stands_apart_only_where_it_says_more_than_its_try(browser, place, webhook, project):
    about = {"event_id": 7, "event": "domain.created", "url": URL, "request_body": "{}", "status": "failed"}
    for text, shown in (("No answer within 30 s.", False), ("x" * 250, True)):
        tries = [{"at": 1795315390, "code": 0, "ms": 9, "text": text[:200]}]
        made = WebhookDelivery.objects.create(
            project_id=project.pk,
            webhook_id=webhook.pk,
            response=text,
            response_code=0,
            try_count=1,
            tries=tries,
            **about,
        )
        assert ("Last answer" in browser.get(f"{place}/deliveries/{made.pk}").content.decode()) is shown
