"""Sam is staff; Alice owns a project; a key of Sam's, and the installation's queues and addresses."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from ips.models import Server, SourceIp
from projects.models import Project
from projects.staff_keys import NewStaffKey, create_staff_key
from queues.models import Queue
from queues.setup import ensure_queues
from tests.sending.scene import Scene, add_domain, make_scene

Call = Callable[..., Any]


@pytest.fixture
def sam(db: None) -> User:
    return User.objects.create(login="sam@relay.test", email="sam@relay.test", name="Sam", is_staff=True)


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create(login="alice@example.com", email="alice@example.com", name="Alice")


@pytest.fixture
def key(sam: User) -> str:
    return create_staff_key(sam, NewStaffKey("Terraform"), actor=sam)[1]


@pytest.fixture
def queue(db: None) -> Queue:
    return ensure_queues()[0]


@pytest.fixture
def source_ip(queue: Queue) -> SourceIp:
    server = Server.objects.create(hostname="mx1.relay.test")
    return SourceIp.objects.create(server=server, queue=queue, address="192.0.2.7")


@pytest.fixture
def shop(db: None) -> Project:
    return Project.objects.create(name="Shop", send_type="transactional")


@pytest.fixture
def call(key: str) -> Call:
    """call("GET", "queues") with Sam's key; returns the response."""
    client = Client()

    def make(method: str, path: str, body: Any = None, **headers: str) -> Any:
        sent = {"Authorization": f"Bearer {key}", **headers}
        send = getattr(client, method.lower())
        if method in ("GET", "DELETE"):
            return send(f"/api/sudo/{path}", headers=sent)
        return send(f"/api/sudo/{path}", data=body or {}, content_type="application/json", headers=sent)

    return make


@pytest.fixture
def scene(queue: Queue) -> Scene:
    """A project that sends, on the default queue."""
    system = Project.objects.create(name="System", send_type="transactional", is_system=True)
    add_domain(system, "relay.test")
    return make_scene()
