"""One thing that a pre-flight found."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much it matters: an error keeps the mail from being sent or delivered, a warning makes that likely."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is one word for what was looked at, `field` the body's field where one is to blame."""

    check: str
    level: Level
    message: str
    field: str | None = None


def ok(check: str, message: str, field: str | None = None) -> Finding:
    """It is as it should be."""
    return Finding(check, Level.OK, message, field)


def info(check: str, message: str, field: str | None = None) -> Finding:
    """Worth knowing, or not known in time."""
    return Finding(check, Level.INFO, message, field)


def warning(check: str, message: str, field: str | None = None) -> Finding:
    """Receivers may hold it against the mail."""
    return Finding(check, Level.WARNING, message, field)


def error(check: str, message: str, field: str | None = None) -> Finding:
    """It would not be accepted here, or not there."""
    return Finding(check, Level.ERROR, message, field)
