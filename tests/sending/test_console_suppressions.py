"""The console's pages about suppressions: finding, adding, removing, import and export."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client

from accounts.models import AuditEntry, User
from projects.models import Membership, Project
from projects.scopes import SCOPES
from sending.models import Suppression

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(db: None) -> Project:
    """Alice's, with three addresses suppressed."""
    alice = User.objects.create(login="alice@shop.example", name="Alice")
    project = Project.objects.create(name="Shop", send_type="transactional")
    Membership.objects.create(project=project, user=alice, scopes=list(SCOPES))
    for email, reason in (("ann@one.example", "bounce"), ("bob@two.example", "complaint")):
        Suppression.objects.create(project=project, email=email, reason=reason)
    Suppression.objects.create(list_project=project, list="news", email="carol@one.example", reason="unsubscribe")
    return project


@pytest.fixture
def alice(shop: Project) -> Client:
    """Alice's browser."""
    client = Client()
    client.force_login(User.objects.get(name="Alice"), backend="accounts.sign_in.PasswordBackend")
    return client


def path(shop: Project, rest: str = "") -> str:
    return f"/console/{shop.pk}/suppressions{rest}"


def shown(response: HttpResponse) -> list[str]:
    """Which of the three addresses a page shows."""
    assert response.status_code == 200
    text = response.content.decode()
    return [name for name in ("ann", "bob", "carol") if f"<strong>{name}@" in text]


def test_the_list_is_narrowed_by_address_reason_and_list(shop: Project, alice: Client) -> None:
    for query, expected in (
        ("", ["ann", "bob", "carol"]),
        ("?email=ONE.ex", ["ann", "carol"]),
        ("?reason=complaint", ["bob"]),
        ("?list=news", ["carol"]),
        ("?list=-", ["ann", "bob"]),
        ("?list=other", []),
        ("?reason=weather&list=%00&email=%25", []),
    ):
        assert shown(alice.get(path(shop, query))) == expected, query


def test_nonsense_in_the_filters_is_no_error(shop: Project, alice: Client) -> None:
    for query in (
        "before_id=-1",
        "before_id=" + "9" * 30,
        "email=%00",
        "email=" + "x" * 900,
        "list=" + "x" * 900,
        "part=x",
    ):
        assert alice.get(path(shop, f"?{query}")).status_code == 200


