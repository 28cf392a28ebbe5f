"""What comes in by SMTP without a login: the mails as they came, which of them are unread, and the feedback they brought."""

from django.contrib.postgres.fields import ArrayField
from django.db import models


class InboundState(models.TextChoices):
    """What became of a mail that came in."""

    WAITING = "waiting"  # for the reader
    APPLIED = "applied"  # a recipient of ours is not as it was, or an address is suppressed
    NOTED = "noted"  # about a mail of ours, or nobody's, and nothing follows
    HANDED_ON = "handed on"  # to a project's route, or to the advice about a domain
    UNMATCHED = "unmatched"  # a report about no mail of ours that it could be shown to be about
    FORGED = "forged"  # it names a return path that no key of ours made
    TROUBLE = "trouble"  # it could not be read or applied; `trouble` says why


class InboundKind(models.TextChoices):
    """What it is: relay_project.mail.reports.model.ReportKind."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    TLS_REPORT = "tls-report"
    DMARC_REPORT = "dmarc-report"
    AUTO_REPLY = "auto-reply"
    NONE = "none"


class Correlation(models.TextChoices):
    """How a report's mail was found, the best proof first."""

    TOKEN = "token"  # noqa: S105 — a signed return path: whoever has it had the mail, or carries it back
    ENVELOPE_ID = "envelope-id"
    MESSAGE_ID = "message-id"
    HEADERS = "headers"  # returned headers of ours


class InboundMail(models.Model):
    """One mail as it came, kept for a while. Partitioned by day; its id says when it came."""

    peer = models.CharField(max_length=64)
    helo_name = models.CharField(max_length=255, blank=True)
    tls = models.CharField(max_length=16, blank=True, help_text="Version; empty: clear text.")
    mail_from = models.CharField(
        max_length=512, blank=True, help_text="Empty: the null sender, as reports should have."
    )
    recipients = ArrayField(models.CharField(max_length=512))
    octets = models.BinaryField()
    size_bytes = models.IntegerField()
    state = models.CharField(max_length=12, choices=InboundState.choices, default=InboundState.WAITING)
    kind = models.CharField(
        max_length=16, choices=InboundKind.choices, blank=True, help_text="Empty until it was read."
    )
    trouble = models.CharField(max_length=500, blank=True)
    correlation = models.CharField(max_length=12, choices=Correlation.choices, blank=True)
    project_id = models.BigIntegerField(null=True, blank=True)
    send_id = models.BigIntegerField(null=True, blank=True)
    attempt_id = models.BigIntegerField(null=True, blank=True)
    findings = models.JSONField(default=list, help_text="What it says of each recipient, and what followed.")
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        verbose_name = "inbound mail"
        indexes = (
            models.Index(fields=("send_id",), condition=models.Q(send_id__isnull=False), name="inbound_send"),
            models.Index(
                fields=("id",),
                condition=models.Q(state__in=("unmatched", "forged", "trouble")),
                name="inbound_trouble",
            ),
        )

    def __str__(self) -> str:
        return f"mail {self.pk} from {self.peer}"


class UnreadMail(models.Model):
    """A mail that waits for the reader: as small as the backlog, and deleted with what the mail says being applied."""

    mail_id = models.BigIntegerField(primary_key=True)
    due_at = models.DateTimeField(help_text="When to read it; of one that is being read, the end of its lease.")
    tries = models.SmallIntegerField(default=0, help_text="How often a reader took it.")
    size_bytes = models.IntegerField()

    class Meta:
        verbose_name = "unread mail"
        indexes = (models.Index(fields=("due_at",), name="unread_due"),)

    def __str__(self) -> str:
        return str(self.mail_id)


class FeedbackType(models.TextChoices):
    """What came back about a mail that had left."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"


class Feedback(models.Model):
    """What came back about one recipient: of each type the first. It lies, and leaves, with its recipient."""

    pk = models.CompositePrimaryKey("type", "recipient_id")
    type = models.CharField(max_length=12, choices=FeedbackType.choices)
    recipient_id = models.BigIntegerField()
    id = models.BigIntegerField(help_text="The one that the API shows; it says when it came.")
    send_id = models.BigIntegerField()
    project_id = models.BigIntegerField()
    attempt_id = models.BigIntegerField(null=True, blank=True)
    mail_id = models.BigIntegerField(help_text="The inbound mail that brought it.")
    is_proven = models.BooleanField(help_text="By a signed return path; what is not may not suppress.")
    bounce_class = models.CharField(max_length=16, blank=True)
    status = models.CharField(max_length=12, blank=True, help_text="Enhanced status of a bounce, kind of a complaint.")
    code = models.SmallIntegerField(default=0)
    reason = models.CharField(max_length=2000, blank=True)

    class Meta:
        indexes = (models.Index(fields=("send_id",), name="feedback_send"),)

    def __str__(self) -> str:
        return f"{self.type} of recipient {self.recipient_id}"
