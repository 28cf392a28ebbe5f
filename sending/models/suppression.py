"""Addresses that a project's mail does not go to."""

from django.db import models
from django.db.models.functions import Now

from projects.models import Project


class SuppressionReason(models.TextChoices):
    """Why."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"


class Suppression(models.Model):
    """One normalised address per project (lessons C7, C8)."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="suppressions")
    email = models.CharField(max_length=254, help_text="Normalised: case folded, domain as A-label.")
    reason = models.CharField(max_length=12, choices=SuppressionReason.choices)
    description = models.CharField(max_length=512, null=True, blank=True)  # noqa: DJ001 — null in the contract
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("-id",)
        constraints = (models.UniqueConstraint(fields=("project", "email"), name="suppression_project_email"),)

    def __str__(self) -> str:
        return self.email
