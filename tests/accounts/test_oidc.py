"""Sign-in at a provider that lies, fails or changes its keys: a person signs in, or reads a page; never a 500."""

import base64
import hmac
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from django.test import Client
from structlog.testing import capture_logs

from accounts import provider
from accounts.models import AuditEntry, Identity, User
from tests.accounts.forged_provider import ForgedProvider

pytestmark = pytest.mark.django_db


def begin(client: Client, target: str = "") -> dict[str, str]:
    """Go to the provider; what the browser would carry there."""
    response = client.get("/sign-in/oidc", {"next": target} if target else {})
    assert response.status_code == 302, response.content
    return {name: values[0] for name, values in parse_qs(urlsplit(response["Location"]).query).items()}


def come_back(client: Client, sent: dict[str, str]) -> Any:
    return client.get("/api/oidc/callback", {"code": "a code", "state": sent["state"]})


def sign_in(
    client: Client, forged: ForgedProvider, target: str = "", token: dict[str, Any] | None = None, **claims: Any
) -> Any:
    """A whole sign-in with an honest token, apart from what is changed."""
    sent = begin(client, target)
    forged.hand_out(forged.sign(forged.claims(sent["nonce"], **claims), **(token or {})))
    return come_back(client, sent)


def moved_from_now(seconds: dict[str, int]) -> dict[str, int]:
    """Claims so many seconds from now, counted when the test runs: as parameters they would differ between workers."""
    now = int(time.time())
    return {name: now + offset for name, offset in seconds.items()}


def is_signed_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def check_refused(client: Client, response: Any, status: int = 400) -> None:
    assert response.status_code == status
    assert b"You are not signed in" in response.content
    assert not is_signed_in(client)
    assert not User.objects.exists()


def test_an_honest_token_signs_in_with_pkce_state_and_nonce(
    client: Client, forged: ForgedProvider, settings: Any
) -> None:
    sent = begin(client, "/console/domains")
    assert sent["code_challenge_method"] == "S256"
    assert len(sent["code_challenge"]) == 43
    assert sent["redirect_uri"] == f"{settings.WEB_URL}/api/oidc/callback"
    assert {"openid", "profile", "email"} == set(sent["scope"].split())
    forged.hand_out(forged.sign(forged.claims(sent["nonce"])))
    before = client.session.session_key
    response = come_back(client, sent)
    assert (response.status_code, response["Location"]) == (302, "/console/domains")
    assert is_signed_in(client)
    assert client.session.session_key != before
    (form,) = [form for path, form, _ in forged.requests if path == "/token" and form]
    assert len(form["code_verifier"]) >= 43
    assert form["redirect_uri"] == sent["redirect_uri"]
    entry = AuditEntry.objects.get(action="sign_in.oidc")
    assert (entry.actor_id, entry.address) == (User.objects.get().pk, "127.0.0.1")


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another client"},
        {"aud": ["another client"]},
        {"aud": None},
        {"aud": ["relay", "another client"]},
        {"aud": ["relay", "another client"], "azp": "another client"},
        {"azp": "another client"},
        {"iss": "https://elsewhere.example"},
        {"iss": None},
        {"exp": None},
        {"exp": "soon"},
        {"iat": None},
        {"iat": True},
        {"nonce": "of another sign-in"},
        {"nonce": None},
        {"nonce": 7},
        {"sub": ""},
        {"sub": "a" * 256},
        {"sub": "nul\0"},
    ],
    ids=str,
)
def test_a_token_with_a_wrong_claim_is_refused_on_a_page(
    client: Client, forged: ForgedProvider, changes: dict[str, Any]
) -> None:
    check_refused(client, sign_in(client, forged, **changes))


@pytest.mark.parametrize("changes", [{"exp": -3600}, {"iat": 3600}, {"nbf": 3600}], ids=str)
def test_a_token_of_an_hour_ago_or_from_now_is_refused_on_a_page(
    client: Client, forged: ForgedProvider, changes: dict[str, int]
) -> None:
    check_refused(client, sign_in(client, forged, **moved_from_now(changes)))


