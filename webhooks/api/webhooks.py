"""Webhooks over the API."""

from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from projects.endpoint import Endpoint
from projects.events import EventKind
from projects.key_rotation import most_overlap_hours
from projects.scopes import Scope, by_method
from relay_project.web.describe import describe
from relay_project.web.errors import ApiError
from relay_project.web.fields import NOT_A_CHOICE, Fields
from relay_project.web.pagination import read_choice, read_page, read_path_id
from relay_project.web.schema import EMPTY_LIST, listed
from webhooks.again import DISABLED, MAX_REPLAYS, TEST_EVENT, replay, send_again, send_test, stop_replay
from webhooks.again import TOO_MANY as TOO_MANY_REPLAYS
from webhooks.api.schemas import (
    DELIVERIES_QUERY,
    DELIVERY,
    EXAMPLE_DELIVERY,
    EXAMPLE_REPLAY,
    EXAMPLE_WEBHOOK,
    HALF_WAY,
    KINDS,
    MAX_SECONDS,
    NEW_WEBHOOK,
    REPLAY,
    REPLAY_WISH,
    ROTATION,
    SHOWN_ONCE,
    TEST,
    WEBHOOK,
    WEBHOOK_CHANGE,
)
from webhooks.models import DeliveryStatus, Webhook, WebhookDelivery, WebhookReplay
from webhooks.objects import delivery_object, replay_object, webhook_object
from webhooks.subscriptions import (
    MAX_DESCRIPTION,
    TOO_MANY,
    DeliveryFilter,
    Options,
    WebhookChange,
    create_webhook,
    delete_webhook,
    deliveries_of,
    rotate_secret,
    update_webhook,
    webhooks_of,
)
from webhooks.url import MAX_URL

SHOWN_REPLAYS = 50


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
        "The only answer that shows its secret.",
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
        options = Options(
            fields.text("description", maximum=MAX_DESCRIPTION),
            _read_headers(fields) or {},
            fields.texts("tags") or (),
            fields.texts("domains") or (),
        )
        fields.check()
        webhook, secret = create_webhook(self.project, url or "", events or [], options, self.caller)
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
            headers=_read_headers(fields),
            tags=fields.texts("tags"),
            domains=fields.texts("domains"),
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
        "In place of the present one, which signs as well for the overlap; the only answer that shows the new one.",
        body=ROTATION,
        example={"overlap_hours": 24},
        answer=WEBHOOK,
        sample={**SHOWN_ONCE, "previous_secret_until": 1795401470},
    )
    def post(self, request: Request, webhook_id: str) -> Response:
        """Another secret, shown in this answer alone."""
        webhook = _webhook(self, webhook_id)
        fields = self.fields()
        hours = fields.integer("overlap_hours") or 0
        if not 0 <= hours <= most_overlap_hours():
            fields.note("overlap_hours", f"This value should be between 0 and {most_overlap_hours()}.")
        fields.check()
        return Response(webhook_object(*rotate_secret(webhook, self.caller, hours)))


class TestView(Endpoint):
    """`/webhooks/{id}/test`."""

    section = "Webhooks"
    required_scope = by_method(POST=Scope.WEBHOOKS_WRITE)

    @describe(
        "testWebhook",
        "Send a test",
        "One call, made at once and once, with an example of a kind of event and `test` true in its body.",
        body=TEST,
        example={"event": "send.recipient.bounced"},
        answer=DELIVERY,
        sample={**EXAMPLE_DELIVERY, "kind": "test", "status": "pending", "tries": []},
    )
    def post(self, request: Request, webhook_id: str) -> Response:
        """Make the delivery; what is answered is seen by reading it again."""
        webhook = _webhook(self, webhook_id)
        fields = self.fields()
        kind = fields.choice("event", KINDS)
        fields.check()
        return Response(delivery_object(send_test(webhook, self.caller, EventKind(kind) if kind else None)))


class ReplaysView(Endpoint):
    """`/webhooks/{id}/replay`."""

    section = "Webhooks"
    required_scope = by_method(GET=Scope.WEBHOOKS_READ, POST=Scope.WEBHOOKS_WRITE)

    @describe(
        "listWebhookReplays",
        "List replays",
        "The newest 50.",
        answer=listed(REPLAY),
        sample=[EXAMPLE_REPLAY],
    )
    def get(self, request: Request, webhook_id: str) -> Response:
        """How far they have come."""
        rows = _webhook(self, webhook_id).replays.order_by("-id")[:SHOWN_REPLAYS]
        return Response([replay_object(row) for row in rows])

    @describe(
        "replayWebhook",
        "Tell events again",
        "Those of a range of time, in one call; with `only_failed` what failed of it, and what waits for its next try.",
        body=REPLAY_WISH,
        example={"begin": 1795228670, "end": 1795315070},
        answer=REPLAY,
        sample=EXAMPLE_REPLAY,
        refusals={400: (DISABLED, TOO_MANY_REPLAYS.format(MAX_REPLAYS))},
    )
    def post(self, request: Request, webhook_id: str) -> Response:
        """Ask for it; the deliveries are made in the background."""
        webhook = _webhook(self, webhook_id)
        fields = self.fields()
        begin, end = _read_moment(fields, "begin"), _read_moment(fields, "end")
        only_failed = bool(fields.boolean("only_failed"))
        fields.check()
        return Response(replay_object(replay(webhook, begin, end, only_failed=only_failed, caller=self.caller)))


