"""`/suppressions`: the contract's list and removal, adding, by address, import and export."""

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.http import HttpResponse

from accounts.models import AuditEntry
from projects.models import Event, Project
from sending.models import Suppression
from tests.sending.api.conftest import Api

pytestmark = pytest.mark.django_db

SOON = datetime.now(UTC) + timedelta(days=2)
FIELDS = {"id", "created_at", "email", "reason", "description", "list", "expires_at"}


def suppress(project: Project, email: str = "dora@example.test", **fields: Any) -> Suppression:
    scope = {} if "list_project" in fields else {"project": project}
    return Suppression.objects.create(email=email, **{"reason": "bounce", **scope, **fields})


def emails(response: HttpResponse) -> list[str]:
    assert response.status_code == 200, response.content
    return [row["email"] for row in response.json()]


def kinds() -> list[str]:
    return list(Event.objects.filter(kind__startswith="suppression.").order_by("id").values_list("kind", flat=True))


# --- The contract: list and remove ---------------------------------------------------------------------------------


def test_the_list_is_newest_first_and_shows_the_contracts_fields(api: Api) -> None:
    first = suppress(api.project, description="550 5.1.1 no such user")
    suppress(api.project, "erin@example.test", reason="complaint")
    rows = api.get("/suppressions").json()
    assert [row["email"] for row in rows] == ["erin@example.test", "dora@example.test"]
    assert rows[1] == {
        "id": first.pk, "created_at": int(first.created_at.timestamp()), "email": "dora@example.test", "reason": "bounce",
        "description": "550 5.1.1 no such user", "list": None, "expires_at": None,
    }  # fmt: skip


def test_limit_offset_substring_and_reason_narrow_it(api: Api) -> None:
    for number in range(5):
        suppress(api.project, f"p{number}@example.test", reason="bounce" if number % 2 else "complaint")
    assert emails(api.get("/suppressions?limit=2")) == ["p4@example.test", "p3@example.test"]
    assert emails(api.get("/suppressions?limit=2&offset=3")) == ["p1@example.test", "p0@example.test"]
    assert emails(api.get("/suppressions?reason=bounce")) == ["p3@example.test", "p1@example.test"]
    assert len(emails(api.get("/suppressions?reason=weather"))) == 5, "an unknown reason is ignored"
    assert emails(api.get("/suppressions?email=P3@EXA")) == ["p3@example.test"], "lesson C8"
    assert emails(api.get("/suppressions?email=%25")) == [], "a wildcard of LIKE is a letter here"
    assert emails(api.get("/suppressions?email=3")) == ["p3@example.test"], "too short for trigrams"


def test_lists_and_ends_show_and_narrow(api: Api) -> None:
    suppress(api.project)
    suppress(api.project, list_project=api.project, list="news")
    suppress(api.project, "over@example.test", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    suppress(api.project, "soon@example.test", expires_at=SOON)
    rows = api.get("/suppressions").json()
    assert [(row["email"], row["list"], row["expires_at"]) for row in rows] == [
        ("soon@example.test", None, int(SOON.timestamp())), ("dora@example.test", "news", None),
        ("dora@example.test", None, None),
    ]  # fmt: skip
    assert emails(api.get("/suppressions?list=NEWS")) == ["dora@example.test"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=0", 422), ("limit=1001", 422), ("limit=99999999999999999999", 400), ("offset=-1", 422), ("offset=x", 400),
        ("email=a%00b", 400), ("list=" + "x" * 65, 400), ("list=a%0Ab", 400), ("before_id=x", 400),
    ],
)  # fmt: skip
def test_bad_queries_are_told(api: Api, query: str, status: int) -> None:
    assert api.get(f"/suppressions?{query}").status_code == status


def test_removing_one_tells_and_lets_mail_go_again(api: Api) -> None:
    row = suppress(api.project)
    response = api("DELETE", f"/suppressions/{row.pk}")
    assert (response.status_code, response.json()) == (200, [])
    assert kinds() == ["suppression.deleted"]
    event = Event.objects.get(kind="suppression.deleted")
    assert (event.subject_id, event.payload["email"], event.payload["reason"]) == (
        row.pk,
        "dora@example.test",
        "bounce",
    )
    assert AuditEntry.objects.get(action="suppression.removed").project_id == api.project.pk
    assert api("DELETE", f"/suppressions/{row.pk}").status_code == 404


