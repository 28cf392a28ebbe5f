"""The calls of the staff API: the contract's shapes (reference of operators, section 7), and what they do."""

from typing import Any

import pytest

from accounts.models import AuditEntry
from ips.models import Incident, IncidentCause, SiteLimit, SourceIp, TlsOverride
from projects.models import Domain, Project
from projects.setup import ensure_instance
from queues.choose import queue_for
from queues.models import Queue
from relay_project.db.lookup import forget_remembered
from sending.models import InboundMail, Operation, Suppression
from tests.sending.scene import Scene
from tests.staff_api.conftest import Call

pytestmark = pytest.mark.django_db

SHAPES: dict[str, set[str]] = {
    "servers": {
        "id", "created_at", "hostname", "last_ping_at", "is_alive", "api_workers", "email_workers", "webhook_workers",
        "incoming_workers",
    },
    "ip-addresses": {
        "id", "created_at", "server_id", "ip_address", "ptr", "queue", "is_ptr_forward_valid", "is_ptr_reverse_valid",
    },
    "queues": {"id", "created_at", "updated_at", "name"},
    "infrastructure-bounces": {
        "id", "created_at", "is_read", "smtp_code", "smtp_enhanced_code", "smtp_message", "send_recipient_id",
    },
    "debug/incoming-mails": {
        "id", "created_at", "type", "status", "raw_email", "mail_from", "rcpt_to", "parsed_data", "error_message",
    },
}  # fmt: skip


@pytest.fixture
def incident(source_ip: SourceIp) -> Incident:
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    return Incident.objects.create(
        source_ip=source_ip, site="google", cause=IncidentCause.IP_REPUTATION, rule="listed", attempt_count=3, opened_at=now,
        last_seen_at=now, last_reply="550 5.7.1 Listed by us", last_project_id=1, last_send_id=2,
    )  # fmt: skip


@pytest.fixture
def came_in(db: None) -> InboundMail:
    return InboundMail.objects.create(
        peer="192.0.2.9", recipients=["fbl@relay.test"], octets=b"Subject: \xff<b>\r\n", size_bytes=15, state="forged"
    )


def test_a_mail_that_came_in_is_read_with_a_note_and_again(call: Call, came_in: InboundMail) -> None:
    path = f"debug/incoming-mails/{came_in.pk}"
    assert call("GET", "debug/incoming-mails?state=applied").json() == []
    assert call("GET", path).json()["raw_email"] == "Subject: \ufffd<b>\n"
    assert AuditEntry.objects.filter(action="inbound_mail.source_shown").count() == 1
    assert call("POST", f"{path}/read-again").json()["status"] == "pending"
    assert call("POST", f"{path}/read-again").status_code == 400
    assert AuditEntry.objects.filter(action="inbound_mail.read_again").count() == 1


@pytest.mark.parametrize("path", SHAPES)
def test_lists_have_the_fields_of_the_contract(call: Call, incident: Incident, came_in: InboundMail, path: str) -> None:
    rows = call("GET", path).json()
    assert rows
    assert SHAPES[path] <= rows[0].keys()


def test_init_tells_the_installation(call: Call) -> None:
    ensure_instance()
    said = call("POST", "init").json()
    assert said["config"].keys() >= {"deployment", "app_version", "instance", "blacklists", "user"}
    assert said["instance"]["dkim_txt_value"].startswith("v=DKIM1")


def test_projects_are_listed_with_the_one_organisation(call: Call, shop: Project) -> None:
    said = call("GET", "projects?search=sho").json()
    assert said["projects"][0].keys() == {
        "id", "user_id", "name", "created_at", "updated_at", "organization_id", "send_type", "is_system",
    }  # fmt: skip
    assert said["orgs"] == call("GET", "projects/organizations").json()
    assert call("GET", f"projects/{shop.pk}").json()["project"]["name"] == "Shop"
    assert call("GET", "projects/999999").status_code == 404
    assert call("GET", "projects?organization_id=7").json() == {"projects": [], "orgs": []}


