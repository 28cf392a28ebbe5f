"""How each run_smtp is, told to the others: its own probe shows it where it runs, and the admin's first page everywhere.

A process writes a measurement every few seconds and takes it away when it stops in good order; one that falls silent
stays for a day, so that somebody hears of it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta

from relay_project.mail.text import clean
from sending.models import Measurement

PREFIX = "smtp "
MAX_NAME = 27  # characters behind it, what the column holds
REPORT_SECONDS = 10
SILENT = timedelta(seconds=60)
REMEMBERED = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class SmtpServerReport:
    """What a process says of itself. `troubles`: sentences, as its own probe has them."""

    server: str
    listeners: Sequence[str]  # `submission 0.0.0.0:587`
    connections: int = 0
    self_signed: bool = True
    expires_at: str | None = None  # of the certificate from files, ISO 8601
    troubles: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class HeardOf:
    """A report, and how old it is."""

    report: SmtpServerReport
    age: timedelta = field(default=timedelta())

    @property
    def is_silent(self) -> bool:
        """Nobody has heard of it for too long."""
        return self.age > SILENT


def tell(report: SmtpServerReport, now: datetime) -> None:
    """Keep it in place of the last one; texts of the system are made fit to be stored."""
    value = asdict(report)
    value["troubles"] = [clean(trouble, 500) for trouble in report.troubles]
    kept = {"value": value, "measured_at": now, "seconds": 0.0}
    Measurement.objects.update_or_create(pk=_key(report.server), defaults=kept)


def forget(server: str) -> None:
    """It stops, as it was told to."""
    Measurement.objects.filter(pk=_key(server)).delete()


def heard_of(now: datetime) -> list[HeardOf]:
    """All that were heard of within a day."""
    rows = Measurement.objects.filter(pk__startswith=PREFIX, measured_at__gt=now - REMEMBERED).order_by("pk")
    return [HeardOf(SmtpServerReport(**row.value), now - row.measured_at) for row in rows]


def _key(server: str) -> str:
    name = server if len(server) <= MAX_NAME else hashlib.sha256(server.encode()).hexdigest()[:MAX_NAME]
    return PREFIX + name
