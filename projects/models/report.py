"""What receivers and senders report of a domain by mail: DMARC aggregate reports and TLS reports, summed up."""

from django.db import models
from django.db.models.functions import Now


class DomainReportKind(models.TextChoices):
    """What a report is about."""

    DMARC = "dmarc"  # mail from the domain, as one receiver saw it (RFC 7489 §7.2)
    TLS = "tls"  # connections to the domain's mail servers, as one sender saw them (RFC 8460)


class DomainReport(models.Model):
    """One organisation's report of one domain and time, once however often it is sent. Anybody can send such a report.

    A domain here is a name: of a domain that a project may send from, or the instance's. What a report says of several
    domains of ours is a row for each.
    """

    kind = models.CharField(max_length=8, choices=DomainReportKind.choices)
    domain = models.CharField(max_length=253, help_text="A-label form, lower case.")
    organisation = models.CharField(max_length=255, help_text="Who reports, as it calls itself.")
    report_id = models.CharField(max_length=255)
    contact = models.CharField(max_length=255, blank=True)
    begins_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    received_at = models.DateTimeField(db_default=Now(), editable=False)
    total = models.BigIntegerField(help_text="Messages, or sessions.")
    passed = models.BigIntegerField(help_text="Messages that were aligned, or sessions with TLS.")
    dkim_passed = models.BigIntegerField(default=0, db_default=0)
    spf_passed = models.BigIntegerField(default=0, db_default=0)
    quarantined = models.BigIntegerField(default=0, db_default=0)
    rejected = models.BigIntegerField(default=0, db_default=0)
    ours = models.BigIntegerField(default=0, db_default=0, help_text="Messages from source IPs of ours.")
    ours_passed = models.BigIntegerField(default=0, db_default=0)
    ours_dkim = models.BigIntegerField(default=0, db_default=0)
    ours_spf = models.BigIntegerField(default=0, db_default=0)
    policy = models.JSONField(default=dict, help_text="As the reporter found it.")
    details = models.JSONField(default=list, help_text="Sources of messages, or kinds of failures; the greatest.")
    left_out = models.IntegerField(
        default=0, db_default=0, help_text="Sources or failures that are not in the details."
    )

    class Meta:
        ordering = ("-begins_at", "-id")
        constraints = (
            models.UniqueConstraint(fields=("domain", "kind", "organisation", "report_id"), name="domain_report_once"),
        )
        indexes = (
            models.Index(fields=("domain", "begins_at"), name="domain_report_time"),
            models.Index(fields=("domain", "received_at"), name="domain_report_rate"),
            models.Index(fields=("received_at",), name="domain_report_age"),
        )

    def __str__(self) -> str:
        return f"{self.kind} report of {self.domain} by {self.organisation}"
