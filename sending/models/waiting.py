"""What waits: one narrow row per recipient that is not final, deleted when it is. Not partitioned.

Its indexes are as small as the backlog, so the cost of a claim does not grow with history. No foreign keys: the hot path
joins nothing.
"""

from django.db import models

# The lane of mail that test keys made: every sender serves it, whatever its queue's addresses may do now.
TEST_LANE = 0


class Phase(models.IntegerChoices):
    """What is claimable apart from what is not: each has its own partial index."""

    DUE = 0  # claimable now
    LATER = 1  # a retry's time, or in flight until the lease's end
    HELD = 2  # hangs on a held site


class Waiting(models.Model):
    """The ledger: due, or in flight with a lease, or held with a next slot; never none of them."""

    recipient_id = models.BigIntegerField(primary_key=True)
    send_id = models.BigIntegerField()
    project_id = models.BigIntegerField()
    queue_id = models.BigIntegerField()
    lane = models.BigIntegerField(help_text="The queue's id, minus the source IP's once it is sticky, or 0 of a test.")
    priority = models.SmallIntegerField(default=0, help_text="Lower leaves first.")
    domain = models.CharField(max_length=253)
    size_bytes = models.IntegerField()
    phase = models.SmallIntegerField(choices=Phase.choices, default=Phase.DUE)
    due_at = models.DateTimeField()
    tries = models.SmallIntegerField(default=0, help_text="Attempts that were dialled, and lost ones.")
    lost = models.SmallIntegerField(default=0, help_text="Leases that ran out.")
    source_ip_id = models.BigIntegerField(
        null=True, blank=True, help_text="Sticky: retries stay on their IP (greylisting)."
    )
    attempt_id = models.BigIntegerField(null=True, blank=True)
    sender_id = models.BigIntegerField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    held_site_id = models.BigIntegerField(null=True, blank=True)
    since = models.DateTimeField(
        null=True, blank=True, help_text="When its lifetime began, if not when it was accepted: scheduled, or retried."
    )

    class Meta:
        verbose_name_plural = "waiting"
        indexes = (
            models.Index(
                fields=("lane", "priority", "project_id", "due_at", "recipient_id"),
                condition=models.Q(phase=0),
                name="waiting_due",
            ),
            models.Index(
                fields=("due_at",), condition=models.Q(phase=1, attempt_id__isnull=True), name="waiting_later"
            ),
            # What the sweeper reads every second: as small as what is in flight, however many retries wait.
            models.Index(fields=("due_at",), condition=models.Q(attempt_id__isnull=False), name="waiting_in_flight"),
            models.Index(
                fields=("held_site_id", "priority", "project_id", "due_at", "recipient_id"),
                condition=models.Q(phase=2),
                name="waiting_held_turn",
            ),
            models.Index(fields=("send_id",), name="waiting_send"),
            models.Index(fields=("since",), condition=models.Q(since__isnull=False), name="waiting_since"),
        )
        constraints = (
            models.CheckConstraint(
                name="waiting_in_flight_has_lease",
                condition=models.Q(attempt_id__isnull=True, lease_until__isnull=True, sender_id__isnull=True)
                | models.Q(attempt_id__isnull=False, lease_until__isnull=False, sender_id__isnull=False, phase=1),
            ),
            models.CheckConstraint(
                name="waiting_held_has_site",
                condition=models.Q(phase=2, held_site_id__isnull=False)
                | ~models.Q(phase=2) & models.Q(held_site_id__isnull=True),
            ),
        )

    def __str__(self) -> str:
        return f"waiting {self.recipient_id}"
