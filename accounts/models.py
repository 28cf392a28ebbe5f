"""People, the identities they sign in with, one-time links and the audit log."""

from typing import ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now


class Users(BaseUserManager["User"]):
    """Finds people by their local login."""

    def get_by_natural_key(self, login: str | None) -> "User":
        """The person with that local login, compared without case."""
        return self.get(login=(login or "").strip().casefold())


class User(AbstractBaseUser):
    """A person. Who signs in by OIDC is known by (issuer, subject); only local sign-in goes by `login`."""

    login = models.CharField(
        max_length=254, unique=True, null=True, blank=True, help_text="Local sign-in; an e-mail address in lower case."
    )
    email = models.CharField(max_length=254, blank=True)
    name = models.CharField(max_length=255, blank=True)
    picture_url = models.CharField(max_length=1024, blank=True)
    is_staff = models.BooleanField(default=False, help_text="May use the staff admin and see every project.")
    is_active = models.BooleanField(default=True)
    wants_staff_notices = models.BooleanField(
        default=True, db_default=True, help_text="As staff, is told by mail what happens in the installation."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    USERNAME_FIELD = "login"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = Users()

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return self.name or self.email or self.login or f"user {self.pk}"

    # Django's admin asks these; a staff member may do all of it, nobody else anything.
    @property
    def is_superuser(self) -> bool:
        """The admin's word for staff."""
        return self.is_staff

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """True for active staff."""
        return self.is_active and self.is_staff

    def has_perms(self, perm_list: object, obj: object = None) -> bool:
        """True for active staff."""
        return self.is_active and self.is_staff

    def has_module_perms(self, app_label: str) -> bool:
        """True for active staff."""
        return self.is_active and self.is_staff


class Identity(models.Model):
    """An OIDC identity: (issuer, subject), never the e-mail address, which a provider may let its users change."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="identities")
    issuer = models.CharField(max_length=512)
    subject = models.CharField(max_length=255)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    last_seen_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "identities"
        constraints = (models.UniqueConstraint(fields=("issuer", "subject"), name="identity_issuer_subject"),)

    def __str__(self) -> str:
        return f"{self.subject} at {self.issuer}"


class SignInLink(models.Model):
    """A link that signs one person in once; only its hash is stored."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sign_in_links")
    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"link {self.pk} for {self.user}"


class StaffKey(models.Model):
    """A key with which a script of staff uses the staff API as that person; only its hash is stored."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="staff_keys")
    name = models.CharField(max_length=255)
    key_hash = models.CharField(max_length=64, unique=True)
    is_read_only = models.BooleanField(default=False, help_text="Opens GET alone.")
    allowed_ips = ArrayField(
        models.CharField(max_length=50), default=list, blank=True, help_text="Empty: from anywhere."
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return self.name


class AuditEntry(models.Model):
    """What staff did and what bears on security. Append-only: the database refuses UPDATE and DELETE.

    Actor and subject are named, not referenced: the entry outlives both.
    """

    at = models.DateTimeField(db_default=Now(), editable=False)
    actor_id = models.BigIntegerField(null=True, blank=True)
    actor_label = models.CharField(max_length=255, blank=True)
    action = models.CharField(max_length=64)
    subject_kind = models.CharField(max_length=32, blank=True)
    subject_id = models.BigIntegerField(null=True, blank=True)
    project_id = models.BigIntegerField(null=True, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)
    detail = models.JSONField(default=dict, blank=True)

    class Meta:
        verbose_name_plural = "audit entries"
        ordering = ("-id",)
        indexes = (
            models.Index(fields=("subject_kind", "subject_id"), name="audit_subject"),
            models.Index(fields=("project_id", "id"), name="audit_project"),
        )

    def __str__(self) -> str:
        return f"{self.action} by {self.actor_label or 'nobody'}"
