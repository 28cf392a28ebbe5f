"""What receiving domains ask of TLS (RFC 8461), and where staff decide otherwise."""

from django.db import models
from django.db.models.functions import Now


class MtaStsPolicy(models.Model):
    """A domain's MTA-STS policy as last fetched. It holds until it expires, whatever later tries to fetch it bring."""

    domain = models.CharField(max_length=253, unique=True)
    policy_id = models.CharField(max_length=32, blank=True, help_text="Of the TXT record that led to it.")
    mode = models.CharField(max_length=8, blank=True, help_text="enforce, testing or none; empty: none was ever had.")
    mx = models.JSONField(default=list, blank=True, help_text="Names of MX hosts; *. stands for one label.")
    max_age = models.IntegerField(default=0, help_text="Seconds.")
    fetched_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField(db_default=Now(), help_text="Mail was last sent there; to the day.")
    error = models.CharField(max_length=500, blank=True, help_text="Of the last try to fetch it.")
    failing_since = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(db_default=Now(), help_text="Senders read what changed since they last looked.")

    class Meta:
        ordering = ("domain",)
        indexes = (models.Index(fields=("updated_at",), name="mta_sts_updated"),)
        verbose_name = "MTA-STS policy"
        verbose_name_plural = "MTA-STS policies"

    def __str__(self) -> str:
        return self.domain


class TlsRequirement(models.TextChoices):
    """What staff ask of TLS; the values are those of relay_project.net.conversation.TlsRequirement."""

    NONE = "none", "None: never STARTTLS"
    OPPORTUNISTIC = "opportunistic", "Opportunistic: where offered, any certificate"
    ENCRYPTED = "encrypted", "Encrypted: never without, any certificate"
    VERIFIED = "verified", "Verified: never without a valid certificate of the MX host"


class TlsOverride(models.Model):
    """A decision of staff about one recipient domain, above what it publishes; `*` is for all that publish nothing."""

    domain = models.CharField(
        max_length=253, unique=True, help_text="A recipient domain, or * for all without a policy."
    )
    requirement = models.CharField(max_length=13, choices=TlsRequirement.choices)
    reason = models.CharField(max_length=255)
    changed_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("domain",)
        verbose_name = "TLS override"

    def __str__(self) -> str:
        return self.domain
