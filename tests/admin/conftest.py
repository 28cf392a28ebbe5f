"""A small world for the staff admin: one row of every model, with secrets that must never be seen."""

from datetime import timedelta

import pytest
from django.db.models import Model
from django.test import Client
from django.utils import timezone

from accounts import audit
from accounts.models import AuditEntry, Identity, SignInLink, StaffKey, User
from ips.models import (
    HeldSite,
    Incident,
    MtaStsPolicy,
    SendCount,
    Sender,
    Server,
    SiteLimit,
    SitePause,
    SourceIp,
    TlsOverride,
)
from projects.models import (
    ApiKey,
    DkimKey,
    Domain,
    DomainReport,
    Event,
    EventOutbox,
    FeedPosition,
    FormerSecret,
    Invitation,
    Membership,
    Notice,
    Project,
    Suspension,
)
from queues.models import Pause, ProjectQueue, Queue
from relay_project.db.ids import uuid_of
from relay_project.models import RetentionRun
from sending.models import (
    Attempt,
    AttemptRecipient,
    Content,
    DayCount,
    ForgottenDay,
    HourCount,
    IdempotencyRecord,
    InboundMail,
    InboundRoute,
    Measurement,
    Operation,
    ReaderPosition,
    ReceivedMail,
    ReceivingDomain,
    Recipient,
    SandboxMessage,
    SearchText,
    Send,
    Signature,
    SoftBounce,
    Suppression,
    UnexaminedMail,
    UnreadMail,
    Waiting,
)
from tests.admin.secret import SECRET
from webhooks.models import (
    Mailbox,
    MailboxEvent,
    MailboxItem,
    MailboxToken,
    Webhook,
    WebhookDelivery,
    WebhookLane,
    WebhookReplay,
    WebhookWaiting,
)


@pytest.fixture
def sam(db: None) -> User:
    """Staff."""
    return User.objects.create(login="sam@relay.test", email="sam@relay.test", name="Sam", is_staff=True)


@pytest.fixture
def bob(db: None) -> User:
    """A member of a project, no staff."""
    return User.objects.create(login="bob@example.com", email="bob@example.com", name="Bob", password=SECRET)


@pytest.fixture
def staff_client(sam: User) -> Client:
    """Sam's browser."""
    client = Client()
    client.force_login(sam)
    return client


