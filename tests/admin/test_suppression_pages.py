"""Suppressions in the staff admin: all of them to be seen, and for all projects added, imported and lifted."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, User
from projects.models import Event, Project
from sending.models import Suppression

World = dict[type[Model], Any]


def url(kind: str, *args: int) -> str:
    return reverse(f"admin:sending_suppression_{kind}", args=args)


def told(client: Client, path: str, **data: Any) -> str:
    """What is told after the deed."""
    done = client.post(path, data, follow=True)
    return "; ".join(map(str, done.context.get("messages", ()))) or done.content.decode()


def test_staff_suppress_an_address_for_all_projects(staff_client: Client, sam: User, world: World) -> None:
    """Lesson C8: there was no global scope."""
    said = told(
        staff_client,
        url("suppress_everywhere"),
        email="Trap@X.example",
        reason="manual",
        until="2099-01-31",
        note="a trap",
    )
    assert said == "trap@x.example is suppressed."
    row = Suppression.objects.get(email="trap@x.example")
    assert (row.owner_id, row.reason, row.description) == (None, "manual", "a trap")
    assert row.expires_at == datetime(2099, 1, 31, 23, 59, 59, tzinfo=UTC)
    entry = AuditEntry.objects.get(action="suppression.added_everywhere")
    assert (entry.actor_id, entry.subject_id, entry.detail["email"]) == (sam.pk, row.pk, "trap@x.example")
    assert not Event.objects.filter(kind__startswith="suppression.").exists(), "it is no project's"
    again = told(staff_client, url("suppress_everywhere"), email="TRAP@x.example", reason="bounce")
    assert again == "trap@x.example was suppressed already."


@pytest.mark.parametrize(
    "wrong", [{"email": "nobody"}, {"email": ""}, {"reason": "weather"}, {"until": "2001-01-01"}, {"note": "x" * 513}]
)
def test_what_is_wrong_stands_at_its_field(staff_client: Client, world: World, wrong: dict[str, str]) -> None:
    page = told(staff_client, url("suppress_everywhere"), **{"email": "trap@x.example", "reason": "manual", **wrong})
    assert 'class="relay-error"' in page
    assert Suppression.objects.count() == 1


def test_staff_import_a_file_for_all_projects(staff_client: Client, sam: User, world: World) -> None:
    file = SimpleUploadedFile("list.csv", b"email,list\ntrap@x.example,\nnonsense,\nann@x.example,news\n", "text/csv")
    said = told(staff_client, url("import_list"), file=file, reason="complaint")
    assert said.startswith(
        "1 of 3 lines are new. 2 could not be used. Line 3: “nonsense” is not a valid email address."
    )
    assert "Line 4: What holds for all mail has no list." in said
    assert list(Suppression.objects.filter(project=None).values_list("email", "reason")) == [
        ("trap@x.example", "complaint")
    ]
    assert AuditEntry.objects.get(action="suppressions.imported_everywhere").detail["added"] == 1


def test_a_file_that_is_too_large_is_told_so(staff_client: Client, world: World, settings: Any) -> None:
    settings.MAX_IMPORT_BYTES = 4096
    page = told(
        staff_client, url("import_list"), file=SimpleUploadedFile("list.csv", b"x@x.example\n" * 1000), reason="manual"
    )
    assert "This file is larger than 4KB (MAX_IMPORT_BYTES). Split it." in page
    assert Suppression.objects.count() == 1


def test_staff_lift_what_they_suppressed_and_nothing_else(staff_client: Client, world: World) -> None:
    row = Suppression.objects.create(email="trap@x.example", reason="manual")
    asked = staff_client.get(url("lift", row.pk)).content.decode()
    assert "Mail to trap@x.example goes again" in asked
    assert told(staff_client, url("lift", row.pk)) == "trap@x.example is no longer suppressed for all projects."
    assert not Suppression.objects.filter(pk=row.pk).exists()
    assert AuditEntry.objects.filter(action="suppression.removed_everywhere").exists()
    assert staff_client.post(url("lift", world[Suppression].pk)).status_code == 404, "a project's row is the project's"


def test_the_list_is_searched_by_the_address_in_any_case_and_by_scope(staff_client: Client, world: World) -> None:
    project = world[Project]
    Suppression.objects.create(email="trap@x.example", reason="manual")
    Suppression.objects.create(list_project=project, list="news", email="listed@x.example", reason="unsubscribe")

    def shown(query: str) -> set[str]:
        page = staff_client.get(f"{url('changelist')}?{query}").content.decode()
        return {name for name in ("trap@x", "listed@x", "gone@example") if name in page}

    assert shown("q=TRAP@X.example") == {"trap@x"}
    assert shown("scope=all") == {"trap@x"}
    assert shown("scope=list") == {"listed@x"}
    assert shown("scope=project") == {"gone@example"}
    assert shown("") == {"trap@x", "listed@x", "gone@example"}


def test_it_is_for_staff_only(client: Client, bob: User, world: World) -> None:
    client.force_login(bob)
    for path in (url("suppress_everywhere"), url("import_list"), url("changelist")):
        assert client.post(path, {"email": "x@x.example", "reason": "manual"}).status_code in (302, 403)
    assert Suppression.objects.count() == 1