def test_a_row_of_a_list_is_removed_by_its_id_too(api: Api) -> None:
    row = suppress(api.project, list_project=api.project, list="news")
    assert api.get(f"/suppressions/{row.pk}").json()["list"] == "news"
    assert api("DELETE", f"/suppressions/{row.pk}").status_code == 200
    assert Event.objects.get(kind="suppression.deleted").project_id == api.project.pk


@pytest.mark.parametrize(("raw", "status"), [("x", 400), ("0", 404), ("99999999999999999999", 404), ("12345", 404)])
def test_ids_that_are_none(api: Api, raw: str, status: int) -> None:
    for method in ("GET", "DELETE"):
        assert api(method, f"/suppressions/{raw}").status_code == status


def test_tenants_see_and_remove_only_their_own(api: Api, foreign_api: Api) -> None:
    for fields in ({}, {"list_project": api.project, "list": "news"}):
        row = suppress(api.project, **fields)
        assert emails(foreign_api.get("/suppressions")) == []
        assert emails(foreign_api.get("/suppressions/email/dora@example.test")) == []
        assert foreign_api.get("/suppressions/export").getvalue().count(b"\n") == 1
        for method in ("GET", "DELETE"):
            assert foreign_api(method, f"/suppressions/{row.pk}").status_code == 403
    everywhere = Suppression.objects.create(email="dora@example.test", reason="manual")
    assert everywhere.pk not in [row["id"] for row in api.get("/suppressions").json()]
    assert api("DELETE", f"/suppressions/{everywhere.pk}").status_code == 403
    assert Suppression.objects.count() == 3


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "", "read"), ("POST", "", "write"), ("GET", "/1", "read"), ("DELETE", "/1", "write"),
        ("GET", "/email/a@b.example", "read"), ("DELETE", "/email/a@b.example", "write"),
        ("POST", "/import", "write"), ("GET", "/export", "read"),
    ],
)  # fmt: skip
def test_each_call_needs_its_scope(keyed: Callable[..., Api], method: str, path: str, scope: str) -> None:
    other = "read" if scope == "write" else "write"
    response = keyed(f"suppressions.{other}")(method, f"/suppressions{path}")
    assert response.status_code == 403
    assert f"'suppressions.{scope}'" in response.json()["message"]


# --- Adding --------------------------------------------------------------------------------------------------------


def test_adding_one_suppresses_and_tells(api: Api) -> None:
    response = api.post(
        "/suppressions",
        {"email": "Dora@EXAMPLE.test", "description": "asked us by phone", "expires_at": int(SOON.timestamp())},
    )
    assert response.status_code == 200
    assert response.json().keys() == FIELDS
    row = Suppression.objects.get()
    assert response.json()["id"] == row.pk
    assert (row.email, row.reason, row.description) == ("dora@example.test", "manual", "asked us by phone")
    assert Event.objects.exclude(kind__startswith="api_key.").get().payload == {
        key: response.json()[key] for key in FIELDS - {"id", "created_at"}
    }
    assert AuditEntry.objects.get(action="suppression.added").subject_id == row.pk
    send_id = api.send(to="dora@example.test")
    assert api.get(f"/sends/{send_id}").json()["recipients"][0]["status"] == "suppressed"


def test_adding_it_again_changes_nothing(api: Api) -> None:
    """Lessons C7 and C8: no error, no second row, no second event, whatever the spelling and the reason."""
    first = api.post("/suppressions", {"email": "dora@example.test", "reason": "complaint"}).json()
    again = api.post("/suppressions", {"email": "DORA@example.test", "reason": "bounce"})
    assert (again.status_code, again.json()) == (200, first)
    assert kinds() == ["suppression.created"]


