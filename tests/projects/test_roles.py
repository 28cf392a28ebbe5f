"""projects.roles, and members by role over the API: changed, leaving, found; nobody climbs by it."""

import pytest

from accounts.models import AuditEntry
from projects.members import LAST_OWNER
from projects.models import Membership
from projects.roles import DESCRIPTIONS, ROLE_SCOPES, Role, role_of, scopes_of
from projects.scopes import SCOPES, STAFF_SCOPES
from relay_project.db.rates import Rate

pytestmark = pytest.mark.django_db


def member(user, project):
    return Membership.objects.get(user=user, project=project)


# --- Roles ---------------------------------------------------------------------------------------------------------


def test_every_role_is_described_and_is_known_by_its_scopes():
    assert set(ROLE_SCOPES) == set(DESCRIPTIONS) == set(Role)
    assert [role_of(scopes_of(role)) for role in Role] == list(Role)
    assert role_of([]) is None
    assert role_of(["project.read"]) is None


def test_looking_roles_see_no_secrets_and_only_owners_manage_people():
    assert set(scopes_of(Role.VIEWER)) == STAFF_SCOPES
    assert [role for role in Role if "project.write" in scopes_of(role)] == [Role.OWNER]
    assert set(scopes_of(Role.OWNER)) == set(SCOPES)


def test_the_api_lists_roles(api, keyed):
    status, roles = api.get("/roles")
    assert (status, [role["name"] for role in roles]) == (200, [role.value for role in Role])
    assert all(set(role) == {"name", "description", "scopes"} for role in roles)
    assert keyed("sends.read").get("/roles")[0] == 403


def test_a_member_is_added_and_shown_by_role(api, charlie):
    status, made = api.post("/project-users", {"user_id": charlie.pk, "role": "support"})
    assert (status, made["role"], made["scopes"]) == (200, "support", scopes_of(Role.SUPPORT))
    assert [one["role"] for one in api.get("/project-users")[1]] == ["owner", None, "support"]


@pytest.mark.parametrize(
    ("grant", "where"),
    [
        ({"role": "king"}, "role"),
        ({"role": 5}, "role"),
        ({"role": ["owner"]}, "role"),
        ({"role": ""}, "role"),
        ({"role": "viewer", "scopes": ["project.read"]}, "role"),
        ({"role": "viewer", "scopes": []}, "role"),
    ],
)
def test_a_bad_role_is_refused_with_the_field(api, charlie, bob, project, grant, where):
    for method, path in (("POST", "/project-users"), ("PATCH", f"/project-users/{member(bob, project).pk}")):
        status, answer = api(method, path, {"user_id": charlie.pk, **grant})
        assert (status, answer["violations"][0]["property"]) == (422, where)
    assert api.post("/api-keys", {"name": "x", **grant})[0] == 422


def test_a_key_is_made_and_changed_by_role(api):
    status, made = api.post("/api-keys", {"name": "CI", "role": "sender", "allowed_ips": ["192.0.2.1"]})
    assert (status, made["role"], made["scopes"]) == (200, "sender", ["sends.send"])
    status, changed = api.patch(f"/api-keys/{made['id']}", {"role": "viewer"})
    assert (status, changed["role"]) == (200, "viewer")
    assert api.patch(f"/api-keys/{made['id']}", {"scopes": ["sends.read"]})[1]["role"] is None


# --- Changing members ----------------------------------------------------------------------------------------------


def test_a_members_scopes_are_changed_and_count_at_once(api, bob, project, signed_in):
    session = signed_in(bob, project)
    assert session.get("/sends-are-elsewhere")[0] == 404
    status, changed = api.patch(f"/project-users/{member(bob, project).pk}", {"scopes": ["api_keys.read"]})
    assert (status, changed["scopes"], changed["role"]) == (200, ["api_keys.read"], None)
    assert session.get("/api-keys")[0] == 200
    assert session.get("/domains")[0] == 403
    entry = AuditEntry.objects.get(action="member.changed")
    assert (entry.subject_id, entry.project_id) == (bob.pk, project.pk)
    assert entry.detail == {"scopes": ["api_keys.read"], "before": ["project.read", "domains.read"]}


@pytest.mark.parametrize("body", [{}, {"scopes": None}, {"role": None}])
def test_a_change_must_say_something(api, bob, project, body):
    status, answer = api.patch(f"/project-users/{member(bob, project).pk}", body)
    assert (status, answer["violations"][0]) == (
        422,
        {"property": "scopes", "message": "This value should not be blank."},
    )


def test_all_scopes_may_be_taken_from_a_member(api, bob, project):
    assert api.patch(f"/project-users/{member(bob, project).pk}", {"scopes": []})[1]["scopes"] == []


def test_nobody_gives_themselves_what_they_lack(signed_in, bob, project):
    """Privilege escalation by PATCHing oneself, by scopes or by role."""
    Membership.objects.filter(user=bob).update(scopes=["project.read", "project.write"])
    session, own = signed_in(bob, project), member(bob, project).pk
    for body in ({"scopes": ["project.write", "sends.send"]}, {"role": "owner"}, {"role": "viewer"}):
        status, answer = session.patch(f"/project-users/{own}", body)
        assert (status, answer["message"][:25]) == (403, "You cannot give the scope")
    assert member(bob, project).scopes == ["project.read", "project.write"]
    assert session.patch(f"/project-users/{own}", {"scopes": ["project.write"]})[0] == 200


def test_what_a_member_has_already_need_not_be_the_givers(signed_in, alice, bob, project, charlie):
    """Bob may take a scope away from Charlie, and leaves what he could not give himself."""
    Membership.objects.filter(user=bob).update(scopes=["project.write"])
    other = Membership.objects.create(user=charlie, project=project, scopes=["sends.read", "sends.send"])
    session = signed_in(bob, project)
    assert session.patch(f"/project-users/{other.pk}", {"scopes": ["sends.read"]})[0] == 200
    assert session.patch(f"/project-users/{other.pk}", {"scopes": ["sends.read", "sends.send"]})[0] == 403


