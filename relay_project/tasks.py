"""Periodic upkeep of the shared floor."""

from django.conf import settings
from django.utils import timezone

from relay_project import jobs, retention
from relay_project.db import rates
from relay_project.db.partitions import make_partitions


@jobs.every("*/30 * * * *", "relay.partitions")
def partitions(timestamp: int) -> None:
    """Twice an hour: the coming days have their partitions."""
    make_partitions(settings.PARTITION_DAYS_AHEAD)


@jobs.every("17 * * * *", "relay.retention")
def remove_what_is_due(timestamp: int) -> None:
    """Once an hour: days whose time has come."""
    retention.run(retention.by_both_clocks(timezone.now()))
    retention.measure()


@jobs.every("*/5 * * * *", "relay.history")
def measure_history(timestamp: int) -> None:
    """Every five minutes: how much is kept, and since when."""
    retention.measure()


@jobs.every("37 * * * *", "relay.hourly")
def hourly(timestamp: int) -> None:
    """Once an hour: stalled jobs, rate windows nobody uses."""
    jobs.forget_stalled()
    rates.sweep(timezone.now())
