"""What waits: queues and which one a project's mail takes."""

from django.apps import AppConfig


class QueuesConfig(AppConfig):
    name = "queues"
