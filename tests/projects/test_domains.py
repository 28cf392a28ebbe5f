"""Domains over the API: the contract's §1.9 and §5, in both dialects of §12."""

import time
from datetime import datetime
from io import BytesIO

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from projects.dkim_keys import check_private_key, current_key, new_selector, signer_of, signing_keys
from projects.domains import create_domain, delete_domain, domain_named
from projects.models import DkimKey, Domain, Event
from projects.setup import ensure_instance
from relay_project.mail.dkim import public_key_pem, txt_value
from relay_project.web.errors import ApiError, Violations
from tests.projects.conftest import NOW, PEM

pytestmark = pytest.mark.django_db


def pem_of(private) -> str:
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, pkcs8, plain).decode()


def first(body: dict) -> tuple[str, str]:
    return body["violations"][0]["property"], body["violations"][0]["message"]


def test_a_new_domain_shows_the_record_to_publish(api):
    status, made = api.post("/domains", {"domain": " Shop.Example.TEST. "})
    assert status == 200
    key = DkimKey.objects.get()
    assert set(made) == {
        "id", "created_at", "domain", "status", "status_changed_at", "dkim_selector", "dkim_host",
        "dkim_public_key", "dkim_txt_value", "dkim_checked_at", "dkim_error_message", "return_path",
    }  # fmt: skip
    assert (made["domain"], made["status"]) == ("shop.example.test", "pending")
    assert abs(made["created_at"] - time.time()) < 60
    assert made["dkim_host"] == f"{key.selector}._domainkey.shop.example.test"
    assert made["dkim_txt_value"] == txt_value(key.private_key)
    assert made["dkim_public_key"] == public_key_pem(key.private_key)
    assert made["dkim_checked_at"] is made["dkim_error_message"] is None
    assert signer_of(key).key.private.key_size == 2048
    event = Event.objects.get(subject_kind="domain")
    assert (event.kind, event.subject_id, event.payload) == ("domain.created", made["id"], {"domain": made})


def test_selectors_carry_the_time():
    selector = new_selector(NOW)
    assert selector.startswith("rly20261122120000")
    assert len(selector) == 25
    assert selector != new_selector(NOW)


def test_private_keys_are_encrypted_at_rest(domain):
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT private_key FROM projects_dkimkey")
        assert "PRIVATE KEY" not in cursor.fetchone()[0]
    assert current_key(domain).private_key == PEM.strip() + "\n"


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("EXAMPLE.Test", "example.test"),
        ("bücher.example.test", "xn--bcher-kva.example.test"),
        ("a.b.test.", "a.b.test"),
    ],
)
def test_a_domain_is_kept_in_one_spelling(project, name, stored):
    assert create_domain(project, name, "s", PEM).domain == stored
    assert domain_named(project, name.upper()).domain == stored


@pytest.mark.parametrize(
    "name",
    ["com", "localhost", "co m.test", "-a.test", "a..test", "127.0.0.1", "[::1]", "a_b.test", "x" * 64 + ".test",
     ".".join(["a" * 60] * 5), "http://a.test", "a@b.test", "a.test/x", "\u200b.test", "xn--\ud7ff.test", "*.a.test",
     ("a" * 61 + ".") * 4 + "abcde." + "x" * 300],
)  # fmt: skip
def test_what_is_no_full_domain_is_refused(api, name):
    status, body = api.post("/domains", {"domain": name})
    assert (status, first(body)) == (
        422,
        ("domain", "This value is not a full domain name such as mail.example.com."),
    )
    assert not Domain.objects.exists()


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "domain"),
        ({"domain": "  "}, "domain"),
        ({"domain": 5}, "domain"),
        ({"domain": ["a.test"]}, "domain"),
        ({"domain": "a\0.test"}, "domain"),
        ({"domain": "x" * 100_000}, "domain"),
        ({"domain": "a.test", "dkim_selector": "a.b"}, "dkim_selector"),
        ({"domain": "a.test", "dkim_selector": "-a"}, "dkim_selector"),
        ({"domain": "a.test", "dkim_selector": "x" * 64}, "dkim_selector"),
        ({"domain": "a.test", "dkim_selector": "ü"}, "dkim_selector"),
        ({"domain": "a.test", "dkim_selector": 7}, "dkim_selector"),
        ({"domain": "a.test", "dkim_private_key": "nonsense"}, "dkim_private_key"),
        ({"domain": "a.test", "dkim_private_key": "ü"}, "dkim_private_key"),
        ({"domain": "a.test", "dkim_private_key": {"a": 1}}, "dkim_private_key"),
    ],
)
def test_bad_fields_are_named(api, body, where):
    status, answer = api.post("/domains", body)
    assert (status, answer["violations"][0]["property"]) == (422, where)
    assert not Domain.objects.exists()


