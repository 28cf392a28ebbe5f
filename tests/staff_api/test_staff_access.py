"""Who may use the staff API, by the contract's texts and by staff keys."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import AuditEntry, StaffKey, User
from projects.api_keys import create_key
from projects.models import Project
from projects.staff_keys import PREFIX, NewStaffKey, create_staff_key
from tests.staff_api.conftest import Call

pytestmark = pytest.mark.django_db


def ask(token: str, path: str = "queues", method: str = "get") -> tuple[int, str]:
    answer = getattr(Client(), method)(f"/api/sudo/{path}", headers={"Authorization": f"Bearer {token}"})
    said = answer.json()
    return answer.status_code, said.get("message", "") if isinstance(said, dict) else ""


def test_nobody_without_a_session_is_told_where_to_sign_in() -> None:
    answer = Client().get("/api/sudo/servers")
    assert (answer.status_code, answer.json()["message"]) == (403, "auth_required")
    assert answer.json()["data"]["login_url"].endswith("/sign-in")


def test_a_session_of_somebody_who_is_not_staff_is_refused(alice: User) -> None:
    client = Client()
    client.force_login(alice)
    answer = client.get("/api/sudo/servers")
    assert (answer.status_code, answer.json()["message"]) == (403, "You do not have sudo access.")


def test_a_session_of_staff_reads_and_writes_with_a_csrf_token(sam: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(sam)
    assert client.get("/api/sudo/servers").status_code == 200
    refused = client.post("/api/sudo/health-checks")
    assert (refused.status_code, "CSRF" in refused.json()["message"]) == (403, True)


def test_a_staff_key_acts_as_its_person(call: Call, sam: User) -> None:
    assert call("POST", "queues", {"name": "shop"}).status_code == 200
    entry = AuditEntry.objects.get(action="queue.created")
    assert (entry.actor_id, entry.detail) == (sam.pk, {"name": "shop"})


def test_a_key_opens_nothing_once_its_person_is_no_longer_staff(key: str, sam: User) -> None:
    assert ask(key)[0] == 200
    User.objects.filter(pk=sam.pk).update(is_staff=False)
    assert ask(key) == (403, "You do not have sudo access.")
    User.objects.filter(pk=sam.pk).update(is_staff=True, is_active=False)
    assert ask(key)[0] == 403


def test_a_projects_key_opens_nothing_here_and_a_staff_key_nothing_there(key: str, shop: Project) -> None:
    """Lesson S3's cousin: one kind of key must not pass for another."""
    _, token = create_key(shop, "Shop", ["project.read"])
    assert ask(token) == (403, "Invalid API key.")
    answer = Client().get("/api/console/project", headers={"Authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.json()["message"]) == (403, "Invalid API key.")


def test_a_key_for_reading_only_reads(sam: User) -> None:
    _, token = create_staff_key(sam, NewStaffKey("Dashboard", is_read_only=True), actor=sam)
    assert ask(token)[0] == 200
    assert ask(token, method="post") == (403, "This API key can only read.")


def test_expired_revoked_and_foreign_keys_are_refused(sam: User, call: Call) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=60)
    key, token = create_staff_key(sam, NewStaffKey("Old", expires_at=soon), actor=sam)
    StaffKey.objects.filter(pk=key.pk).update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert ask(token) == (403, "This API key has expired.")
    key, token = create_staff_key(sam, NewStaffKey("Elsewhere", allowed_ips=["198.51.100.0/24"]), actor=sam)
    assert ask(token) == (403, "Client IP is not allowed for this API key.")
    assert call("DELETE", f"staff-keys/{key.pk}").json() == []
    assert ask(token) == (403, "Invalid API key.")
    assert ask("nonsense") == (403, "Invalid API key.")


def test_the_key_is_shown_once_and_only_its_hash_is_kept(call: Call) -> None:
    made = call("POST", "staff-keys", {"name": "Terraform", "allowed_ips": ["127.0.0.1"]}).json()
    assert made["key"].startswith(PREFIX)
    assert ask(made["key"])[0] == 200
    listed = call("GET", "staff-keys").json()
    assert {one["key"] for one in listed} == {None}
    assert made["key"] not in str(list(StaffKey.objects.values_list()))
    assert made["key"] not in str(list(AuditEntry.objects.values_list("detail")))


def test_nobody_takes_their_own_access_away(call: Call, sam: User, alice: User) -> None:
    assert call("PATCH", f"users/{sam.pk}", {"is_staff": False}).status_code == 400
    assert call("PATCH", f"users/{alice.pk}", {"is_staff": True}).json()["is_staff"] is True
    assert call("PATCH", f"users/{alice.pk}", {"is_active": False}).json()["is_staff"] is False
    refused = call("PATCH", f"users/{alice.pk}", {"is_staff": True})
    assert (refused.status_code, refused.json()["message"]) == (
        400,
        "A person who is switched off cannot become staff.",
    )


def test_the_command_makes_lists_and_revokes_keys(sam: User, alice: User) -> None:
    out = StringIO()
    call_command("staff_key", "sam@relay.test", "--name", "Terraform", stdout=out, stderr=StringIO())
    token = out.getvalue().strip()
    assert ask(token)[0] == 200
    key = StaffKey.objects.get()
    out = StringIO()
    call_command("staff_key", "--list", stdout=out)
    assert "Terraform" in out.getvalue()
    assert token not in out.getvalue()
    call_command("staff_key", "--revoke", str(key.pk), stdout=StringIO())
    assert ask(token)[0] == 403
    for wrong in (["nobody@x.test", "--name", "a"], ["alice@example.com", "--name", "a"], ["sam@relay.test"]):
        with pytest.raises(CommandError):
            call_command("staff_key", *wrong)
