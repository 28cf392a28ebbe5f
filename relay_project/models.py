"""Tables of the shared floor. (Django sends post_migrate only to apps that have this module, and apps.py waits for it.)"""

from django.db import models


class RetentionRun(models.Model):
    """What one run of retention removed, and what it kept back. `finished_at` null: it failed, or is at it."""

    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    partitions = models.IntegerField(default=0, help_text="Days of tables that were dropped.")
    rows = models.BigIntegerField(default=0, help_text="Rows that were deleted from small tables.")
    size_bytes = models.BigIntegerField(default=0, help_text="What the dropped days took on disk.")
    kept_back = models.JSONField(default=list, help_text="[{partition, reason, due_at}, …]")
    error = models.CharField(max_length=2000, blank=True)

    class Meta:
        ordering = ("-id",)
        indexes = (models.Index(fields=("started_at",), name="retention_run_started"),)

    def __str__(self) -> str:
        return f"retention of {self.started_at:%d %b %Y, %H:%M}"