def test_a_token_for_several_audiences_with_us_as_its_party_signs_in(client: Client, forged: ForgedProvider) -> None:
    sign_in(client, forged, aud=["relay", "another client"], azp="relay")
    assert is_signed_in(client)


@pytest.mark.parametrize("changes", [{"iat": 30}, {"exp": -30}, {"nbf": 30}], ids=str)
def test_clocks_may_differ_by_the_leeway(client: Client, forged: ForgedProvider, changes: dict[str, int]) -> None:
    sign_in(client, forged, **moved_from_now(changes))
    assert is_signed_in(client)


@pytest.mark.parametrize("changes", [{"iat": 30}, {"exp": -30}, {"nbf": 30}], ids=str)
def test_without_leeway_the_same_clocks_are_refused(
    client: Client, forged: ForgedProvider, settings: Any, changes: dict[str, int]
) -> None:
    settings.OIDC_CLOCK_LEEWAY_SECONDS = 0
    check_refused(client, sign_in(client, forged, **moved_from_now(changes)))


def test_a_token_without_a_signature_is_refused(client: Client, forged: ForgedProvider) -> None:
    sent = begin(client)
    forged.hand_out(jwt.encode(forged.claims(sent["nonce"]), None, algorithm="none", headers={"kid": "one"}))
    check_refused(client, come_back(client, sent))


def test_a_token_signed_with_the_public_key_as_a_shared_secret_is_refused(
    client: Client, forged: ForgedProvider
) -> None:
    """The HS256 confusion: what the provider publishes must not be enough to write tokens."""
    sent = begin(client)
    public = forged.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    # By hand: PyJWT refuses to write such a token.
    honest = forged.sign(forged.claims(sent["nonce"]), key=b"x" * 32, algorithm="HS256").rpartition(".")[0]
    mac = hmac.digest(public, honest.encode(), "sha256")
    forged.hand_out(f"{honest}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}")
    check_refused(client, come_back(client, sent))


def test_a_token_signed_with_the_client_secret_is_refused_even_if_configured(
    client: Client, forged: ForgedProvider, settings: Any
) -> None:
    settings.OIDC_RP_SIGN_ALGO = "HS256"
    sent = begin(client)
    secret = settings.OIDC_RP_CLIENT_SECRET.encode() * 2
    forged.hand_out(forged.sign(forged.claims(sent["nonce"]), key=secret, algorithm="HS256"))
    check_refused(client, come_back(client, sent))


def test_a_token_of_an_unpublished_key_is_refused(client: Client, forged: ForgedProvider) -> None:
    check_refused(client, sign_in(client, forged, token={"key": forged.other_key}))


def test_a_token_without_kid_is_read_with_the_only_key(client: Client, forged: ForgedProvider) -> None:
    forged.keys = [forged.public(forged.key, None)]
    sign_in(client, forged, token={"kid": None})
    assert is_signed_in(client)


def test_a_token_without_kid_is_refused_when_there_are_several_keys(client: Client, forged: ForgedProvider) -> None:
    forged.keys = [forged.public(forged.other_key, "two"), forged.public(forged.key, "one")]
    check_refused(client, sign_in(client, forged, token={"kid": None}))


def test_a_token_without_kid_is_read_with_any_key_when_the_operator_says_so(
    client: Client, forged: ForgedProvider, settings: Any
) -> None:
    settings.OIDC_VERIFY_KID = False
    forged.keys = [forged.public(forged.other_key, "two"), forged.public(forged.key, "one")]
    sign_in(client, forged, token={"kid": None})
    assert is_signed_in(client)


def test_keys_of_other_kinds_beside_ours_do_no_harm(client: Client, forged: ForgedProvider) -> None:
    strange = [{"kty": "future", "kid": "one"}, {"kty": "oct", "k": "c2VjcmV0", "kid": "one"}, {"kid": "one"}]
    forged.keys = [*strange, *forged.keys, {"kty": "RSA", "kid": "one", "n": "?", "e": None}]
    sign_in(client, forged)
    assert is_signed_in(client)


