"""The event log, the outbox beside it, and the feed that gives events a position in commit order.

No foreign keys: an event names its subject by kind and id and outlives it.
"""

from django.db import models


class Event(models.Model):
    """Something that happened, written in the transaction of the change it reports (emit_many). Partitioned by day."""

    project_id = models.BigIntegerField()
    kind = models.CharField(max_length=48)
    subject_kind = models.CharField(max_length=24)
    subject_id = models.BigIntegerField()
    version = models.SmallIntegerField(default=1)
    payload = models.JSONField()

    class Meta:
        ordering = ("-id",)
        indexes = (
            models.Index(fields=("project_id", "id"), name="event_project"),
            models.Index(fields=("subject_id", "id"), name="event_subject"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class EventOutbox(models.Model):
    """Ids of events that the sequencer has not yet taken."""

    event_id = models.BigIntegerField(primary_key=True)
    project_id = models.BigIntegerField(null=True, help_text="Null where a version before wrote it.")

    class Meta:
        verbose_name_plural = "event outbox"

    def __str__(self) -> str:
        return str(self.event_id)


class FeedPosition(models.Model):
    """An event's position in commit order: readers trust `position > last`, never `id > last`."""

    position = models.BigAutoField(primary_key=True)
    event_id = models.BigIntegerField()
    project_id = models.BigIntegerField(null=True, help_text="Null where a version before wrote it.")

    class Meta:
        indexes = (
            models.Index(fields=("project_id", "position"), name="feed_project"),
            models.Index(fields=("event_id",), name="feed_event"),
        )

    def __str__(self) -> str:
        return f"{self.position}: {self.event_id}"
