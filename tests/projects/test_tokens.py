"""Access tokens of the OpenID provider as credentials of the API, and every way of forging one that we know."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from django.core.management import CommandError, call_command
from django.test import Client

from accounts import access_token, provider
from accounts.models import AuditEntry, Identity, User
from projects import guesses
from projects.models import Membership
from projects.scopes import SCOPES
from projects.tokens import token_scopes
from relay_project.db.rates import Rate
from tests.accounts.forged_provider import ForgedProvider
from tests.projects.conftest import Api

pytestmark = pytest.mark.django_db
AUDIENCE = "https://relay.test/api"
EVERYTHING = " ".join(SCOPES)


@pytest.fixture(scope="module")
def server() -> Iterator[ForgedProvider]:
    server = ForgedProvider()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def idp(server: ForgedProvider, settings: Any, alice: User, bob: User) -> Iterator[ForgedProvider]:
    """The provider, where Alice is `alice` and Bob is `bob`; tokens are taken."""
    server.reset()
    provider.forget()
    settings.OIDC_ENABLED = True
    settings.OIDC_ISSUER_URL = server.issuer
    settings.OIDC_RP_CLIENT_ID = "relay"
    settings.OIDC_API_AUDIENCE = AUDIENCE
    settings.OIDC_API_ALGORITHMS = ["RS256"]
    for user, subject in ((alice, "alice"), (bob, "bob")):
        Identity.objects.create(user=user, issuer=server.issuer, subject=subject)
    yield server
    provider.forget()


def claims(idp: ForgedProvider, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    honest = {"iss": idp.issuer, "sub": "alice", "aud": AUDIENCE, "exp": now + 300, "iat": now, "scope": EVERYTHING}
    return {name: value for name, value in (honest | changes).items() if value is not None}


@pytest.fixture
def by_token(idp: ForgedProvider, project: Any) -> Callable[..., Api]:
    """Makes clients with a token that says what a test wants; `in_project=None` leaves the header out."""

    def make(token: str | None = None, in_project: Any = project, **changes: Any) -> Api:
        text = token if token is not None else idp.sign(claims(idp, **changes))
        headers = {"Authorization": f"Bearer {text}"}
        if in_project is not None:
            headers["X-Project-ID"] = str(in_project.pk)
        return Api(Client(), headers)

    return make


def segment(data: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()


INVALID = (401, {"message": "Invalid access token.", "status": 401})


# --- What a token opens --------------------------------------------------------------------------------------------


def test_a_person_comes_with_a_token(by_token, project):
    status, body = by_token().get("/project")
    assert (status, body["id"]) == (200, project.pk)
    assert by_token(aud=[AUDIENCE, "other"]).get("/project")[0] == 200
    assert by_token().patch("/project", {"name": "By a script"})[0] == 200
    assert AuditEntry.objects.get(action="project.renamed").actor_label == "Alice"


def test_a_token_is_no_more_than_its_owner(by_token):
    """Bob's token says everything; Bob may look at the project and its domains."""
    bobs = by_token(sub="bob")
    assert bobs.get("/domains") == (200, [])
    assert bobs.get("/api-keys") == (
        403,
        {"message": "You do not have the required scope 'api_keys.read' to access this resource.", "status": 403},
    )


def test_a_token_is_no_more_than_it_was_made_for(by_token):
    little = by_token(scope="openid domains.read nonsense")
    assert little.get("/domains")[0] == 200
    assert little.get("/project")[0] == 403
    assert by_token(scope=None).get("/project")[0] == 403


def test_a_stranger_to_the_project_is_refused(by_token, foreign):
    refused = by_token(in_project=foreign).get("/project")
    assert refused == (403, {"message": "You do not have access to this project.", "status": 403})


def test_the_project_is_named_by_its_header(by_token):
    assert by_token(in_project=None).get("/project") == (
        403,
        {"message": "X-Project-ID is required for this endpoint.", "status": 403},
    )


