"""Periodic upkeep of who is told."""

from django.utils import timezone

from relay_project import jobs
from webhooks.mailbox.expire import sweep_expired
from webhooks.mailbox.figures import measure


@jobs.every("* * * * *", "webhooks.mailboxes")
def mailboxes(timestamp: int) -> None:
    """Every minute: what has expired leaves, and what is left is counted."""
    sweep_expired(timezone.now())
    measure()
