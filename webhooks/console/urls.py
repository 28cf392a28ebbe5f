"""The console's pages about webhooks and mailboxes, below /console/<project_id>."""

from django.urls import path

from webhooks.console import deliveries, mailboxes, webhooks

urlpatterns = [
    path("/webhooks", webhooks.webhooks, name="console-webhooks"),
    path("/webhooks/new", webhooks.new_webhook, name="console-new-webhook"),
    path("/webhooks/<int:webhook_id>", deliveries.one_webhook, name="console-webhook"),
    path("/webhooks/<int:webhook_id>/edit", webhooks.edit_webhook, name="console-edit-webhook"),
    path("/webhooks/<int:webhook_id>/switch", webhooks.switch_webhook, name="console-switch-webhook"),
    path("/webhooks/<int:webhook_id>/secret", webhooks.new_secret, name="console-webhook-secret"),
    path("/webhooks/<int:webhook_id>/delete", webhooks.remove_webhook, name="console-delete-webhook"),
    path("/webhooks/<int:webhook_id>/test", deliveries.test_webhook, name="console-test-webhook"),
    path("/webhooks/<int:webhook_id>/replay", deliveries.replay_webhook, name="console-replay-webhook"),
    path(
        "/webhooks/<int:webhook_id>/replay/<int:replay_id>/stop",
        deliveries.stop_webhook_replay,
        name="console-stop-replay",
    ),
    path("/webhooks/deliveries/<int:delivery_id>", deliveries.one_delivery, name="console-webhook-delivery"),
    path("/webhooks/deliveries/<int:delivery_id>/retry", deliveries.retry_delivery, name="console-retry-delivery"),
    path("/mailboxes", mailboxes.mailboxes, name="console-mailboxes"),
    path("/mailboxes/new", mailboxes.new_mailbox, name="console-new-mailbox"),
    path("/mailboxes/<int:mailbox_id>", mailboxes.one_mailbox, name="console-mailbox"),
    path("/mailboxes/<int:mailbox_id>/tokens", mailboxes.new_token, name="console-mailbox-tokens"),
    path(
        "/mailboxes/<int:mailbox_id>/tokens/<int:token_id>/delete", mailboxes.remove_token, name="console-mailbox-token"
    ),
    path("/mailboxes/<int:mailbox_id>/switch", mailboxes.switch_mailbox, name="console-switch-mailbox"),
    path("/mailboxes/<int:mailbox_id>/delete", mailboxes.remove_mailbox, name="console-delete-mailbox"),
]
