"""Mail that a project receives: for which domains, where it goes, and what came."""

from datetime import datetime

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from projects.models import Project
from relay_project.db.ids import id_time


class ReceivingDomain(models.Model):
    """A domain whose mail a project takes; at most one project for each (the constraint)."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="receiving_domains")
    domain = models.CharField(max_length=253, unique=True, help_text="A-label form, lower case.")
    mx_checked_at = models.DateTimeField(null=True, blank=True)
    mx_error_message = models.CharField(max_length=512, blank=True, help_text="Empty: its MX leads here.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("-id",)
        indexes = (models.Index(fields=("project", "-id"), name="receiving_project"),)

    def __str__(self) -> str:
        return self.domain


class RouteAction(models.TextChoices):
    """What becomes of a mail."""

    EVENT = "event"  # kept and told
    FORWARD = "forward"  # kept, and passed on to other addresses
    DROP = "drop"  # taken, and thrown away
    REJECT = "reject"  # refused at RCPT, as if nobody had the address


class InboundRoute(models.Model):
    """Which addresses of a domain, and what becomes of their mail. The first that fits decides."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="inbound_routes")
    domain = models.ForeignKey(ReceivingDomain, on_delete=models.CASCADE, related_name="routes")
    pattern = models.CharField(
        max_length=65, help_text="A local part in lower case; a * at its end stands for the rest."
    )
    priority = models.IntegerField(default=0, help_text="The smaller comes first; of equals the older.")
    action = models.CharField(max_length=8, choices=RouteAction.choices, default=RouteAction.EVENT)
    forward_to = ArrayField(
        models.CharField(max_length=254), null=True, blank=True, help_text="The addresses of a route that forwards."
    )
    description = models.CharField(max_length=255, blank=True)
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("priority", "id")
        constraints = (models.UniqueConstraint(fields=("domain", "pattern"), name="route_domain_pattern"),)
        indexes = (models.Index(fields=("project",), name="route_project"),)

    def __str__(self) -> str:
        return f"{self.pattern}@{self.domain}"


class ReceivedMail(models.Model):
    """A mail for a project, once for each route that it fits. Partitioned by day; its octets are the InboundMail's."""

    project_id = models.BigIntegerField()
    mail_id = models.BigIntegerField(help_text="The InboundMail, whose days end with this row's or before.")
    route_id = models.BigIntegerField()
    recipients = ArrayField(models.CharField(max_length=512))
    mail_from = models.CharField(max_length=512, blank=True, help_text="Empty: the null sender.")
    from_address = models.CharField(max_length=512, blank=True)
    subject = models.CharField(max_length=998, blank=True)
    message_id = models.CharField(max_length=998, blank=True)
    size_bytes = models.IntegerField()
    attachment_count = models.IntegerField(default=0)
    authentication = models.JSONField(default=dict, help_text="Empty until it was examined.")
    hints = ArrayField(models.CharField(max_length=64), default=list, help_text="What spam often has.")
    examined_at = models.DateTimeField(null=True, blank=True)
    forward_to = ArrayField(
        models.CharField(max_length=254), null=True, blank=True, help_text="To whom it is passed on; null: to nobody."
    )
    forward_send_id = models.BigIntegerField(null=True, blank=True, help_text="The send by which it was passed on.")
    forward_error = models.CharField(
        max_length=200, blank=True, default="", db_default="", help_text="Why it was not passed on."
    )
    returns_send_id = models.BigIntegerField(
        null=True, blank=True, help_text="The forward that it is about: it goes back to whose mail that was."
    )

    class Meta:
        ordering = ("-id",)
        verbose_name = "received mail"
        indexes = (
            models.Index(fields=("project_id", "-id"), name="received_project"),
            models.Index(fields=("mail_id",), name="received_mail"),
            models.Index(
                fields=("forward_send_id",),
                condition=models.Q(forward_send_id__isnull=False),
                name="received_forward",
            ),
        )

    def __str__(self) -> str:
        return f"received mail {self.pk}"

    @property
    def received_at(self) -> datetime:
        """When the mail came; the row was made a moment later."""
        return id_time(self.mail_id)


class UnexaminedMail(models.Model):
    """A received mail that waits for its look at DNS; deleted with its event being written."""

    received_id = models.BigIntegerField(primary_key=True)
    due_at = models.DateTimeField(help_text="When to examine it; of one that is being examined, the end of its lease.")
    tries = models.SmallIntegerField(default=0)

    class Meta:
        verbose_name = "unexamined mail"
        indexes = (models.Index(fields=("due_at",), name="unexamined_due"),)

    def __str__(self) -> str:
        return str(self.received_id)
