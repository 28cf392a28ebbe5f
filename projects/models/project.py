"""Projects and who belongs to them."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now


class SendType(models.TextChoices):
    """What a project sends; it decides the default queue."""

    TRANSACTIONAL = "transactional"
    DISTRIBUTIONAL = "distributional"


class Project(models.Model):
    """A tenant: domains, keys, sends and events belong to exactly one."""

    name = models.CharField(max_length=255)
    send_type = models.CharField(max_length=16, choices=SendType.choices)
    content_days = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Bodies are kept for this many days; null: as long as the instance keeps them."
    )
    # Limits of its own, set by staff; null: the instance's (projects.limits).
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Of one API key.")
    session_requests_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Of one person.")
    sends_per_second = models.PositiveIntegerField(null=True, blank=True)
    sends_per_hour = models.PositiveIntegerField(null=True, blank=True, help_text="0: no limit.")
    sends_per_day = models.PositiveIntegerField(null=True, blank=True, help_text="0: no limit.")
    recipients_per_send = models.PositiveIntegerField(null=True, blank=True)
    message_bytes = models.PositiveIntegerField(null=True, blank=True)
    suspended_at = models.DateTimeField(null=True, blank=True, help_text="Staff stopped its mail; null: it may send.")
    suspend_reason = models.CharField(max_length=255, blank=True, db_default="", default="")
    archived_at = models.DateTimeField(null=True, blank=True, help_text="Put away: nothing of it works or is listed.")
    emptied_at = models.DateTimeField(
        null=True, blank=True, help_text="When nothing of what was archived waited any more."
    )
    is_system = models.BooleanField(default=False, help_text="Owns the instance domain and sends Relay's own notices.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("id",)
        constraints = (
            models.UniqueConstraint(
                fields=("is_system",), condition=models.Q(is_system=True), name="one_system_project"
            ),
        )
        indexes = (  # the few that every claim leaves out
            models.Index(
                fields=("id",),
                condition=models.Q(suspended_at__isnull=False) | models.Q(archived_at__isnull=False),
                name="project_stopped",
            ),
        )

    def __str__(self) -> str:
        return self.name


class Suspension(models.Model):
    """A time in which staff let nothing of a project leave: it does not count towards the lifetime of its mail."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="suspensions")
    reason = models.CharField(max_length=255)
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-began_at",)
        constraints = (
            models.UniqueConstraint(fields=("project",), condition=models.Q(ended_at=None), name="one_open_suspension"),
        )

    def __str__(self) -> str:
        return f"{self.project} since {self.began_at:%Y-%m-%d %H:%M}"


class Membership(models.Model):
    """A person's scopes in a project (the contract's ProjectUser)."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    scopes = ArrayField(models.CharField(max_length=32), default=list)
    wants_notices = models.BooleanField(default=True, db_default=True, help_text="Is told by mail what happens in it.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("id",)
        constraints = (models.UniqueConstraint(fields=("project", "user"), name="membership_project_user"),)

    def __str__(self) -> str:
        return f"{self.user} in {self.project}"
