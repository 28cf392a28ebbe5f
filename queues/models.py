"""Queues: a class of mail and the source IPs that carry it."""

from django.db import models
from django.db.models.functions import Now

from projects.models import Project


class Queue(models.Model):
    """Mail of one class; the two default queues are named after a project's send type."""

    name = models.CharField(max_length=64, unique=True)
    is_default = models.BooleanField(default=False)
    paused_at = models.DateTimeField(null=True, blank=True)
    pause_reason = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return self.name


class ProjectQueue(models.Model):
    """A project whose mail takes a queue that staff gave it, in place of the default one of what it sends."""

    project = models.OneToOneField(Project, on_delete=models.CASCADE, related_name="+", primary_key=True)
    queue = models.ForeignKey(Queue, on_delete=models.PROTECT, related_name="dedicated")

    def __str__(self) -> str:
        return f"{self.project} in {self.queue}"


class Pause(models.Model):
    """A time in which a queue stood still by order of staff: it does not count towards the lifetime of its mail."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, related_name="pauses")
    reason = models.CharField(max_length=255, blank=True)
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-began_at",)
        constraints = (
            models.UniqueConstraint(fields=("queue",), condition=models.Q(ended_at=None), name="one_open_pause"),
        )

    def __str__(self) -> str:
        return f"{self.queue} since {self.began_at:%Y-%m-%d %H:%M}"
