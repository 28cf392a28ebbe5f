"""Notices to a project's people of webhooks that Relay itself stopped."""

from django.conf import settings
from django.urls import reverse

from projects.notices import tell_members
from projects.scopes import Scope
from webhooks.models import DisabledReason, Webhook

WHY = {
    DisabledReason.FAILING: "Every call to it has failed for days, so Relay has stopped calling it.",
    DisabledReason.GONE: "It answered 410 Gone, so Relay has stopped calling it.",
}


def tell_of_disabled(webhook: Webhook, reason: DisabledReason) -> None:
    """Tell with the caller's transaction; of what somebody did by hand nobody is told."""
    if reason not in WHY:
        return
    link = settings.WEB_URL + reverse("console-webhook", args=[webhook.project_id, webhook.pk])
    text = (
        f"{webhook.url}\n\n{WHY[reason]} What happens meanwhile can be told later: enable the webhook and have it told "
        f"again what it missed.\n\n{link}\n"
    )
    about = f"webhook {webhook.pk} {reason.value}"
    tell_members(webhook.project, Scope.WEBHOOKS_WRITE, about, "A webhook is disabled", text)
