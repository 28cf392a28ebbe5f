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


class ReturnPathStatus(models.TextChoices):
    """Whether a domain's own return path is used: only while its records are in DNS."""

    PENDING = "pending"
    ACTIVE = "active"


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
    return_path = models.CharField(  # noqa: DJ001 — null as in the API
        max_length=253, null=True, blank=True, help_text="A host below the domain that bounces are sent to."
    )
    return_path_status = models.CharField(
        max_length=8,
        choices=ReturnPathStatus.choices,
        default=ReturnPathStatus.PENDING,
        db_default=ReturnPathStatus.PENDING,
    )
    return_path_changed_at = models.DateTimeField(null=True, blank=True)
    return_path_checked_at = models.DateTimeField(null=True, blank=True)
    return_path_due_at = models.DateTimeField(null=True, blank=True, help_text="When it is looked for next.")
    return_path_error_message = models.CharField(max_length=512, null=True, blank=True)  # noqa: DJ001 — as the other
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("-id",)
        constraints = (models.UniqueConstraint(fields=("project", "domain"), name="domain_project_domain"),)
        indexes = (models.Index(fields=("domain",), name="domain_name"),)

    def __str__(self) -> str:
        return self.domain


class DkimAlgorithm(models.TextChoices):
    """What a key signs with: a domain signs with at most one key of each."""

    RSA = "rsa"
    ED25519 = "ed25519"


class DkimKeyState(models.TextChoices):
    """The life of a signing key. The record is in DNS from `active` to the end of `retiring`."""

    PENDING = "pending"  # waits for its record
    ACTIVE = "active"  # signs
    RETIRING = "retiring"  # signs nothing new; mail that it signed is still on its way, so its record must stay
    RETIRED = "retired"  # its record may go


ED25519_PEM = "MCowBQYDK2Vw"  # how the SubjectPublicKeyInfo of every Ed25519 key begins in base64 (RFC 8410 §4)


class DkimKey(models.Model):
    """A domain's signing key. Those that are active sign; the one with `is_current` first, and the contract shows it."""

    domain = models.ForeignKey(Domain, on_delete=models.CASCADE, related_name="dkim_keys")
    selector = models.CharField(max_length=63)
    private_key = EncryptedTextField(editable=False, help_text="PEM, encrypted at rest by the key ring.")
    public_key = models.TextField(help_text="PEM.")
    # made by the database, so that rows of a version that does not know the column are right as well
    algorithm = models.GeneratedField(
        expression=models.Case(
            models.When(public_key__contains=ED25519_PEM, then=models.Value("ed25519")), default=models.Value("rsa")
        ),
        output_field=models.CharField(max_length=8, choices=DkimAlgorithm.choices),
        db_persist=True,
    )
    is_current = models.BooleanField(default=True)
    state = models.CharField(
        max_length=8, choices=DkimKeyState.choices, default=DkimKeyState.ACTIVE, db_default=DkimKeyState.ACTIVE
    )
    checked_at = models.DateTimeField(null=True, blank=True)
    error_message = models.CharField(max_length=512, null=True, blank=True)  # noqa: DJ001 — as the domain's
    activated_at = models.DateTimeField(null=True, blank=True, help_text="When it began to sign.")
    retires_at = models.DateTimeField(null=True, blank=True, help_text="Until then its record must stay.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "DKIM key"
        constraints = (
            models.UniqueConstraint(fields=("domain", "selector"), name="dkim_key_domain_selector"),
            models.UniqueConstraint(fields=("domain",), condition=models.Q(is_current=True), name="dkim_key_current"),
            models.UniqueConstraint(
                fields=("domain", "algorithm"), condition=models.Q(state="active"), name="dkim_key_active"
            ),
            models.UniqueConstraint(
                fields=("domain", "algorithm"), condition=models.Q(state="pending"), name="dkim_key_pending"
            ),
        )

    def __str__(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"
