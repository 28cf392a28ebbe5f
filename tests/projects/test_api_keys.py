"""API keys over the API: the contract's §1.9, with the holes of lesson S3 and of minting closed."""

import json
import time

import pytest

from accounts.models import AuditEntry
from projects.api_keys import MAX_KEYS, create_key, normalise_allowed_ips
from projects.models import ApiKey
from projects.scopes import SCOPES
from relay_project.web.errors import Violations

pytestmark = pytest.mark.django_db
NEEDED = 'At least one allowed IP is required when the "sends.send" scope is enabled.'


def first(body: dict) -> tuple[str, str]:
    return body["violations"][0]["property"], body["violations"][0]["message"]


def test_a_new_key_is_shown_once(api):
    status, made = api.post("/api-keys", {"name": "CI", "scopes": ["sends.read", "project.read"]})
    assert status == 200
    assert set(made) == {
        "id", "name", "scopes", "allowed_ips", "key", "created_at", "is_enabled", "last_accessed_at", "expires_at",
        "role", "is_test",
    }  # fmt: skip
    assert (len(made["key"]), made["scopes"], made["allowed_ips"]) == (32, ["project.read", "sends.read"], [])
    assert abs(made["created_at"] - time.time()) < 60
    assert (made["is_enabled"], made["last_accessed_at"], made["expires_at"]) == (True, None, None)
    listed = api.get("/api-keys")[1]
    assert [key["key"] for key in listed] == [None, None]
    assert AuditEntry.objects.get(action="api_key.created").detail["scopes"] == ["project.read", "sends.read"]
    assert made["key"] not in json.dumps(list(AuditEntry.objects.values("detail", "actor_label")))


@pytest.mark.parametrize(
    ("body", "where", "message"),
    [
        ({}, "name", "This value should not be blank."),
        ({"name": "", "scopes": ["project.read"]}, "name", "This value should not be blank."),
        ({"name": 5, "scopes": ["project.read"]}, "name", "This value should be of type string."),
        (
            {"name": "x" * 256, "scopes": ["project.read"]},
            "name",
            "This value is too long. It should have 255 characters or less.",
        ),
        ({"name": "a\0", "scopes": ["project.read"]}, "name", "This value should not contain NUL characters."),
        ({"name": "x"}, "scopes", "This value should not be blank."),
        ({"name": "x", "scopes": []}, "scopes", "This value should not be blank."),
        ({"name": "x", "scopes": "project.read"}, "scopes", "This value should be of type array."),
        ({"name": "x", "scopes": ["project.read", "sends.write"]}, "scopes[1]", "The value you selected is not a valid choice."),  # noqa: E501
        ({"name": "x", "scopes": [1]}, "scopes[0]", "This value should be of type string."),
        ({"name": "x", "scopes": ["sends.send"]}, "allowed_ips", NEEDED),
        ({"name": "x", "scopes": ["project.read"], "allowed_ips": ["x"]}, "allowed_ips[0]", "'x' is not a valid IPv4 or IPv6 address."),  # noqa: E501
        ({"name": "x", "scopes": ["project.read"], "expires_at": 5}, "expires_at", "This value should be a time in the future, in Unix seconds."),  # noqa: E501
        ({"name": "x", "scopes": ["project.read"], "expires_at": 10**17}, "expires_at", "This value should be a time in the future, in Unix seconds."),  # noqa: E501
    ],
)  # fmt: skip
def test_a_bad_key_is_refused_with_the_field(api, body, where, message):
    status, answer = api.post("/api-keys", body)
    assert (status, first(answer)) == (422, (where, message))
    assert answer["message"] == f"{where}: {message}"
    assert answer["errors"][where][0] == message
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize(
    ("entry", "stored"),
    [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7 ", "192.0.2.7"),
        ("192.0.2.7/32", "192.0.2.7/32"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("10.0.0.1", "10.0.0.1"),
        ("224.0.0.1", "224.0.0.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("2001:DB8::/48", "2001:db8::/48"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
    ],
)
def test_allowed_ips_are_kept_in_one_spelling(entry, stored):
    assert normalise_allowed_ips([entry, entry]) == [stored]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("192.0.2.0/23", "IPv4 CIDR prefix must be between /24 and /32 (got '192.0.2.0/23')."),
        ("0.0.0.0/0", "IPv4 CIDR prefix must be between /24 and /32 (got '0.0.0.0/0')."),
        ("2001:db8::/47", "IPv6 CIDR prefix must be between /48 and /128 (got '2001:db8::/47')."),
        ("192.0.2.0/33", "Invalid CIDR prefix in '192.0.2.0/33'."),
        ("192.0.2.0/", "Invalid CIDR prefix in '192.0.2.0/'."),
        ("192.0.2.0/x", "Invalid CIDR prefix in '192.0.2.0/x'."),
        ("192.0.2.0/-1", "Invalid CIDR prefix in '192.0.2.0/-1'."),
        ("192.0.2.0/²⁴", "Invalid CIDR prefix in '192.0.2.0/²⁴'."),
        ("fe80::1%eth0", "'fe80::1%eth0' is not a valid IPv4 or IPv6 address."),
        ("example.com", "'example.com' is not a valid IPv4 or IPv6 address."),
        ("192.0.2", "'192.0.2' is not a valid IPv4 or IPv6 address."),
    ],
)
def test_bad_allowed_ips_are_refused(entry, message):
    with pytest.raises(Violations) as refused:
        normalise_allowed_ips(["192.0.2.1", entry])
    assert refused.value.violations[0].property == "allowed_ips[1]"
    assert refused.value.violations[0].message == message