def test_a_key_gives_a_member_no_more_than_it_has(keyed, bob, project):
    status, _ = keyed("project.write").patch(f"/project-users/{member(bob, project).pk}", {"role": "admin"})
    assert status == 403


def test_members_of_another_project_are_not_changed(api, foreign, charlie):
    theirs = member(charlie, foreign)
    assert api.patch(f"/project-users/{theirs.pk}", {"scopes": []}) == (
        403,
        {"message": "Entity does not belong to the project", "status": 403},
    )
    assert api.patch("/project-users/999999", {"scopes": []})[0] == 404
    assert api.patch("/project-users/x", {"scopes": []})[0] == 400
    assert len(member(charlie, foreign).scopes) == 15


# --- The last owner ------------------------------------------------------------------------------------------------


def test_the_last_owner_is_neither_removed_nor_demoted_by_accident(api, alice, bob, project):
    own = member(alice, project).pk
    refused = (400, {"message": LAST_OWNER, "status": 400})
    assert api.delete(f"/project-users/{own}") == refused
    assert api.patch(f"/project-users/{own}", {"role": "admin"}) == refused
    assert api.patch(f"/project-users/{own}", {"role": "owner"})[0] == 200
    assert api.patch(f"/project-users/{member(bob, project).pk}", {"role": "owner"})[0] == 200
    assert api.delete(f"/project-users/{own}") == (200, [])


def test_an_owner_who_is_switched_off_does_not_count(api, alice, bob, project):
    Membership.objects.filter(user=bob).update(scopes=list(SCOPES))
    bob.is_active = False
    bob.save()
    assert api.delete(f"/project-users/{member(alice, project).pk}")[0] == 400


def test_removing_everybody_is_never_an_accident(api, project):
    assert api.delete("/project-users") == (200, [])
    assert not Membership.objects.filter(project=project).exists()


# --- One's own memberships -----------------------------------------------------------------------------------------


def test_a_person_sees_their_projects_and_leaves_one(signed_in, bob, project, foreign):
    session = signed_in(bob)
    status, mine = session.get("/memberships")
    assert (status, [one["project"]["id"] for one in mine]) == (200, [project.pk])
    assert session.delete(f"/memberships/{mine[0]['id']}") == (200, [])
    assert session.get("/memberships") == (200, [])
    assert AuditEntry.objects.get(action="member.left").actor_id == bob.pk


def test_nobody_ends_the_membership_of_another_there(signed_in, bob, alice, project):
    session = signed_in(bob)
    for raw in (str(member(alice, project).pk), "999999", "9" * 30):
        assert session.delete(f"/memberships/{raw}") == (404, {"message": "Entity not found", "status": 404})
    assert session.delete("/memberships/x")[0] == 400
    assert member(alice, project)


def test_the_last_owner_does_not_leave(signed_in, alice, project):
    assert signed_in(alice).delete(f"/memberships/{member(alice, project).pk}")[0] == 400


def test_memberships_are_a_persons(api):
    assert api.get("/memberships")[0] == 403
    assert api.delete("/memberships/1")[0] == 403


# --- Finding people ------------------------------------------------------------------------------------------------


@pytest.fixture
def search(signed_in):
    def look(user, query=""):
        response = signed_in(user).client.get(f"/api/oidc/search{query}")
        return response.status_code, response.json()

    return look


def test_colleagues_are_found_by_a_part_of_their_name(search, alice, bob, project, foreign):
    status, found = search(alice, "?search=bo")
    assert (status, found) == (
        200,
        [
            {
                "id": bob.pk,
                "role": "admin",
                "user_id": bob.pk,
                "user_username": "bob@example.test",
                "user_email": "bob@example.test",
                "user_picture_url": None,
                "user_name": "Bob",
            }
        ],
    )
    assert [one["user_id"] for one in search(alice)[1]] == [alice.pk, bob.pk]
    assert [one["user_id"] for one in search(alice, "?limit=1&offset=1")[1]] == [bob.pk]


def test_strangers_are_found_only_by_the_whole_address(search, alice, charlie, project, foreign):
    assert search(alice, "?search=charlie")[1] == search(alice, "?search=%40example.test&limit=1&offset=2")[1] == []
    assert [one["user_id"] for one in search(alice, "?search=CHARLIE@example.test")[1]] == [charlie.pk]
    charlie.is_active = False
    charlie.save()
    assert search(alice, "?search=charlie@example.test")[1] == []


def test_staff_find_everybody(search, sam, alice, bob, charlie):
    assert {one["user_id"] for one in search(sam)[1]} == {alice.pk, bob.pk, charlie.pk, sam.pk}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?limit=x", 400),
        ("?limit=0", 422),
        ("?limit=101", 422),
        ("?offset=-1", 422),
        ("?offset=99999999999999999999999", 400),
        ("?search=%00", 400),
        ("?search=" + "x" * 300, 400),
        ("?search=%25", 200),
        ("?limit=&offset=", 200),
    ],
)
def test_a_search_is_bounded(search, alice, project, query, status):
    assert search(alice, query)[0] == status


def test_a_search_is_for_people_who_are_signed_in(client, api, search, alice, monkeypatch):
    assert client.get("/api/oidc/search").status_code == 401
    assert client.get("/api/oidc/search", headers=api.headers).status_code == 403
    monkeypatch.setattr("projects.api.members.SEARCHES", Rate("people search", 1, 60))
    assert search(alice)[0] == 200
    assert search(alice)[0] == 429
