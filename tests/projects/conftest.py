"""The cast, two projects, a client of the API and a DNS server on loopback."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest
from django.test import Client

from accounts.models import User
from projects.api_keys import create_key
from projects.domains import create_domain
from projects.models import Domain, Membership, Project
from projects.scopes import SCOPES
from relay_project.mail.dkim import generate_rsa_key
from relay_project.sandbox.dns import SandboxDns

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PEM = generate_rsa_key()  # one for all tests: making one takes a tenth of a second


@pytest.fixture
def alice(db: None) -> User:
    """Owns the project."""
    return User.objects.create(login="alice@example.test", name="Alice")


@pytest.fixture
def bob(db: None) -> User:
    """Is a member who may look at the project and its domains."""
    return User.objects.create(login="bob@example.test", name="Bob")


@pytest.fixture
def charlie(db: None) -> User:
    """Belongs to another project."""
    return User.objects.create(login="charlie@example.test", name="Charlie")


@pytest.fixture
def sam(db: None) -> User:
    """Staff."""
    return User.objects.create(login="sam@example.test", name="Sam", is_staff=True)


@pytest.fixture
def project(alice: User, bob: User) -> Project:
    """Alice's, with Bob."""
    project = Project.objects.create(name="Shop", send_type="transactional")
    Membership.objects.create(project=project, user=alice, scopes=list(SCOPES))
    Membership.objects.create(project=project, user=bob, scopes=["project.read", "domains.read"])
    return project


@pytest.fixture
def foreign(charlie: User) -> Project:
    """Charlie's."""
    project = Project.objects.create(name="Elsewhere", send_type="distributional")
    Membership.objects.create(project=project, user=charlie, scopes=list(SCOPES))
    return project


class Api:
    """A client of /api/console: calls give (status, body)."""

    def __init__(self, client: Client, headers: dict[str, str]) -> None:
        self.client = client
        self.headers = headers

    def __call__(self, method: str, path: str, body: Any = None, **extra: Any) -> tuple[int, Any]:
        if body is not None and "content_type" not in extra:
            extra["content_type"] = "application/json"
        headers = {**self.headers, **extra.pop("headers", {})}
        response = self.client.generic(
            method, f"/api/console{path}", body if isinstance(body, bytes) else _json(body), headers=headers, **extra
        )
        assert response["Content-Type"] == "application/json"
        return response.status_code, response.json()

    def get(self, path: str, body: Any = None, **extra: Any) -> tuple[int, Any]:
        return self("GET", path, body, **extra)

    def post(self, path: str, body: Any = None, **extra: Any) -> tuple[int, Any]:
        return self("POST", path, body, **extra)

    def patch(self, path: str, body: Any = None, **extra: Any) -> tuple[int, Any]:
        return self("PATCH", path, body, **extra)

    def delete(self, path: str, body: Any = None, **extra: Any) -> tuple[int, Any]:
        return self("DELETE", path, body, **extra)


def _json(body: Any) -> bytes:
    return b"" if body is None else json.dumps(body).encode()


@pytest.fixture
def keyed(project: Project) -> Callable[..., Api]:
    """Makes clients with a key of the project that has the given scopes."""

    def make(*scopes: str) -> Api:
        return Api(Client(), {"Authorization": f"Bearer {create_key(project, 'k', scopes, ['127.0.0.1'])[1]}"})

    return make


@pytest.fixture
def api(keyed: Callable[..., Api]) -> Api:
    """A client with a key that may do everything in the project."""
    return keyed(*SCOPES)


@pytest.fixture
def foreign_api(foreign: Project) -> Api:
    """A client with a key that may do everything in the other project."""
    return Api(Client(), {"Authorization": f"Bearer {create_key(foreign, 'k', SCOPES, ['127.0.0.1'])[1]}"})


@pytest.fixture
def signed_in() -> Callable[..., Api]:
    """Makes clients of a person's browser session, in a project."""

    def make(user: User, project: Project | None = None, **headers: str) -> Api:
        client = Client()
        client.force_login(user, backend="accounts.sign_in.PasswordBackend")
        where = {"X-Project-ID": str(project.pk)} if project else {}
        return Api(client, {**where, **headers})

    return make


@pytest.fixture
def domain(project: Project) -> Domain:
    """A pending domain of the project."""
    return create_domain(project, "shop.example.test", "sel", PEM, NOW)


class ZoneDns(SandboxDns):
    """The sandbox's DNS, with records of the test's own."""

    def __init__(self, records: dict[str, list[str]]) -> None:
        super().__init__(txt=lambda name: records.get(name, []))
        self.own = records

    async def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        name = query.question[0].name
        alias = self.own.get(f"CNAME {name.to_text(omit_final_dot=True).lower()}")
        if not alias:
            return await super()._answer(query)
        response = dns.message.make_response(query, recursion_available=True)
        target = dns.name.from_text(alias[0])
        response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", target.to_text()))
        rdtype = query.question[0].rdtype
        if records := await self._records(target, "", rdtype):
            response.answer.append(dns.rrset.from_text(target, 60, "IN", rdtype, *records))
        else:
            response.authority.append(self._soa(target))
        return response

    async def _records(self, name: dns.name.Name, trouble: str, rdtype: dns.rdatatype.RdataType) -> list[str]:
        key = f"{dns.rdatatype.to_text(rdtype)} {name.to_text(omit_final_dot=True).lower()}"
        return self.own[key] if key in self.own else await super()._records(name, trouble, rdtype)


@pytest.fixture
def published(settings: Any) -> Iterator[dict[str, list[str]]]:
    """TXT records by name, answered by a DNS server that the product asks; others by `CNAME name` and `MX name`."""
    records: dict[str, list[str]] = {}
    server = ZoneDns(records)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    settings.DNS_RESOLVERS = [(server.address, server.port)]
    yield records
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
