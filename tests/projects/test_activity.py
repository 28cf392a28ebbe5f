"""A project's part of the audit log: over the API and in the console, and what staff leave in it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts import audit
from accounts.models import AuditEntry
from projects.access import Caller
from projects.activity import WORDS
from projects.models import Membership
from projects.scopes import STAFF_SCOPES
from projects.staff_views import note_content_view
from sending.models import SandboxMessage

pytestmark = pytest.mark.django_db


def test_what_people_and_keys_did_is_listed_newest_first(api, signed_in, alice, project):
    signed_in(alice, project).patch("/project", {"name": "By Alice"})
    made = api.post("/api-keys", {"name": "CI", "role": "viewer"})[1]
    status, entries = api.get("/audit-log")
    assert (status, [entry["action"] for entry in entries]) == (200, ["api_key.created", "project.renamed"])
    key, person = entries
    assert key["actor"]["kind"] == "api_key"
    assert key["subject"] == {"kind": "apikey", "id": made["id"], "name": None}
    assert person["actor"] == {"kind": "person", "id": alice.pk, "name": "Alice"}
    assert (person["text"], person["detail"], person["address"]) == (
        "renamed the project",
        {"name": "By Alice"},
        "127.0.0.1",
    )
    assert abs(person["created_at"] - datetime.now(UTC).timestamp()) < 60


def test_entries_are_filtered_and_paged(api, signed_in, alice, bob, project):
    signed_in(alice, project).patch("/project", {"name": "x"})
    key_id = api.post("/api-keys", {"name": "CI", "role": "viewer"})[1]["id"]
    api.patch(f"/project-users/{Membership.objects.get(user=bob).pk}", {"role": "viewer"})
    assert api.get("/audit-log")[1][0]["subject"] == {"kind": "user", "id": bob.pk, "name": "Bob"}
    every = [entry["id"] for entry in api.get("/audit-log")[1]]
    assert len(every) == 3
    assert [entry["id"] for entry in api.get("/audit-log?limit=1")[1]] == every[:1]
    assert [entry["id"] for entry in api.get(f"/audit-log?before_id={every[0]}")[1]] == every[1:]

    def actions(query):
        return [entry["action"] for entry in api.get(f"/audit-log?{query}")[1]]

    assert actions(f"user_id={alice.pk}") == ["project.renamed"]
    caller = AuditEntry.objects.get(action="member.changed").actor_label.removeprefix("API key ")
    assert actions(f"api_key_id={caller}") == ["member.changed", "api_key.created"]
    assert actions(f"api_key_id={key_id + 100}") == []
    assert actions("action=member") == actions("action=member.changed") == ["member.changed"]
    assert actions("action=memb") == []
    now = int(datetime.now(UTC).timestamp())
    assert len(actions(f"since={now - 60}&until={now + 60}")) == 3
    assert actions(f"since={now + 60}") == actions(f"until={now - 3600}") == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("since=x", 400),
        ("since=-1", 422),
        ("until=99999999999999", 422),
        ("user_id=x", 400),
        ("user_id=9223372036854775807", 200),
        ("user_id=99999999999999999999", 400),
        ("action=%00", 400),
        ("action=" + "x" * 100, 400),
        ("action=%25", 200),
        ("limit=0", 422),
        ("limit=100000", 422),
        ("before_id=x", 400),
        ("before_id=-5", 200),
    ],
)
def test_nonsense_in_the_query_is_a_clean_answer(api, project, query, status):
    assert api.get(f"/audit-log?{query}")[0] == status


def test_entries_of_other_projects_and_of_none_stay_where_they_are(api, foreign_api, alice, project):
    foreign_api.patch("/project", {"name": "theirs"})
    audit.record("sign_in.password", actor=alice, subject=alice)
    assert api.get("/audit-log") == (200, [])
    assert [entry["action"] for entry in foreign_api.get("/audit-log")[1]] == ["project.renamed"]


def test_the_log_needs_its_scope(keyed):
    assert keyed("sends.read").get("/audit-log")[0] == 403


def test_staff_are_named_as_staff_and_keep_their_address_and_reasons(api, sam, project, alice):
    audit.record(
        "api_key.disabled", actor=sam, subject=project, project_id=project.pk, address="10.0.0.1",
        detail={"reason": "fraud, case 7", "name": "CI"},
    )  # fmt: skip
    [entry] = api.get("/audit-log")[1]
    assert entry["actor"] == {"kind": "staff", "id": sam.pk, "name": "Sam"}
    assert (entry["address"], entry["detail"]) == (None, {"name": "CI"})
    Membership.objects.create(project=project, user=sam, scopes=["project.read"])
    assert api.get("/audit-log")[1][0]["actor"]["kind"] == "person"


def test_the_command_line_is_relay(api, project):
    audit.record("project.renamed", actor=None, actor_label="command line (root)", project_id=project.pk)
    assert api.get("/audit-log")[1][0]["actor"] == {"kind": "relay", "id": None, "name": "command line (root)"}


# --- In the console ------------------------------------------------------------------------------------------------


@pytest.fixture
def page(client: Client, alice, project):
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")

    def look(query=""):
        response = client.get(f"/console/{project.pk}/activity{query}")
        assert response.status_code == 200
        return response.content.decode()

    return look


def test_the_console_shows_activity_with_filters(page, api, alice, project):
    assert "Nothing yet" in page()
    api.post("/api-keys", {"name": "CI", "role": "viewer"})
    audit.record("project.renamed", actor=alice, subject=project, project_id=project.pk, detail={"name": "<b>x</b>"})
    text = page()
    assert "made an API key" in text
    assert "&lt;b&gt;x&lt;/b&gt;" in text
    assert "made an API key" not in page("?kind=project")
    assert "made an API key" not in page(f"?who={alice.pk}")
    assert "Nothing fits" in page("?kind=domain")
    assert "Nothing fits" in page("?until=2020-01-01")
    assert "renamed the project" in page("?since=2020-01-01")


@pytest.mark.parametrize(
    "query",
    ["?kind=x", "?who=x", "?who=999999999999999999999", "?since=tomorrow", "?until=9999-12-31", "?since=0001-01-01",
     "?before_id=x", "?before_id=99999999999999999999", "?kind=%00&who=%00"],
)  # fmt: skip
def test_nonsense_in_the_filters_is_no_error(page, api, query):
    api.post("/api-keys", {"name": "CI", "role": "viewer"})
    assert page(query)


def test_older_entries_are_behind_a_link(page, alice, project):
    for number in range(51):
        audit.record(
            "project.renamed", actor=alice, subject=project, project_id=project.pk, detail={"name": f"n{number}"}
        )
    assert "name: n50<" in page()
    assert "name: n0<" not in page()
    second = AuditEntry.objects.order_by("id")[1]
    assert f"before_id={second.pk}" in page("?kind=project")
    assert "name: n0<" in page(f"?kind=project&before_id={second.pk}")


def test_words_are_for_actions_that_exist():
    assert all("." in action and words for action, words in WORDS.items())


# --- Staff who read mail -------------------------------------------------------------------------------------------


def test_staff_who_read_a_mail_leave_an_entry_once_a_look(client, sam, alice, project, api):
    """Nobody reads a tenant's mail unseen."""
    message = SandboxMessage.objects.create(
        project_id=project.pk,
        data=b"Subject: x\r\n\r\nbody",
        reverse_path="a@example.test",
        recipients=["b@example.test"],
    )
    client.force_login(sam, backend="accounts.sign_in.PasswordBackend")
    page = f"/console/{project.pk}/sandbox/{message.pk}"
    for path in (page, f"{page}/raw.eml"):
        assert client.get(path).status_code == 200
    [entry] = api.get("/audit-log?action=content")[1]
    assert (entry["action"], entry["actor"]["kind"], entry["subject"]["id"]) == ("content.viewed", "staff", message.pk)
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    assert client.get(page).status_code == 200
    assert AuditEntry.objects.filter(action="content.viewed").count() == 1


def test_members_keys_and_the_system_project_leave_none(sam, alice, project, foreign):
    now, subject = timezone.now(), foreign
    staff = Caller(STAFF_SCOPES, project, user=sam)
    note_content_view(Caller(STAFF_SCOPES, project, user=alice), subject, now)
    note_content_view(Caller(STAFF_SCOPES, project), subject, now)
    project.is_system = True
    note_content_view(staff, subject, now)
    project.is_system = False
    Membership.objects.create(project=project, user=sam, scopes=["sends.read"])
    note_content_view(staff, subject, now)
    assert not AuditEntry.objects.exists()
    Membership.objects.filter(user=sam).update(scopes=["project.read"])
    note_content_view(staff, subject, now)
    note_content_view(staff, subject, now + timedelta(minutes=1))
    assert AuditEntry.objects.count() == 1
    note_content_view(staff, subject, now + timedelta(minutes=11))
    assert AuditEntry.objects.count() == 2
