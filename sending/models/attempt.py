"""What was tried: attempts with their SMTP conversations, and each recipient's part in them. Partitioned by day."""

from django.db import models

from sending.models.send import RecipientStatus


class AttemptStatus(models.TextChoices):
    """How an attempt ended for its recipients; `partial` when they differ and some were accepted."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    PARTIAL = "partial"
    FAILED = "failed"


class Attempt(models.Model):
    """One try for the recipients of one send in one domain. Registered (its id drawn) before anything is dialled."""

    send_id = models.BigIntegerField()
    project_id = models.BigIntegerField()
    queue_id = models.BigIntegerField()
    source_ip_id = models.BigIntegerField(null=True, blank=True)
    status = models.CharField(max_length=10, choices=AttemptStatus.choices)
    try_count = models.SmallIntegerField()
    domain = models.CharField(max_length=253)
    site = models.CharField(max_length=253, blank=True)
    resolved_mx_hosts = models.JSONField(default=list)
    responded_mx_host = models.CharField(max_length=253, null=True, blank=True)  # noqa: DJ001 — null in the contract
    smtp_conversations = models.JSONField(default=dict, help_text="host → conversation, as the API shows it.")
    tls = models.JSONField(null=True, blank=True, help_text="version, cipher, verified; null: clear text.")
    network_error = models.CharField(max_length=2000, blank=True)
    is_lost = models.BooleanField(default=False, help_text="Its sender died or lost its lease; the outcome is unknown.")
    duration_ms = models.IntegerField(default=0)

    class Meta:
        ordering = ("-id",)
        indexes = (
            models.Index(fields=("send_id", "id"), name="attempt_send"),
            models.Index(fields=("project_id", "id"), name="attempt_project"),
        )

    def __str__(self) -> str:
        return f"attempt {self.pk} ({self.status})"


class AttemptRecipient(models.Model):
    """What one recipient was told in one attempt, and the rule that decided."""

    attempt_id = models.BigIntegerField()
    send_id = models.BigIntegerField()
    recipient_id = models.BigIntegerField()
    recipient_status = models.CharField(max_length=12, choices=RecipientStatus.choices)
    smtp_code = models.SmallIntegerField(default=0)
    smtp_enhanced_code = models.CharField(max_length=12, null=True, blank=True)  # noqa: DJ001 — null in the contract
    smtp_message = models.CharField(max_length=2000, blank=True)
    category = models.CharField(max_length=16, blank=True)
    rule = models.CharField(max_length=64, blank=True, help_text="Row of bounce_rules.toml that decided.")
    is_suppressed = models.BooleanField(default=False)

    class Meta:
        ordering = ("id",)
        indexes = (
            models.Index(fields=("attempt_id",), name="attempt_recipient_attempt"),
            models.Index(fields=("send_id",), name="attempt_recipient_send"),
        )

    def __str__(self) -> str:
        return f"{self.recipient_status} {self.smtp_code}"