def test_somebody_without_an_account_is_refused(by_token):
    assert by_token(sub="eve").get("/project") == (
        403,
        {"message": "No account here belongs to this access token.", "status": 403},
    )


def test_somebody_who_is_switched_off_is_refused(by_token, alice):
    alice.is_active = False
    alice.save()
    assert by_token().get("/project") == (403, {"message": "This account is switched off.", "status": 403})


def test_another_issuers_subject_of_the_same_name_is_somebody_else(by_token, alice, idp):
    Identity.objects.filter(user=alice).update(issuer="https://elsewhere.test")
    assert by_token().get("/project")[0] == 403


def test_outside_of_projects_a_token_needs_its_scope_too(by_token, alice):
    assert by_token(in_project=None).get("/init")[1]["config"]["user"]["id"] == alice.pk
    little = by_token(in_project=None, scope="sends.send")
    assert little.get("/init")[0] == 403
    assert little.post("/project", {"name": "x", "send_type": "transactional"})[0] == 403
    made = by_token(in_project=None).post("/project", {"name": "x", "send_type": "transactional"})
    assert (made[0], made[1]["user"]["id"]) == (200, alice.pk)


def test_a_token_needs_no_csrf_token_and_is_no_session(by_token):
    client = Client(enforce_csrf_checks=True)
    api = by_token()
    api.client = client
    assert api.patch("/project", {"name": "y"})[0] == 200
    assert not client.cookies


def test_a_machine_is_an_account_that_staff_made(by_token, project, idp):
    out = StringIO()
    call_command("add_client", "pipeline-7", "--name", "Pipeline", stdout=out)
    client = User.objects.get(name="Pipeline")
    assert f"has the id {client.pk}" in out.getvalue()
    assert by_token(sub="pipeline-7").get("/project")[0] == 403
    Membership.objects.create(project=project, user=client, scopes=["project.read"])
    assert by_token(sub="pipeline-7").get("/project")[0] == 200
    assert by_token(sub="pipeline-7").get("/domains")[0] == 403
    with pytest.raises(CommandError, match="already"):
        call_command("add_client", "pipeline-7")
    with pytest.raises(CommandError, match="printable"):
        call_command("add_client", "a\nb")


# --- The words of a token ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ({"scope": "sends.send sends.read"}, {"sends.send", "sends.read"}),
        ({"scope": ["sends.send", 5, None, {}]}, {"sends.send"}),
        ({"scope": {"sends.send": True}}, set()),
        ({"scope": 5}, set()),
        ({"scope": "SENDS.SEND"}, set()),
        ({}, set()),
    ],
)
def test_words_are_a_string_or_a_list(said, given):
    assert token_scopes(said, "scope", {}) == given


def test_words_stand_for_what_the_table_says_and_for_nothing_else():
    table = {"mail:send": frozenset({"sends.send"}), "*": frozenset({"project.read"})}
    assert token_scopes({"scope": "mail:send sends.read"}, "scope", table) == {"sends.send", "project.read"}
    assert token_scopes({"scope": "* x"}, "scope", {"x": frozenset({"sends.read"})}) == {"sends.read"}


def test_the_claim_may_lie_inside_of_others():
    said = {"realm_access": {"roles": ["sends.send"]}, "https://x.test/scopes": ["sends.read"]}
    assert token_scopes(said, "realm_access.roles", {}) == {"sends.send"}
    assert token_scopes(said, "https://x.test/scopes", {}) == {"sends.read"}
    assert token_scopes({"realm_access": "x"}, "realm_access.roles", {}) == set()


# --- Forgeries -----------------------------------------------------------------------------------------------------


def test_a_token_without_a_signature_is_refused(by_token, idp):
    """RFC 8725 §2.1: alg none."""
    for algorithm in ("none", "None", "nOnE"):
        head = segment({"alg": algorithm, "typ": "JWT", "kid": "one"})
        assert by_token(f"{head}.{segment(claims(idp))}.").get("/project") == INVALID
        assert by_token(f"{head}.{segment(claims(idp))}.{'A' * 43}").get("/project") == INVALID