def test_a_project_has_ten_keys_at_most(api, project):
    for _ in range(MAX_KEYS - 1):
        assert api.post("/api-keys", {"name": "k", "scopes": ["project.read"]})[0] == 200
    assert api.post("/api-keys", {"name": "k", "scopes": ["project.read"]}) == (
        400,
        {"message": "You have reached the maximum number of API keys for this project.", "status": 400},
    )


def test_a_key_cannot_mint_scopes_that_it_lacks(keyed):
    """The contract's ⚠ on privilege escalation, on all three ways to it."""
    api = keyed("api_keys.write", "api_keys.read")
    status, body = api.post("/api-keys", {"name": "k", "scopes": ["api_keys.read", "domains.write"]})
    assert (status, body["message"]) == (
        403,
        "You cannot give the scope 'domains.write', which you do not have yourself.",
    )
    made = api.post("/api-keys", {"name": "k", "scopes": ["api_keys.read"]})[1]
    assert api.patch(f"/api-keys/{made['id']}", {"scopes": ["domains.write"]})[0] == 403
    assert api.patch(f"/api-keys/{made['id']}", {"scopes": ["api_keys.write"]})[0] == 200


def test_scopes_that_a_key_has_may_stay(keyed, project):
    strong = create_key(project, "strong", ["domains.write", "domains.read"])[0]
    api = keyed("api_keys.write")
    assert api.patch(f"/api-keys/{strong.pk}", {"scopes": ["domains.write"]})[1]["scopes"] == ["domains.write"]


def test_a_member_cannot_mint_scopes_that_they_lack(signed_in, bob, project):
    bob.memberships.update(scopes=["api_keys.write"])
    assert signed_in(bob, project).post("/api-keys", {"name": "k", "scopes": ["project.read"]})[0] == 403


def test_an_update_is_partial(api, project):
    made = api.post("/api-keys", {"name": "k", "scopes": ["project.read"], "allowed_ips": ["192.0.2.1"]})[1]
    path = f"/api-keys/{made['id']}"
    assert api.patch(path, {"name": "renamed"})[1] == {**made, "name": "renamed", "key": None}
    assert api.patch(path, {"is_enabled": False})[1]["is_enabled"] is False
    assert api.patch(path, {})[1]["allowed_ips"] == ["192.0.2.1"]
    expiry = int(time.time()) + 3600
    assert api.patch(path, {"expires_at": expiry})[1]["expires_at"] == expiry
    assert api.patch(path, {"name": "x"})[1]["expires_at"] == expiry
    assert api.patch(path, {"expires_at": None})[1]["expires_at"] is None
    assert api.patch(path, {"allowed_ips": []})[1]["allowed_ips"] == []
    assert AuditEntry.objects.filter(action="api_key.changed", subject_id=made["id"]).count() == 7


def test_sending_always_needs_an_address(api):
    """Whether the addresses are taken away or the scope is added; on an update it is a 400."""
    sender = api.post("/api-keys", {"name": "k", "scopes": ["sends.send"], "allowed_ips": ["192.0.2.1"]})[1]
    reader = api.post("/api-keys", {"name": "k", "scopes": ["sends.read"]})[1]
    assert api.patch(f"/api-keys/{sender['id']}", {"allowed_ips": []}) == (400, {"message": NEEDED, "status": 400})
    assert api.patch(f"/api-keys/{reader['id']}", {"scopes": ["sends.send"]}) == (
        400,
        {"message": NEEDED, "status": 400},
    )
    both = {"scopes": ["sends.send"], "allowed_ips": ["192.0.2.1"]}
    assert api.patch(f"/api-keys/{reader['id']}", both)[0] == 200


@pytest.mark.parametrize("body", [{"name": ""}, {"scopes": []}, {"is_enabled": "yes"}, {"allowed_ips": "x"}])
def test_a_bad_update_changes_nothing(api, project, body):
    key = create_key(project, "k", ["project.read"])[0]
    assert api.patch(f"/api-keys/{key.pk}", {"is_enabled": False, **body})[0] == 422
    key.refresh_from_db()
    assert key.is_enabled


def test_a_deleted_key_opens_nothing(api, project):
    made = api.post("/api-keys", {"name": "k", "scopes": list(SCOPES), "allowed_ips": ["127.0.0.1"]})[1]
    assert api.delete(f"/api-keys/{made['id']}") == (200, [])
    api.headers = {"Authorization": f"Bearer {made['key']}"}
    assert api.get("/project")[0] == 403


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_ids_are_checked(api, foreign, method):
    theirs = create_key(foreign, "k", ["project.read"])[0]
    assert api(method, "/api-keys/abc", {}) == (400, {"message": "Invalid ID", "status": 400})
    assert api(method, "/api-keys/%00", {}) == (400, {"message": "Invalid ID", "status": 400})
    assert api(method, "/api-keys/999999999999", {}) == (404, {"message": "Entity not found", "status": 404})
    assert api(method, f"/api-keys/{'9' * 60}", {}) == (404, {"message": "Entity not found", "status": 404})
    assert api(method, f"/api-keys/{theirs.pk}", {}) == (
        403,
        {"message": "Entity does not belong to the project", "status": 403},
    )
    assert ApiKey.objects.filter(pk=theirs.pk).exists()


def test_a_form_does_as_well(api):
    body = b"name=Form&scopes[]=project.read&scopes[]=sends.read"
    status, made = api.post("/api-keys", body, content_type="application/x-www-form-urlencoded")
    assert (status, made["name"], made["scopes"]) == (200, "Form", ["project.read", "sends.read"])
