# ruff: noqa: F811 — pytest hands fixtures over by name
"""The tenants of the API's own tests: Alice's project with something of everything, and Charlie's beside it."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from accounts.models import User
from ips.models import Incident, Server, SourceIp
from projects.domains import create_domain
from projects.models import Domain, Membership, Project
from projects.staff_keys import NewStaffKey, create_staff_key
from queues.models import Queue
from sending.models import InboundMail, Operation, ReceivedMail, SandboxMessage
from sending.suppressions.change import Wanted, put
from tests.projects.conftest import NOW, PEM, alice, bob, charlie, foreign, project, sam  # noqa: F401 — fixtures
from tests.sending.api.conftest import Api, instance  # noqa: F401 — fixtures

There = Mapping[str, int | str]


@pytest.fixture
def api(instance: None, project: Project) -> Api:
    """A client that may do everything in Alice's project."""
    return sending_client(project, "shop.example.test")


@pytest.fixture
def foreign_api(instance: None, foreign: Project) -> Api:
    """The same of Charlie's."""
    return sending_client(foreign, "charlie.example.test")


def sending_client(project: Project, name: str) -> Api:
    """A client of a project whose domain may send."""
    domain = create_domain(project, name, None, PEM, now=NOW)
    Domain.objects.filter(pk=domain.pk).update(status="active")
    return Api(project)


@pytest.fixture
def there(api: Api) -> There:
    """Something of Alice's for every parameter of a path."""
    return objects_of(api, "shop")


@pytest.fixture
def foreign_there(foreign_api: Api) -> There:
    """The same of Charlie's; whatever has a name is called `charlie`."""
    return objects_of(foreign_api, "charlie")


def objects_of(api: Api, word: str) -> There:
    """One object of each kind in the project of a client, by the place that a path has for it (`named()`)."""
    send_id = api.send(**{"from": f"me@{word}.example.test", "subject": f"From {word}"})
    send_uuid = api.get(f"/sends/{send_id}").json()["uuid"]
    domain = Domain.objects.get(project=api.project).pk
    suppressed = made(api, "/suppressions", {"email": f"dora@{word}.example"})
    webhook = made(api, "/webhooks", {"url": f"https://{word}.example.com/a", "events": ["domain.created"]})["id"]
    mailbox = made(api, "/mailboxes", {"name": f"did:web:{word}.example"})["id"]
    token = made(api, f"/mailboxes/{mailbox}/tokens", {"kind": "receive"})["id"]
    key = made(api, "/api-keys", {"name": f"{word}'s other", "scopes": ["sends.read"]})["id"]
    dkim_key = made(api, f"/domains/{domain}/dkim-keys", {"algorithm": "ed25519"})["id"]
    invitation = made(api, "/invitations", {"email": f"eve@{word}.example", "role": "viewer"})["id"]
    members = Membership.objects.filter(project=api.project).order_by("pk")
    mail = SandboxMessage.objects.create(
        project_id=api.project.pk, subject=f"For {word}", data=b"Subject: x\r\n\r\n"
    ).pk
    receiving = made(api, "/inbound-domains", {"domain": f"in.{word}.example.test"})
    route = made(api, "/inbound-routes", {"address": f"support@{receiving['domain']}"})["id"]
    return {
        "inbound-domains/{domain_id}": receiving["id"],
        "inbound-routes/{route_id}": route,
        "inbound/{received_id}": received(api, word, route),
        "received/{received_id}": received(api, word, route),
        "receiving/{domain_id}": receiving["id"],
        "routes/{route_id}": route,
        "attachments/{attachment_id}": 1,
        "files/{number}": 1,
        "sends/{send_id}": send_id,
        "uuid/{send_uuid}": send_uuid,
        "sends/{send_uuid}": send_uuid,
        "api-keys/{key_id}": key,
        "project-users/{member_id}": members.reverse()[0].pk,
        "members/{membership_id}": members.reverse()[0].pk,
        "memberships/{member_id}": members[0].pk,
        "memberships/{membership_id}": members[0].pk,
        "invitations/{invitation_id}": invitation,
        "domains/{domain}": domain,
        "domains/{domain_id}": domain,
        "dkim-keys/{key_id}": dkim_key,
        "suppressions/{suppression_id}": suppressed["id"],
        "email/{email}": suppressed["email"],
        "webhooks/{webhook_id}": webhook,
        "mailboxes/{mailbox_id}": mailbox,
        "tokens/{token_id}": token,
        "replay/{replay_id}": made(api, f"/webhooks/{webhook}/replay", {})["id"],
        "deliveries/{delivery_id}": made(api, f"/webhooks/{webhook}/test", {})["id"],
        "sandbox/{message_id}": mail,
    }


def staff_objects(project: Project, staff: User) -> There:
    """One object of each kind that a path of the staff API has a place for, beside those of a project."""
    now = datetime.now(UTC)
    queue = Queue.objects.create(name="aside")
    server = Server.objects.create(hostname="mx1.relay.test")
    address = SourceIp.objects.create(server=server, address="192.0.2.7").pk
    seen = {"opened_at": now, "last_seen_at": now, "last_project_id": project.pk, "last_send_id": 1}
    incident = Incident.objects.create(
        source_ip_id=address, site="google", cause="ip-reputation", rule="a row", attempt_count=1, **seen
    ).pk
    order = Operation.objects.create(kind="flush", queue=queue, reason="a test", ordered_by="Sam", until_id=7)
    suppression, _ = put(None, Wanted("dora@everywhere.example"))
    return {
        "users/{user_id}": User.objects.create(login="frank@example.test", name="Frank").pk,
        "staff-keys/{key_id}": create_staff_key(staff, NewStaffKey("other"), actor=staff)[0].pk,
        "projects/{project_id}": project.pk,
        "queues/{queue_id}": queue.pk,
        "servers/{server_id}": server.pk,
        "ip-addresses/{address_id}": address,
        "incidents/{incident_id}": incident,
        "infrastructure-bounces/{incident_id}": incident,
        "orders/{order_id}": order.pk,
        "suppressions/{suppression_id}": suppression.pk,
        "tls-overrides/{domain}": "bank.test",
    }


def received(api: Api, word: str, route: int) -> int:
    """A mail that came in for the project."""
    octets = b"Content-Type: image/png\r\n\r\nx"
    mail = InboundMail.objects.create(peer="192.0.2.1", recipients=[], octets=octets, size_bytes=len(octets))
    row = ReceivedMail.objects.create(
        project_id=api.project.pk, mail_id=mail.pk, route_id=route, recipients=[], subject=f"For {word}", size_bytes=9
    )
    return int(row.pk)


def made(api: Api, path: str, body: Mapping[str, Any]) -> Any:
    """The answer of an endpoint that makes something."""
    response = api.post(path, body)
    assert response.status_code == 200, response.content
    return response.json()


def named(path: str, name: str) -> str:
    """The place of a parameter: `api-keys/{key_id}`, of any path in which it stands behind that word."""
    return re.findall(rf"[^/]+/{{{name}}}", path)[0]


def filled(path: str, there: There) -> str:
    """The path with an object in each of its places; fails for a place that objects_of() does not know."""
    unknown = [place for name in re.findall(r"{(\w+)}", path) if (place := named(path, name)) not in there]
    assert not unknown, f"{path}: objects_of() in tests/contract/conftest.py makes nothing for {unknown}"
    return re.sub(r"{(\w+)}", lambda match: str(there[named(path, match[1])]), path)
