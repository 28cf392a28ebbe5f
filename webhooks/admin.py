"""Staff admin: webhooks and mailboxes, never their secrets and tokens, and what they were told."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone

from projects.by_staff import by_staff
from projects.models import Project
from relay_project.templatetags.relay import octets
from relay_project.web.staff import Facts, Happened, Link, column, confirmed, disabling
from webhooks.again import replay, send_again, send_test
from webhooks.mailbox.holding import holding_of
from webhooks.mailbox.manage import switch_mailbox
from webhooks.models import (
    DisabledReason,
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
from webhooks.switch import disable, enable

PROJECT = Link("project", Project)
WEBHOOK = Link("webhook", Webhook, shows="url")
MAILBOX = Link("mailbox", Mailbox, shows="name")
STATUS_LABELS = {"delivered": "success", "pending": "info", "failed": "danger"}


@column("told of")
def told_of(row: Webhook | Mailbox) -> str:
    """The first kind of events, and how many more; a row's page has them all."""
    more = len(row.events) - 1
    return f"{row.events[0]} and {more} more" if more > 0 else "".join(row.events)


@admin.register(Webhook)
class WebhookAdmin(Facts):
    """Who is told of what."""

    secret = ("secret", "previous_secret", "headers")
    list_display = ("id", "url", PROJECT, "is_enabled", "disabled_reason", "failing_since", told_of, "created_at")
    list_display_links = ("id", "url")
    list_filter = ("is_enabled", "disabled_reason")
    search_fields = ("url", "project__name")
    search_help_text = "URL or project"
    actions_detail = ("disable", "enable", "test", "tell_failed")

    @disabling(question="“{}” will be told nothing from now on. Continue?", icon="notifications_off")
    def disable(self, request: HttpRequest, webhook: Webhook, data: dict[str, Any]) -> str:
        """Stop a webhook, say because its receiver suffers; the project's people may enable it again."""
        disable(webhook, DisabledReason.BY_HAND, by_staff(request), said=data["reason"])
        return f"{webhook} is disabled."

    @confirmed(
        "Enable",
        question="“{}” will be told of what happens again, and of what waited for it. Continue?",
        icon="notifications_active",
        fits=lambda webhook: not webhook.is_enabled,
    )
    def enable(self, request: HttpRequest, webhook: Webhook, data: dict[str, Any]) -> str:
        """Let it go on."""
        enable(webhook, by_staff(request))
        return f"{webhook} is enabled."

    @confirmed("Send a test", question="One call with an example goes to “{}”. Continue?", icon="send")
    def test(self, request: HttpRequest, webhook: Webhook, data: dict[str, Any]) -> str:
        """One call; its delivery shows the answer."""
        made = send_test(webhook, by_staff(request))
        return f"The test is sent; its delivery is {made.pk}."

    @confirmed(
        "Tell all that failed again",
        question="All deliveries to “{}” that failed are made again, and what waits for its next try is tried now. Continue?",
        icon="replay",
        fits=lambda webhook: webhook.is_enabled,
    )
    def tell_failed(self, request: HttpRequest, webhook: Webhook, data: dict[str, Any]) -> str:
        """As its project's people can."""
        made = replay(webhook, only_failed=True, caller=by_staff(request))
        return f"Replay {made.pk} has begun."


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(Happened):
    """What was told to whom, and what was answered."""

    ids = ("pk", "webhook_id", "event_id")
    words = ("event", "status")
    list_display = ("when", "event", PROJECT, "url", "state", "response_code", "try_count", "next_try_at")
    list_display_links = ("when", "event")
    search_help_text = "Id of a delivery, webhook or event, or an exact event or status"
    links = (WEBHOOK,)
    actions_detail = ("again",)

    @column("status", label=STATUS_LABELS)
    def state(self, delivery: WebhookDelivery) -> str:
        """Where it stands."""
        return str(delivery.status)

    @confirmed("Send again", question="“{}” is told again, with the same body. Continue?", icon="replay")
    def again(self, request: HttpRequest, delivery: WebhookDelivery, data: dict[str, Any]) -> str:
        """A new delivery of the same event."""
        made = send_again(delivery, by_staff(request))
        return f"It is sent again; the new delivery is {made.pk}."


@admin.register(WebhookWaiting)
class WebhookWaitingAdmin(Facts):
    """Deliveries that are not final yet."""

    list_display = ("delivery_id", WEBHOOK, "kind", "due_at", "try_count")
    ordering = ("due_at",)


@admin.register(WebhookLane)
class WebhookLaneAdmin(Facts):
    """Webhooks that a process delivers to just now."""

    list_display = (WEBHOOK, "holder", "leased_until")
    ordering = ("webhook_id",)


@admin.register(WebhookReplay)
class WebhookReplayAdmin(Facts):
    """Orders to tell something again."""

    list_display = ("id", WEBHOOK, "only_failed", "made", "created_at", "finished_at")
    ordering = ("-id",)


@admin.register(Mailbox)
class MailboxAdmin(Facts):
    """Places from which receivers fetch."""

    list_display = ("id", "name", PROJECT, "is_enabled", told_of, "created_at")
    list_display_links = ("id", "name")
    list_filter = ("is_enabled",)
    search_fields = ("name", "project__name")
    search_help_text = "Name or project"
    computed = ("holding",)
    actions_detail = ("disable", "enable")

    @admin.display(description="Lies in it")
    def holding(self, mailbox: Mailbox) -> str:
        """Deposits and events that nobody has acknowledged."""
        found = holding_of(mailbox, timezone.now())
        since = f", the oldest of {found.oldest:%Y-%m-%d %H:%M} UTC" if found.oldest else ""
        deposits = f"{found.load.items} deposits ({octets(found.load.octets)})"
        return f"{deposits}, {found.in_hand} events in hand, {found.behind} not fetched{since}"

    @disabling(
        question="Nobody may deposit into or fetch from “{}” from now on; what lies in it stays. Continue?",
        icon="block",
    )
    def disable(self, request: HttpRequest, mailbox: Mailbox, data: dict[str, Any]) -> str:
        """Close a mailbox; the project's people may open it again."""
        switch_mailbox(mailbox, False, by_staff(request), reason=data["reason"])
        return f"{mailbox} is disabled."

    @confirmed(
        "Enable",
        question="People may deposit into and fetch from “{}” again. Continue?",
        icon="check_circle",
        fits=lambda mailbox: not mailbox.is_enabled,
    )
    def enable(self, request: HttpRequest, mailbox: Mailbox, data: dict[str, Any]) -> str:
        """Open it again."""
        switch_mailbox(mailbox, True, by_staff(request))
        return f"{mailbox} is enabled."


@admin.register(MailboxToken)
class MailboxTokenAdmin(Facts):
    """Who may deposit into or fetch from a mailbox; never the tokens."""

    secret = ("token_hash",)
    list_display = ("id", "name", "kind", MAILBOX, "created_at")
    ordering = ("-id",)


@admin.register(MailboxItem)
class MailboxItemAdmin(Facts):
    """What lies in mailboxes, without its content."""

    secret = ("payload", "digest")
    list_display = ("id", MAILBOX, "sender", "size", "receive_count", "ready_at", "expires_at", "acked_at")
    ordering = ("-id",)


@admin.register(MailboxEvent)
class MailboxEventAdmin(Facts):
    """Events that were handed out and not acknowledged."""

    list_display = ("id", MAILBOX, "event_id", "receive_count", "ready_at")
    ordering = ("-id",)
