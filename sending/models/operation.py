"""What staff do to many waiting rows at once, and figures that are too dear to be read whenever somebody asks."""

from django.db import models
from django.db.models.functions import Now

from queues.models import Queue


class OperationKind(models.TextChoices):
    """What is done to each row that fits."""

    FLUSH = "flush"  # due now
    REROUTE = "reroute"  # waits in another queue
    PURGE = "purge"  # cancelled


class Operation(models.Model):
    """One order over a queue's waiting rows, carried out in steps of a transaction each.

    `after_id` moves in the transaction of its step, so whoever goes on after a crash goes on exactly there. What was
    accepted after the order (`until_id`) is not part of it.
    """

    kind = models.CharField(max_length=8, choices=OperationKind.choices)
    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, related_name="operations")
    target = models.ForeignKey(
        Queue, on_delete=models.CASCADE, null=True, blank=True, related_name="+", help_text="Where rerouted mail goes."
    )
    # Filters. No foreign key: a project that is deleted must not widen the order to everybody's mail.
    project_id = models.BigIntegerField(null=True, blank=True)
    domain = models.CharField(max_length=253, blank=True, help_text="Of the recipients; empty: all.")
    site = models.CharField(max_length=253, blank=True, help_text="Receiving site; empty: all.")
    with_scheduled = models.BooleanField(default=False, help_text="A flush hurries scheduled mail as well.")
    reason = models.CharField(max_length=255)
    ordered_by = models.CharField(max_length=255)
    until_id = models.BigIntegerField()
    after_id = models.BigIntegerField(default=0)
    done = models.BigIntegerField(default=0, help_text="Recipients.")
    left_in_flight = models.BigIntegerField(default=0)
    left_scheduled = models.BigIntegerField(default=0)
    ordered_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True, blank=True)
    stopped_at = models.DateTimeField(null=True, blank=True, help_text="Staff took the rest of the order back.")

    class Meta:
        verbose_name = "order"
        ordering = ("-id",)
        indexes = (models.Index(fields=("id",), condition=models.Q(ended_at=None), name="operation_open"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class Measurement(models.Model):
    """The last value of a figure whose reading costs by the backlog: housekeeping measures, pages and probes read this."""

    name = models.CharField(max_length=32, primary_key=True)
    value = models.JSONField()
    measured_at = models.DateTimeField()
    seconds = models.FloatField(help_text="What reading it took.")

    def __str__(self) -> str:
        return self.name
