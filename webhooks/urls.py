"""The API's URLs of this floor: under /api/console/, and of the mailboxes under /v1/mailbox/."""

from django.urls import path

from webhooks.api.live import LiveTokenView
from webhooks.api.mailboxes import MailboxesView, MailboxTokensView, MailboxTokenView, MailboxView
from webhooks.api.webhooks import (
    DeliveriesView,
    DeliveryView,
    ReplaysView,
    ReplayView,
    RotateSecretView,
    SendAgainView,
    TestView,
    WebhooksView,
    WebhookView,
)
from webhooks.mailbox.views import ack_view, deposit_view, receive_view

urlpatterns = [
    path("live/token", LiveTokenView.as_view()),
    path("webhooks", WebhooksView.as_view()),
    path("webhooks/deliveries", DeliveriesView.as_view()),
    path("webhooks/deliveries/<str:delivery_id>", DeliveryView.as_view()),
    path("webhooks/deliveries/<str:delivery_id>/retry", SendAgainView.as_view()),
    path("webhooks/<str:webhook_id>", WebhookView.as_view()),
    path("webhooks/<str:webhook_id>/rotate-secret", RotateSecretView.as_view()),
    path("webhooks/<str:webhook_id>/test", TestView.as_view()),
    path("webhooks/<str:webhook_id>/replay", ReplaysView.as_view()),
    path("webhooks/<str:webhook_id>/replay/<str:replay_id>", ReplayView.as_view()),
    path("mailboxes", MailboxesView.as_view()),
    path("mailboxes/<str:mailbox_id>", MailboxView.as_view()),
    path("mailboxes/<str:mailbox_id>/tokens", MailboxTokensView.as_view()),
    path("mailboxes/<str:mailbox_id>/tokens/<str:token_id>", MailboxTokenView.as_view()),
]

mailbox_addresses = [
    path("<str:name>", deposit_view),
    path("<str:name>/receive", receive_view),
    path("<str:name>/ack", ack_view),
]