def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(by_token, idp, settings):
    """RFC 8725 §2.1: HS256 with what everybody can fetch."""
    pem = idp.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    import hashlib
    import hmac

    for secret in (pem, json.dumps(idp.keys[0]).encode(), b""):
        signed = f"{segment({'alg': 'HS256', 'typ': 'JWT', 'kid': 'one'})}.{segment(claims(idp))}"
        mac = base64.urlsafe_b64encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()
        assert by_token(f"{signed}.{mac}").get("/project") == INVALID


def test_an_algorithm_off_the_list_is_refused(by_token, idp, settings):
    token = idp.sign(claims(idp), algorithm="RS512")
    assert by_token(token).get("/project") == INVALID
    settings.OIDC_API_ALGORITHMS = ["RS256", "RS512"]
    idp.keys[0].pop("alg")
    provider.forget()
    assert by_token(token).get("/project")[0] == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "relay"},
        {"aud": ["relay", "x"]},
        {"aud": None},
        {"aud": {"x": AUDIENCE}},
        {"aud": AUDIENCE + "/"},
        {"iss": "https://evil.test"},
        {"iss": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"sub": "alice\0"},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"nbf": int(time.time()) + 3600},
        {"iat": int(time.time()) + 3600},
        {"nonce": "n"},
        {"at_hash": "x"},
    ],
)
def test_a_token_that_says_something_else_is_refused(by_token, changes):
    assert by_token(**changes).get("/project") == INVALID


def test_an_id_token_of_the_same_person_opens_nothing(by_token, idp):
    """JWT confusion: what a browser brings home from signing in is not for the API."""
    assert by_token(idp.sign(idp.claims("n"))).get("/project") == INVALID


