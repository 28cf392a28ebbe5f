"""The contract's objects of this floor, as plain values for JSON."""

from datetime import datetime
from typing import Any

from django.utils import timezone

from projects.objects import timestamp
from relay_project.db.ids import id_time
from webhooks.models import Webhook, WebhookDelivery, WebhookReplay
from webhooks.signature import standard_secret
from webhooks.subscriptions import headers_of


def webhook_object(webhook: Webhook, secret: str | None = None) -> dict[str, Any]:
    """Webhook; `secret` only in the answer that makes it. What follows it is ours; values of headers are not shown."""
    return {
        "id": webhook.pk,
        "url": webhook.url,
        "description": webhook.description,
        "events": list(webhook.events),
        "secret": secret,
        "standard_secret": None if secret is None else standard_secret(secret),
        "previous_secret_until": timestamp(to_come(webhook.previous_secret_until)),
        "headers": dict.fromkeys(headers_of(webhook)),
        "tags": list(webhook.tags),
        "domains": list(webhook.domains),
        "is_enabled": webhook.is_enabled,
        "disabled_at": timestamp(webhook.disabled_at),
        "disabled_reason": webhook.disabled_reason or None,
        "failing_since": timestamp(webhook.failing_since),
        "held_until": timestamp(to_come(webhook.held_until)),
        "created_at": timestamp(webhook.created_at),
    }


def to_come(moment: datetime | None) -> datetime | None:
    """The moment, unless it is over."""
    return moment if moment is not None and moment > timezone.now() else None


def delivery_object(delivery: WebhookDelivery) -> dict[str, Any]:
    """WebhookDelivery; the id of the webhook and what follows the body is ours."""
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
        "event_id": str(delivery.event_id),
        "kind": str(delivery.kind),
        "next_try_at": timestamp(delivery.next_try_at),
        "tries": delivery.tries,
    }


def replay_object(replay: WebhookReplay) -> dict[str, Any]:
    """A replay; the contract has none."""
    return {
        "id": replay.pk,
        "webhook_id": replay.webhook_id,
        "begin": timestamp(id_time(replay.begins_id)),
        "end": timestamp(id_time(replay.ends_id)),
        "only_failed": replay.only_failed,
        "deliveries": replay.made,
        "reached": timestamp(id_time(min(replay.next_id, replay.ends_id))),
        "created_at": timestamp(replay.created_at),
        "finished_at": timestamp(replay.finished_at),
    }
