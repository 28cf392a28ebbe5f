"""The contract's objects of this floor, as plain values for JSON."""

from typing import Any

from projects.objects import timestamp
from relay_project.db.ids import id_time
from webhooks.models import Webhook, WebhookDelivery


def webhook_object(webhook: Webhook, secret: str | None = None) -> dict[str, Any]:
    """Webhook; `secret` only in the answer that makes it. `is_enabled` and `created_at` are ours."""
    return {
        "id": webhook.pk,
        "url": webhook.url,
        "description": webhook.description,
        "events": list(webhook.events),
        "secret": secret,
        "is_enabled": webhook.is_enabled,
        "created_at": timestamp(webhook.created_at),
    }


def delivery_object(delivery: WebhookDelivery) -> dict[str, Any]:
    """WebhookDelivery; `webhook_id` is ours."""
    return {
        "id": delivery.pk,
        "created_at": timestamp(id_time(delivery.pk)),
        "webhook_id": delivery.webhook_id,
        "url": delivery.url,
        "event": delivery.event,
        "status": str(delivery.status),
        "response": delivery.response,
        "response_code": delivery.response_code,
        "try_count": delivery.try_count,
        "request_body": delivery.request_body,
    }
