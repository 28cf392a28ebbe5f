"""Webhooks of the seeded project: one that works, one that Relay gave up, and what they were told."""

from datetime import datetime, timedelta

from projects.event_registry import kinds_for
from projects.events import EventKind
from projects.models import Project
from relay_project.db.ids import id_floor
from webhooks.models import DisabledReason, Webhook, WebhookDelivery, WebhookReplay
from webhooks.payload import body_of, example_event
from webhooks.subscriptions import Options, create_webhook
from webhooks.switch import disable
from webhooks.write import text_of

URL = "https://shop.example/relay/events"
METRICS = "https://metrics.shop.example:8443/in?source=relay"


def tell(shop: Project, now: datetime) -> tuple[Webhook, WebhookDelivery]:
    """The webhook that works, and the delivery of it that has most to show."""
    options = Options("Order status", {"Authorization": "Bearer s3cret"}, ["order"], ["shop.example"])
    webhook = create_webhook(shop, URL, kinds_for(is_system=False), options)[0]
    other = create_webhook(shop, METRICS, ["send.recipient.bounced"])[0]
    Webhook.objects.filter(pk=other.pk).update(failing_since=now - timedelta(days=3))
    disable(other, DisabledReason.FAILING)
    begins, ends = id_floor(now - timedelta(hours=3)), id_floor(now - timedelta(hours=1))
    WebhookReplay.objects.create(webhook=webhook, begins_id=begins, ends_id=ends, next_id=ends, made=3, finished_at=now)
    at = int(now.timestamp())
    refused = {"at": at - 400, "code": 500, "ms": 1204, "text": "<h1>Internal Server Error</h1>"}
    unheard = {"at": at - 60, "code": 0, "ms": 10_003, "text": "The connection was not made within 10 seconds."}
    answered = {"at": at, "code": 200, "ms": 41, "text": "ok"}
    rows = (
        (EventKind.ACCEPTED, "delivered", "event", [answered]),
        (EventKind.DOMAIN_STATUS_CHANGED, "delivered", "replay", [answered]),
        (EventKind.COMPLAINED, "failed", "event", [refused] * 7),
        (EventKind.DELAYED, "pending", "test", []),
        (EventKind.BOUNCED, "pending", "event", [refused, unheard]),
    )
    return webhook, [_delivery(webhook, now, *row) for row in rows][-1]


def _delivery(
    webhook: Webhook, now: datetime, kind: EventKind, status: str, why: str, tries: list[dict[str, object]]
) -> WebhookDelivery:
    last = tries[-1] if tries else None
    event = example_event(kind, 890792308822075, webhook.project_id)
    return WebhookDelivery.objects.create(
        project_id=webhook.project_id,
        webhook_id=webhook.pk,
        event_id=890792308822075,
        event=kind.value,
        url=webhook.url,
        request_body=text_of(body_of(event, event.payload)),
        kind=why,
        status=status,
        try_count=len(tries),
        tries=tries,
        response=last["text"] if last else None,
        response_code=last["code"] if last else None,
        next_try_at=now + timedelta(minutes=14) if status == "pending" else None,
    )