def test_keys_are_fetched_once_and_again_for_a_new_one(client: Client, forged: ForgedProvider) -> None:
    sign_in(client, forged)
    sign_in(client, forged)
    assert (forged.asked("/keys"), forged.asked("/.well-known/openid-configuration")) == (1, 1)
    forged.keys = [forged.public(forged.other_key, "two")]
    response = sign_in(client, forged, token={"key": forged.other_key, "kid": "two"})
    assert response.status_code == 302
    assert forged.asked("/keys") == 2


@pytest.mark.parametrize("token", ["", "a.b.c", "not a token", "é.é.é", "e30.e30.e30", None, 7], ids=repr)
def test_a_token_that_is_none_is_refused(client: Client, forged: ForgedProvider, token: Any) -> None:
    sent = begin(client)
    forged.hand_out(token)
    check_refused(client, come_back(client, sent))


@pytest.mark.parametrize("answer", [[], None, "text", {"id_token": {}}], ids=repr)
def test_a_token_endpoint_that_answers_something_else_is_refused(
    client: Client, forged: ForgedProvider, answer: Any
) -> None:
    sent = begin(client)
    forged.token_answer = answer
    response = come_back(client, sent)
    check_refused(client, response, response.status_code)
    assert response.status_code in {400, 502}


@pytest.mark.parametrize(("status", "page"), [(400, 400), (401, 400), (500, 502), (503, 502)])
def test_a_token_endpoint_that_fails_is_a_page(client: Client, forged: ForgedProvider, status: int, page: int) -> None:
    sent = begin(client)
    forged.token_status = status
    with capture_logs() as logs:
        check_refused(client, come_back(client, sent), page)
    (line,) = [line for line in logs if line["event"] == "oidc_sign_in_failed"]
    assert "a code" not in str(line)


def test_the_secret_goes_into_the_header_where_the_provider_says_nothing_else(
    client: Client, forged: ForgedProvider
) -> None:
    del forged.document["token_endpoint_auth_methods_supported"]
    sign_in(client, forged)
    ((form, headers),) = [(form, headers) for path, form, headers in forged.requests if path == "/token"]
    assert form
    assert "client_secret" not in form
    assert headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://elsewhere.example"},
        {"issuer": None},
        {"token_endpoint": "ftp://127.0.0.1/token"},
        {"jwks_uri": None},
        {"authorization_endpoint": 7},
    ],
    ids=str,
)
def test_a_discovery_document_that_does_not_fit_is_a_page(
    client: Client, forged: ForgedProvider, change: dict[str, Any]
) -> None:
    forged.document |= change
    check_refused(client, client.get("/sign-in/oidc"), 502)


def test_a_provider_that_is_away_is_a_page_and_harms_no_session(
    client: Client, alice: User, forged: ForgedProvider, settings: Any
) -> None:
    settings.OIDC_ISSUER_URL = "http://127.0.0.1:9"  # discard: nobody listens
    settings.OIDC_TIMEOUT = 2
    assert client.get("/sign-in/oidc").status_code == 502
    client.force_login(alice, "accounts.oidc.Backend")
    assert client.get("/sign-in").context["user"] == alice


