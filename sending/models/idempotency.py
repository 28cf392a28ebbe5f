"""Idempotency keys: written in the transaction of the send they stand for, so one key never makes two sends."""

from django.db import models
from django.db.models.functions import Now


class IdempotencyRecord(models.Model):
    """A key and the answer it got. The unique index is the in-flight lock: a second call waits for the first's commit."""

    project_id = models.BigIntegerField()
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of the request body.")
    status_code = models.SmallIntegerField()
    answer = models.JSONField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("project_id", "key"), name="idempotency_project_key"),)
        indexes = (models.Index(fields=("created_at",), name="idempotency_created"),)

    def __str__(self) -> str:
        return self.key
