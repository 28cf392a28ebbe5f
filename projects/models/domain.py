"""Sending domains and their DKIM keys."""

from django.db import models
from django.db.models.functions import Now

from projects.models.project import Project
from relay_project.db.fields import EncryptedTextField


class DomainStatus(models.TextChoices):
    """Whether a domain may send: active and warning may."""

    PENDING = "pending"
    ACTIVE = "active"
    WARNING = "warning"
    SUSPENDED = "suspended"


MAY_SEND = (DomainStatus.ACTIVE, DomainStatus.WARNING)


class Domain(models.Model):
    """A domain that a project sends from."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="domains")
    domain = models.CharField(max_length=253, help_text="A-label form, lower case.")
    status = models.CharField(max_length=16, choices=DomainStatus.choices, default=DomainStatus.PENDING)
    status_changed_at = models.DateTimeField(db_default=Now())
    dkim_checked_at = models.DateTimeField(null=True, blank=True)
    dkim_error_message = models.CharField(max_length=512, null=True, blank=True)  # noqa: DJ001 — null in the contract
    failed_checks = models.PositiveSmallIntegerField(
        default=0, help_text="Failed checks in a row; resolver trouble does not count."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("-id",)
        constraints = (models.UniqueConstraint(fields=("project", "domain"), name="domain_project_domain"),)
        indexes = (models.Index(fields=("domain",), name="domain_name"),)

    def __str__(self) -> str:
        return self.domain


class DkimKey(models.Model):
    """A domain's signing key; the one with `is_current` signs."""

    domain = models.ForeignKey(Domain, on_delete=models.CASCADE, related_name="dkim_keys")
    selector = models.CharField(max_length=63)
    private_key = EncryptedTextField(editable=False, help_text="PEM, encrypted at rest by the key ring.")
    public_key = models.TextField(help_text="PEM.")
    is_current = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "DKIM key"
        constraints = (
            models.UniqueConstraint(fields=("domain", "selector"), name="dkim_key_domain_selector"),
            models.UniqueConstraint(fields=("domain",), condition=models.Q(is_current=True), name="dkim_key_current"),
        )

    def __str__(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"