class ReplayView(Endpoint):
    """`/webhooks/{id}/replay/{id}`."""

    section = "Webhooks"
    required_scope = by_method(GET=Scope.WEBHOOKS_READ, DELETE=Scope.WEBHOOKS_WRITE)

    @describe(
        "getWebhookReplay", "Get a replay", "How far it has come.", answer=REPLAY, sample={**EXAMPLE_REPLAY, **HALF_WAY}
    )
    def get(self, request: Request, webhook_id: str, replay_id: str) -> Response:
        """One replay."""
        return Response(replay_object(_replay(self, webhook_id, replay_id)))

    @describe(
        "stopWebhookReplay",
        "Stop a replay",
        "It makes no more deliveries; those that it made are told.",
        answer=REPLAY,
        sample={**EXAMPLE_REPLAY, **HALF_WAY, "finished_at": 1795315112},
    )
    def delete(self, request: Request, webhook_id: str, replay_id: str) -> Response:
        """Make no more."""
        return Response(replay_object(stop_replay(_replay(self, webhook_id, replay_id), self.caller)))


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
        wanted = DeliveryFilter(
            self.filter_id(Webhook.objects.defer("secret"), "webhook_id"),
            read_choice(request.query_params, "status", DeliveryStatus.values),
            read_choice(request.query_params, "event", (*KINDS, TEST_EVENT)),
        )
        found = deliveries_of(self.project, datetime.now(UTC), wanted)
        if page.before_id is not None:
            found = found.filter(pk__lt=page.before_id)
        return Response([delivery_object(delivery) for delivery in found[: page.limit]])


class DeliveryView(Endpoint):
    """`/webhooks/deliveries/{id}`."""

    section = "Webhooks"
    required_scope = by_method(GET=Scope.WEBHOOKS_READ)

    @describe("getWebhookDelivery", "Get a delivery", answer=DELIVERY, sample=EXAMPLE_DELIVERY)
    def get(self, request: Request, delivery_id: str) -> Response:
        """One delivery with its tries."""
        return Response(delivery_object(self.entity(WebhookDelivery.objects.all(), delivery_id)))


class SendAgainView(Endpoint):
    """`/webhooks/deliveries/{id}/retry`."""

    section = "Webhooks"
    required_scope = by_method(POST=Scope.WEBHOOKS_WRITE)

    @describe(
        "retryWebhookDelivery",
        "Send a delivery again",
        "The same body in a new delivery, to where the webhook leads now.",
        answer=DELIVERY,
        sample={**EXAMPLE_DELIVERY, "kind": "replay", "status": "pending", "tries": []},
        refusals={400: (DISABLED,)},
    )
    def post(self, request: Request, delivery_id: str) -> Response:
        """Make the new delivery."""
        delivery = self.entity(WebhookDelivery.objects.all(), delivery_id)
        return Response(delivery_object(send_again(delivery, self.caller)))


def _webhook(view: Endpoint, webhook_id: str) -> Webhook:
    return view.entity(Webhook.objects.select_related("project").defer("secret"), webhook_id)


def _replay(view: Endpoint, webhook_id: str, replay_id: str) -> WebhookReplay:
    found = _webhook(view, webhook_id).replays.filter(pk=read_path_id(replay_id)).first()
    if found is None:
        raise ApiError(404, "Entity not found")
    return found


def _read_events(fields: Fields, required: bool) -> list[str] | None:
    """The field `events`: known kinds only, each wrong one named as `events[i]`."""
    events = fields.texts("events", required=required)
    for index, kind in enumerate(events or []):
        if kind not in KINDS:
            fields.note(f"events[{index}]", NOT_A_CHOICE)
    return events


def _read_headers(fields: Fields) -> dict[str, str | None] | None:
    """The field `headers`: an object of texts, or null for a value that stays."""
    value = fields.data.get("headers")
    if value is None:
        return None
    if not isinstance(value, dict):
        fields.note("headers", "This value should be of type object.")
        return None
    for name, item in value.items():
        if item is not None and not isinstance(item, str):
            fields.note(f"headers[{name[:100]}]", "This value should be of type string.")
    return value


def _read_moment(fields: Fields, name: str) -> datetime | None:
    seconds = fields.integer(name)
    if seconds is None:
        return None
    if not 0 <= seconds <= MAX_SECONDS:
        fields.note(name, f"This value should be between 0 and {MAX_SECONDS}.")
        return None
    return datetime.fromtimestamp(seconds, UTC)
