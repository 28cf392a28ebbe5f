"""What goes over the wire on this floor: the shapes of webhooks.objects, and of the bodies that the views read."""

from typing import Any

from django.conf import settings

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
    mapped,
    moment,
    nullable,
    page,
    string,
    text,
)
from webhooks.again import TEST_EVENT
from webhooks.models import DeliveryKind, DeliveryStatus, DisabledReason
from webhooks.options import MAX_DOMAINS, MAX_HEADERS, MAX_TAG, MAX_TAGS, MAX_VALUE
from webhooks.signature import standard_secret
from webhooks.subscriptions import MAX_DESCRIPTION
from webhooks.url import MAX_URL

KINDS = tuple(kind.value for kind in EventKind)
MAX_SECONDS = 253_402_300_799  # the last of the year 9999

_FIELDS: dict[str, Schema] = {
    "url": text(
        "`http` or `https`, and not to this machine or a private network.",
        maximum=MAX_URL,
        blank=False,
        format="webhook",
    ),
    "events": listed(choice(KINDS), "What it is told of.", minItems=1, maxItems=1000),
    "description": text(maximum=MAX_DESCRIPTION),
    "headers": mapped(
        nullable(string(maxLength=MAX_VALUE)),
        "Sent with each call, by name; null leaves the present value. Not those that Relay or the connection sets.",
        maxProperties=MAX_HEADERS,
        propertyNames={"pattern": "^[A-Za-z0-9-]{1,100}$"},
    ),
    "tags": listed(text(maximum=MAX_TAG, blank=False), "Of mail only what has one of these.", maxItems=MAX_TAGS),
    "domains": listed(text(blank=False, format="domain"), "Only of these sending domains.", maxItems=MAX_DOMAINS),
}
WEBHOOK = answer(
    "Webhook",
    {
        "id": identifier(),
        "url": string(),
        "description": nullable(string()),
        "events": listed(choice(KINDS)),
        "secret": nullable(string("What calls are signed with, only in the answer that makes it.")),
        "standard_secret": nullable(string("The same as libraries of Standard Webhooks want it.")),
        "previous_secret_until": nullable(moment("Until when the former secret signs as well.")),
        "headers": mapped({"type": "null"}, "The names of those that are sent with each call."),
        "tags": listed(string()),
        "domains": listed(string()),
        "is_enabled": boolean(),
        "disabled_at": nullable(moment()),
        "disabled_reason": nullable(choice([reason for reason in DisabledReason.values if reason])),
        "failing_since": nullable(moment("The first failure since it last worked.")),
        "held_until": nullable(moment("Its receiver asked, by Retry-After, to be left alone until then.")),
        "created_at": moment(),
    },
)
NEW_WEBHOOK = body("NewWebhook", _FIELDS, ["url", "events"])
WEBHOOK_CHANGE = body("WebhookChange", {**_FIELDS, "is_enabled": boolean()})
TRY = answer(
    "WebhookTry",
    {
        "at": moment(),
        "code": integer("0: no answer came."),
        "ms": integer("How long it took."),
        "text": string("The beginning of the answer, or what went wrong."),
    },
)
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
        "event_id": string("The event's id, which repetitions share."),
        "kind": choice(DeliveryKind.values, "Why it was made."),
        "next_try_at": nullable(moment("Null: there is none.")),
        "tries": listed(TRY, "The oldest first."),
    },
)
DELIVERIES_QUERY = {
    **page("limit", "before_id"),
    "webhook_id": integer("Only of this webhook."),
    "status": choice(DeliveryStatus.values),
    "event": choice((*KINDS, TEST_EVENT), "Only of this kind of event."),
}
ROTATION = body(
    "WebhookRotation",
    {
        "overlap_hours": integer(
            "For how long the old secret signs as well.", 0, settings.API_KEY_OVERLAP_HOURS, default=0
        )
    },
)
TEST = body("WebhookTest", {"event": choice(KINDS, "Whose example is sent; default: a few words of their own.")})
REPLAY_WISH = body(
    "WebhookReplayWish",
    {
        "begin": integer("Unix seconds; default: as far back as there is anything.", 0, MAX_SECONDS),
        "end": integer("Unix seconds; default: now.", 0, MAX_SECONDS),
        "only_failed": boolean(
            "Only deliveries that failed, as they were; those that wait for their next try are tried now."
        ),
    },
)
REPLAY = answer(
    "WebhookReplay",
    {
        "id": identifier(),
        "webhook_id": identifier(),
        "begin": moment(),
        "end": moment(),
        "only_failed": boolean(),
        "deliveries": integer("Made so far."),
        "reached": moment("What happened before has been looked at."),
        "created_at": moment(),
        "finished_at": nullable(moment("Null: it is still at it. Stopped, where `reached` is before `end`.")),
    },
)
EXAMPLE_WEBHOOK: dict[str, Any] = {
    "id": 1,
    "url": "https://shop.example/relay",
    "description": "Order status",
    "events": ["send.recipient.accepted", "send.recipient.bounced"],
    "secret": None,
    "standard_secret": None,
    "previous_secret_until": None,
    "headers": {"Authorization": None},
    "tags": [],
    "domains": ["shop.example"],
    "is_enabled": True,
    "disabled_at": None,
    "disabled_reason": None,
    "failing_since": None,
    "held_until": None,
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
    "event_id": "890792308822071",
    "kind": "event",
    "next_try_at": None,
    "tries": [{"at": 1795315390, "code": 200, "ms": 41, "text": "ok"}],
}
EXAMPLE_REPLAY: dict[str, Any] = {
    "id": 1,
    "webhook_id": 1,
    "begin": 1795228670,
    "end": 1795315070,
    "only_failed": False,
    "deliveries": 0,
    "reached": 1795228670,
    "created_at": 1795315071,
    "finished_at": None,
}
HALF_WAY = {"deliveries": 20418, "reached": 1795271870}
_SECRET = "0f5b3d0c6a7e4b1e9d2c8a7f6b5e4d3c"  # noqa: S105 — an example
SHOWN_ONCE = {**EXAMPLE_WEBHOOK, "secret": _SECRET, "standard_secret": standard_secret(_SECRET)}
