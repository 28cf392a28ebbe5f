"""Webhooks, and what was sent to them. Deliveries are partitioned by day."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from projects.models import Project
from relay_project.db.fields import EncryptedTextField


class DeliveryStatus(models.TextChoices):
    """Where a delivery stands; `delivered` means: the receiver answered 2xx."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Webhook(models.Model):
    """A URL of a customer's that is told of events of a project."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="webhooks")
    url = models.CharField(max_length=255)
    description = models.CharField(max_length=1024, null=True, blank=True)  # noqa: DJ001 — null in the contract
    events = ArrayField(models.CharField(max_length=48), default=list)
    secret = EncryptedTextField(editable=False, help_text="Signs deliveries; encrypted at rest by the key ring.")
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return self.url


class WebhookDelivery(models.Model):
    """One event for one webhook, with URL and body as they stood when it happened, and the last answer."""

    project_id = models.BigIntegerField()
    webhook_id = models.BigIntegerField()
    event_id = models.BigIntegerField()
    event = models.CharField(max_length=48)
    url = models.CharField(max_length=255)
    request_body = models.TextField()
    status = models.CharField(max_length=12, choices=DeliveryStatus.choices, default=DeliveryStatus.PENDING)
    try_count = models.SmallIntegerField(default=0)
    response_code = models.SmallIntegerField(null=True, blank=True, help_text="0: no answer came.")
    response = models.CharField(max_length=1024, null=True, blank=True)  # noqa: DJ001 — null in the contract

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "webhook deliveries"
        indexes = (
            models.Index(fields=("project_id", "id"), name="delivery_project"),
            models.Index(fields=("webhook_id", "id"), name="delivery_webhook"),
        )

    def __str__(self) -> str:
        return f"{self.event} to {self.url}"
