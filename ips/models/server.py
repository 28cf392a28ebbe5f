"""Servers and the sender processes that run on them."""

from django.db import models
from django.db.models.functions import Now


class Server(models.Model):
    """A machine that runs Relay, known by its name."""

    hostname = models.CharField(max_length=253, unique=True)
    last_ping_at = models.DateTimeField(null=True, blank=True)
    identity = models.CharField(
        max_length=128,
        blank=True,
        db_default="",
        help_text="The network stack that goes by this name: its kernel's boot and namespace.",
    )
    contested_at = models.DateTimeField(
        null=True, blank=True, help_text="When another machine last said that this is its name."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return self.hostname


class Sender(models.Model):
    """One start of one sender process. Dead only when its advisory lock is free and its heartbeat is old."""

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="senders")
    pid = models.IntegerField()
    started_at = models.DateTimeField(db_default=Now(), editable=False)
    heartbeat_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"sender {self.pk} on {self.server}"
