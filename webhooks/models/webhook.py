"""Webhooks, what was sent to them (partitioned by day), and what still has to be (narrow rows, gone when it is done)."""

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


class DeliveryKind(models.TextChoices):
    """Why a delivery was made."""

    EVENT = "event"  # it happened
    TEST = "test"  # somebody tries the endpoint; one try only
    REPLAY = "replay"  # somebody asked for it again


class DisabledReason(models.TextChoices):
    """Why a webhook is told nothing; empty while it is."""

    NONE = "", "Enabled"
    BY_HAND = "by hand", "By hand"
    FAILING = "failing", "Nothing worked for days"
    GONE = "gone", "It answered 410 Gone"


def _texts(width: int) -> ArrayField:  # type: ignore[type-arg]
    return ArrayField(models.CharField(max_length=width), default=list, db_default=[], blank=True)


class Webhook(models.Model):
    """A URL of a customer's that is told of events of a project."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="webhooks")
    url = models.CharField(max_length=255)
    description = models.CharField(max_length=1024, null=True, blank=True)  # noqa: DJ001 — null in the contract
    events = ArrayField(models.CharField(max_length=48), default=list)
    secret = EncryptedTextField(editable=False, help_text="Signs deliveries; encrypted at rest by the key ring.")
    previous_secret = EncryptedTextField(  # type: ignore[misc] # null: there is none
        null=True, editable=False, help_text="Signs as well, until its time is over."
    )
    previous_secret_until = models.DateTimeField(null=True, editable=False)
    headers = EncryptedTextField(  # type: ignore[misc] # null: there are none
        null=True, editable=False, help_text="JSON, name → value; sent with each call."
    )
    tags = _texts(64)
    domains = _texts(253)
    is_enabled = models.BooleanField(default=True)
    disabled_at = models.DateTimeField(null=True, editable=False)
    disabled_reason = models.CharField(
        max_length=12, choices=DisabledReason.choices, default=DisabledReason.NONE, db_default="", blank=True
    )
    failing_since = models.DateTimeField(null=True, editable=False, help_text="The first failure since it last worked.")
    held_until = models.DateTimeField(null=True, editable=False, help_text="Its receiver asked to be left alone.")
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
    kind = models.CharField(
        max_length=8, choices=DeliveryKind.choices, default=DeliveryKind.EVENT, db_default=DeliveryKind.EVENT
    )
    status = models.CharField(max_length=12, choices=DeliveryStatus.choices, default=DeliveryStatus.PENDING)
    try_count = models.SmallIntegerField(default=0)
    response_code = models.SmallIntegerField(null=True, blank=True, help_text="0: no answer came.")
    response = models.CharField(max_length=1024, null=True, blank=True)  # noqa: DJ001 — null in the contract
    next_try_at = models.DateTimeField(null=True, blank=True, help_text="Null when there is none.")
    tries = models.JSONField(default=list, db_default=[], help_text="Each one: at (Unix seconds), code, ms, text.")

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "webhook deliveries"
        indexes = (
            models.Index(fields=("project_id", "id"), name="delivery_project"),
            models.Index(fields=("webhook_id", "id"), name="delivery_webhook"),
        )

    def __str__(self) -> str:
        return f"{self.event} to {self.url}"


class WebhookWaiting(models.Model):
    """A delivery that is not final: the row that is looked for, deleted when it is done. No foreign keys."""

    delivery_id = models.BigIntegerField(primary_key=True)
    webhook_id = models.BigIntegerField()
    subject_id = models.BigIntegerField(help_text="First tries about one subject follow each other.")
    kind = models.CharField(max_length=8, choices=DeliveryKind.choices)
    due_at = models.DateTimeField()
    try_count = models.SmallIntegerField(default=0)

    class Meta:
        verbose_name_plural = "waiting webhook deliveries"
        indexes = (models.Index(fields=("webhook_id", "due_at", "delivery_id"), name="webhook_waiting_due"),)

    def __str__(self) -> str:
        return str(self.delivery_id)


class WebhookLane(models.Model):
    """Which process delivers to a webhook now, and until when unless it says so again. Gone when nothing waits."""

    webhook_id = models.BigIntegerField(primary_key=True)
    holder = models.UUIDField()
    leased_until = models.DateTimeField()

    def __str__(self) -> str:
        return f"webhook {self.webhook_id}"


class WebhookReplay(models.Model):
    """An order to tell a webhook again what happened in a range of time, or what failed in it; worked off in steps."""

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="replays")
    begins_id = models.BigIntegerField(help_text="Ids from here on")
    ends_id = models.BigIntegerField(help_text="and below this.")
    only_failed = models.BooleanField(default=False)
    next_id = models.BigIntegerField(help_text="How far it has come.")
    made = models.IntegerField(default=0, help_text="Deliveries that it made so far.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        indexes = (models.Index(fields=("id",), condition=models.Q(finished_at=None), name="webhook_replay_open"),)

    def __str__(self) -> str:
        return f"replay {self.pk} of webhook {self.webhook_id}"
