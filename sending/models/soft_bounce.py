"""Addresses that could not be delivered to lately and may come back."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now


class SoftBounce(models.Model):
    """The days (UTC) on which a project's mail to a normalised address ended in a soft bounce; gone with an accepted one."""

    project_id = models.BigIntegerField()
    email = models.CharField(max_length=254, help_text="Normalised, as in suppressions.")
    days = ArrayField(models.DateField())
    last_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ("-last_at",)
        constraints = (models.UniqueConstraint(fields=("project_id", "email"), name="soft_bounce_project_email"),)
        indexes = (models.Index(fields=("last_at",), name="soft_bounce_last"),)

    def __str__(self) -> str:
        return self.email
