"""The API's URLs of this floor, under /api/console/."""

from django.urls import path

from webhooks.api.live import LiveTokenView
from webhooks.api.webhooks import DeliveriesView, RotateSecretView, WebhooksView, WebhookView

urlpatterns = [
    path("live/token", LiveTokenView.as_view()),
    path("webhooks", WebhooksView.as_view()),
    path("webhooks/deliveries", DeliveriesView.as_view()),
    path("webhooks/<str:webhook_id>", WebhookView.as_view()),
    path("webhooks/<str:webhook_id>/rotate-secret", RotateSecretView.as_view()),
]