def test_an_own_selector_and_key_are_taken_over(api):
    body = {"domain": "a.test", "dkim_selector": "My-Key1", "dkim_private_key": PEM}
    made = api.post("/domains", body)[1]
    assert (made["dkim_selector"], made["dkim_txt_value"]) == ("my-key1", txt_value(PEM))


def test_the_contracts_texts_for_bad_selectors_and_keys(api):
    assert api.post("/domains", {"domain": "a.test", "dkim_selector": "a.b"})[1]["message"] == (
        "dkim_selector: DKIM selector must be a valid DNS label (alphanumeric and hyphens, max 63 chars)"
    )
    invalid = "The provided DKIM private key is invalid or poorly formatted."
    weak = rsa.generate_private_key(65537, 1024)
    for pem, message in (
        ("x", invalid),
        (pem_of(ec.generate_private_key(ec.SECP256R1())), invalid),
        (public_key_pem(PEM), invalid),
        (WEAK, "The private key is too weak (512 bits). Minimum 1024 bits required."),
    ):
        with pytest.raises(Violations) as refused:
            check_private_key(pem)
        assert first(refused.value.body()) == ("dkim_private_key", message)
    assert check_private_key(pem_of(weak))


WEAK = """-----BEGIN RSA PRIVATE KEY-----
MIIBOQIBAAJBAMoiPHkPFh2CrWemMIupeYI7TH/qoK1qXxSmlOZS+PvnR1afZHzV
E1tQ7Zj6Hews9+MBTIYHKnV32qjKNOPi8i0CAwEAAQJATuOxymWy8e2QlAVuqPOJ
8uQF5V7DOytq1Hp3XrU/a8CUif0GzjvbsPVId+jpX5RFJfn/4cT85rhfwRMzvc6C
WQIhAOyIiQvrERSnSMxHLFTAFaQIj8RKvYdiv6ffKmzs6NurAiEA2sTxm0EMsrrT
7lgD8IVpVKvpegWNgjUyR0+Mt3DCUYcCIFWDAvDBGdq6o5HehUNacjhsM/WGA8EH
TTyWbJMWjxSjAiAxiLxH8f+lDGZmJimmMR77W/1+cnlrDQ54VQvAkVh+SwIgDyLF
vQEgjXBTbSW7f5/wvOtXT6IObPGjqOKSXb8rec4=
-----END RSA PRIVATE KEY-----
"""


def test_an_ed25519_key_is_published_bare(project):
    pem = pem_of(ed25519.Ed25519PrivateKey.generate())
    domain = create_domain(project, "a.test", "ed", pem)
    from projects.dkim_keys import dkim_txt_value

    assert dkim_txt_value(current_key(domain)) == txt_value(pem)


def test_a_domain_is_registered_once_in_a_project_and_again_in_another(api, foreign_api, domain):
    body = {"domain": "SHOP.example.test", "dkim_private_key": PEM}
    assert api.post("/domains", body) == (400, {"message": "Domain already exists", "status": 400})
    assert foreign_api.post("/domains", body)[0] == 200


def test_a_race_for_a_domain_has_one_winner(project, domain, monkeypatch):
    monkeypatch.setattr("projects.domains.check_name", lambda project, name: name)
    with pytest.raises(ApiError, match="Domain already exists"):
        create_domain(project, "shop.example.test", "other", PEM)
    assert Domain.objects.count() == DkimKey.objects.count() == 1


def test_the_instance_and_simulator_domains_are_reserved(api, settings):
    ensure_instance()
    for name in (settings.INSTANCE_DOMAIN, settings.SIMULATOR_DOMAIN):
        status, body = api.post("/domains", {"domain": name})
        assert (status, first(body)) == (422, ("domain", "This domain is reserved for this installation."))


def test_domains_are_listed_newest_first_by_page_and_part(api, project, foreign, django_assert_max_num_queries):
    for name in ("a.test", "b.test", "c.example.test"):
        create_domain(project, name, "s", PEM)
    create_domain(foreign, "d.test", "s", PEM)

    def listed(query: str = "") -> list[str]:
        return [domain["domain"] for domain in api.get(f"/domains{query}")[1]]

    assert listed() == ["c.example.test", "b.test", "a.test"]
    assert listed("?limit=1&offset=1") == ["b.test"]
    assert listed("?search=EXAMPLE") == ["c.example.test"]
    assert listed("?search=%25") == []
    with django_assert_max_num_queries(5):  # key, its access, the rate, domains, their keys
        listed()


