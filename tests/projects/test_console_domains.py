"""The console's page of a domain, without a browser: records, keys, return path."""

import pytest
from django.test import Client

from projects.dkim_keys import current_key, dkim_host, dkim_txt_value
from projects.models import DkimKey, Domain
from tests.projects.conftest import NOW

pytestmark = pytest.mark.django_db
HOST = "bounces.shop.example.test"


@pytest.fixture
def browser(alice, published) -> Client:
    client = Client()
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    return client


@pytest.fixture
def page(domain) -> str:
    return f"/console/{domain.project_id}/domains/{domain.pk}"


def test_the_page_asks_dns_only_when_it_is_told_to(browser, page, published, settings):
    assert "found" not in browser.get(page).content.decode().split("DNS records")[1].split("DKIM keys")[0]
    published["_dmarc.shop.example.test"] = ["v=DMARC1; p=reject"]
    assert "chip--ok" in browser.get(f"{page}?looked=1").content.decode()
    settings.DNS_RESOLVERS = [("127.0.0.1", 9)]
    assert "The DNS resolver failed" in browser.get(f"{page}?looked=1").content.decode()


def test_checking_verifies_and_shows_what_was_found(browser, page, domain, published):
    answer = browser.post(f"{page}/verify")
    assert answer["Location"] == f"{page}?looked=1"
    assert "Not verified: No TXT records found" in browser.get(answer["Location"]).content.decode()
    published[dkim_host(current_key(domain))] = [dkim_txt_value(current_key(domain))]
    part = browser.post(f"{page}/verify", headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part
    assert "this domain may send" in part


def test_a_key_is_added_replaces_the_former_and_is_deleted(browser, page, domain, published):
    browser.post(f"{page}/keys", {"algorithm": "rsa", "selector": "march"})
    key = DkimKey.objects.get(selector="march")
    assert "DKIM, new key" in browser.get(page).content.decode()
    published[dkim_host(key)] = [dkim_txt_value(key)]
    browser.post(f"{page}/verify")
    shown = browser.get(page).content.decode()
    assert "DKIM, former key" in shown
    assert current_key(domain).selector == "march"
    refused = browser.post(f"{page}/keys/{key.pk}/delete")
    assert (refused.status_code, DkimKey.objects.count()) == (400, 2)
    assert "no other does" in refused.content.decode()
    ed = browser.post(f"{page}/keys", {"algorithm": "ed25519"})
    assert ed.status_code == 302
    waiting = DkimKey.objects.get(state="pending")
    assert browser.post(f"{page}/keys/{waiting.pk}/delete").status_code == 302
    assert browser.post(f"{page}/keys/{waiting.pk}/delete").status_code == 404


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"algorithm": "dsa"}, "algorithm: "),
        ({"selector": "a.b"}, "DKIM selector must be a valid DNS label"),
        ({"selector": "sel"}, "This domain has a key with this selector already."),
        ({"private_key": "nonsense"}, "The provided DKIM private key is invalid"),
    ],
)
def test_what_is_wrong_with_a_key_is_said(browser, page, said, told):
    answer = browser.post(f"{page}/keys", said)
    assert answer.status_code in (400, 422)
    assert told in answer.content.decode()
    assert DkimKey.objects.count() == 1


def test_a_return_path_is_set_and_taken_away(browser, page):
    browser.post(f"{page}/return-path", {"return_path": HOST.upper()})
    assert Domain.objects.get().return_path == HOST
    assert "Return path, needed" in browser.get(page).content.decode()
    refused = browser.post(f"{page}/return-path", {"return_path": "else.test"})
    assert refused.status_code == 422
    assert "not a host name below the domain" in refused.content.decode()
    browser.post(f"{page}/return-path", {"return_path": ""})
    assert Domain.objects.get().return_path is None


def test_whoever_may_only_look_is_offered_nothing_and_changes_nothing(bob, page, domain):
    client = Client()
    client.force_login(bob, backend="accounts.sign_in.PasswordBackend")
    shown = client.get(page).content.decode()
    assert "DNS records" in shown
    assert "<form" not in shown.partition('id="domain"')[2].partition("</main>")[0]
    for path, said in (
        ("keys", {}),
        ("return-path", {"return_path": HOST}),
        (f"keys/{current_key(domain).pk}/delete", {}),
    ):
        assert client.post(f"{page}/{path}", said).status_code == 403
    assert (DkimKey.objects.count(), Domain.objects.get().return_path, NOW.year) == (1, None, 2026)
