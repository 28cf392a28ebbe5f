"""projects.authentication and projects.permissions: the contract's §1.2, check by check."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from projects.api_keys import create_key
from projects.models import ApiKey, Membership, Project
from projects.scopes import SCOPES
from tests.projects.conftest import Api

pytestmark = pytest.mark.django_db


def refused(message: str) -> tuple[int, dict]:
    return 403, {"message": message, "status": 403}


# --- A. API key ----------------------------------------------------------------------------------------------------


def test_a_key_fixes_the_project(api, project):
    status, body = api.get("/project")
    assert (status, body["id"], body["name"], body["send_type"]) == (200, project.pk, "Shop", "transactional")


@pytest.mark.parametrize("header", ["", "Basic abc", "Bearer", "token"])
def test_another_scheme_is_refused(header):
    api = Api(Client(), {"Authorization": header})
    assert api.get("/project") == refused('Authorization header must start with "Bearer ".')


def test_an_empty_token_is_refused():
    assert Api(Client(), {"Authorization": "Bearer   "}).get("/project") == refused("API key is missing or empty.")


@pytest.mark.parametrize("token", ["0" * 32, "x", "\u00fc", "a" * 5000])
def test_an_unknown_key_is_refused(token):
    assert Api(Client(), {"Authorization": f"Bearer {token}"}).get("/project") == refused("Invalid API key.")


def test_only_the_hash_of_a_key_is_stored(project):
    key, token = create_key(project, "k", ["project.read"])
    assert len(token) == 32
    assert set(token) <= set("0123456789abcdef")
    assert token not in repr(ApiKey.objects.filter(pk=key.pk).values().get())


def test_a_client_elsewhere_is_refused(project):
    token = create_key(project, "k", ["project.read"], ["192.0.2.0/24", "2001:db8::/48"])[1]
    api = Api(Client(), {"Authorization": f"Bearer {token}"})
    assert api.get("/project") == refused("Client IP is not allowed for this API key.")
    assert api.get("/project", REMOTE_ADDR="192.0.2.200")[0] == 200
    assert api.get("/project", REMOTE_ADDR="::ffff:192.0.2.200")[0] == 200
    assert api.get("/project", REMOTE_ADDR="2001:db8:0:1::5")[0] == 200
    assert api.get("/project", REMOTE_ADDR="")[0] == 403


def test_a_client_cannot_claim_another_address(project):
    """Lesson S4."""
    token = create_key(project, "k", ["project.read"], ["192.0.2.7"])[1]
    api = Api(Client(), {"Authorization": f"Bearer {token}", "X-Forwarded-For": "192.0.2.7"})
    assert api.get("/project")[0] == 403


def test_a_disabled_key_is_refused(project):
    """Lesson S3."""
    key, token = create_key(project, "k", ["project.read"])
    api = Api(Client(), {"Authorization": f"Bearer {token}"})
    assert api.get("/project")[0] == 200
    ApiKey.objects.filter(pk=key.pk).update(is_enabled=False)
    assert api.get("/project") == refused("This API key is disabled.")


def test_an_expired_key_is_refused(project):
    now = datetime.now(UTC)
    for expiry, expected in ((now + timedelta(hours=1), 200), (now - timedelta(seconds=1), 403)):
        token = create_key(project, "k", ["project.read"], expires_at=expiry)[1]
        assert Api(Client(), {"Authorization": f"Bearer {token}"}).get("/project")[0] == expected


def test_a_scope_is_needed_for_each_method(keyed):
    reader = keyed("project.read")
    assert reader.get("/project")[0] == 200
    assert reader.patch("/project", {"name": "X"}) == refused(
        "You do not have the required scope 'project.write' to access this resource."
    )


def test_the_organisation_level_is_not_for_keys(api):
    assert api.get("/init") == refused("This endpoint cannot be used with an API key.")
    assert api.post("/project", {"name": "x"}) == refused("This endpoint cannot be used with an API key.")


def test_the_last_access_is_written_once_a_minute(api, django_assert_num_queries):
    """Lesson P7: no row of the keys is written for each request."""
    api.get("/project")
    first = ApiKey.objects.get().last_accessed_at
    assert first is not None
    with django_assert_num_queries(2):  # the look-up and the rate
        api.get("/project")
    ApiKey.objects.update(last_accessed_at=first - timedelta(seconds=61))
    with django_assert_num_queries(3):
        api.get("/project")
    assert ApiKey.objects.get().last_accessed_at > first


# --- B. session ----------------------------------------------------------------------------------------------------


def test_without_a_session_the_answer_says_where_to_sign_in(settings):
    status, body = Api(Client(), {}).get("/project")
    assert (status, body["message"], body["status"]) == (401, "Unauthorized", 401)
    assert body["data"] == {"login_url": f"{settings.WEB_URL}/sign-in", "signup_url": f"{settings.WEB_URL}/sign-in"}


def test_an_inactive_person_has_no_session(signed_in, alice, project):
    api = signed_in(alice, project)
    assert api.get("/project")[0] == 200
    alice.is_active = False
    alice.save()
    assert api.get("/project")[0] == 401


@pytest.mark.parametrize("name", ["X-Project-ID", "X-Project-Id", "x-project-id"])
def test_a_member_enters_a_project_by_its_header_in_any_case(signed_in, alice, project, name):
    assert signed_in(alice, **{name: str(project.pk)}).get("/project")[1]["id"] == project.pk


def test_the_organisation_is_checked_first(signed_in, alice, project):
    assert signed_in(alice, project, **{"X-Organization-ID": "0"}).get("/project")[0] == 200
    assert signed_in(alice, **{"X-Organization-ID": "1"}).get("/project") == refused("org_mismatch")


def test_a_project_is_needed(signed_in, alice):
    assert signed_in(alice).get("/project") == refused("X-Project-ID is required for this endpoint.")


@pytest.mark.parametrize("value", ["999999999", "abc", "-1", "9" * 40, "1.5", "٣"])
def test_a_project_that_does_not_exist_is_refused(signed_in, alice, value):
    header = value.encode().decode("latin-1")
    assert signed_in(alice, **{"X-Project-ID": header}).get("/project") == refused("Invalid project ID.")


def test_a_stranger_is_refused(signed_in, charlie, project):
    assert signed_in(charlie, project).get("/project") == refused("You do not have access to this project.")


def test_a_member_has_only_their_scopes(signed_in, bob, project):
    api = signed_in(bob, project)
    assert api.get("/domains") == (200, [])
    assert api.get("/api-keys") == refused(
        "You do not have the required scope 'api_keys.read' to access this resource."
    )


def test_staff_may_look_but_not_touch(signed_in, sam, project):
    api = signed_in(sam, project)
    assert api.get("/project")[0] == api.get("/domains")[0] == 200
    assert api.patch("/project", {"name": "x"})[0] == api.get("/api-keys")[0] == 403
    Membership.objects.create(project=project, user=sam, scopes=["project.write"])
    assert api.patch("/project", {"name": "x"})[0] == api.get("/project")[0] == 200


def test_a_session_needs_the_csrf_token_for_changes(alice, project):
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    api = Api(client, {"X-Project-ID": str(project.pk)})
    status, body = api.patch("/project", {"name": "x"})
    assert (status, body["message"][:12]) == (403, "CSRF Failed:")
    client.cookies["csrftoken"] = token = "a" * 32
    assert api.patch("/project", {"name": "x"}, headers={"X-CSRFToken": token})[0] == 200
    assert api.patch("/project", {"name": "y"}, headers={"X-CSRFToken": "b" * 32})[0] == 403


def test_an_unknown_method_is_405_for_who_may_be_here(api):
    assert api("PUT", "/project") == (405, {"message": "Method not allowed.", "status": 405})
    assert api("OPTIONS", "/project")[0] == 405
    assert Api(Client(), {})("PUT", "/project")[0] == 401


def test_the_idempotency_header_is_refused_where_it_means_nothing(api):
    status, body = api.get("/project", headers={"X-Idempotency-Key": "k"})
    assert (status, body["message"]) == (
        400,
        'This endpoint does not support idempotency. Retry without the "X-Idempotency-Key" header.',
    )
    assert api.get("/project", headers={"X-Idempotency-Key": "  "})[0] == 200


def test_every_scope_is_the_contracts():
    assert len(SCOPES) == 15
    assert str(SCOPES[3]) == "sends.send"


def test_a_system_project_is_a_project_like_others(signed_in, sam):
    system = Project.objects.create(name="System", send_type="transactional", is_system=True)
    assert signed_in(sam, system).get("/project")[1]["name"] == "System"
