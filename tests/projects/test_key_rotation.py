"""Keys that change their secret, and guesses at keys; over the API and in the console."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from accounts.models import AuditEntry
from projects import guesses
from projects.api_keys import KeyChange, create_key, hash_token, update_key
from projects.key_rotation import rotate_key, sweep_former
from projects.models import ApiKey, FormerSecret, Membership
from projects.scopes import SCOPES
from relay_project.db.rates import Rate
from tests.projects.conftest import Api

pytestmark = pytest.mark.django_db


def opens(token: str) -> bool:
    return Api(Client(), {"Authorization": f"Bearer {token}"}).get("/project")[0] == 200


@pytest.fixture
def key(project):
    return create_key(project, "CI", ["project.read"])


# --- Rotation ------------------------------------------------------------------------------------------------------


def test_a_rotated_key_has_a_new_secret_and_the_old_one_is_refused_at_once(api, key):
    old, secret = key
    assert opens(secret)
    status, made = api.post(f"/api-keys/{old.pk}/rotate")
    assert (status, made["id"], made["scopes"], made["former_key_until"]) == (200, old.pk, ["project.read"], None)
    assert len(made["key"]) == 32
    assert (opens(made["key"]), opens(secret)) == (True, False)
    entry = AuditEntry.objects.get(action="api_key.rotated")
    assert entry.subject_id == old.pk
    assert made["key"] not in json.dumps(entry.detail)


def test_the_old_secret_works_on_for_the_overlap(api, key):
    old, secret = key
    status, made = api.post(f"/api-keys/{old.pk}/rotate", {"overlap_hours": 24})
    assert (status, opens(secret), opens(made["key"])) == (200, True, True)
    assert abs(made["former_key_until"] - datetime.now(UTC).timestamp() - 24 * 3600) < 60
    FormerSecret.objects.update(valid_until=datetime.now(UTC) - timedelta(seconds=1))
    assert (opens(secret), opens(made["key"])) == (False, True)
    assert sweep_former(datetime.now(UTC)) == 1


def test_a_second_rotation_ends_the_oldest_secret(api, key):
    old, first = key
    second = api.post(f"/api-keys/{old.pk}/rotate", {"overlap_hours": 1})[1]["key"]
    third = api.post(f"/api-keys/{old.pk}/rotate", {"overlap_hours": 1})[1]["key"]
    assert [opens(secret) for secret in (first, second, third)] == [False, True, True]


def test_both_secrets_of_a_disabled_or_deleted_key_are_refused(api, key):
    """Lesson S3."""
    old, first = key
    second = api.post(f"/api-keys/{old.pk}/rotate", {"overlap_hours": 1})[1]["key"]
    update_key(ApiKey.objects.get(pk=old.pk), KeyChange(is_enabled=False))
    assert (opens(first), opens(second)) == (False, False)
    update_key(ApiKey.objects.get(pk=old.pk), KeyChange(is_enabled=True))
    assert (opens(first), opens(second)) == (True, True)
    assert api.delete(f"/api-keys/{old.pk}") == (200, [])
    assert (opens(first), opens(second)) == (False, False)


def test_the_addresses_of_a_key_hold_for_both_secrets(api, project):
    key, first = create_key(project, "k", ["project.read"], ["192.0.2.7"])
    second = api.post(f"/api-keys/{key.pk}/rotate", {"overlap_hours": 1})[1]["key"]
    assert (opens(first), opens(second)) == (False, False)


@pytest.mark.parametrize("hours", [-1, 169, 2**63, "x", 1.5, True, [1]])
def test_an_overlap_is_bounded(api, key, hours):
    status, answer = api.post(f"/api-keys/{key[0].pk}/rotate", {"overlap_hours": hours})
    assert (status, answer["violations"][0]["property"]) == (422, "overlap_hours")
    assert opens(key[1])


def test_nobody_learns_the_secret_of_a_key_that_may_do_more(keyed, key, signed_in, bob, project):
    """Rotation must not be a way around the rule about minting."""
    status, answer = keyed("api_keys.write").post(f"/api-keys/{key[0].pk}/rotate")
    assert (status, answer["message"]) == (
        403,
        "You cannot give the scope 'project.read', which you do not have yourself.",
    )
    Membership.objects.filter(user=bob).update(scopes=["api_keys.write"])
    assert signed_in(bob, project).post(f"/api-keys/{key[0].pk}/rotate")[0] == 403
    assert opens(key[1])


def test_a_key_of_another_project_is_not_rotated(api, foreign):
    key, secret = create_key(foreign, "k", ["project.read"])
    assert api.post(f"/api-keys/{key.pk}/rotate")[0] == 403
    assert api.post("/api-keys/999999/rotate")[0] == 404
    assert api.post("/api-keys/x/rotate")[0] == 400
    assert opens(secret)


def test_the_console_rotates_a_key_and_shows_it_once(client, alice, project, key):
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    page = f"/console/{project.pk}/keys/{key[0].pk}"
    assert "for three days" in client.get(page).content.decode()
    response = client.post(f"{page}/rotate", {"overlap_hours": "24"})
    assert (response.status_code, "no-store" in response["Cache-Control"]) == (200, True)
    assert "The old secret works until" in response.content.decode()
    key[0].refresh_from_db()
    assert hash_token(response.context["token"]) == key[0].key_hash
    assert "old secret works until" in client.get(f"/console/{project.pk}/keys").content.decode()
    assert client.post(f"{page}/rotate", {"overlap_hours": "5000"}).status_code == 302
    assert client.get(f"{page}/rotate").status_code == 405


def test_the_console_refuses_to_rotate_a_key_that_may_do_more(client, bob, project, key):
    Membership.objects.filter(user=bob).update(scopes=["api_keys.read", "api_keys.write"])
    client.force_login(bob, backend="accounts.sign_in.PasswordBackend")
    response = client.post(f"/console/{project.pk}/keys/{key[0].pk}/rotate", {"overlap_hours": "0"}, follow=True)
    assert "which you do not have yourself" in response.content.decode()
    assert opens(key[1])


# --- Guesses -------------------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    """Three guesses a minute."""
    monkeypatch.setattr(guesses, "WRONG", Rate("wrong keys", 3, 60))


def guess(address: str, token: str = "0" * 32) -> int:
    return Api(Client(), {"Authorization": f"Bearer {token}"}).get("/project", REMOTE_ADDR=address)[0]


def test_whoever_guesses_keys_has_to_wait(few, key, django_assert_num_queries):
    """Lesson S6: guesses are throttled by network; a right guess among them opens nothing either."""
    assert [guess("192.0.2.1") for _ in range(4)] == [403, 403, 403, 429]
    with django_assert_num_queries(0):
        assert guess("192.0.2.1", key[1]) == 429
    assert guess("192.0.2.2") == 403
    assert guess("192.0.2.2", key[1]) == 200


def test_a_network_that_waits_is_told_for_how_long(few):
    [guess("192.0.2.1") for _ in range(3)]
    response = Client().get("/api/console/project", headers={"Authorization": "Bearer x"}, REMOTE_ADDR="192.0.2.1")
    assert 1 <= int(response["Retry-After"]) <= 60
    assert response.json()["message"].startswith("Too many requests with a wrong key.")


def test_an_ipv6_customer_is_one_network(few):
    assert [guess(f"2001:db8:0:1::{number}") for number in range(4)] == [403, 403, 403, 429]
    assert guess("2001:db8:0:2::1") == 403


def test_what_has_worked_lately_is_not_shut_out_by_its_neighbours(few, key):
    assert guess("192.0.2.1", key[1]) == 200
    assert [guess("192.0.2.1") for _ in range(4)] == [403, 403, 403, 429]
    assert guess("192.0.2.1", key[1]) == 200
    ApiKey.objects.filter(pk=key[0].pk).delete()
    assert guess("192.0.2.1", key[1]) == 403, "looked up all the same"


def test_right_keys_cost_no_count(few, key):
    assert [guess("192.0.2.1", key[1]) for _ in range(6)] == [200] * 6


def test_the_wait_ends(few, monkeypatch):
    [guess("192.0.2.1") for _ in range(3)]
    later = time.monotonic() + 61
    monkeypatch.setattr("projects.guesses.time.monotonic", lambda: later)
    guesses.check_guess("192.0.2.1", "x")


def test_memory_of_guesses_is_bounded(monkeypatch):
    monkeypatch.setattr(guesses, "MOST", 3)
    for number in range(10):
        guesses.note_right(str(number))
    assert len(guesses._worked) <= 3


def test_rotation_is_a_rule_of_its_own(project, key):
    rotated, secret, until = rotate_key(key[0], 0, datetime.now(UTC))
    assert (rotated.key_hash, until) == (hash_token(secret), None)
    assert set(SCOPES) > set(rotated.scopes)