def test_an_address_is_moved_disabled_and_warmed_up(call: Call, source_ip: SourceIp, queue: Queue) -> None:
    other = call("POST", "queues", {"name": "shop"}).json()
    moved = call("PATCH", f"ip-addresses/{source_ip.pk}", {"queue_id": other["id"], "is_warming_up": True}).json()
    assert (moved["queue"]["name"], moved["warmup_ceiling"] is not None) == ("shop", True)
    idle = call("PATCH", f"ip-addresses/{source_ip.pk}", {"queue_id": None, "is_enabled": False}).json()
    assert (idle["queue"], idle["is_enabled"]) == (None, False)
    refused = call("PATCH", f"ip-addresses/{source_ip.pk}", {"queue_id": 999999})
    assert (refused.status_code, refused.json()["message"]) == (400, "Queue with ID '999999' does not exist.")
    refused = call("PATCH", "ip-addresses/999999", {})
    assert (refused.status_code, refused.json()["message"]) == (400, "IP address with ID '999999' does not exist.")


def test_a_server_keeps_its_workers(call: Call, source_ip: SourceIp) -> None:
    assert call("PATCH", f"servers/{source_ip.server_id}", {}).status_code == 200
    refused = call("PATCH", f"servers/{source_ip.server_id}", {"email_workers": 4})
    assert (refused.status_code, "SENDER_PROCESSES" in refused.json()["message"]) == (400, True)
    assert call("PATCH", "servers/999999", {}).json()["message"] == "Server with ID 999999 does not exist."


def test_a_project_gets_a_queue_of_its_own_and_gives_it_back(call: Call, queue: Queue, shop: Project) -> None:
    assert queue_for(shop) == queue
    own = call("POST", "queues", {"name": "shop"}).json()
    assert call("PUT", f"projects/{shop.pk}/queue", {"queue_id": own["id"]}).json()["queue"]["project_ids"] == [shop.pk]
    forget_remembered()
    assert queue_for(shop).name == "shop"
    assert call("DELETE", f"queues/{own['id']}").json()["message"].startswith("Projects use this queue")
    assert call("PUT", f"projects/{shop.pk}/queue", {}).json() == {"project_id": shop.pk, "queue": None}
    forget_remembered()
    assert queue_for(shop) == queue
    assert call("DELETE", f"queues/{own['id']}").json() == []
    assert call("DELETE", f"queues/{queue.pk}").json()["message"] == "The default queues cannot be removed."


def test_a_queue_that_holds_mail_is_not_removed(call: Call, scene: Scene) -> None:
    own = Queue.objects.create(name="shop")
    scene.send("ann@a.test")
    from sending.models import Waiting

    Waiting.objects.update(queue_id=own.pk)
    assert call("DELETE", f"queues/{own.pk}").json()["message"].startswith("Mail waits in this queue")


@pytest.mark.parametrize("name", ["", "Shop", "a b", "-a", "x" * 65, "ä"])
def test_names_of_queues_are_plain(call: Call, name: str) -> None:
    refused = call("POST", "queues", {"name": name})
    assert (refused.status_code, refused.json()["violations"][0]["property"]) == (422, "name")


def test_a_queue_is_paused_and_resumed(call: Call, queue: Queue) -> None:
    assert call("POST", f"queues/{queue.pk}/pause", {}).status_code == 422
    paused = call("POST", f"queues/{queue.pk}/pause", {"reason": "Night"}).json()
    assert (paused["paused_at"] is not None, paused["pause_reason"]) == (True, "Night")
    assert call("POST", f"queues/{queue.pk}/resume").json()["paused_at"] is None
    actions = list(AuditEntry.objects.filter(subject_kind="queue").values_list("action", flat=True))
    assert sorted(actions) == ["queue.paused", "queue.resumed"]


def test_orders_are_given_and_stopped(call: Call, queue: Queue) -> None:
    given = call("POST", "orders", {"kind": "flush", "queue_id": queue.pk, "domain": "A.test", "reason": "Back"}).json()
    assert (given["kind"], given["domain"], given["ordered_by"]) == ("flush", "a.test", "Sam")
    assert call("POST", f"orders/{given['id']}/stop").json()["stopped_at"] is not None
    assert [one["id"] for one in call("GET", "orders").json()] == [given["id"]]
    assert Operation.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "burn"}, "kind"),
        ({"kind": "flush", "reason": " "}, "reason"),
        ({"kind": "reroute"}, "to_queue_id"),
        ({"kind": "purge", "with_scheduled": True}, "with_scheduled"),
        ({"kind": "purge", "domain": "not a domain"}, "domain"),
        ({"kind": "purge", "project_id": 2**62}, "project_id"),
    ],
)
def test_senseless_orders_name_the_field(call: Call, queue: Queue, body: dict[str, Any], field: str) -> None:
    refused = call("POST", "orders", {"queue_id": queue.pk, "reason": "Because", **body})
    assert (refused.status_code, refused.json()["violations"][0]["property"]) == (422, field)
    assert Operation.objects.count() == 0


