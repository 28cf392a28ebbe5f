"""Projects and their people over the API."""

import pytest

from accounts.models import AuditEntry, Identity
from projects.event_registry import kinds_for
from projects.models import Membership, Project
from projects.scopes import SCOPES
from projects.setup import ensure_instance

pytestmark = pytest.mark.django_db


def test_a_person_founds_a_project_and_has_every_scope_in_it(signed_in, alice):
    status, made = signed_in(alice).post("/project", {"name": "New", "send_type": "distributional"})
    assert status == 200
    assert set(made) == {"id", "created_at", "scopes", "role", "user", "oidc_sub", "project"}
    assert set(made["user"]) == {"id", "name", "email", "username", "picture_url", "oidc_sub"}
    assert made["scopes"] == [scope.value for scope in SCOPES]
    assert (made["project"]["name"], made["project"]["send_type"]) == ("New", "distributional")
    assert signed_in(alice, Project.objects.get()).get("/project")[1] == made["project"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "name"),
        ({"name": "x"}, "send_type"),
        ({"name": "x", "send_type": "bulk"}, "send_type"),
        ({"name": "x" * 256, "send_type": "transactional"}, "name"),
        ({"name": "\0", "send_type": "transactional"}, "name"),
        ({"name": [], "send_type": {}}, "name"),
    ],
)
def test_a_bad_project_is_refused(signed_in, alice, body, where):
    status, answer = signed_in(alice).post("/project", body)
    assert (status, answer["violations"][0]["property"]) == (422, where)
    assert not Project.objects.exists()


def test_a_project_is_renamed(api, project):
    assert api.patch("/project", {"name": "Renamed", "send_type": "distributional"})[1]["name"] == "Renamed"
    assert api.patch("/project", {})[1]["name"] == "Renamed"
    project.refresh_from_db()
    assert (project.name, project.send_type) == ("Renamed", "transactional")
    for bad in ("", " ", 5, "x" * 256):
        assert api.patch("/project", {"name": bad})[0] == 422


def test_a_project_says_how_long_its_content_is_kept(api, project, settings):
    settings.RETENTION_CONTENT_DAYS = 20
    assert api.get("/project")[1]["content_days"] == 20
    assert api.patch("/project", {"content_days": 7})[1]["content_days"] == 7
    assert api.patch("/project", {"name": "Renamed"})[1]["content_days"] == 7
    for bad in (0, -1, 21, "x", 2**70, True):
        assert api.patch("/project", {"content_days": bad})[0] == 422
    settings.RETENTION_CONTENT_DAYS = 5
    assert api.get("/project")[1]["content_days"] == 5, "never longer than the instance"
    assert api.patch("/project", {"content_days": None})[1]["content_days"] == 5
    project.refresh_from_db()
    assert project.content_days is None


def test_the_console_sets_how_long_content_is_kept(client, alice, project):
    client.force_login(alice)
    page = f"/console/{project.pk}/settings"
    assert "Keep content for" in client.get(page).content.decode()
    assert client.post(f"{page}/content", {"content_days": "7"}).status_code == 302
    project.refresh_from_db()
    assert project.content_days == 7
    assert AuditEntry.objects.filter(action="project.content_days_set").count() == 1
    refused = client.post(f"{page}/content", {"content_days": "999"})
    assert (refused.status_code, "At most 30 days" in refused.content.decode()) == (400, True)
    assert client.post(f"{page}/content", {"content_days": ""}).status_code == 302
    project.refresh_from_db()
    assert project.content_days is None


def test_people_are_added_listed_and_removed(api, project, charlie, bob, signed_in):
    Identity.objects.create(user=charlie, issuer="https://id.test", subject="sub-1")
    status, made = api.post("/project-users", {"user_id": charlie.pk, "scopes": ["sends.read", "project.read"]})
    assert (status, made["scopes"], made["oidc_sub"]) == (200, ["project.read", "sends.read"], "sub-1")
    assert made["user"]["oidc_sub"] is None
    assert signed_in(charlie, project).get("/project")[0] == 200
    assert api.get("/project-users")[1][-1] == made
    assert api.post("/project-users", {"user_id": charlie.pk, "scopes": []}) == (
        400,
        {"message": "User is already added to the project", "status": 400},
    )
    assert api.delete(f"/project-users/{made['id']}") == (200, [])
    assert signed_in(charlie, project).get("/project")[0] == 403
    actions = AuditEntry.objects.order_by("id").values_list("action", flat=True)
    assert list(actions) == ["member.added", "member.removed"]
    assert api.delete("/project-users") == (200, [])
    assert api.get("/project-users") == (200, [])


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"scopes": []}, "user_id"),
        ({"user_id": "x"}, "user_id"),
        ({"user_id": True}, "user_id"),
        ({"user_id": 2**63}, "user_id"),
        ({"user_id": 1, "scopes": ["sends.write"]}, "scopes[0]"),
        ({"user_id": 1, "scopes": "x"}, "scopes"),
    ],
)
def test_a_bad_person_is_refused(api, body, where):
    status, answer = api.post("/project-users", body)
    assert (status, answer["violations"][0]["property"]) == (422, where)


@pytest.mark.parametrize("user_id", [999_999_999, 0, -5, 2**63 - 1])
def test_a_person_who_does_not_exist_is_404(api, user_id):
    assert api.post("/project-users", {"user_id": user_id}) == (
        404,
        {"message": f"User with id {user_id} not found.", "status": 404},
    )


def test_nobody_gives_scopes_that_they_lack(signed_in, bob, charlie, project):
    bob.memberships.update(scopes=["project.write"])
    status, _ = signed_in(bob, project).post("/project-users", {"user_id": charlie.pk, "scopes": ["sends.send"]})
    assert status == 403
    assert not charlie.memberships.filter(project=project).exists()


def test_members_of_other_projects_are_out_of_reach(api, foreign):
    theirs = Membership.objects.get(project=foreign)
    assert api.delete(f"/project-users/{theirs.pk}")[0] == 403
    assert [member["project"]["id"] for member in api.get("/project-users")[1]] != [foreign.pk]
    assert Membership.objects.filter(pk=theirs.pk).exists()


def test_a_console_starts_with_the_persons_projects(signed_in, bob, project, foreign, settings):
    instance = ensure_instance()
    status, body = signed_in(bob).get("/init")
    assert (status, [one["project"]["id"] for one in body["project_users"]]) == (200, [project.pk])
    config = body["config"]
    assert config["deployment"] == "on-prem"
    assert (config["user"]["id"], config["user"]["is_sudo"]) == (bob.pk, False)
    assert config["app"]["system_project_id"] == instance.project.pk
    assert config["app"]["webhook"]["events"] == [kind.value for kind in kinds_for(is_system=False)]
    assert len(config["app"]["api_keys"]["scopes"]) == 15
    assert body["organization"]["id"] == 0
    assert signed_in(bob, project).get("/init/project") == (
        200,
        {"project": signed_in(bob, project).get("/project")[1]},
    )
