"""What a key's secret was before it was rotated."""

from django.db import models

from projects.models.api_key import ApiKey


class FormerSecret(models.Model):
    """The hash of a secret that still opens its key for a while. A table of its own: hardly any key has one."""

    key = models.OneToOneField(ApiKey, on_delete=models.CASCADE, related_name="former")
    key_hash = models.CharField(max_length=64, unique=True)
    valid_until = models.DateTimeField()

    def __str__(self) -> str:
        return f"former secret of key {self.key_id}"