def test_sites_are_limited_paused_and_resumed(call: Call, source_ip: SourceIp) -> None:
    limits = {"site": "Google", "source_ip_id": source_ip.pk, "per_minute": 60}
    assert call("PUT", "sites/limits", limits).json() == {"changed": True}
    assert call("PUT", "sites/limits", limits).json() == {"changed": False}
    assert call("POST", "sites/pause", {"site": "google", "reason": "Asked"}).json() == {"changed": True}
    rows = call("GET", "sites?site=google").json()
    assert {(row["source_ip_id"], row["per_minute"], row["paused_at"] is None) for row in rows} == {
        (source_ip.pk, 60, True),
        (None, None, False),
    }
    assert call("POST", "sites/resume", {"site": "google"}).json() == {"changed": True}
    assert call("POST", "sites/flush", {"site": "google"}).json() == {"changed_count": 0}
    assert call("POST", "sites/forget", {"site": "google"}).json() == {"changed_count": 0}
    refused = call("PUT", "sites/limits", {"site": "google", "per_hour": 0, "source_ip_id": 999})
    assert {one["property"] for one in refused.json()["violations"]} == {"per_hour", "source_ip_id"}
    assert SiteLimit.objects.count() == 1


def test_tls_overrides_are_set_twice_and_removed(call: Call) -> None:
    for _ in range(2):
        said = call("PUT", "tls-overrides/Example.com", {"requirement": "verified", "reason": "Agreed"}).json()
        assert (said["domain"], said["requirement"]) == ("example.com", "verified")
    assert TlsOverride.objects.count() == 1
    assert call("DELETE", "tls-overrides/example.com").json() == []
    assert call("DELETE", "tls-overrides/example.com").json() == []
    assert call("PUT", "tls-overrides/no_domain", {"requirement": "none", "reason": "x"}).status_code == 422


def test_incidents_are_acknowledged_and_closed(call: Call, incident: Incident) -> None:
    assert call("GET", "infrastructure-bounces?is_read=false").json()[0]["smtp_enhanced_code"] == "5.7.1"
    assert call("POST", "infrastructure-bounces/mark-all-as-read").json() == {"marked_count": 1}
    assert call("PATCH", f"infrastructure-bounces/{incident.pk}/mark-as-read").json()["is_read"] is True
    assert call("GET", "incidents?state=acknowledged").json()[0]["id"] == incident.pk
    closed = call("PATCH", f"incidents/{incident.pk}", {"state": "closed", "note": "Done"}).json()
    assert (closed["state"], closed["note"]) == ("closed", "Done")
    assert call("PATCH", f"incidents/{incident.pk}", {"state": "acknowledged"}).status_code == 400


def test_health_checks_have_the_contracts_shape(call: Call) -> None:
    said = call("POST", "health-checks").json()
    assert said.keys() == {"results", "last_checked_at"}
    assert said["results"]["database"].keys() >= {"passed", "data", "checked_at", "duration_ms"}
    assert call("GET", "health-checks").json().keys() == said.keys()


def test_sends_of_everybody_are_listed_and_reading_content_is_noted(call: Call, scene: Scene) -> None:
    accepted = scene.send("ann@a.test", subject="Private")
    said = call("GET", "sends").json()
    assert (said["sends"][0]["id"], said["projects"][0]["id"]) == (accepted.send_id, scene.project.pk)
    assert call("GET", f"sends?project_id={scene.project.pk}&subject_search=priv").json()["sends"]
    assert call("GET", "sends?subject_search=priv").json()["violations"][0]["property"] == "project_id"
    assert call("GET", "sends?project_id=999999").status_code == 404
    uuid = said["sends"][0]["uuid"]
    assert call("GET", f"sends/uuid/{uuid}").json()["project"]["id"] == scene.project.pk
    assert not AuditEntry.objects.filter(action="content.viewed").exists()
    assert "Private" in call("GET", f"sends/uuid/{uuid}/content").json()["raw"]
    assert AuditEntry.objects.get(action="content.viewed").project_id == scene.project.pk
    assert call("GET", "sends/uuid/nonsense").status_code == 404


