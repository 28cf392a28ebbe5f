"""The sandbox's inbox: mail that stayed on this machine."""

from django.db import models
from django.db.models.functions import Now


class SandboxMessage(models.Model):
    """One mail as the sandbox's SMTP server received it. The project is known by the signed return path."""

    project_id = models.BigIntegerField(null=True, blank=True)
    send_id = models.BigIntegerField(null=True, blank=True)
    received_at = models.DateTimeField(db_default=Now(), editable=False)
    reverse_path = models.CharField(max_length=320, blank=True)
    recipients = models.JSONField(default=list)
    helo_name = models.CharField(max_length=255, blank=True)
    peer = models.CharField(max_length=64, blank=True)
    is_tls = models.BooleanField(default=False)
    subject = models.CharField(max_length=998, blank=True)
    from_header = models.CharField(max_length=998, blank=True)
    data = models.BinaryField()
    dkim_results = models.JSONField(default=list, help_text="[{domain, selector, valid, error}, …] by dkimpy.")

    class Meta:
        ordering = ("-id",)
        indexes = (models.Index(fields=("project_id", "id"), name="sandbox_project"),)

    def __str__(self) -> str:
        return self.subject or f"message {self.pk}"
