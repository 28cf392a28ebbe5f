"""Webhooks over the API."""

from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from projects.endpoint import Endpoint
from projects.scopes import Scope, by_method
from relay_project.web.describe import describe
from relay_project.web.fields import NOT_A_CHOICE, Fields
from relay_project.web.pagination import read_page
from relay_project.web.schema import EMPTY_LIST, listed
from webhooks.api.schemas import (
    DELIVERIES_QUERY,
    DELIVERY,
    EXAMPLE_DELIVERY,
    EXAMPLE_WEBHOOK,
    KINDS,
    NEW_WEBHOOK,
    SHOWN_ONCE,
    WEBHOOK,
    WEBHOOK_CHANGE,
)
from webhooks.models import Webhook
from webhooks.objects import delivery_object, webhook_object
from webhooks.subscriptions import (
    MAX_DESCRIPTION,
    TOO_MANY,
    WebhookChange,
    create_webhook,
    delete_webhook,
    deliveries_of,
    rotate_secret,
    update_webhook,
    webhooks_of,
)
from webhooks.url import MAX_URL


class WebhooksView(Endpoint):
    """`/webhooks`."""

    section = "Webhooks"
    required_scope = by_method(GET=Scope.WEBHOOKS_READ, POST=Scope.WEBHOOKS_WRITE)

    @describe("listWebhooks", "List webhooks", answer=listed(WEBHOOK), sample=[EXAMPLE_WEBHOOK])
    def get(self, request: Request) -> Response:
        """All webhooks, without their secrets."""
        return Response([webhook_object(webhook) for webhook in webhooks_of(self.project)])

    @describe(
        "createWebhook",
        "Make a webhook",
        "The only answer that shows its secret. Deliveries are not made yet.",
        body=NEW_WEBHOOK,
        example={"url": "https://shop.example/relay", "events": ["send.recipient.bounced"]},
        answer=WEBHOOK,
        sample=SHOWN_ONCE,
        refusals={400: (TOO_MANY,)},
    )
    def post(self, request: Request) -> Response:
        """A new webhook; the only answer with its secret."""
        fields = self.fields()
        url = fields.text("url", required=True, maximum=MAX_URL)
        events = _read_events(fields, required=True)
        description = fields.text("description", maximum=MAX_DESCRIPTION)
        fields.check()
        webhook, secret = create_webhook(self.project, url or "", events or [], description, self.caller)
        return Response(webhook_object(webhook, secret))


class WebhookView(Endpoint):
    """`/webhooks/{id}`."""

    section = "Webhooks"
    required_scope = by_method(GET=Scope.WEBHOOKS_READ, PATCH=Scope.WEBHOOKS_WRITE, DELETE=Scope.WEBHOOKS_WRITE)

    @describe("getWebhook", "Get a webhook", answer=WEBHOOK, sample=EXAMPLE_WEBHOOK)
    def get(self, request: Request, webhook_id: str) -> Response:
        """One webhook, without its secret."""
        return Response(webhook_object(_webhook(self, webhook_id)))

    @describe(
        "updateWebhook",
        "Change a webhook",
        "Only what the body names.",
        body=WEBHOOK_CHANGE,
        example={"is_enabled": False},
        answer=WEBHOOK,
        sample={**EXAMPLE_WEBHOOK, "is_enabled": False},
    )
    def patch(self, request: Request, webhook_id: str) -> Response:
        """Change what the body names."""
        webhook = _webhook(self, webhook_id)
        fields = self.fields()
        change = WebhookChange(
            url=fields.text("url", required="url" in fields, maximum=MAX_URL),
            events=_read_events(fields, required="events" in fields),
            description=fields.text("description", maximum=MAX_DESCRIPTION),
            is_enabled=fields.boolean("is_enabled"),
            clears_description="description" in fields.data and fields.data["description"] is None,
        )
        fields.check()
        return Response(webhook_object(update_webhook(webhook, change, self.caller)))

    @describe("deleteWebhook", "Delete a webhook", "Its deliveries stay in the list.", answer=EMPTY_LIST)
    def delete(self, request: Request, webhook_id: str) -> Response:
        """Nothing is told there any more."""
        delete_webhook(_webhook(self, webhook_id), self.caller)
        return Response([])


class RotateSecretView(Endpoint):
    """`/webhooks/{id}/rotate-secret`."""

    section = "Webhooks"
    required_scope = by_method(POST=Scope.WEBHOOKS_WRITE)

    @describe(
        "rotateWebhookSecret",
        "Make another secret",
        "In place of the present one; the only answer that shows it.",
        answer=WEBHOOK,
        sample=SHOWN_ONCE,
    )
    def post(self, request: Request, webhook_id: str) -> Response:
        """Another secret, shown in this answer alone."""
        return Response(webhook_object(*rotate_secret(_webhook(self, webhook_id), self.caller)))


class DeliveriesView(Endpoint):
    """`/webhooks/deliveries`."""

    section = "Webhooks"
    required_scope = by_method(GET=Scope.WEBHOOKS_READ)

    @describe(
        "listWebhookDeliveries",
        "List deliveries",
        "The newest first.",
        query=DELIVERIES_QUERY,
        answer=listed(DELIVERY),
        sample=[EXAMPLE_DELIVERY],
    )
    def get(self, request: Request) -> Response:
        """A page of deliveries, the newest first."""
        page = read_page(request.query_params)
        webhook_id = self.filter_id(Webhook.objects.defer("secret"), "webhook_id")
        found = deliveries_of(self.project, datetime.now(UTC), webhook_id)
        if page.before_id is not None:
            found = found.filter(pk__lt=page.before_id)
        return Response([delivery_object(delivery) for delivery in found[: page.limit]])


def _webhook(view: Endpoint, webhook_id: str) -> Webhook:
    return view.entity(Webhook.objects.select_related("project").defer("secret"), webhook_id)


def _read_events(fields: Fields, required: bool) -> list[str] | None:
    """The field `events`: known kinds only, each wrong one named as `events[i]`."""
    events = fields.texts("events", required=required)
    for index, kind in enumerate(events or []):
        if kind not in KINDS:
            fields.note(f"events[{index}]", NOT_A_CHOICE)
    return events
