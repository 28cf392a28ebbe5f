"""A whole sign-in and sign-out at a real provider (oidc-provider-mock in a process of its own)."""

import html
import json
import re
import urllib.request
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.test import Client

from accounts.models import Identity, User

pytestmark = pytest.mark.django_db


class Stay(urllib.request.HTTPRedirectHandler):
    """Shows a redirect instead of following it."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def agree(url: str, subject: str) -> str:
    """Fill in the provider's form; where it sends the browser."""
    try:
        urllib.request.build_opener(Stay).open(url, urlencode({"sub": subject}).encode(), timeout=10).close()
    except urllib.error.HTTPError as redirect:
        with redirect:
            return redirect.headers["Location"]
    raise AssertionError("the provider did not redirect")


def put_claims(issuer: str, subject: str, claims: dict[str, str]) -> None:
    request = urllib.request.Request(
        f"{issuer}/users/{subject}", json.dumps(claims).encode(), {"Content-Type": "application/json"}, method="PUT"
    )
    urllib.request.urlopen(request, timeout=10).close()


def sign_in(client: Client, subject: str, target: str) -> Any:
    location = agree(client.get("/sign-in/oidc", {"next": target})["Location"], subject)
    parts = urlsplit(location)
    assert parts.path == "/api/oidc/callback"
    return client.get(parts.path, parse_qs(parts.query))


@pytest.mark.parametrize("verify_kid", [True, False])
def test_alice_signs_in_and_out_at_a_real_provider(
    client: Client, mock_issuer: str, settings: Any, verify_kid: bool
) -> None:
    settings.OIDC_VERIFY_KID = verify_kid  # this provider names no key, and has one
    put_claims(mock_issuer, "alice", {"email": "alice@example.com", "name": "Alice"})
    response = sign_in(client, "alice", "/sign-in?after=all")
    assert (response.status_code, response["Location"]) == (302, "/sign-in?after=all")
    person = client.get("/sign-in").context["user"]
    assert (person.name, person.email, person.login, person.is_staff) == ("Alice", "alice@example.com", None, False)
    assert Identity.objects.get().issuer == mock_issuer

    put_claims(mock_issuer, "alice", {"email": "alice@example.org", "name": "Alice A."})
    sign_in(Client(), "alice", "/console/")
    assert (User.objects.get().name, User.objects.get().email) == ("Alice A.", "alice@example.org")

    id_token = client.session["oidc_id_token"]
    page = client.post("/sign-out")
    assert "_auth_user_id" not in client.session
    match = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', page.content.decode())
    assert match
    url = urlsplit(html.unescape(match[1]))
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{mock_issuer}/oauth2/end_session"
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    expected = {"id_token_hint": id_token, "client_id": "relay", "post_logout_redirect_uri": settings.WEB_URL}
    assert query == expected


def test_the_sign_in_page_offers_the_provider(client: Client, mock_issuer: str, settings: Any) -> None:
    settings.LOCAL_SIGN_IN = False
    page = client.get("/sign-in", {"next": "/console/keys?a=1&b=2"}).content.decode()
    match = re.search(r'href="(/sign-in/oidc[^"]+)"', page)
    assert match
    assert parse_qs(urlsplit(html.unescape(match[1])).query) == {"next": ["/console/keys?a=1&b=2"]}
    assert 'type="password"' not in page
    settings.LOCAL_SIGN_IN = True
    assert 'type="password"' in client.get("/sign-in").content.decode()
