"""Trouble with us: what receivers say of a source IP, until staff have dealt with it."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from ips.models.source_ip import SourceIp
from relay_project.mail.classify import Cause


class IncidentCause(models.TextChoices):
    """What is wrong; `docs/classification.md` says what to do."""

    IP_REPUTATION = Cause.IP_REPUTATION.value, "IP reputation"
    AUTHENTICATION = Cause.AUTHENTICATION.value, "Authentication"
    DNS = Cause.DNS.value, "DNS names"
    RATE = Cause.RATE.value, "Rate"
    PROTOCOL = Cause.PROTOCOL.value, "Protocol"


class Incident(models.Model):
    """One cause at one receiving site for one source IP; at most one is open at a time. `opened_at`: first seen."""

    source_ip = models.ForeignKey(SourceIp, on_delete=models.PROTECT, related_name="incidents")
    site = models.CharField(max_length=253, blank=True, help_text="Provider or MX set, as in attempts.")
    cause = models.CharField(max_length=16, choices=IncidentCause.choices)
    rule = models.CharField(max_length=64, help_text="Row of bounce_rules.toml that decided last.")
    attempt_count = models.BigIntegerField(help_text="Attempts that met it.")
    opened_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    last_reply = models.CharField(max_length=2000, blank=True, help_text="What the site said last.")
    replies = models.JSONField(
        default=list,
        db_default=[],
        help_text="Different things said, the newest first: text, at (when last), count (of attempts), like (common form).",
    )
    window_began_at = models.DateTimeField(db_default=Now(), help_text="Of the window that sightings are counted in.")
    window_count = models.BigIntegerField(db_default=0, help_text="Attempts that met it in that window.")
    paused_at = models.DateTimeField(
        null=True, blank=True, help_text="When Relay last paused the site for this IP because of it."
    )
    last_project_id = models.BigIntegerField()
    last_send_id = models.BigIntegerField()
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    closed_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=255, blank=True)

    class Meta:
        ordering = ("-last_seen_at",)
        constraints = (
            models.UniqueConstraint(
                fields=("source_ip", "site", "cause"),
                condition=models.Q(closed_at=None),
                name="incident_open",
            ),
        )
        indexes = (models.Index(fields=("-last_seen_at",), name="incident_last_seen"),)

    def __str__(self) -> str:
        return f"{self.get_cause_display()} at {self.site or 'no site'}"
