"""Actions of the staff admin: they ask, act only on POST, call the rules and leave an audit entry."""

from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, User
from ips.models import SourceIp, TlsOverride
from projects.models import ApiKey, Domain, Project
from queues.models import Queue
from webhooks.models import Mailbox, Webhook, WebhookDelivery

World = dict[type[Model], Model]


def url_of(row: Model, action: str) -> str:
    opts = row._meta
    return reverse(f"admin:{opts.app_label}_{opts.model_name}_{action}", args=[row.pk])


def carry_out(client: Client, row: Model, action: str, **data: Any) -> str:
    """Ask, then confirm; the message that staff see."""
    asked = client.get(url_of(row, action))
    assert asked.status_code == 200
    assert "Continue?" in asked.content.decode() or "Which queue" in asked.content.decode()
    assert (
        not AuditEntry.objects.filter(subject_id=row.pk, subject_kind=row._meta.model_name)
        .exclude(detail={"reason": "maintenance"})
        .exists()
    )
    done = client.post(url_of(row, action), data, follow=True)
    assert done.status_code == 200
    return "; ".join(str(message) for message in done.context["messages"])


def last_entry() -> AuditEntry:
    entry = AuditEntry.objects.order_by("-id").first()
    assert entry is not None
    return entry


def test_a_queue_is_paused_with_a_reason_and_resumed(staff_client: Client, sam: User, world: World) -> None:
    queue: Any = world[Queue]
    assert carry_out(staff_client, queue, "pause", reason="Blocklisted") == "transactional is paused."
    queue.refresh_from_db()
    entry = last_entry()
    assert queue.paused_at is not None
    assert queue.pause_reason == "Blocklisted"
    assert (entry.action, entry.actor_id, entry.detail) == ("queue.paused", sam.pk, {"reason": "Blocklisted"})
    assert entry.address == "127.0.0.1"
    assert staff_client.get(url_of(queue, "pause")).status_code == 404
    staff_client.post(url_of(queue, "resume"))
    queue.refresh_from_db()
    assert queue.paused_at is None
    assert last_entry().action == "queue.resumed"


def test_a_missing_reason_is_asked_for_again(staff_client: Client, world: World) -> None:
    queue: Any = world[Queue]
    answer = staff_client.post(url_of(queue, "pause"), {"reason": " "})
    assert answer.status_code == 200
    assert "This field is required." in answer.content.decode()
    queue.refresh_from_db()
    assert queue.paused_at is None


def test_a_source_ip_is_disabled_enabled_and_moved(staff_client: Client, world: World) -> None:
    source_ip: Any = world[SourceIp]
    other = Queue.objects.create(name="distributional", is_default=True)
    carry_out(staff_client, source_ip, "disable")
    source_ip.refresh_from_db()
    assert not source_ip.is_enabled
    assert staff_client.get(url_of(source_ip, "disable")).status_code == 404
    staff_client.post(url_of(source_ip, "enable"))
    staff_client.post(url_of(source_ip, "move"), {"queue": other.pk})
    source_ip.refresh_from_db()
    assert source_ip.is_enabled
    assert source_ip.queue == other
    assert last_entry().detail == {"from": "transactional", "to": "distributional"}
    staff_client.post(url_of(source_ip, "move"), {"queue": ""})
    source_ip.refresh_from_db()
    assert source_ip.queue is None


def test_moving_to_the_same_queue_changes_and_records_nothing(staff_client: Client, world: World) -> None:
    source_ip: Any = world[SourceIp]
    before = AuditEntry.objects.count()
    answer = staff_client.post(url_of(source_ip, "move"), {"queue": source_ip.queue_id}, follow=True)
    assert [str(m) for m in answer.context["messages"]] == ["192.0.2.7 carries transactional already."]
    assert AuditEntry.objects.count() == before


def test_an_api_key_is_disabled(staff_client: Client, world: World) -> None:
    key: Any = world[ApiKey]
    assert carry_out(staff_client, key, "disable", reason="Found in a public repository") == "web shop is disabled."
    key.refresh_from_db()
    assert not key.is_enabled
    entry = last_entry()
    assert (entry.action, entry.project_id) == ("api_key.disabled", key.project_id)