def test_a_token_that_has_run_out_says_so(by_token):
    response = Client().get("/api/console/project", headers=by_token(exp=int(time.time()) - 3600).headers)
    assert (response.status_code, response.json()["message"]) == (401, "The access token has expired.")
    assert response["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_a_token_signed_by_somebody_else_is_refused(by_token, idp):
    assert by_token(idp.sign(claims(idp), key=idp.other_key)).get("/project") == INVALID
    assert by_token(idp.sign(claims(idp), key=idp.other_key, kid="two")).get("/project") == INVALID


def test_a_changed_token_is_refused(by_token, idp):
    head, _, signature = idp.sign(claims(idp, sub="bob")).split(".")
    assert by_token(f"{head}.{segment(claims(idp))}.{signature}").get("/project") == INVALID


def test_a_header_does_not_bring_its_own_key(by_token, idp):
    """RFC 8725 §3.10: jwk, jku and x5u are a stranger's; nothing is fetched from there."""
    for extra in (
        {"jwk": idp.public(idp.other_key, "one")},
        {"jku": f"{idp.issuer}/evil"},
        {"x5u": f"{idp.issuer}/evil"},
    ):
        token = jwt.encode(claims(idp), idp.other_key, algorithm="RS256", headers={"kid": "one", **extra})
        assert by_token(token).get("/project") == INVALID
    assert idp.asked("/evil") == 0


@pytest.mark.parametrize("header", [{"typ": "logout+jwt"}, {"typ": "secevent+jwt"}, {"crit": ["exp"], "exp": 1}])
def test_a_token_of_another_type_is_refused(by_token, idp, header):
    token = jwt.encode(claims(idp), idp.key, algorithm="RS256", headers={"kid": "one", **header})
    assert by_token(token).get("/project") == INVALID


@pytest.mark.parametrize("header", [{"typ": "at+jwt"}, {"typ": "application/at+JWT"}, {"typ": "JWT"}])
def test_a_token_of_the_right_type_is_taken(by_token, idp, header):
    token = jwt.encode(claims(idp), idp.key, algorithm="RS256", headers={"kid": "one", **header})
    assert by_token(token).get("/project")[0] == 200


@pytest.mark.parametrize(
    "token",
    ["a.b.c", "..", "a.b.", "e30.e30.e30", "eyJhbGciOiJSUzI1NiJ9.e30.AAAA", "x" * 20000 + ".b.c", "eyJ" + "A" * 500 + ".b.c"],
)  # fmt: skip
def test_nonsense_with_dots_is_refused(by_token, token):
    status, body = by_token(token).get("/project")
    assert (status, body["message"] in ("Invalid access token.", "Invalid API key.")) in ((401, True), (403, True))


def test_a_claims_set_that_is_no_object_is_refused(by_token, idp):
    token = jwt.api_jws.encode(b"[1]", idp.key, algorithm="RS256", headers={"kid": "one"})
    assert by_token(token).get("/project") == INVALID


# --- Keys of the provider ------------------------------------------------------------------------------------------


def test_keys_are_kept(by_token, idp):
    for _ in range(5):
        assert by_token().get("/project")[0] == 200
    assert (idp.asked("/keys"), idp.asked("/.well-known/openid-configuration")) == (1, 1)


def test_a_new_key_is_found(by_token, idp):
    assert by_token().get("/project")[0] == 200
    idp.keys = [idp.public(idp.key, "one"), idp.public(idp.other_key, "two")]
    assert by_token(idp.sign(claims(idp), key=idp.other_key, kid="two")).get("/project")[0] == 200
    assert idp.asked("/keys") == 2


def test_strangers_cannot_make_us_fetch_keys_again_and_again(by_token, idp):
    by_token().get("/project")
    for number in range(10):
        token = idp.sign(claims(idp), key=idp.other_key, kid=f"unknown-{number}")
        assert by_token(token).get("/project") == INVALID
    assert idp.asked("/keys") == 2
    assert by_token().get("/project")[0] == 200


def test_a_provider_that_is_down_is_no_500(by_token, idp):
    idp.document = {}
    status, body = by_token().get("/project")
    assert (status, body["message"]) == (503, "Access tokens cannot be checked at the moment. Please try again.")


def test_kept_keys_serve_while_the_provider_is_down(by_token, idp):
    by_token().get("/project")
    idp.document, idp.keys = {}, []
    assert by_token().get("/project")[0] == 200
    assert by_token(idp.sign(claims(idp), key=idp.other_key, kid="x")).get("/project") == INVALID


# --- Beside keys ---------------------------------------------------------------------------------------------------


def test_tokens_are_off_without_an_audience(by_token, settings):
    settings.OIDC_API_AUDIENCE = ""
    assert by_token().get("/project") == (403, {"message": "Invalid API key.", "status": 403})


def test_keys_work_beside_tokens(by_token, api):
    assert api.get("/project")[0] == 200


def test_a_program_with_a_token_has_the_pace_of_one_with_a_key(by_token, signed_in, alice, project, settings):
    project.requests_per_minute, project.session_requests_per_minute = 3, 1
    project.save()
    program, browser = by_token(), signed_in(alice, project)
    assert [program.get("/project")[0] for _ in range(4)] == [200, 200, 200, 429]
    assert [browser.get("/project")[0] for _ in range(2)] == [200, 429]


def test_wrong_tokens_are_guesses_like_wrong_keys(by_token, idp, monkeypatch):
    """Lesson S6; a token that has run out is no guess."""
    monkeypatch.setattr(guesses, "WRONG", Rate("wrong keys", 3, 60))
    assert by_token().get("/project")[0] == 200
    for _ in range(5):
        assert by_token(exp=int(time.time()) - 3600).get("/project")[0] == 401
    wrong = by_token(idp.sign(claims(idp), key=idp.other_key))
    assert [wrong.get("/project")[0] for _ in range(4)] == [401, 401, 401, 429]


@pytest.mark.parametrize(("text", "is_one"), [("a" * 32, False), ("a.b.c", True), ("a.b.", True), ("a.b", False), ("a.b.c.d", False), ("é.b.c", False)])  # fmt: skip  # noqa: E501
def test_a_token_is_known_by_its_shape(text, is_one):
    assert access_token.is_token(text) is is_one