def test_one_address_may_stand_in_lists_and_the_project(api: Api) -> None:
    for name in (None, "news", "offers", "NEWS"):
        body = {"email": "dora@example.test"} if name is None else {"email": "dora@example.test", "list": name}
        assert api.post("/suppressions", body).status_code == 200
    assert sorted(str(row.list) for row in Suppression.objects.all()) == ["None", "news", "offers"]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"email": None}, "email"), ({"email": ""}, "email"), ({"email": "no address"}, "email"), ({"email": 5}, "email"),
        ({"email": "a" * 400 + "@example.test"}, "email"), ({"email": "a\0@example.test"}, "email"),
        ({"reason": "weather"}, "reason"), ({"reason": 1}, "reason"), ({"description": "x" * 513}, "description"),
        ({"description": "\0"}, "description"), ({"list": ""}, "list"), ({"list": "x" * 65}, "list"), ({"list": []}, "list"),
        ({"expires_at": 5}, "expires_at"), ({"expires_at": "soon"}, "expires_at"), ({"expires_at": -1}, "expires_at"),
        ({"expires_at": 2**62}, "expires_at"), ({"expires_at": 2**70}, "expires_at"), ({"expires_at": True}, "expires_at"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(api: Api, fields: dict[str, Any], wrong: str) -> None:
    response = api.post("/suppressions", {"email": "dora@example.test", **fields})
    assert response.status_code == 422
    assert [one["property"] for one in response.json()["violations"]] == [wrong]
    assert not Suppression.objects.exists()


# --- By address ----------------------------------------------------------------------------------------------------


def test_one_address_is_found_and_removed_in_any_spelling(api: Api) -> None:
    suppress(api.project)
    suppress(api.project, list_project=api.project, list="news")
    suppress(api.project, "erin@example.test")
    found = api.get("/suppressions/email/DORA@Example.TEST").json()
    assert [row["list"] for row in found] == ["news", None]
    assert api("DELETE", "/suppressions/email/dora@example.test?list=news").status_code == 200
    assert [row["list"] for row in api.get("/suppressions/email/dora@example.test").json()] == [None]
    assert api("DELETE", "/suppressions/email/Dora@example.test").json() == []
    assert api("DELETE", "/suppressions/email/dora@example.test").status_code == 404
    assert emails(api.get("/suppressions")) == ["erin@example.test"]
    assert kinds() == ["suppression.deleted"] * 2
    assert api.get("/suppressions/email/nobody").status_code == 422


# --- Import and export ---------------------------------------------------------------------------------------------


def post_csv(api: Api, text: str | bytes, query: str = "", **headers: str) -> HttpResponse:
    raw = text if isinstance(text, bytes) else text.encode()
    return api("POST", f"/suppressions/import{query}", raw, content_type="text/csv", **headers)


def test_an_import_counts_and_names_what_is_wrong(api: Api) -> None:
    suppress(api.project, "there@example.test", reason="complaint")
    text = "email,reason,description\nA@example.test,bounce,gone\nnonsense,,\nthere@example.test,,\na@EXAMPLE.test,,\n\nb@x,,\n"
    report = post_csv(api, text).json()
    assert report == {
        "lines": 5, "added": 1, "extended": 0, "unchanged": 2, "invalid": 2,
        "errors": [
            {"line": 3, "message": "“nonsense” is not a valid email address."},
            {"line": 7, "message": "“b@x” is not a valid email address."},
        ],
    }  # fmt: skip
    assert sorted(Suppression.objects.values_list("email", "reason")) == [
        ("a@example.test", "bounce"), ("there@example.test", "complaint"),
    ]  # fmt: skip
    assert Event.objects.exclude(kind__startswith="api_key.").get().kind == "suppression.imported"
    assert Event.objects.exclude(kind__startswith="api_key.").get().payload == {"added": 1, "extended": 0}
    entry = AuditEntry.objects.get(action="suppressions.imported")
    assert (entry.project_id, entry.detail["added"], entry.detail["invalid"]) == (api.project.pk, 1, 2)


def test_an_import_may_be_repeated(api: Api) -> None:
    """Lesson C7."""
    text = "a@example.test\nb@example.test\n"
    assert post_csv(api, text).json()["added"] == 2
    again = post_csv(api, text).json()
    assert (again["added"], again["unchanged"]) == (0, 2)
    assert Event.objects.exclude(kind__startswith="api_key.").count() == 1


def test_what_the_lines_do_not_say_the_query_does(api: Api) -> None:
    text = "email;list\na@example.test;\nb@example.test;Offers\n"
    query = f"?reason=unsubscribe&list=news&expires_at={SOON:%Y-%m-%d}"
    assert post_csv(api, text, query).json()["added"] == 2
    rows = Suppression.objects.order_by("email").values_list("email", "list", "reason", "expires_at__date")
    assert list(rows) == [
        ("a@example.test", "news", "unsubscribe", SOON.date()), ("b@example.test", "offers", "unsubscribe", SOON.date())
    ]  # fmt: skip


def test_a_longer_time_wins_and_a_reason_stays(api: Api) -> None:
    suppress(api.project, reason="complaint", expires_at=SOON)
    sooner = f"{SOON - timedelta(hours=1):%Y-%m-%dT%H:%M:%S}"
    assert post_csv(api, f"email,expires_at\ndora@example.test,{sooner}\n").json()["unchanged"] == 1
    assert post_csv(api, "dora@example.test\n").json()["extended"] == 1
    row = Suppression.objects.get()
    assert (row.reason, row.expires_at) == ("complaint", None)


@pytest.mark.parametrize(
    "query", ["?reason=weather", "?expires_at=2001-01-01", "?expires_at=soon", "?list=%00", "?reason=%00"]
)
def test_a_bad_query_imports_nothing(api: Api, query: str) -> None:
    assert post_csv(api, "a@example.test\n", query).status_code in (400, 422)
    assert not Suppression.objects.exists()


def test_what_is_no_csv_is_refused(api: Api) -> None:
    for content_type in (
        "application/json",
        "multipart/form-data; boundary=x",
        "",
        "application/x-www-form-urlencoded",
    ):
        response = api("POST", "/suppressions/import", b"a@example.test\n", content_type=content_type)
        assert response.status_code == 415
    for raw in ("a@example.test\n".encode("utf-16"), b"\0\0\0\1"):
        response = post_csv(api, raw)
        assert (response.status_code, response.json()["message"]) == (400, "The file must be UTF-8 text.")


def test_a_file_that_is_too_large_is_refused_unread(api: Api, settings: Any) -> None:
    settings.MAX_IMPORT_BYTES = 4096
    response = post_csv(api, b"a@example.test\n" * 300)
    assert response.status_code == 413
    assert not Suppression.objects.exists()


def test_a_body_without_a_length_is_read_to_its_end_and_bounded(api: Api, settings: Any) -> None:
    """As gunicorn hands a chunked body on."""

    def post(raw: bytes) -> HttpResponse:
        return api.client.generic(
            "POST", "/api/console/suppressions/import", b"", content_type="text/csv",
            headers={"Authorization": f"Bearer {api.token}", "Transfer-Encoding": "chunked"},
            **{"wsgi.input": io.BytesIO(raw), "wsgi.input_terminated": True, "CONTENT_LENGTH": "", "CONTENT_TYPE": "text/csv"},
        )  # fmt: skip

    assert post(b"a@example.test\nb@example.test").json()["added"] == 2
    settings.MAX_IMPORT_BYTES = 4096
    assert post(b"c@example.test\n" * 300).status_code == 413
    ended = api.client.generic(
        "POST", "/api/console/suppressions/import", b"", content_type="text/csv",
        headers={"Authorization": f"Bearer {api.token}"}, CONTENT_LENGTH="", CONTENT_TYPE="text/csv",
    )  # fmt: skip
    assert ended.status_code == 411


def test_an_export_comes_back_as_it_was(api: Api, foreign_api: Api) -> None:
    """Formulas are made harmless on the way out, and come back whole."""
    suppress(api.project, "=cmd@example.test", description='=HYPERLINK("http://evil")')
    suppress(api.project, "'+1@example.test", reason="complaint", description="'=quoted")
    suppress(
        api.project, "-a@example.test", list_project=api.project, list="@news", expires_at=SOON.replace(microsecond=0)
    )
    suppress(api.project, "münchen@example.test", description='two\nlines, "quoted"; and\ttabs')
    response = api.get("/suppressions/export")
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].startswith('attachment; filename="suppressions-')
    text = response.getvalue()
    cells = [cell for line in text.decode().splitlines() for cell in line.split(",")]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert post_csv(foreign_api, text).json()["added"] == 4
    columns = ("email", "reason", "description", "list", "expires_at")
    ours = Suppression.objects.filter(project=api.project) | Suppression.objects.filter(list_project=api.project)
    theirs = Suppression.objects.exclude(pk__in=ours)
    assert sorted(map(str, ours.values_list(*columns))) == sorted(map(str, theirs.values_list(*columns)))


def test_an_export_takes_the_lists_filters(api: Api) -> None:
    suppress(api.project)
    suppress(api.project, "erin@example.test", reason="complaint")
    suppress(api.project, "news@example.test", list_project=api.project, list="news")
    for query, count in (("", 3), ("?reason=complaint", 1), ("?email=dora", 1), ("?list=news", 1)):
        assert api.get(f"/suppressions/export{query}").getvalue().count(b"\n") == count + 1


def test_an_idempotency_key_is_refused_as_elsewhere(api: Api) -> None:
    assert post_csv(api, "a@example.test\n", **{"X-Idempotency-Key": "x"}).status_code == 400
