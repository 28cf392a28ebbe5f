"""Receiving sites: what we may do there, what they taught us, and which of them may not be tried now."""

from django.db import models
from django.db.models.functions import Now

from ips.models.source_ip import SourceIp
from queues.models import Queue


class HeldSite(models.Model):
    """Why a queue's mail for one site waits, and until when. Rows of the waiting table hang on it and cost no claims.

    Without a source IP it is the mail that any IP of the queue may send; with one, the mail that is sticky on that.
    """

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, related_name="held_sites")
    source_ip = models.ForeignKey(SourceIp, on_delete=models.CASCADE, null=True, blank=True, related_name="held_sites")
    site = models.CharField(max_length=253)
    reason = models.CharField(max_length=512)
    next_slot = models.DateTimeField()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("queue", "source_ip", "site"), name="held_site", nulls_distinct=False),
        )
        indexes = (models.Index(fields=("next_slot",), name="held_site_next_slot"),)

    def __str__(self) -> str:
        return f"{self.site} until {self.next_slot:%H:%M:%S}"


class SiteLimit(models.Model):
    """What staff allow at a site, and what the site taught a source IP. Empty limits: what more general rows say.

    Without a source IP it holds for all of them; lessons are always one IP's.
    """

    source_ip = models.ForeignKey(SourceIp, on_delete=models.CASCADE, null=True, blank=True, related_name="site_limits")
    site = models.CharField(max_length=253, help_text="A provider's name, or MX hosts in order, joined by commas.")
    connections = models.PositiveIntegerField(null=True, blank=True, help_text="At once.")
    messages_per_connection = models.PositiveIntegerField(null=True, blank=True)
    per_second = models.PositiveIntegerField(null=True, blank=True, help_text="Messages.")
    per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Messages.")
    per_hour = models.PositiveIntegerField(null=True, blank=True, help_text="Messages.")
    paused_at = models.DateTimeField(null=True, blank=True)
    pause_reason = models.CharField(max_length=255, blank=True)
    learned_per_minute = models.PositiveIntegerField(null=True, blank=True)
    learned_connections = models.PositiveIntegerField(null=True, blank=True)
    learned_ceiling = models.PositiveIntegerField(
        null=True, blank=True, help_text="Messages a minute at which the lesson is over."
    )
    learned_reply = models.CharField(max_length=512, blank=True, help_text="What the site said.")
    learned_at = models.DateTimeField(null=True, blank=True)
    raised_at = models.DateTimeField(null=True, blank=True, help_text="When the learned limits were last changed.")
    back_off_seconds = models.FloatField(null=True, blank=True, help_text="How long it was left alone the last time.")
    back_off_until = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("source_ip", "site"), name="site_limit", nulls_distinct=False),
            models.CheckConstraint(
                name="site_limit_is_positive",
                condition=~models.Q(connections=0)
                & ~models.Q(messages_per_connection=0)
                & ~models.Q(per_second=0)
                & ~models.Q(per_minute=0)
                & ~models.Q(per_hour=0),
            ),
            models.CheckConstraint(
                name="site_limit_lesson_is_of_one_ip",
                condition=models.Q(learned_at__isnull=True) | models.Q(source_ip__isnull=False),
            ),
        )
        indexes = (models.Index(fields=("site",), name="site_limit_site"),)
        ordering = ("site", "source_ip_id")

    def __str__(self) -> str:
        return f"{self.site} from {self.source_ip or 'every source IP'}"


class SitePause(models.Model):
    """A time in which a site stood still by order of staff, once it is over: what hung there expires that much later."""

    source_ip = models.ForeignKey(SourceIp, on_delete=models.CASCADE, null=True, blank=True, related_name="site_pauses")
    site = models.CharField(max_length=253)
    reason = models.CharField(max_length=255, blank=True)
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField()

    class Meta:
        ordering = ("-began_at",)
        indexes = (models.Index(fields=("ended_at",), name="site_pause_end"),)

    def __str__(self) -> str:
        return f"{self.site} from {self.began_at:%Y-%m-%d %H:%M}"


class SendCount(models.Model):
    """Messages that a source IP began in an hour to a site that is limited by the hour, or in a day to all sites.

    Written with the settle, read when an IP is taken over: a restart does not forget them.
    """

    class Window(models.TextChoices):
        """How long it lasts; both begin by the clock, in UTC."""

        HOUR = "hour"
        DAY = "day"

    source_ip = models.ForeignKey(
        SourceIp, on_delete=models.CASCADE, related_name="send_counts", db_constraint=False, db_index=False
    )
    site = models.CharField(max_length=253, blank=True, help_text="Empty: all of them.")
    window = models.CharField(max_length=4, choices=Window.choices)
    window_start = models.DateTimeField()
    count = models.BigIntegerField()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("source_ip", "window", "window_start", "site"), name="send_count"),
        )

    def __str__(self) -> str:
        return f"{self.count} in the {self.window} of {self.window_start:%Y-%m-%d %H:%M}"
