"""Odd HTTP: whatever arrives at any call, the answer is a 4xx of the one shape, never a 5xx and never a page."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpResponse

from relay_project.web.openapi import document, operations
from tests.contract.conftest import There
from tests.sending.api.conftest import Api

pytestmark = pytest.mark.django_db

PREFIX = "/api/console"
ODD_BODIES = {
    "NaN": b'{"name": NaN}',
    "infinity": b'{"name": -Infinity}',
    "a number beyond floats": b'{"name": 1e400, "domain": 1e400, "from": 1e400}',
    "a number beyond integers": b'{"name": %d}' % 10**400,
    "deep nesting": b'{"from": ' + b"[" * 2000 + b"]" * 2000 + b"}",
    "deeper nesting": b'{"a":' * 100_000,
    "half a surrogate": b'{"name": "\\ud800"}',
    "no UTF-8": b'{"name": "\xff"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "two documents": b"{}{}",
    "a list": b"[]",
    "text": b'"name"',
    "null": b"null",
}
ODD_TYPES = (
    "text/plain",
    "application/json-patch+json",
    "multipart/form-data",
    "application/octet-stream",
    "nonsense",
    "",
)


@pytest.fixture(autouse=True)
def unlimited(settings: Any) -> None:
    """Every call several times is more than a minute's requests."""
    settings.REQUESTS_PER_MINUTE = settings.SESSION_REQUESTS_PER_MINUTE = settings.SENDS_PER_SECOND = 1_000_000


def calls() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(METHOD, path, operation) of what keys may call; no id of a path exists."""
    for path, method, operation in operations(document()):
        if path.startswith(PREFIX) and any("apiKey" in way for way in operation["security"]):
            yield method, path.removeprefix(PREFIX).replace("{", "").replace("}", ""), operation


def with_bodies() -> list[tuple[str, str]]:
    """Those that read a JSON body and name nothing in their path."""
    return [
        (method, path)
        for (path, method, operation) in operations(document())
        if path.startswith(PREFIX) and "{" not in path and any("apiKey" in way for way in operation["security"])
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    ]


def is_refusal(response: HttpResponse) -> bool:
    body = response.json()
    right = 400 <= response.status_code < 500 and body["status"] == response.status_code
    return right and isinstance(body["message"], str) and response["Content-Type"] == "application/json"


@pytest.mark.parametrize("odd", ODD_BODIES)
def test_odd_bodies_are_refused(api: Api, there: There, odd: str) -> None:
    wrong = []
    for method, path in with_bodies():
        response = api(method, path.removeprefix(PREFIX), ODD_BODIES[odd])
        is_harmless = response.status_code == 200 and path.endswith(("/sends/check", "/project"))  # unknown, absent
        if not is_refusal(response) and not is_harmless:
            wrong.append((method, path, response.status_code, response.content[:100]))
    assert wrong == []


@pytest.mark.parametrize("content_type", ODD_TYPES)
def test_other_content_types_are_refused(api: Api, content_type: str) -> None:
    wrong = []
    for method, path in with_bodies():
        response = api(method, path.removeprefix(PREFIX), b'{"x": 1}', content_type=content_type)
        if response.status_code not in (400, 415) or not is_refusal(response):
            wrong.append((method, path, response.status_code, response.content[:100]))
    assert wrong == []


def test_methods_that_a_call_does_not_know_are_405_in_the_one_shape(api: Api) -> None:
    """OPTIONS, too: nothing here is for other origins, and DRF's own would describe our code."""
    paths = {path for _, path, _ in calls()}
    for path in sorted(paths):
        for method in ("OPTIONS", "TRACE", "PROPFIND"):
            response = api(method, path)
            assert response.status_code == 405, (method, path)
            assert is_refusal(response), (method, path)


def test_head_is_get_without_a_body(api: Api) -> None:
    for method, path, _ in calls():
        if method == "GET":
            asked, headed = api.get(path), api("HEAD", path)
            assert headed.status_code == asked.status_code, path
            assert headed.streaming or headed.content == b"", path


def test_a_slash_at_the_end_is_another_route(api: Api) -> None:
    """No redirect, which would drop a body: 404, or 400 and 422 where it is part of an id or an address."""
    for method, path, _ in calls():
        response = api(method, f"{path}/")
        assert response.status_code in (400, 404, 422), (method, path)
        assert is_refusal(response), (method, path)


def test_of_a_field_that_comes_twice_the_last_counts(api: Api) -> None:
    """As almost every JSON reader has it; and a send is fingerprinted as it came."""
    raw = json.dumps({"from": "me@shop.example.test", "to": "dora@example.test", "body_text": "Hi."})
    twice = raw[:-1] + ', "subject": "first", "subject": "last"}'
    send = api.get(f"/sends/{api('POST', '/sends', twice.encode()).json()['id']}").json()
    assert send["subject"] == "last"


@pytest.mark.parametrize(
    "path", ["/sends/%00", "/sends/%ff", "/sends/١", "/sends/-1", "/sends/" + "9" * 400, "/sends/1%2F2"]
)
def test_odd_ids_are_refused(api: Api, path: str) -> None:
    assert is_refusal(api.get(path))
