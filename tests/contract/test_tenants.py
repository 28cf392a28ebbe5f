"""Nobody reaches another project's objects: every endpoint and every page of the URL map is tried with Charlie's ids.

§1.4 of the contract: an object of another project is 403 `Entity does not belong to the project`; pages say 404.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import User
from projects import guesses
from relay_project.db.rates import Rate
from relay_project.web.openapi import document, operations
from tests.contract.conftest import There, filled
from tests.sending.api.conftest import Api

pytestmark = pytest.mark.django_db

FOREIGN = (403, "Entity does not belong to the project")
ABSENT = (404, "Entity not found")
# What the contract has otherwise, and what is looked for inside the project and therefore not there.
OTHERWISE: dict[str, tuple[int, str | None]] = {
    "uuid/{send_uuid}": (400, "Send with UUID {} does not belong to project"),
    "memberships/{member_id}": ABSENT,
    "email/{email}": (404, None),
    "GET email/{email}": (200, None),  # which suppressions an address has: none, of one's own
}
PREFIX = "/api/console"


@pytest.fixture(autouse=True)
def unlimited(settings: Any) -> None:
    """Every endpoint is more than a minute's requests."""
    settings.REQUESTS_PER_MINUTE = settings.SESSION_REQUESTS_PER_MINUTE = settings.SENDS_PER_SECOND = 1_000_000


@pytest.fixture
def browser(alice: User) -> Client:
    """Alice's, signed in."""
    client = Client()
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    return client


class Session:
    """Calls of the API by a person's session, in a project."""

    def __init__(self, client: Client, project_id: int) -> None:
        self.client = client
        self.project_id = project_id

    def __call__(self, method: str, path: str, body: Any = None) -> HttpResponse:
        raw = b"" if body is None else json.dumps(body).encode()
        headers = {"X-Project-ID": str(self.project_id)}
        return self.client.generic(method, f"{PREFIX}{path}", raw, content_type="application/json", headers=headers)


def endpoints() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(METHOD, path, operation) of what the document names; tests/test_docs.py sees to it that this is everything."""
    for path, method, operation in operations(document()):
        if path.startswith(PREFIX):
            yield method, path.removeprefix(PREFIX), operation


def example_of(operation: dict[str, Any]) -> Any:
    content = operation.get("requestBody", {}).get("content", {})
    return content.get("application/json", {}).get("example")


def is_for_keys(operation: dict[str, Any]) -> bool:
    return any("apiKey" in way for way in operation["security"])


def expected(method: str, path: str, there: There) -> tuple[int, str | None]:
    """What the first object of a path is refused with."""
    place = re.findall(r"[^/]+/{\w+}", path)[0]
    status, text = OTHERWISE.get(f"{method} {place}") or OTHERWISE.get(place, FOREIGN)
    return status, text.format(there[place]) if text else None


def refusal(response: HttpResponse, text: str | None) -> tuple[int, str | None]:
    return response.status_code, response.json().get("message") if text else None


def inventory(api: Api) -> dict[str, Any]:
    """Everything of a project that a list shows; what a request itself changes is left out."""
    lists = [path for method, path, op in endpoints() if method == "GET" and "{" not in path and is_for_keys(op)]
    found = {path: api.get(path) for path in lists}
    return {path: _lasting(response.json()) for path, response in found.items() if _is_json_list(response)}


def _is_json_list(response: HttpResponse) -> bool:
    is_json = response["Content-Type"] == "application/json"
    return response.status_code == 200 and is_json and isinstance(response.json(), list)


def _lasting(rows: list[Any]) -> list[Any]:
    return [{k: v for k, v in row.items() if k != "last_accessed_at"} if isinstance(row, dict) else row for row in rows]


@pytest.mark.parametrize("way", ["key", "session"])
def test_every_endpoint_refuses_another_projects_objects_and_leaves_them_as_they_are(
    way: str, api: Api, foreign_api: Api, foreign_there: There, browser: Client
) -> None:
    call: Any = api if way == "key" else Session(browser, api.project.pk)
    before, wrong, tried = inventory(foreign_api), [], 0
    for method, path, operation in endpoints():
        if "{" not in path or (way == "key" and not is_for_keys(operation)):
            continue
        wanted = expected(method, path, foreign_there)
        response = call(method, filled(path, foreign_there), example_of(operation))
        if refusal(response, wanted[1]) != wanted:
            wrong.append((method, path, response.status_code, response.content[:120]))
        tried += 1
    assert wrong == []
    assert tried > 20
    assert inventory(foreign_api) == before


@pytest.mark.parametrize(
    ("method", "path", "body", "wanted"),
    [
        ("GET", "/webhooks/deliveries?webhook_id={webhooks/{webhook_id}}", None, FOREIGN),
        ("GET", "/audit-log?api_key_id={api-keys/{key_id}}", None, FOREIGN),
        ("GET", "/inbound-routes?domain_id={inbound-domains/{domain_id}}", None, FOREIGN),
        ("GET", "/inbound?route_id={inbound-routes/{route_id}}", None, FOREIGN),
        ("GET", "/domains/by?id={domains/{domain}}", None, (400, "Domain does not belong to the project")),
        ("GET", "/domains/by?domain=charlie.example.test", None, (400, "Domain not found")),
        ("GET", "/domains/charlie.example.test", None, (404, "Domain not found")),
        ("DELETE", "/domains?id={domains/{domain}}", None, (400, "Domain does not belong to the project")),
        ("DELETE", "/domains", {"id": "domains/{domain}"}, (400, "Domain does not belong to the project")),
        ("POST", "/domains/verify", {"id": "domains/{domain}"}, (400, "Domain does not belong to the project")),
    ],
)
def test_ids_in_queries_and_bodies_are_refused_as_well(
    api: Api, foreign_api: Api, foreign_there: There, method: str, path: str, body: Any, wanted: tuple[int, str]
) -> None:
    path = re.sub(r"{([\w-]+/{\w+})}", lambda match: str(foreign_there[match[1]]), path)
    body = body and {name: foreign_there[place] for name, place in body.items()}
    before = inventory(foreign_api)
    assert refusal(api(method, path, body), wanted[1]) == wanted
    assert inventory(foreign_api) == before


def test_a_filter_by_an_id_that_is_nobodys_finds_nothing(api: Api, there: There) -> None:
    """It may have been deleted; what was told and done is still listed."""
    for path in ("/webhooks/deliveries?webhook_id=4711", "/audit-log?api_key_id=4711", "/audit-log?user_id=4711"):
        assert (api.get(path).status_code, api.get(path).json()) == (200, []), path
    key = there["api-keys/{key_id}"]
    assert api("DELETE", f"/api-keys/{key}").status_code == 200
    assert api.get(f"/audit-log?api_key_id={key}").status_code == 200


def test_every_filter_by_an_id_is_known_here() -> None:
    """One that is new is looked at: does it tell of another project's objects?"""
    found = {
        f"{method} {path}?{parameter['name']}"
        for method, path, operation in endpoints()
        for parameter in operation["parameters"]
        if parameter["in"] == "query" and parameter["name"].endswith("id") and parameter["name"] != "before_id"
    }
    assert found == {
        "GET /webhooks/deliveries?webhook_id",
        "GET /audit-log?api_key_id",
        "GET /audit-log?user_id",  # people belong to no project; only what they did in this one is listed
        "GET /inbound-routes?domain_id",
        "GET /inbound?route_id",
        "GET /domains/by?id",
        "DELETE /domains?id",
    }


