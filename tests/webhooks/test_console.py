"""The console's pages about webhooks, without a browser."""

from typing import Any

import pytest
from django.test import Client

from webhooks.models import Webhook

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
    changed = browser.post(f"{place}/{webhook.pk}", {"url": URL, "events": ["domain.deleted"], "description": ""})
    assert changed.status_code == 302
    browser.post(f"{place}/{webhook.pk}/switch", {"enabled": "0"})
    after = Webhook.objects.get()
    assert (after.events, after.description, after.is_enabled) == (["domain.deleted"], None, False)
    page = browser.post(f"{place}/{webhook.pk}/secret")
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
