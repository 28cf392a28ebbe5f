"""API keys: 32 hexadecimal characters that a client sends, of which only the SHA-256 is kept."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from projects.models.project import Project


class ApiKey(models.Model):
    """A key fixes the project and what may be done in it."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=255)
    key_hash = models.CharField(max_length=64, unique=True)
    scopes = ArrayField(models.CharField(max_length=32), default=list)
    allowed_ips = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    is_test = models.BooleanField(default=False, db_default=False, help_text="Its mail never leaves; for good.")
    is_enabled = models.BooleanField(default=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_accessed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("id",)
        verbose_name = "API key"

    def __str__(self) -> str:
        return self.name