def test_a_project_gets_limits_of_its_own(staff_client: Client, sam: User, world: World) -> None:
    project: Any = world[Project]
    asked = staff_client.get(url_of(project, "set_limits")).content.decode()
    assert "To, Cc and Bcc of one message together. Empty: 20." in asked
    said = carry_out(staff_client, project, "set_limits", sends_per_day="5000", recipients_per_send="50")
    assert said == "The limits of Shop are set."
    project.refresh_from_db()
    assert (project.sends_per_day, project.recipients_per_send, project.sends_per_second) == (5000, 50, None)
    entry = last_entry()
    assert (entry.action, entry.actor_label, entry.project_id) == ("project.limits_set", str(sam), project.pk)
    refused = staff_client.post(url_of(project, "set_limits"), {"recipients_per_send": "1001"}).content.decode()
    assert "Ensure this value is less than or equal to 1000." in refused


def test_a_domain_is_suspended_and_reinstated(staff_client: Client, world: World) -> None:
    domain: Any = world[Domain]
    assert carry_out(staff_client, domain, "suspend", reason="Phishing") == "shop.example is suspended."
    domain.refresh_from_db()
    assert domain.status == "suspended"
    assert last_entry().detail == {"reason": "Phishing"}
    staff_client.post(url_of(domain, "reinstate"))
    domain.refresh_from_db()
    assert domain.status == "pending"
    assert last_entry().action == "domain.reinstated"


def test_staff_are_made_and_unmade_but_nobody_unmakes_themselves(
    staff_client: Client, sam: User, bob: User, world: World
) -> None:
    assert carry_out(staff_client, bob, "grant_staff", reason="New colleague") == "Bob is staff now."
    bob.refresh_from_db()
    assert bob.is_staff
    staff_client.post(url_of(bob, "revoke_staff"), {"reason": "Left"})
    bob.refresh_from_db()
    assert not bob.is_staff
    assert last_entry().action == "staff.revoked"
    refused = staff_client.post(url_of(sam, "revoke_staff"), {"reason": "Tired"}, follow=True)
    assert any(str(message).startswith("Nobody revokes themselves") for message in refused.context["messages"])
    sam.refresh_from_db()
    assert sam.is_staff


@pytest.mark.parametrize("method", ["get", "post"])
def test_who_is_no_staff_reaches_no_action(method: str, bob: User, world: World) -> None:
    client = Client()
    client.force_login(bob)
    queue: Any = world[Queue]
    answer = getattr(client, method)(url_of(queue, "pause"), {"reason": "Because"})
    assert answer.status_code in {302, 403}
    queue.refresh_from_db()
    assert queue.paused_at is None


