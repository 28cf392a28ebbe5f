"""Addresses that mail does not go to: none of a project's, none of one list of a project's, or nobody's at all."""

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models.functions import Coalesce, Now

from projects.models import Project

MAX_LIST = 64  # characters of a list's name


class SuppressionReason(models.TextChoices):
    """Why."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    MANUAL = "manual"


class Suppression(models.Model):
    """One normalised address in one scope, once (lessons C7, C8).

    The scope is all mail of `project`, or the mail that `list_project` sends to its list, or (neither) all mail there is.
    Two columns for the project, so that what holds for one list is nothing to who looks for what holds for all mail.
    """

    project = models.ForeignKey(
        Project,
        on_delete=models.CASCADE,
        related_name="suppressions",
        null=True,
        blank=True,
        db_index=False,
        help_text="All of its mail.",
    )
    list_project = models.ForeignKey(
        Project,
        on_delete=models.CASCADE,
        related_name="+",
        null=True,
        blank=True,
        db_index=False,
        help_text="Mail of one of its lists.",
    )
    list = models.CharField(  # noqa: DJ001 — no list and a list without a name differ
        max_length=MAX_LIST, null=True, blank=True, help_text="Normalised; goes with list_project."
    )
    email = models.CharField(max_length=254, help_text="Normalised: case folded, domain as A-label.")
    reason = models.CharField(max_length=12, choices=SuppressionReason.choices)
    description = models.CharField(max_length=512, null=True, blank=True)  # noqa: DJ001 — null in the contract
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="From then on it suppresses nothing.")

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(fields=("project", "email"), name="suppression_project_email"),
            models.UniqueConstraint(fields=("list_project", "list", "email"), name="suppression_list_email"),
            models.UniqueConstraint(
                fields=("email",),
                condition=models.Q(project__isnull=True, list_project__isnull=True),
                name="suppression_instance_email",
            ),
            models.CheckConstraint(
                condition=models.Q(list_project__isnull=True, list__isnull=True)
                | models.Q(project__isnull=True, list_project__isnull=False, list__isnull=False),
                name="suppression_has_one_scope",
            ),
        )
        indexes = (
            models.Index(Coalesce("project", "list_project"), models.F("id").desc(), name="suppression_owner"),
            # The owner is part of it, so that a search costs by what its project has, not by what all have.
            GinIndex(
                Coalesce("project", "list_project"),
                OpClass(models.F("email"), name="gin_trgm_ops"),
                name="suppression_search",
            ),
            models.Index(
                fields=("expires_at",), condition=models.Q(expires_at__isnull=False), name="suppression_expires"
            ),
        )

    def __str__(self) -> str:
        return self.email

    @property
    def owner_id(self) -> int | None:
        """The project whose row it is; None for the installation's own."""
        return self.project_id or self.list_project_id
