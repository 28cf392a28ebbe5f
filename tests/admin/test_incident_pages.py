"""Incidents and the table of replies, as staff see them."""

from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry, User
from ips.models import Incident
from ips.remedies import BY_CAUSE
from projects.models import Event, Project
from relay_project.mail.classify import RULES, Cause

World = dict[type[Model], Model]
LIST = "admin:ips_incident_changelist"
RULES_PAGE = "admin:bounce_rules_changelist"


def act(client: Client, incident: Incident, action: str, note: str) -> str:
    answer = client.post(reverse(f"admin:ips_incident_{action}", args=[incident.pk]), {"note": note}, follow=True)
    assert answer.status_code == 200
    incident.refresh_from_db()
    return "; ".join(str(message) for message in answer.context["messages"])


def test_an_incident_says_what_happened_and_what_to_do(staff_client: Client, world: World) -> None:
    incident: Any = world[Incident]
    page = staff_client.get(reverse("admin:ips_incident_change", args=[incident.pk])).content.decode()
    assert "removal" in page
    assert "Postfix reject_rbl_client" in page, "where the rule is written"
    assert "554 &lt;b&gt;listed" in page
    assert set(BY_CAUSE) == set(Cause)


def test_staff_acknowledge_and_close_it_with_a_note(staff_client: Client, sam: User, world: World) -> None:
    incident: Any = world[Incident]
    system = Project.objects.create(name="System", send_type="transactional", is_system=True)
    asked = staff_client.get(reverse("admin:ips_incident_acknowledge", args=[incident.pk])).content.decode()
    assert "IP reputation at example.net" in asked
    assert act(staff_client, incident, "acknowledge", "asked for removal") == "Acknowledged."
    assert (incident.acknowledged_by, incident.note) == (sam, "asked for removal")
    assert staff_client.get(reverse("admin:ips_incident_acknowledge", args=[incident.pk])).status_code == 404
    assert act(staff_client, incident, "close", "delisted") == "Closed."
    assert incident.closed_at is not None
    assert list(AuditEntry.objects.order_by("id").values_list("action", "actor_id"))[-2:] == [
        ("incident.acknowledged", sam.pk),
        ("incident.closed", sam.pk),
    ]
    [event] = Event.objects.filter(kind="incident.closed")
    assert (event.project_id, event.payload["note"]) == (system.pk, "delisted")


@pytest.mark.parametrize(
    ("query", "shown"),
    [("", {"open.example", "known.example"}), ("?standing=new", {"open.example"}), ("?standing=closed", {"closed.example"}),
     ("?standing=all", {"open.example", "known.example", "closed.example"}), ("?q=known", {"known.example"})],
)  # fmt: skip
def test_the_list_shows_open_ones_unless_asked_otherwise(
    staff_client: Client, world: World, query: str, shown: set[str]
) -> None:
    now = timezone.now()
    first: Any = world[Incident]
    for site, marks in {
        "open.example": {},
        "known.example": {"acknowledged_at": now},
        "closed.example": {"closed_at": now},
    }.items():
        Incident.objects.create(
            source_ip=first.source_ip, site=site, cause="rate", rule="rate", attempt_count=1, opened_at=now,
            last_seen_at=now, last_project_id=1, last_send_id=1, **marks,
        )  # fmt: skip
    page = staff_client.get(reverse(LIST) + query).content.decode()
    assert {site for site in ("open.example", "known.example", "closed.example") if site in page} == shown


def test_the_table_of_replies_is_shown_with_its_sources(staff_client: Client, world: World) -> None:
    page = staff_client.get(reverse(RULES_PAGE)).content.decode()
    assert all(f'id="{rule.verdict.rule}"' in page for rule in RULES)
    assert "RFC 6647 §2" in page


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({"reply": "550 5.1.1 nobody <b>here</b>"}, ["mailbox-unknown", "suppresses the address", "&lt;b&gt;here"]),
        ({"reply": "421 too many connections", "stage": "dial"}, ["early-rate", "slows down this site"]),
        ({"reply": "552 5.2.2 full"}, ["mailbox-full", "counts towards a suppression"]),
        ({"reply": "hello"}, ["That is no SMTP reply"]),
        ({"reply": "550 no", "stage": "nonsense"}, ["rcpt-55x"]),
    ],
)
def test_a_reply_can_be_tried(staff_client: Client, world: World, asked: dict[str, str], shown: list[str]) -> None:
    answer = staff_client.get(reverse(RULES_PAGE), asked)
    assert answer.status_code == 200
    assert [text for text in shown if text not in answer.content.decode()] == []


def test_only_staff_see_the_table(client: Client, bob: User) -> None:
    client.force_login(bob)
    assert client.get(reverse(RULES_PAGE)).status_code in (302, 403)
