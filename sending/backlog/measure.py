"""Figures that cost by the backlog: read by housekeeping within a time of their own, kept for whoever asks.

A probe must answer in three seconds, and reading the ledger over some millions of waiting rows takes longer. So one
process reads, seldom where it takes long, and probes and pages show the last value with its age.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import structlog
from django.db import OperationalError, connection, transaction

from sending.models import Measurement

log = structlog.get_logger()

LIMIT_SECONDS = 50  # of one reading
REST = 20  # a reading of n seconds is followed by 20 n without: a twentieth of a core at most
FRESH = timedelta(minutes=5)  # what is older is no answer any more


@dataclass(frozen=True, slots=True)
class Measured:
    """The last value of a figure, and how old it is."""

    value: Any
    age: timedelta


def measure(name: str, read: Callable[[], Any], now: datetime) -> Any | None:
    """Read a figure and keep it (as JSON); None when it rests, or took too long."""
    last = Measurement.objects.filter(pk=name).first()
    if last is not None and now - last.measured_at < timedelta(
        seconds=min(last.seconds * REST, FRESH.total_seconds() / 2)
    ):
        return None
    started = monotonic()
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {LIMIT_SECONDS * 1000}")
            value = read()
    except OperationalError as error:
        log.warning("measure.took_too_long", figure=name, error=str(error).strip())
        return None
    kept = {"value": value, "measured_at": now, "seconds": monotonic() - started}
    Measurement.objects.update_or_create(pk=name, defaults=kept)
    return value


def latest(name: str, now: datetime) -> Measured | None:
    """The last value, if it is fresh."""
    found = Measurement.objects.filter(pk=name, measured_at__gt=now - FRESH).first()
    return None if found is None else Measured(found.value, now - found.measured_at)