def test_more_is_loaded_behind_the_last_one(shop: Project, alice: Client) -> None:
    Suppression.objects.bulk_create(
        Suppression(project=shop, email=f"p{number}@x.example", reason="manual") for number in range(60)
    )
    first = alice.get(path(shop)).content.decode()
    assert first.count("<strong>p") == 50
    last = Suppression.objects.get(email="p10@x.example")
    more = alice.get(path(shop, f"?before_id={last.pk}&part=rows"), headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in more
    assert more.count("<strong>p") == 10


def test_adding_says_what_happened(shop: Project, alice: Client) -> None:
    data = {
        "email": "Dora@X.example",
        "reason": "manual",
        "list": "News",
        "until": "2099-01-31",
        "description": "by phone",
    }
    response = alice.post(path(shop, "/new"), data, follow=True)
    assert "dora@x.example is suppressed." in response.content.decode()
    row = Suppression.objects.get(email="dora@x.example")
    assert (row.list_project, row.list, row.reason, row.description) == (shop, "news", "manual", "by phone")
    assert row.expires_at == datetime(2099, 1, 31, 23, 59, 59, tzinfo=UTC)
    assert AuditEntry.objects.get(action="suppression.added").actor_id == User.objects.get(name="Alice").pk
    again = alice.post(path(shop, "/new"), {**data, "email": "DORA@x.example"}, follow=True)
    assert "was suppressed already" in again.content.decode()


@pytest.mark.parametrize(
    "wrong",
    [
        {"email": ""}, {"email": "nobody"}, {"email": "a\0@x.example"}, {"reason": "weather"}, {"list": "x" * 65},
        {"list": "a\nb"}, {"until": "2001-01-01"}, {"until": "9999-12-31"}, {"until": "soon"}, {"description": "x" * 513},
    ],
)  # fmt: skip
def test_what_is_wrong_stands_at_its_field(shop: Project, alice: Client, wrong: dict[str, str]) -> None:
    response = alice.post(path(shop, "/new"), {"email": "dora@x.example", "reason": "manual", **wrong})
    assert response.status_code == 400
    assert "errorlist" in response.content.decode()
    assert Suppression.objects.count() == 3


def test_removing_keeps_the_filters(shop: Project, alice: Client) -> None:
    row = Suppression.objects.get(email="carol@one.example")
    response = alice.post(path(shop, f"/{row.pk}/remove?list=news&email=carol"))
    assert response["Location"] == path(shop, "?list=news&email=carol")
    assert not Suppression.objects.filter(pk=row.pk).exists()
    assert AuditEntry.objects.filter(action="suppression.removed", subject_id=row.pk).exists()
    assert alice.post(path(shop, f"/{row.pk}/remove")).status_code == 404


def test_another_projects_row_is_not_removed(shop: Project, alice: Client) -> None:
    other = Project.objects.create(name="Other", send_type="transactional")
    rows = [
        Suppression.objects.create(project=other, email="x@x.example", reason="manual"),
        Suppression.objects.create(list_project=other, list="news", email="x@x.example", reason="manual"),
        Suppression.objects.create(email="x@x.example", reason="manual"),
    ]
    for row in rows:
        assert alice.post(path(shop, f"/{row.pk}/remove")).status_code == 404
    assert Suppression.objects.count() == 6


def upload(alice: Client, shop: Project, raw: bytes, **data: str) -> HttpResponse:
    file = SimpleUploadedFile("list.csv", raw, "text/csv")
    return alice.post(path(shop, "/import"), {"file": file, "reason": "manual", **data})


def test_a_file_is_imported_with_a_report(shop: Project, alice: Client) -> None:
    response = upload(
        alice, shop, b"email\ndora@x.example\nann@one.example\n<b>x</b>\n", list="News", reason="unsubscribe"
    )
    text = response.content.decode()
    assert response.status_code == 200
    assert "Imported, but for some lines" in text
    assert "“&lt;b&gt;x&lt;/b&gt;” is not a valid email address." in text
    assert set(Suppression.objects.filter(list="news", reason="unsubscribe").values_list("email", flat=True)) == {
        "carol@one.example", "dora@x.example", "ann@one.example",
    }  # fmt: skip
    assert AuditEntry.objects.get(action="suppressions.imported").detail["added"] == 2


def test_a_file_that_is_none_is_told(shop: Project, alice: Client, settings: Any) -> None:
    for raw, told in ((b"", "This file is empty."), ("ann@one.example\n".encode("utf-16"), "must be UTF-8")):
        response = upload(alice, shop, raw)
        assert response.status_code == 400
        assert told in response.content.decode()
    settings.MAX_IMPORT_BYTES = 4096
    assert upload(alice, shop, b"x@x.example\n" * 1000).status_code == 413
    assert Suppression.objects.count() == 3


def test_an_import_needs_the_forms_token(shop: Project) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(name="Alice"), backend="accounts.sign_in.PasswordBackend")
    file = io.BytesIO(b"x@x.example\n")
    assert client.post(path(shop, "/import"), {"file": file, "reason": "manual"}).status_code == 403


def test_an_export_has_what_the_filters_show(shop: Project, alice: Client) -> None:
    response = alice.get(path(shop, "/export.csv?reason=bounce"))
    assert response["Content-Disposition"].startswith("attachment")
    lines = b"".join(response.streaming_content).decode().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["email", "ann@one.example"]
    Suppression.objects.update(expires_at=datetime.now(UTC) - timedelta(days=1))
    assert b"".join(alice.get(path(shop, "/export.csv")).streaming_content).count(b"\n") == 1
