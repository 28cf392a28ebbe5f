# ruff: noqa: F811 — pytest hands fixtures over by name
"""Two projects that may send, and a client of the API that gives whole responses."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from projects.api_keys import create_key
from projects.models import Domain, Project
from projects.scopes import SCOPES
from projects.setup import ensure_instance
from queues.setup import ensure_queues
from tests.projects.conftest import alice, bob, charlie, foreign, project  # noqa: F401 — fixtures


class Api:
    """A client of /api/console with a key of one project."""

    def __init__(self, project: Project, scopes: Any = SCOPES) -> None:
        self.project = project
        self.client = Client()
        self.token = create_key(project, "k", scopes, ["127.0.0.1"])[1]

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", **headers}
        content_type = headers.pop("content_type", "application/json")
        return self.client.generic(method, f"/api/console{path}", raw, content_type=content_type, headers=headers)

    def get(self, path: str, **headers: str) -> HttpResponse:
        return self("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> HttpResponse:
        return self("POST", path, body, **headers)

    def send(self, **fields: Any) -> int:
        """Accept a mail and give its id."""
        response = self.post("/sends", mail(**fields))
        assert response.status_code == 200, response.content
        return response.json()["id"]


def mail(**fields: Any) -> dict[str, Any]:
    """A body that is right; a field given as ... is left out."""
    body = {
        "from": "shop@shop.example.test",
        "to": "dora@example.test",
        "subject": "Hello",
        "body_text": "Hi.",
        **fields,
    }
    return {name: value for name, value in body.items() if value is not ...}


@pytest.fixture
def instance(db: None) -> None:
    """What the first start makes."""
    ensure_queues()
    ensure_instance()


@pytest.fixture
def domain(instance: None, project: Project) -> Domain:
    """May send."""
    return Domain.objects.create(project=project, domain="shop.example.test", status="active")


@pytest.fixture
def api(domain: Domain) -> Api:
    """A client that may do everything in the project."""
    return Api(domain.project)


@pytest.fixture
def keyed(domain: Domain) -> Callable[..., Api]:
    """Makes clients that may do only what is said."""
    return lambda *scopes: Api(domain.project, scopes)


@pytest.fixture
def foreign_api(instance: None, foreign: Project) -> Api:
    """A client of Charlie's project, which may send from the same domain name."""
    Domain.objects.create(project=foreign, domain="shop.example.test", status="active")
    return Api(foreign)
