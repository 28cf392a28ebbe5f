"""Mailboxes: who has one, with which tokens it is opened, what lies in it, and which events its receivers have in hand."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from projects.models import Project

MAX_NAME = 255


def _texts(width: int) -> ArrayField:  # type: ignore[type-arg]
    return ArrayField(models.CharField(max_length=width), default=list, db_default=[], blank=True)


class Mailbox(models.Model):
    """A place from which a receiver that cannot be called fetches what was deposited, and events of its project."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="mailboxes")
    name = models.CharField(max_length=MAX_NAME, unique=True, help_text="Of the whole instance: it is the address.")
    description = models.CharField(max_length=1024, blank=True, default="", db_default="")
    events = _texts(48)
    tags = _texts(64)
    domains = _texts(253)
    position = models.BigIntegerField(
        default=0, db_default=0, editable=False, help_text="How far its events are handed out."
    )
    waited_until = models.DateTimeField(
        null=True, editable=False, help_text="A receiver waits for deposits until then."
    )
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("id",)
        verbose_name_plural = "mailboxes"

    def __str__(self) -> str:
        return self.name


class TokenKind(models.TextChoices):
    """What a mailbox's token opens."""

    DEPOSIT = "deposit"
    RECEIVE = "receive"  # and acknowledge


class MailboxToken(models.Model):
    """A bearer token of one depositor or receiver; only its SHA-256 is kept."""

    mailbox = models.ForeignKey(Mailbox, on_delete=models.CASCADE, related_name="tokens")
    kind = models.CharField(max_length=8, choices=TokenKind.choices)
    name = models.CharField(max_length=255, blank=True, default="")
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return self.name or f"token {self.pk}"


class MailboxItem(models.Model):
    """Something that was deposited. After the acknowledgement its digest stays for a while, without the payload."""

    id = models.BigIntegerField(primary_key=True)  # new_id()
    mailbox_id = models.BigIntegerField()
    digest = models.BinaryField(max_length=32, help_text="SHA-256 of the key, or of the payload where there is none.")
    key = models.CharField(max_length=255, null=True)  # noqa: DJ001 — null: addressed by its content
    sender = models.CharField(max_length=255)
    payload = models.TextField()
    size = models.IntegerField(help_text="Octets of the payload.")
    ready_at = models.DateTimeField(help_text="From then on it is handed out; a lease moves it.")
    receive_count = models.IntegerField(default=0, db_default=0)
    expires_at = models.DateTimeField()
    acked_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("mailbox_id", "digest"), name="mailbox_item_once"),)
        indexes = (
            models.Index(
                fields=("mailbox_id", "ready_at", "id"), condition=models.Q(acked_at=None), name="mailbox_item_ready"
            ),
            models.Index(fields=("expires_at",), name="mailbox_item_expires"),
        )

    def __str__(self) -> str:
        return str(self.pk)


class MailboxEvent(models.Model):
    """An event that was handed out and is not acknowledged yet: what lies behind the mailbox's position and still counts."""

    mailbox_id = models.BigIntegerField()
    event_id = models.BigIntegerField()
    ready_at = models.DateTimeField(help_text="From then on it is handed out again.")
    receive_count = models.IntegerField(default=1, db_default=1)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("mailbox_id", "event_id"), name="mailbox_event_once"),)
        indexes = (models.Index(fields=("mailbox_id", "ready_at", "event_id"), name="mailbox_event_ready"),)

    def __str__(self) -> str:
        return f"event {self.event_id}"
