"""What was accepted: the send, its recipients, its content, its signatures. Partitioned by day.

References carry no database constraint: partitions are dropped whole, and no query here goes without a range of ids.
Reverse managers are not used for that reason.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.lookups import GreaterThan

from projects.models import Domain, Project
from queues.models import Queue

AN_HOUR_OF_IDS = 3_600_000 << 12  # relay_project.db.ids


class RecipientStatus(models.TextChoices):
    """Where a recipient stands. `accepted` means: the next hop said 250. `cancelled` is our one addition."""

    QUEUED = "queued"
    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    SUPPRESSED = "suppressed"
    FAILED = "failed"
    CANCELLED = "cancelled"


WAITING_STATUSES = (RecipientStatus.QUEUED, RecipientStatus.DEFERRED)


class Priority(models.IntegerChoices):
    """Which of a queue's mail leaves first: lower values before higher ones, whatever project they are of."""

    NOTICE = -10  # the installation's own: links to sign in, notices
    TRANSACTIONAL = 0
    BULK = 10


class RecipientType(models.TextChoices):
    """The header an address stands in."""

    TO = "to"
    CC = "cc"
    BCC = "bcc"


class Content(models.Model):
    """The parts as they were given, once; several sends may share them. Attachments: what[i] describes body[i]."""

    project_id = models.BigIntegerField()
    body_html = models.TextField(null=True)  # noqa: DJ001 — absent and empty differ
    body_text = models.TextField(null=True)  # noqa: DJ001
    headers = models.JSONField(default=list, help_text="[[name, value], …] in the order given.")
    attachments = models.JSONField(default=list, help_text="[{name, content_type, content_id}, …]")
    attachment_bodies = ArrayField(models.BinaryField(), default=list)
    raw = models.BinaryField(null=True, help_text="The customer's own MIME, in place of all other parts.")

    class Meta:
        verbose_name_plural = "contents"

    def __str__(self) -> str:
        return f"content {self.pk}"


class Send(models.Model):
    """One accepted message. Its bytes are a pure function of what is stored here and in its content."""

    uuid = models.UUIDField(help_text="UUIDv7 that carries the id; no index, see relay_project.db.ids.")
    project = models.ForeignKey(
        Project, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False
    )
    queue = models.ForeignKey(Queue, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False)
    domain = models.ForeignKey(
        Domain, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False
    )
    content = models.ForeignKey(
        Content, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False
    )
    from_address = models.CharField(max_length=254)
    from_name = models.CharField(max_length=998, null=True)  # noqa: DJ001 — null in the contract
    subject = models.TextField(null=True)  # noqa: DJ001 — null in the contract
    size_bytes = models.IntegerField(help_text="Exact length before signing.")
    message_date = models.DateTimeField(help_text="Date header and DKIM t=: the later of accept and send_after.")
    writer_version = models.SmallIntegerField(help_text="Which writer composes it (relay_project.mail.mime).")
    mailer = models.CharField(max_length=128, help_text="X-Mailer as it stood at accept.")
    instance_domain = models.CharField(max_length=253, help_text="Signs second; names the return path.")
    priority = models.SmallIntegerField(
        choices=Priority.choices, default=Priority.TRANSACTIONAL, db_default=0, help_text="Kept for retries."
    )
    tags = ArrayField(models.CharField(max_length=64), null=True, help_text="Null: none. See SendTag.")
    metadata = models.JSONField(null=True, help_text="The customer's own names and values; null: none.")
    is_test = models.BooleanField(default=False, db_default=False, help_text="Made with a test key: never leaves.")

    list = models.CharField(  # noqa: DJ001 — most mail is for no list
        max_length=64,
        null=True,
        help_text="The customer's name of the list it is for; suppressions of that list apply.",
    )
    list_unsubscribe = models.TextField(  # noqa: DJ001 — null: the helper was not asked for
        null=True, help_text="List-Unsubscribe as sent. Stored, since who signs its link may change."
    )

    variables = models.JSONField(null=True, help_text="Its values in a content that others share; null: none.")
    forwarded_from = models.TextField(  # noqa: DJ001 — null and empty differ
        null=True,
        help_text="Whose mail is passed on: its envelope sender, empty for <>; null: a mail of the project's own.",
    )

    class Meta:
        ordering = ("-id",)
        indexes = (
            models.Index(fields=("project", "id"), name="send_project"),
            # What retention asks a whole day for: sends whose time is more than an hour of ids after their accept.
            models.Index(
                fields=("message_date",),
                condition=models.Q(
                    GreaterThan(
                        models.Func("message_date", function="id_floor", output_field=models.BigIntegerField())
                        - models.F("id"),
                        AN_HOUR_OF_IDS,
                    )
                ),
                name="send_scheduled",
            ),
        )

    def __str__(self) -> str:
        return str(self.uuid)


class SendTag(models.Model):
    """Which sends have a tag, in the order of their ids; a row only for what is tagged."""

    pk = models.CompositePrimaryKey("project_id", "tag", "send_id")
    project_id = models.BigIntegerField()
    tag = models.CharField(max_length=64)
    send_id = models.BigIntegerField()

    def __str__(self) -> str:
        return self.tag


class Recipient(models.Model):
    """One address of a send. Its id lies between the send's id and an hour later."""

    send = models.ForeignKey(Send, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False)
    project_id = models.BigIntegerField()
    position = models.SmallIntegerField()
    type = models.CharField(max_length=3, choices=RecipientType.choices)
    address = models.CharField(max_length=254)
    name = models.CharField(max_length=998, default="")
    status = models.CharField(max_length=12, choices=RecipientStatus.choices)
    try_count = models.SmallIntegerField(default=0)

    class Meta:
        ordering = ("id",)
        indexes = (
            models.Index(fields=("send",), name="recipient_send"),
            models.Index(fields=("project_id", "status", "id"), name="recipient_status"),
            models.Index(
                fields=("id",), condition=models.Q(status__in=("queued", "deferred")), name="recipient_not_final"
            ),
        )

    def __str__(self) -> str:
        return self.address


class Signature(models.Model):
    """The DKIM-Signature lines as sent, kept from the first settle on and reused by retries."""

    send = models.OneToOneField(
        Send, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+", primary_key=True
    )
    header_lines = models.BinaryField(help_text="CRLF-terminated; they stand before the composed message.")

    def __str__(self) -> str:
        return f"signature of send {self.send_id}"
