"""Periodic upkeep of the shared floor."""

from django.conf import settings
from django.utils import timezone

from relay_project import jobs
from relay_project.db import rates
from relay_project.db.partitions import make_partitions


@jobs.every("*/30 * * * *", "relay.partitions")
def partitions(timestamp: int) -> None:
    """Twice an hour: the coming days have their partitions."""
    make_partitions(settings.PARTITION_DAYS_AHEAD)


@jobs.every("37 * * * *", "relay.hourly")
def hourly(timestamp: int) -> None:
    """Once an hour: stalled jobs, rate windows nobody uses."""
    jobs.forget_stalled()
    rates.sweep(timezone.now())