@pytest.mark.parametrize(
    ("query", "status"),
    [("?limit=x", 400), ("?limit=1001", 422), ("?offset=-1", 422), ("?limit=" + "9" * 99, 400), ("?search=%00", 400)],
)
def test_bad_queries_are_refused(api, query, status):
    assert api.get(f"/domains{query}")[0] == status


def test_a_domain_is_found_by_id_or_name_in_query_or_body(api, domain):
    shown = api.get(f"/domains/by?id={domain.pk}")
    assert shown[0] == 200
    assert api.get("/domains/by?domain=SHOP.example.test") == shown
    assert api.get("/domains/by", {"id": domain.pk}) == shown
    assert api.get("/domains/by", {"domain": "shop.example.test"}) == shown
    assert api.get("/domains/by", {"domain": "shop.example.test", "id": None}) == shown


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/domains/by"), ("DELETE", "/domains"), ("POST", "/domains/verify")]
)
def test_a_domain_that_is_not_ours_is_refused(api, foreign, method, path):
    theirs = create_domain(foreign, "theirs.test", "s", PEM)
    neither = {"property": "id", "message": "Either id or domain must be provided."}
    status, body = api(method, path)
    assert (status, body["violations"]) == (422, [neither, {**neither, "property": "domain"}])
    assert api(method, path, {"id": 999_999}) == (400, {"message": "Domain not found", "status": 400})
    assert api(method, path, {"domain": "none.test"}) == (400, {"message": "Domain not found", "status": 400})
    assert api(method, path, {"domain": "theirs.test"}) == (400, {"message": "Domain not found", "status": 400})
    assert api(method, path, {"id": theirs.pk}) == (
        400,
        {"message": "Domain does not belong to the project", "status": 400},
    )
    assert api(method, f"{path}?id=abc")[0] == 400
    assert api(method, f"{path}?id={'9' * 40}")[0] == 400
    for bad in ({"id": "5"}, {"id": 2**70}, {"id": 1.5}, {"domain": 5}, {"domain": "a\0"}):
        assert api(method, path, bad)[0] == 422
    assert Domain.objects.filter(pk=theirs.pk).exists()


@pytest.mark.parametrize("in_query", [True, False])
def test_a_deleted_domain_is_gone_and_told_of(api, domain, in_query):
    shown = api.get(f"/domains/by?id={domain.pk}")[1]
    if in_query:
        assert api.delete(f"/domains?domain={domain.domain}") == (200, {})
    else:
        assert api.delete("/domains", {"id": domain.pk}) == (200, {})
    assert not DkimKey.objects.exists()
    event = Event.objects.latest("id")
    assert (event.kind, event.payload) == ("domain.deleted", {"domain": shown})


def test_suspended_domains_and_the_instance_domain_stay(api, domain):
    Domain.objects.update(status="suspended")
    assert api.delete("/domains", {"id": domain.pk}) == (
        400,
        {"message": "Domain deletion failed: Suspended domains can not be deleted.", "status": 400},
    )
    with pytest.raises(ApiError, match="instance domain"):
        delete_domain(ensure_instance().domain)


def test_keys_of_many_domains_are_one_query(project, domain, django_assert_num_queries):
    other = create_domain(project, "b.test", "s2", PEM)
    with django_assert_num_queries(1):
        keys = signing_keys([domain.pk, other.pk, 999])
        assert {domain_id: key.domain.domain for domain_id, key in keys.items()} == {
            domain.pk: "shop.example.test",
            other.pk: "b.test",
        }


def test_a_selector_is_made_from_the_time_of_the_call(project):
    made = create_domain(project, "a.test", private_key_pem=PEM, now=datetime(2031, 1, 2, 3, 4, 5, tzinfo=NOW.tzinfo))
    assert current_key(made).selector.startswith("rly20310102030405")


def test_a_chunked_body_is_read(api, domain, settings):
    """Clients that stream do not say a length; gunicorn ends the stream for us."""
    sent = {
        "wsgi.input": BytesIO(b'{"id": %d}' % domain.pk),
        "wsgi.input_terminated": True,
        "CONTENT_LENGTH": "",
        "HTTP_TRANSFER_ENCODING": "chunked",
        "CONTENT_TYPE": "application/json",
    }
    assert api.get("/domains/by", **sent)[1]["id"] == domain.pk
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 5
    assert api.get("/domains/by", **{**sent, "wsgi.input": BytesIO(b'{"id": 1}')})[0] == 413
