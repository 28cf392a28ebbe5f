"""Who is told: readers of the event log."""

from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "webhooks"