def test_domains_of_everybody_are_suspended_and_reinstated(call: Call, scene: Scene) -> None:
    listed = call("GET", f"domains?project_id={scene.project.pk}&status=active").json()
    assert [one["id"] for one in listed] == [scene.domain.pk]
    assert call("POST", f"domains/{scene.domain.pk}/suspend", {"reason": "Spam"}).json()["status"] == "suspended"
    assert call("POST", f"domains/{scene.domain.pk}/reinstate").json()["status"] == "pending"
    assert call("POST", f"domains/{scene.domain.pk}/reinstate").status_code == 400
    assert Domain.objects.get(pk=scene.domain.pk).status == "pending"


def test_an_address_is_suppressed_for_everybody(call: Call, scene: Scene) -> None:
    made = call("POST", "suppressions", {"email": "Ann@A.test", "description": "by law"}).json()
    assert scene.kinds(scene.send("ann@a.test")) != []
    assert Suppression.objects.get().project_id is None
    assert [one["id"] for one in call("GET", "suppressions").json()] == [made["id"]]
    assert call("POST", "suppressions", {"email": "x@a.test", "list": "news"}).status_code == 422
    assert call("DELETE", f"suppressions/{made['id']}").json() == []
    assert not Suppression.objects.exists()
    actions = AuditEntry.objects.filter(subject_kind="suppression").values_list("action", flat=True)
    assert sorted(actions) == ["suppression.added", "suppression.removed"]


def test_the_backlog_is_told_by_queue(call: Call, scene: Scene) -> None:
    scene.send("ann@a.test")
    assert sum(one["due"] for one in call("GET", "backlog").json()) == 1


def test_the_audit_log_is_filtered(call: Call, queue: Queue) -> None:
    call("POST", f"queues/{queue.pk}/pause", {"reason": "Night"})
    entries = call("GET", f"audit-log?action=queue.&subject_kind=queue&subject_id={queue.pk}").json()
    assert [(one["action"], one["actor"]) for one in entries] == [("queue.paused", "Sam")]
    assert call("GET", "audit-log?actor_id=x").status_code == 400


def test_a_projects_limits_are_set_and_taken_back(call: Call, shop: Project) -> None:
    said = call("PATCH", f"projects/{shop.pk}/limits", {"sends_per_second": 77}).json()
    assert said["limits"]["sends_per_second"] == 77
    assert call("GET", f"projects/{shop.pk}/limits").json()["limits"] == said["limits"]
    back = call("PATCH", f"projects/{shop.pk}/limits", {"sends_per_second": None}).json()
    assert back["limits"]["sends_per_second"] != 77
    refused = call("PATCH", f"projects/{shop.pk}/limits", {"sends_per_second": 0})
    assert refused.json()["violations"][0]["property"] == "sends_per_second"


def test_a_project_is_suspended_resumed_archived_and_restored(call: Call, shop: Project) -> None:
    assert call("POST", f"projects/{shop.pk}/suspend", {}).status_code == 422
    suspended = call("POST", f"projects/{shop.pk}/suspend", {"reason": "Spam"}).json()
    assert (suspended["status"], suspended["suspend_reason"]) == ("suspended", "Spam")
    assert call("POST", f"projects/{shop.pk}/resume").json()["status"] == "active"
    assert call("POST", f"projects/{shop.pk}/resume").status_code == 400
    assert call("POST", f"projects/{shop.pk}/archive", {}).json()["status"] == "archived"
    assert call("POST", f"projects/{shop.pk}/restore").json()["status"] == "active"
    assert AuditEntry.objects.filter(project_id=shop.pk).count() == 4


def test_series_of_the_installation_name_projects(call: Call, shop: Project) -> None:
    from datetime import UTC, datetime

    from sending.models import DayCount

    today = datetime.now(UTC).date()
    DayCount.objects.create(project_id=0, dimension="project", key=str(shop.pk), day=today, total=7, accepted=5)
    [series] = call("GET", "analytics/series?by=project").json()["series"]
    assert (series["name"], series["sends"], series["accepted"]) == ("Shop", 7, 5)
    assert call("GET", "analytics/series?by=weather").status_code == 422
