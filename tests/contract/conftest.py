# ruff: noqa: F811 — pytest hands fixtures over by name
"""The tenants of the API's own tests: Alice's project with something of everything, and Charlie's beside it."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from projects.domains import create_domain
from projects.models import Domain, Membership, Project
from tests.projects.conftest import NOW, PEM, alice, bob, charlie, foreign, project, sam  # noqa: F401 — fixtures
from tests.sending.api.conftest import Api, instance  # noqa: F401 — fixtures

There = Mapping[str, int | str]


@pytest.fixture
def api(instance: None, project: Project) -> Api:
    """A client that may do everything in Alice's project."""
    return sending_client(project)


@pytest.fixture
def foreign_api(instance: None, foreign: Project) -> Api:
    """The same of Charlie's."""
    return sending_client(foreign)


def sending_client(project: Project) -> Api:
    """A client of a project whose domain may send."""
    domain = create_domain(project, "shop.example.test", None, PEM, now=NOW)
    Domain.objects.filter(pk=domain.pk).update(status="active")
    return Api(project)


@pytest.fixture
def there(api: Api) -> There:
    """Something of Alice's for every parameter of a path, by the parameter's name."""
    return objects_of(api)


@pytest.fixture
def foreign_there(foreign_api: Api) -> There:
    """The same of Charlie's."""
    return objects_of(foreign_api)


def objects_of(api: Api) -> There:
    """One object of each kind in the project of a client, by the place that a path has for it (`named()`)."""
    send_id = api.send()
    suppressed = made(api, "/suppressions", {"email": "dora@nowhere.example"})
    webhook = made(api, "/webhooks", {"url": "https://hooks.example.com/a", "events": ["domain.created"]})
    return {
        "sends/{send_id}": send_id,
        "uuid/{send_uuid}": api.get(f"/sends/{send_id}").json()["uuid"],
        "api-keys/{key_id}": made(api, "/api-keys", {"name": "other", "scopes": ["sends.read"]})["id"],
        "project-users/{member_id}": Membership.objects.filter(project=api.project).latest("pk").pk,
        "memberships/{member_id}": Membership.objects.filter(project=api.project).earliest("pk").pk,
        "invitations/{invitation_id}": made(api, "/invitations", {"email": "eve@x.example", "role": "viewer"})["id"],
        "domains/{domain}": Domain.objects.get(project=api.project).pk,
        "dkim-keys/{key_id}": made(api, "/domains/shop.example.test/dkim-keys", {"algorithm": "ed25519"})["id"],
        "suppressions/{suppression_id}": suppressed["id"],
        "email/{email}": suppressed["email"],
        "webhooks/{webhook_id}": webhook["id"],
    }


def made(api: Api, path: str, body: Mapping[str, Any]) -> Any:
    """The answer of an endpoint that makes something."""
    response = api.post(path, body)
    assert response.status_code == 200, response.content
    return response.json()


def named(path: str, name: str) -> str:
    """The place of a parameter: `api-keys/{key_id}`, of any path in which it stands behind that word."""
    return re.findall(rf"[^/]+/{{{name}}}", path)[0]