@pytest.fixture
def world(sam: User, bob: User) -> dict[type[Model], Model]:
    """One row of every model, by its class."""
    now = timezone.now()
    project = Project.objects.create(name="Shop", send_type="transactional")
    domain = Domain.objects.create(project=project, domain="shop.example", status="active")
    queue = Queue.objects.create(name="transactional", is_default=True)
    server = Server.objects.create(hostname="mx1.relay.test", last_ping_at=now)
    sender = Sender.objects.create(server=server, pid=4711)
    source_ip = SourceIp.objects.create(server=server, queue=queue, address="192.0.2.7", served_by=sender)
    content = Content.objects.create(project_id=project.pk, body_text=SECRET, body_html=f"<p>{SECRET}</p>")
    send = Send.objects.create(
        uuid=uuid_of(1), project=project, queue=queue, domain=domain, content=content, from_address="hello@shop.example",
        subject="Your order", size_bytes=2048, message_date=now, writer_version=1, mailer="Relay",
        instance_domain="relay.test",
    )  # fmt: skip
    send.uuid = uuid_of(send.pk)
    send.save(update_fields=["uuid"])
    recipient = Recipient.objects.create(
        send=send,
        project_id=project.pk,
        position=0,
        type="to",
        address="Ann@example.net",
        status="deferred",
        try_count=1,
    )
    held = HeldSite.objects.create(
        queue=queue, source_ip=source_ip, site="example.net", reason="421 4.7.0 Slow down", next_slot=now
    )
    attempt = Attempt.objects.create(
        send_id=send.pk, project_id=project.pk, queue_id=queue.pk, source_ip_id=source_ip.pk, status="deferred",
        try_count=1, domain="example.net", site="example.net", responded_mx_host="mx.example.net",
        smtp_conversations={"mx.example.net": {"steps": [
            {"name": "rcpt", "duration_ms": 3, "command": "RCPT TO:<ann@example.net>", "reply_code": 450,
             "reply_text": "4.2.1 <b>Busy</b>"}]}},
    )  # fmt: skip
    mailbox = Mailbox.objects.create(project=project, name="did:web:shop.example", events=["domain.created"])
    token = MailboxToken.objects.create(mailbox=mailbox, kind="receive", name="worker 1", token_hash=SECRET)
    item = MailboxItem.objects.create(
        id=1 << 40, mailbox_id=mailbox.pk, digest=b"d" * 32, sender="worker 1", payload=SECRET, size=9, ready_at=now,
        expires_at=now,
    )  # fmt: skip
    in_hand = MailboxEvent.objects.create(mailbox_id=mailbox.pk, event_id=1 << 40, ready_at=now)
    webhook = Webhook.objects.create(
        project=project, url="https://shop.example/hook", events=["domain.created"], secret=SECRET,
        previous_secret=SECRET, headers=f'{{"Authorization": "{SECRET}"}}',
    )  # fmt: skip
    rows: list[Model] = [
        sam, project, domain, queue, server, sender, source_ip, content, send, recipient, held, attempt,
        Identity.objects.create(user=bob, issuer="https://id.example", subject="bob-1"),
        HourCount.objects.create(project_id=project.pk, dimension="project", hour=now, total=3),
        DayCount.objects.create(project_id=project.pk, dimension="project", day=now.date(), total=3),
        ReaderPosition.objects.create(name="outcomes", position=7),
        SearchText.objects.create(send_id=send.pk, keys=[1], from_text="a", to_text="b", subject_text="c"),
        StaffKey.objects.create(user=sam, name="Terraform", key_hash=SECRET),
        ProjectQueue.objects.create(project=project, queue=queue),
        SignInLink.objects.create(user=bob, token_hash=SECRET, expires_at=now),
        Membership.objects.create(project=project, user=bob, scopes=["sends.read"]),
        (key := ApiKey.objects.create(project=project, name="web shop", key_hash=SECRET, scopes=["sends.read"])),
        FormerSecret.objects.create(key=key, key_hash=SECRET, valid_until=now),
        Notice.objects.create(project=project, key="k", subject="shop.example is suspended", text="Phishing"),
        Invitation.objects.create(
            project=project,
            email="carol@example.com",
            token_hash=SECRET,
            scopes=["sends.read"],
            expires_at=now + timedelta(days=1),
        ),
        DomainReport.objects.create(
            kind="dmarc", domain="shop.example", organisation="<b>receiver</b>", report_id="1", begins_at=now, ends_at=now,
            total=10, passed=9, details=[{"address": "198.51.100.3", "is_ours": False, "messages": 1, "signers": ["<i>x</i>"]}],
        ),
        DkimKey.objects.create(domain=domain, selector="s1", private_key=SECRET, public_key="PEM"),
        Event.objects.create(
            project_id=project.pk, kind="recipient.deferred", subject_kind="recipient", subject_id=recipient.pk, payload={}
        ),
        webhook,
        WebhookDelivery.objects.create(
            project_id=project.pk, webhook_id=1, event_id=7, event="domain.created", url="https://shop.example/hook",
            request_body="{}",
        ),
        WebhookWaiting.objects.create(delivery_id=7, webhook_id=1, subject_id=3, kind="event", due_at=now),
        WebhookLane.objects.create(webhook_id=1, holder=uuid_of(1), leased_until=now),
        WebhookReplay.objects.create(webhook_id=webhook.pk, begins_id=1, ends_id=2, next_id=1),
        EventOutbox.objects.create(event_id=7),
        FeedPosition.objects.create(event_id=7),
        AttemptRecipient.objects.create(
            attempt_id=attempt.pk, send_id=send.pk, recipient_id=recipient.pk, recipient_status="deferred",
            smtp_code=450, smtp_enhanced_code="4.2.1", smtp_message="<b>Busy</b>", rule="rcpt-4xx",
        ),
        mailbox, token, item, in_hand,
        IdempotencyRecord.objects.create(
            project_id=project.pk, key="order-1", fingerprint="f", status_code=200, answer={"token": SECRET}
        ),
        InboundMail.objects.create(
            peer="192.0.2.9", recipients=["fbl@relay.test"], octets=SECRET.encode(), size_bytes=7, send_id=send.pk,
            state="applied", findings=[{"address": "<b>ann</b>@example.net", "recipient_id": recipient.pk}],
        ),
        (receiving := ReceivingDomain.objects.create(project=project, domain="in.shop.example", mx_error_message="<b>")),
        (route := InboundRoute.objects.create(project=project, domain=receiving, pattern="support+*")),
        ReceivedMail.objects.create(
            project_id=project.pk, mail_id=7, route_id=route.pk, recipients=["support+1@in.shop.example"], subject="<b>Hi</b>",
            size_bytes=7, authentication={"spf": {"result": "pass"}, "dkim": [], "dmarc": {"result": "fail"}}, hints=["no-tls"],
        ),
        UnexaminedMail.objects.create(received_id=7, due_at=now),
        UnreadMail.objects.create(mail_id=7, due_at=now, size_bytes=7),
        SandboxMessage.objects.create(project_id=project.pk, send_id=send.pk, subject="Your order", data=SECRET.encode()),
        Signature.objects.create(send=send, header_lines=SECRET.encode()),
        Suppression.objects.create(project=project, email="gone@example.net", reason="bounce"),
        SoftBounce.objects.create(project_id=project.pk, email="full@example.net", days=[now.date()]),
        Incident.objects.create(
            source_ip=source_ip, site="example.net", cause="ip-reputation", rule="guard-blocklist", attempt_count=3,
            opened_at=now, last_seen_at=now, last_reply="554 <b>listed</b>", last_project_id=project.pk, last_send_id=send.pk,
        ),
        SiteLimit.objects.create(
            site="example.net", source_ip=source_ip, connections=3, learned_per_minute=20, learned_connections=1,
            learned_ceiling=120, learned_reply="421 4.7.0 <b>Slow down</b>", learned_at=now, raised_at=now,
            back_off_seconds=60, back_off_until=now + timedelta(minutes=1),
        ),
        Suspension.objects.create(project=project, reason="a test", began_at=now - timedelta(hours=2), ended_at=now),
        Pause.objects.create(queue=queue, reason="maintenance", began_at=now - timedelta(hours=2), ended_at=now),
        Operation.objects.create(
            kind="flush", queue=queue, reason="a test", ordered_by="Sam", until_id=7, done=1200, ended_at=now
        ),
        Measurement.objects.create(name="ledger", value={"silent": 0}, measured_at=now, seconds=0.2),
        SitePause.objects.create(site="example.net", reason="they asked", began_at=now - timedelta(hours=2), ended_at=now),
        SendCount.objects.create(source_ip=source_ip, site="", window="day", window_start=now, count=321),
        TlsOverride.objects.create(domain="bank.test", requirement="verified", reason="law", changed_at=now),
        MtaStsPolicy.objects.create(
            domain="bank.test", policy_id="1", mode="enforce", mx=["*.bank.test"], max_age=86_400, fetched_at=now,
            expires_at=now + timedelta(days=1), error="mta-sts.bank.test: the answer is 404",
        ),
        ForgottenDay.objects.create(project_id=project.pk, day=now.date(), looked_at=now),
        RetentionRun.objects.create(
            started_at=now, finished_at=now, partitions=1, size_bytes=4096,
            kept_back=[{"partition": "sending_send_p20260101", "reason": "mail that waits", "due_at": now.isoformat()}],
        ),
        Waiting.objects.create(
            recipient_id=recipient.pk, send_id=send.pk, project_id=project.pk, queue_id=queue.pk, lane=queue.pk,
            domain="example.net", size_bytes=2048, phase=2, due_at=now + timedelta(minutes=5), held_site_id=held.pk,
        ),
    ]  # fmt: skip
    audit.record("queue.paused", actor=sam, subject=queue, detail={"reason": "maintenance"})
    found = {type(row): row for row in rows}
    return found | {type(entry): entry for entry in [_entry()]}


def _entry() -> Model:
    entry = AuditEntry.objects.first()
    assert entry is not None
    return entry
