"""What goes over the wire on this floor: the shapes of webhooks.objects, and of the bodies that the views read."""

from typing import Any

from projects.events import EventKind
from relay_project.web.schema import (
    Schema,
    answer,
    body,
    boolean,
    choice,
    identifier,
    integer,
    listed,
    moment,
    nullable,
    page,
    string,
    text,
)
from webhooks.models import DeliveryStatus
from webhooks.subscriptions import MAX_DESCRIPTION
from webhooks.url import MAX_URL

KINDS = tuple(kind.value for kind in EventKind)

_FIELDS: dict[str, Schema] = {
    "url": text(
        "`http` or `https`, and not to this machine or a private network.",
        maximum=MAX_URL,
        blank=False,
        format="webhook",
    ),
    "events": listed(choice(KINDS), "What it is told of.", minItems=1, maxItems=1000),
    "description": text(maximum=MAX_DESCRIPTION),
}
WEBHOOK = answer(
    "Webhook",
    {
        "id": identifier(),
        "url": string(),
        "description": nullable(string()),
        "events": listed(choice(KINDS)),
        "secret": nullable(string("What calls are signed with, only in the answer that makes it.")),
        "is_enabled": boolean(),
        "created_at": moment(),
    },
)
NEW_WEBHOOK = body("NewWebhook", _FIELDS, ["url", "events"])
WEBHOOK_CHANGE = body("WebhookChange", {**_FIELDS, "is_enabled": boolean()})
DELIVERY = answer(
    "WebhookDelivery",
    {
        "id": identifier(),
        "created_at": moment(),
        "webhook_id": identifier(),
        "url": string("As it was when the event happened."),
        "event": string(),
        "status": choice(DeliveryStatus.values),
        "response": nullable(string("The beginning of the answer's body.")),
        "response_code": nullable(integer("0: no answer came.")),
        "try_count": integer(),
        "request_body": string("The JSON that is sent."),
    },
)
DELIVERIES_QUERY = {**page("limit", "before_id"), "webhook_id": integer("Only of this webhook.")}
EXAMPLE_WEBHOOK: dict[str, Any] = {
    "id": 1,
    "url": "https://shop.example/relay",
    "description": "Order status",
    "events": ["send.recipient.accepted", "send.recipient.bounced"],
    "secret": None,
    "is_enabled": True,
    "created_at": 1795315071,
}
EXAMPLE_DELIVERY: dict[str, Any] = {
    "id": 890792308822075,
    "created_at": 1795315390,
    "webhook_id": 1,
    "url": "https://shop.example/relay",
    "event": "send.recipient.accepted",
    "status": "delivered",
    "response": "ok",
    "response_code": 200,
    "try_count": 1,
    "request_body": "{…}",
}
SHOWN_ONCE = {**EXAMPLE_WEBHOOK, "secret": "0f5b3d0c6a7e4b1e9d2c8a7f6b5e4d3c"}