def test_an_action_needs_the_forms_token(sam: User, world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(sam)
    queue: Any = world[Queue]
    assert client.post(url_of(queue, "pause"), {"reason": "Because"}).status_code == 403


def test_the_page_of_a_row_offers_only_what_fits(staff_client: Client, world: World) -> None:
    queue: Any = world[Queue]
    page = staff_client.get(reverse("admin:queues_queue_change", args=[queue.pk])).content.decode()
    assert url_of(queue, "pause") in page
    assert url_of(queue, "resume") not in page


def test_tls_for_a_domain_is_decided_changed_and_left_to_the_domain_again(staff_client: Client, sam: User) -> None:
    listed, decide = reverse("admin:ips_tlsoverride_changelist"), reverse("admin:ips_tlsoverride_decide")
    assert decide in staff_client.get(listed).content.decode()
    asked = staff_client.get(decide)
    assert "Which TLS shall mail to a domain have" in asked.content.decode()
    filled = {"domain": "Bank.test", "requirement": "none", "reason": "its STARTTLS is broken"}
    answer = staff_client.post(decide, {**filled, "domain": "nonsense"}, follow=True)
    assert "is neither a domain nor *" in answer.context["form"].errors["domain"][0]
    staff_client.post(decide, filled)
    override = TlsOverride.objects.get()
    entry = last_entry()
    assert (override.domain, override.requirement) == ("bank.test", "none")
    assert (entry.action, entry.actor_id, entry.detail["reason"]) == (
        "tls_override.set",
        sam.pk,
        "its STARTTLS is broken",
    )
    staff_client.post(url_of(override, "decide_anew"), {"requirement": "verified", "reason": "mended"})
    override.refresh_from_db()
    assert override.requirement == "verified"
    assert staff_client.get(url_of(override, "remove")).status_code == 200
    gone = staff_client.post(url_of(override, "remove"), follow=True)
    assert gone.redirect_chain[-1][0] == listed
    assert not TlsOverride.objects.exists()
    assert last_entry().action == "tls_override.removed"


def test_a_project_is_suspended_with_a_reason_resumed_archived_and_restored(
    staff_client: Client, sam: User, world: World
) -> None:
    project: Any = world[Project]
    assert carry_out(staff_client, project, "suspend", reason="A leaked key") == "Shop is suspended."
    project.refresh_from_db()
    assert project.suspend_reason == "A leaked key"
    assert (last_entry().action, last_entry().actor_id) == ("project.suspended", sam.pk)
    assert staff_client.get(url_of(project, "suspend")).status_code == 404
    for action, said in (
        ("resume", "Shop may send again."),
        ("archive", "Shop is archived."),
        ("restore", "Shop is back."),
    ):
        done = staff_client.post(url_of(project, action), follow=True)
        assert [str(message) for message in done.context["messages"]] == [said]
    project.refresh_from_db()
    assert (project.suspended_at, project.archived_at) == (None, None)


def test_the_system_project_is_offered_neither(staff_client: Client, world: World) -> None:
    system = Project.objects.create(name="System", send_type="transactional", is_system=True)
    assert staff_client.get(url_of(system, "suspend")).status_code == 404
    assert staff_client.get(url_of(system, "archive")).status_code == 404


def test_a_webhook_is_disabled_with_a_reason(staff_client: Client, sam: User, world: World) -> None:
    webhook: Any = world[Webhook]
    said = carry_out(staff_client, webhook, "disable", reason="Its receiver suffers")
    assert said == "https://shop.example/hook is disabled."
    webhook.refresh_from_db()
    assert not webhook.is_enabled
    assert (last_entry().action, last_entry().detail) == (
        "webhook.disabled",
        {"reason": "by hand", "said": "Its receiver suffers"},
    )
    assert last_entry().actor_id == sam.pk
    assert staff_client.get(url_of(webhook, "disable")).status_code == 404
    assert staff_client.get(url_of(webhook, "tell_failed")).status_code == 404
    staff_client.post(url_of(webhook, "enable"))
    webhook.refresh_from_db()
    assert (webhook.is_enabled, last_entry().action) == (True, "webhook.enabled")


def test_a_mailbox_is_disabled_with_a_reason_and_opened_again(staff_client: Client, sam: User, world: World) -> None:
    mailbox: Any = world[Mailbox]
    assert carry_out(staff_client, mailbox, "disable", reason="A flood") == f"{mailbox} is disabled."
    mailbox.refresh_from_db()
    entry = last_entry()
    assert (mailbox.is_enabled, entry.action, entry.actor_id) == (False, "mailbox.disabled", sam.pk)
    assert entry.detail == {"reason": "A flood"}
    assert staff_client.get(url_of(mailbox, "disable")).status_code == 404
    staff_client.post(url_of(mailbox, "enable"))
    mailbox.refresh_from_db()
    assert (mailbox.is_enabled, last_entry().action) == (True, "mailbox.enabled")


def test_staff_have_a_webhook_told_again(staff_client: Client, sam: User, world: World) -> None:
    webhook, delivery = world[Webhook], world[WebhookDelivery]
    WebhookDelivery.objects.filter(pk=delivery.pk).update(webhook_id=webhook.pk)
    for row, action in ((webhook, "test"), (webhook, "tell_failed"), (delivery, "again")):
        assert staff_client.post(url_of(row, action)).status_code == 302
        assert last_entry().actor_id == sam.pk
    kinds = AuditEntry.objects.order_by("-id").values_list("action", flat=True)[:3]
    assert set(kinds) == {"webhook.tested", "webhook.replayed", "webhook.sent_again"}


def test_a_domain_is_looked_for_as_its_owner_may(staff_client: Client, world: World, settings: Any) -> None:
    settings.DNS_RESOLVERS = [("127.0.0.1", 9)]
    domain: Any = world[Domain]
    said = carry_out(staff_client, domain, "look")
    assert said.startswith("shop.example is active. The DNS resolver failed")
    domain.status = "suspended"
    domain.save()
    assert staff_client.get(url_of(domain, "look")).status_code == 404
