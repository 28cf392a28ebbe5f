"""When a deferred recipient is tried again, and when the sender gives up."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

_STEP = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class InvalidSchedule(ValueError):
    """The text describes no retry schedule."""


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """The waits after the first, second, … try; the last one repeats until `max_tries` are used."""

    steps: tuple[timedelta, ...]
    max_tries: int

    def __post_init__(self) -> None:
        """Refuse a schedule that would loop without back-off."""
        if not self.steps or self.max_tries < 1 or any(step <= timedelta(0) for step in self.steps):
            raise InvalidSchedule("a retry schedule needs positive waits and at least one try")

    def next_try(self, tries: int, now: datetime) -> datetime | None:
        """Give the time of the next try after `tries` tries (≥ 1), or None when all are used: give up."""
        if tries >= self.max_tries:
            return None
        return now + self.steps[min(max(tries, 1), len(self.steps)) - 1]


# About 31 hours, the wire contract's schedule; RFC 5321 §4.5.4.1 asks for days where the operator can afford them.
DEFAULT = RetrySchedule(
    steps=(
        timedelta(minutes=15),
        timedelta(hours=1),
        timedelta(hours=2),
        timedelta(hours=4),
        timedelta(hours=8),
        timedelta(hours=16),
    ),
    max_tries=7,
)


def next_try(tries: int, now: datetime, schedule: RetrySchedule = DEFAULT) -> datetime | None:
    """Give the time of the next try by `schedule`, or None to give up."""
    return schedule.next_try(tries, now)


def parse_schedule(text: str, max_tries: int | None = None) -> RetrySchedule:
    """Read a schedule as operators write it: `15m, 1h, 2h`; without `max_tries`, one try more than waits.

    Raises InvalidSchedule.
    """
    matches = [_STEP.fullmatch(word) for word in text.replace(",", " ").split()]
    steps = tuple(timedelta(**{_UNITS[match[2]]: int(match[1])}) for match in matches if match)
    if len(steps) != len(matches):
        raise InvalidSchedule("write waits as in: 15m, 1h, 2h")
    return RetrySchedule(steps, len(steps) + 1 if max_tries is None else max_tries)