def test_no_list_shows_anything_of_another_project(
    api: Api, there: There, foreign_there: There, browser: Client
) -> None:
    lists = 0
    for method, path, _ in endpoints():
        if method == "GET" and "{" not in path:
            for call in (api, Session(browser, api.project.pk)):
                shown = call("GET", path)
                text = b"".join(shown) if shown.streaming else shown.content
                assert b"charlie" not in text, (path, text)
                lists += shown.status_code == 200
    assert lists > 15


def test_a_project_of_others_is_closed_to_a_session(foreign_api: Api, foreign_there: There, browser: Client) -> None:
    """§1.2: `You do not have access to this project.`"""
    session = Session(browser, foreign_api.project.pk)
    before = inventory(foreign_api)
    for method, path, operation in endpoints():
        if is_for_keys(operation):
            response = session(method, filled(path, foreign_there), example_of(operation))
            wanted = (403, "You do not have access to this project.")
            assert refusal(response, wanted[1]) == wanted, (method, path)
    assert inventory(foreign_api) == before


# --- Staff ---------------------------------------------------------------------------------------------------------


def staff_calls() -> list[tuple[str, str]]:
    """(METHOD, path) of every call of the staff API, from the URL map itself."""
    inside = next(p for p in get_resolver().url_patterns if str(p.pattern) == "api/sudo/")
    assert isinstance(inside, URLResolver)
    paths = [re.sub(r"<\w+:(\w+)>", "4711", str(pattern.pattern)) for pattern in inside.url_patterns]
    return [(method, path) for path in paths for method in ("GET", "POST", "PUT", "PATCH", "DELETE")]


@pytest.mark.parametrize(
    ("way", "wanted"),
    [
        ("a project's key", "Invalid API key."),
        ("its owner's session", "You do not have sudo access."),
        ("nothing", "auth_required"),
    ],
)
def test_nobody_but_staff_gets_into_the_staff_api(
    way: str, wanted: str, api: Api, browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even to a 404 or a 405: whoever is not staff learns nothing of what there is."""
    client = browser if way == "its owner's session" else Client()
    headers = {"Authorization": f"Bearer {api.token}"} if way == "a project's key" else {}
    monkeypatch.setattr(guesses, "WRONG", Rate("wrong keys", 1_000_000, 60))
    before, calls = inventory(api), staff_calls()
    for method, path in calls:
        response = client.generic(method, f"/api/sudo/{path}", b"{}", content_type="application/json", headers=headers)
        assert refusal(response, wanted) == (403, wanted), (method, path)
    assert len(calls) > 200
    assert inventory(api) == before


# --- Pages ---------------------------------------------------------------------------------------------------------


def pages() -> list[str]:
    """Every page of a project, as `/sends/{send_uuid}`."""
    inside = next(p for p in get_resolver().url_patterns if str(p.pattern) == "console/<int:project_id>")
    assert isinstance(inside, URLResolver)
    routes = [str(pattern.pattern) for pattern in inside.url_patterns if isinstance(pattern, URLPattern)]
    assert len(routes) == len(inside.url_patterns)
    return [re.sub(r"<\w+:(\w+)>", r"{\1}", route) for route in routes]


def on_pages(there: There) -> There:
    """Keys are called otherwise in the console's paths: `/keys/{key_id}`, and those of a domain in the second place."""
    return {**there, "keys/{key_id}": there["api-keys/{key_id}"]}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_page_of_another_project_opens(
    api: Api, foreign_api: Api, foreign_there: There, browser: Client, method: str
) -> None:
    """Neither Charlie's project, nor his objects in Alice's: both look absent. 405: the page knows only the other method."""
    there = on_pages(foreign_there)
    before = inventory(foreign_api)
    for page in pages():
        path = filled(page, there)
        assert browser.generic(method, f"/console/{foreign_api.project.pk}{path}").status_code in (404, 405), page
        if "{" in page:
            assert browser.generic(method, f"/console/{api.project.pk}{path}").status_code in (404, 405), page
    assert inventory(foreign_api) == before
