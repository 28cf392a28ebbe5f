"""Roll-ups: what became of recipients, counted by the hour and by the day in which their mail was accepted.

Rows are added to by one reader of the event log and of new mail (sending.statistics), and read instead of raw history.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models

INSTANCE = 0  # in place of a project: what all of them sent


class Dimension(models.TextChoices):
    """What a row is of; its key is the thing's name or id."""

    PROJECT = "project"  # key: '' in a project's own rows, the project's id in the instance's
    DOMAIN = "domain"  # the From domain
    QUEUE = "queue"  # id
    IP = "ip"  # the source IP's id; of what was tried
    PROVIDER = "provider"  # the receiving site's, `other` for the many without one; of what was tried
    TAG = "tag"
    ALL = "all"  # key: ''; the instance's sum


class Counters(models.Model):
    """Recipients of one hour's or day's mail, by where they stand: a state that changes moves its one from here to there.

    `total - sum(states)` have not been tried yet. `deferrals` are tries that were put off, of all these recipients.
    `latency[i]` counts accepted ones by the time from accept to 250 (sending.statistics.latency has the bounds).
    """

    project_id = models.BigIntegerField(help_text="0: the whole instance.")
    dimension = models.CharField(max_length=8, choices=Dimension.choices)
    key = models.CharField(max_length=253, blank=True)
    total = models.BigIntegerField(default=0)
    deferred = models.BigIntegerField(default=0)
    accepted = models.BigIntegerField(default=0)
    bounced = models.BigIntegerField(default=0)
    complained = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    suppressed = models.BigIntegerField(default=0)
    cancelled = models.BigIntegerField(default=0)
    deferrals = models.BigIntegerField(default=0)
    latency = ArrayField(models.BigIntegerField(), default=list)

    class Meta:
        abstract = True


class HourCount(Counters):
    """One hour's."""

    hour = models.DateTimeField()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("project_id", "dimension", "hour", "key"), name="hour_count_key"),
        )
        indexes = (models.Index(fields=("hour",), name="hour_count_hour"),)

    def __str__(self) -> str:
        return f"{self.dimension} {self.key} {self.hour:%Y-%m-%d %H}"


class DayCount(Counters):
    """One UTC day's, kept for longer."""

    day = models.DateField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("project_id", "dimension", "day", "key"), name="day_count_key"),)
        indexes = (models.Index(fields=("day",), name="day_count_day"),)

    def __str__(self) -> str:
        return f"{self.dimension} {self.key} {self.day}"


class ReaderPosition(models.Model):
    """How far a reader has come, moved in the transaction of what it wrote: so everything is read exactly once."""

    name = models.CharField(max_length=32, primary_key=True)
    position = models.BigIntegerField(default=0)
    moved_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name}: {self.position}"
