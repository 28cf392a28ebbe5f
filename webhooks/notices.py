"""Notices to a project's people: of webhooks that Relay itself stopped, and of mailboxes that fill up."""

from django.conf import settings
from django.urls import reverse

from projects.notices import tell_members
from projects.scopes import Scope
from relay_project.templatetags.relay import octets
from webhooks.mailbox.holding import Load
from webhooks.models import DisabledReason, Mailbox, Webhook

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


def tell_of_filling(mailbox_id: int, load: Load, *, is_refusing: bool) -> None:
    """Tell with the caller's transaction that a mailbox is nearly full, or that a deposit did not fit into it."""
    mailbox = Mailbox.objects.select_related("project").filter(pk=mailbox_id).first()
    if mailbox is None:
        return
    link = settings.WEB_URL + reverse("console-mailbox", args=[mailbox.project_id, mailbox.pk])
    holds = (
        f"It holds {load.items:,} of {settings.MAILBOX_MAX_ITEMS:,} deposits, {octets(load.octets)} of "
        f"{octets(settings.MAILBOX_MAX_BYTES)}"
    )
    text = (
        f"{holds}, and one that did not fit was refused. So will others be until its receiver acknowledges some or they expire."
        if is_refusing
        else f"{holds}. When it is full, more are refused until its receiver acknowledges some or they expire."
    )
    state = "full" if is_refusing else "nearly full"
    about = f"mailbox {mailbox.pk} {state}"
    subject = f"The mailbox {mailbox.name} is {state}"
    tell_members(mailbox.project, Scope.WEBHOOKS_WRITE, about, subject, f"{mailbox.name}\n\n{text}\n\n{link}\n")