def test_an_old_discovery_document_serves_while_the_provider_is_away(
    forged: ForgedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = provider.current()
    real = time.monotonic
    monkeypatch.setattr(provider.time, "monotonic", lambda: real() + 25 * 3600)
    forged.document = {"issuer": "https://elsewhere.example"}
    assert provider.current() is known
    assert forged.asked("/.well-known/openid-configuration") == 2


def test_endpoints_of_a_secure_issuer_must_be_secure() -> None:
    document = {"token_endpoint": "http://idp.example.com/token"}
    with pytest.raises(provider.ProviderUnavailable, match="token_endpoint"):
        provider._endpoint(document, "token_endpoint", "https://idp.example.com")


def test_an_answer_without_end_is_cut(forged: ForgedProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "MAX_DOCUMENT_BYTES", 100)
    with pytest.raises(provider.ProviderUnavailable, match="too much"):
        provider.fetch_provider(forged.issuer)


def test_a_foreign_or_used_state_is_refused(client: Client, forged: ForgedProvider) -> None:
    check_refused(client, client.get("/api/oidc/callback", {"code": "a code", "state": "made up"}))
    sent = begin(client)
    check_refused(Client(), come_back(Client(), sent))
    forged.hand_out(forged.sign(forged.claims("another")))
    check_refused(client, come_back(client, sent))
    forged.hand_out(forged.sign(forged.claims(sent["nonce"])))
    check_refused(client, come_back(client, sent))


def test_a_callback_without_code_is_refused(client: Client, forged: ForgedProvider) -> None:
    check_refused(client, client.get("/api/oidc/callback"))


def test_a_declined_sign_in_is_a_page(client: Client, forged: ForgedProvider) -> None:
    sent = begin(client)
    response = client.get("/api/oidc/callback", {"error": "access_denied", "state": sent["state"]})
    check_refused(client, response, 403)
    check_refused(client, come_back(client, sent))


def test_a_forged_error_does_not_sign_anybody_out(client: Client, alice: User, forged: ForgedProvider) -> None:
    client.force_login(alice, "accounts.sign_in.PasswordBackend")
    assert client.get("/api/oidc/callback", {"error": "access_denied"}).status_code == 400
    assert is_signed_in(client)


@pytest.mark.parametrize(
    "target",
    ["https://elsewhere.example/", "//elsewhere.example/", "javascript:alert(1)", "/\\elsewhere.example", "\\\\e"],
)
def test_nobody_is_sent_to_another_host_after_signing_in(client: Client, forged: ForgedProvider, target: str) -> None:
    assert sign_in(client, forged, target)["Location"] == "/console/"


def test_the_same_address_with_another_subject_is_another_person(client: Client, forged: ForgedProvider) -> None:
    """The e-mail address is a profile field that a provider may let its users choose; it identifies nobody."""
    sign_in(client, forged, email="alice@example.com")
    sign_in(Client(), forged, email="alice@example.com", sub="bob")
    assert User.objects.filter(email="alice@example.com").count() == 2


def test_an_oidc_sign_in_never_takes_over_a_local_account(client: Client, alice: User, forged: ForgedProvider) -> None:
    sign_in(client, forged, email=alice.email, email_verified=True)
    assert client.session["_auth_user_id"] != str(alice.pk)


def test_the_profile_is_refreshed_at_each_sign_in(client: Client, forged: ForgedProvider) -> None:
    sign_in(client, forged, name="Al", email="a@example.com")
    forged.userinfo = {"sub": "alice", "name": "Alice\0", "picture": "https://example.com/a.png", "iss": "nonsense"}
    sign_in(client, forged, email="alice@example.com")
    person = User.objects.get()
    assert (person.name, person.email, person.picture_url) == (
        "Alice",
        "alice@example.com",
        "https://example.com/a.png",
    )
    assert Identity.objects.get().subject == "alice"


@pytest.mark.parametrize(
    "claims",
    [{"name": 7, "email": ["x"], "picture": "javascript:alert(1)"}, {"picture": "http://[", "email": "e" * 5000}],
    ids=str,
)
def test_a_nonsense_profile_signs_in_without_one(
    client: Client, forged: ForgedProvider, claims: dict[str, Any]
) -> None:
    sign_in(client, forged, **claims)
    person = User.objects.get()
    assert (person.name, person.email, person.picture_url) == ("", "", "")


def test_user_information_about_somebody_else_is_refused(client: Client, forged: ForgedProvider) -> None:
    forged.userinfo = {"sub": "bob", "name": "Bob"}
    check_refused(client, sign_in(client, forged))


def test_a_failing_userinfo_endpoint_does_not_stop_a_sign_in(client: Client, forged: ForgedProvider) -> None:
    forged.userinfo_status = 500
    sign_in(client, forged, name="Alice")
    assert User.objects.get().name == "Alice"


def test_signed_user_information_is_verified(client: Client, forged: ForgedProvider) -> None:
    claims = {"iss": forged.issuer, "aud": "relay", "sub": "alice", "name": "Alice"}
    forged.userinfo = forged.sign(claims)
    sign_in(client, forged)
    assert User.objects.get().name == "Alice"
    forged.userinfo = forged.sign(claims | {"aud": "another client"})
    assert sign_in(Client(), forged).status_code == 400
    forged.userinfo = forged.sign(claims, key=forged.other_key)
    assert sign_in(Client(), forged).status_code == 400


def test_a_person_who_is_switched_off_is_told_so(client: Client, forged: ForgedProvider) -> None:
    sign_in(client, forged)
    User.objects.update(is_active=False)
    assert client.get("/account/password").status_code == 302  # the open session has ended, too
    response = sign_in(client, forged, name="New")
    assert response.status_code == 403
    assert b"switched off" in response.content
    assert User.objects.get().name == ""


def test_the_first_oidc_user_is_nobody_special(client: Client, forged: ForgedProvider) -> None:
    """Lesson S8: whoever comes first does not silently run the place."""
    sign_in(client, forged)
    assert not User.objects.get().is_staff
    assert not AuditEntry.objects.filter(action="staff.granted").exists()


def test_the_first_oidc_user_is_staff_when_the_setting_says_so_and_the_log_tells(
    client: Client, forged: ForgedProvider, settings: Any
) -> None:
    """Lesson S8."""
    settings.OIDC_FIRST_USER_IS_STAFF = True
    sign_in(client, forged)
    sign_in(Client(), forged, sub="bob")
    first, second = User.objects.order_by("id")
    assert (first.is_staff, second.is_staff) == (True, False)
    entry = AuditEntry.objects.get(action="staff.granted")
    assert (entry.subject_kind, entry.subject_id, entry.actor_label) == ("user", first.pk, "settings")
    assert "OIDC_FIRST_USER_IS_STAFF" in entry.detail["reason"]


def test_a_sign_in_that_nobody_finishes_leaves_a_session_for_an_hour_only(
    client: Client, forged: ForgedProvider, settings: Any
) -> None:
    """Anybody may begin one, without an account: for two weeks each would fill the table."""
    begin(client)
    assert client.session.get_expiry_age() <= 3600
    sign_in(client, forged)
    assert is_signed_in(client)
    assert client.session.get_expiry_age() == settings.SESSION_COOKIE_AGE


def test_signing_in_again_changes_the_session_key(client: Client, forged: ForgedProvider) -> None:
    sign_in(client, forged)
    before = client.session.session_key
    sign_in(client, forged)
    assert client.session.session_key != before


def test_signing_in_as_somebody_else_ends_the_first_session(
    client: Client, alice: User, forged: ForgedProvider
) -> None:
    client.force_login(alice, "accounts.sign_in.PasswordBackend")
    response = sign_in(client, forged, "/console/domains")
    assert response["Location"] == "/console/domains"
    assert client.session["_auth_user_id"] != str(alice.pk)
    assert client.session["oidc_id_token"]


def test_an_authorization_endpoint_with_a_query_keeps_it(client: Client, forged: ForgedProvider) -> None:
    forged.document["authorization_endpoint"] += "?policy=one"
    location = client.get("/sign-in/oidc")["Location"]
    assert location.count("?") == 1
    assert parse_qs(urlsplit(location).query)["policy"] == ["one"]


def test_sign_out_without_a_place_at_the_provider_is_local(client: Client, forged: ForgedProvider) -> None:
    sign_in(client, forged)
    assert client.post("/sign-out")["Location"] == "/sign-in"
    assert not is_signed_in(client)


def test_without_oidc_its_pages_are_absent(client: Client) -> None:
    assert client.get("/sign-in/oidc").status_code == 404
    assert client.get("/api/oidc/callback").status_code == 404
