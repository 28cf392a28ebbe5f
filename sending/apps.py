"""A message's journey: accept, deliver, explain."""

from django.apps import AppConfig


class SendingConfig(AppConfig):
    name = "sending"
