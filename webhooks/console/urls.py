"""The console's pages about webhooks, below /console/<project_id>."""

from django.urls import path

from webhooks.console import webhooks

urlpatterns = [
    path("/webhooks", webhooks.webhooks, name="console-webhooks"),
    path("/webhooks/new", webhooks.new_webhook, name="console-new-webhook"),
    path("/webhooks/<int:webhook_id>", webhooks.one_webhook, name="console-webhook"),
    path("/webhooks/<int:webhook_id>/switch", webhooks.switch_webhook, name="console-switch-webhook"),
    path("/webhooks/<int:webhook_id>/secret", webhooks.new_secret, name="console-webhook-secret"),
    path("/webhooks/<int:webhook_id>/delete", webhooks.remove_webhook, name="console-delete-webhook"),
]
