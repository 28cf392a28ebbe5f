"""Suspending and archiving projects: who may, who is told, and what still opens. What becomes of mail: tests/sending."""

import pytest
from django.utils import timezone

from accounts.models import AuditEntry
from projects.access import Caller
from projects.api_keys import create_key
from projects.life import archive, restore, resume, suspend
from projects.models import Event, Project, Suspension
from projects.setup import ensure_instance
from relay_project.web.errors import ApiError

pytestmark = pytest.mark.django_db
ARCHIVED = (403, {"message": "This project is archived.", "status": 403})


def now():
    return timezone.now()


def test_a_suspension_is_told_audited_and_ends(project, sam, api):
    by = Caller(frozenset(), user=sam, address="192.0.2.9")
    suspend(project, " A leaked key\0 ", now(), by)
    shown = api.get("/project")[1]
    assert (shown["status"], shown["suspend_reason"]) == ("suspended", "A leaked key")
    entry = AuditEntry.objects.get(action="project.suspended")
    assert (entry.actor_id, entry.project_id, entry.detail) == (sam.pk, project.pk, {"reason": "A leaked key"})
    event = Event.objects.get(kind="project.suspended", project_id=project.pk)
    assert event.payload["project"]["suspend_reason"] == "A leaked key"
    resume(project, now(), by)
    shown = api.get("/project")[1]
    assert (shown["status"], shown["suspend_reason"]) == ("active", None)
    assert Event.objects.filter(kind="project.resumed").count() == 1
    span = Suspension.objects.get()
    assert span.ended_at is not None
    assert span.ended_at >= span.began_at


@pytest.mark.parametrize("reason", ["", "   ", "\0"])
def test_a_suspension_needs_a_reason(project, reason):
    with pytest.raises(ApiError, match="needs a reason"):
        suspend(project, reason, now())


def test_what_is_so_already_is_refused(project):
    for change in (resume, restore):
        with pytest.raises(ApiError):
            change(project, now())
    suspend(project, "spam", now())
    archive(project, now())
    for change in (lambda: suspend(project, "again", now()), lambda: archive(project, now())):
        with pytest.raises(ApiError, match="already"):
            change()
    assert Suspension.objects.count() == 1


def test_the_system_project_is_neither_suspended_nor_archived(db):
    system = ensure_instance().project
    for change in (lambda: suspend(system, "x", now()), lambda: archive(system, now())):
        with pytest.raises(ApiError, match="system project"):
            change()


def test_an_archived_project_opens_to_nobody_but_staff_who_look(project, alice, sam, api, signed_in):
    archive(project, now())
    assert api.get("/project") == ARCHIVED
    assert signed_in(alice, project).get("/project") == ARCHIVED
    assert signed_in(alice).get("/init")[1]["project_users"] == []
    looking = signed_in(sam, project)
    assert looking.get("/project")[1]["status"] == "archived"
    assert looking.patch("/project", {"name": "x"})[0] == 403


def test_staff_who_are_members_write_nothing_into_an_archived_project(project, alice, signed_in):
    alice.is_staff = True
    alice.save()
    archive(project, now())
    assert signed_in(alice, project).patch("/project", {"name": "x"})[0] == 403


def test_an_archived_project_is_in_no_list_of_the_console(project, alice, client):
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    archive(project, now())
    assert client.get(f"/console/{project.pk}/settings").status_code == 404
    page = client.get("/console/projects").content.decode()
    assert f'href="/console/{project.pk}"' not in page
    assert f'action="/console/projects/{project.pk}/restore"' in page
    assert client.post(f"/console/projects/{project.pk}/restore").status_code == 302
    assert client.get(f"/console/{project.pk}/settings").status_code == 200


def test_owners_and_staff_restore_it_and_nobody_else(project, alice, bob, charlie, sam, api, signed_in):
    none = "There is no archived project with this id that you may restore."
    for person in (alice, sam):
        archive(project, now())
        for stranger in (bob, charlie):
            status, body = signed_in(stranger).post("/project/restore", {"project_id": project.pk})
            assert (status, body["message"]) == (403, none), "a member who may not write, and a stranger"
        status, body = signed_in(person).post("/project/restore", {"project_id": project.pk})
        assert (status, body["status"]) == (200, "active")
        assert api.get("/project")[0] == 200, "its keys work again"
    assert signed_in(alice).post("/project/restore", {"project_id": project.pk})[1]["message"] == none
    assert AuditEntry.objects.filter(action="project.restored").count() == 2


@pytest.mark.parametrize("body", [{}, {"project_id": "x"}, {"project_id": 2**63}, {"project_id": True}])
def test_bad_ids_to_restore_are_named(alice, signed_in, body):
    status, answer = signed_in(alice).post("/project/restore", body)
    assert (status, answer["violations"][0]["property"]) == (422, "project_id")


def test_a_key_restores_nothing(project, keyed):
    status, body = keyed("project.write").post("/project/restore", {"project_id": project.pk})
    assert (status, body["message"]) == (403, "This endpoint cannot be used with an API key.")


def test_a_suspension_outlasts_being_archived(project):
    suspend(project, "spam", now())
    archive(project, now())
    restore(project, now())
    project = Project.objects.get(pk=project.pk)
    assert project.suspended_at is not None
    assert project.archived_at is None


def test_a_key_that_was_deleted_disabled_or_has_expired_opens_nothing_from_the_next_request_on(project, client):
    """Lesson S3: authorisation reads the key's state with each request, and keeps none of it."""
    from datetime import timedelta

    from projects.api_keys import KeyChange, delete_key, update_key

    def ask(token):
        response = client.get("/api/console/project", headers={"Authorization": f"Bearer {token}"})
        return response.status_code, response.json().get("message")

    ends = {
        "This API key is disabled.": lambda key: update_key(key, KeyChange(is_enabled=False)),
        "This API key has expired.": lambda key: update_key(key, KeyChange(expires_at=now() - timedelta(seconds=1))),
        "Invalid API key.": delete_key,
    }
    for message, end in ends.items():
        key, token = create_key(project, "k", ["project.read"])
        assert ask(token) == (200, None)
        end(key)
        assert ask(token) == (403, message)
