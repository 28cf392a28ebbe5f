"""What an answer means for its delivery: done, tried again later, or nobody there any more. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from relay_project.mail.schedule import RetrySchedule

GONE = 410  # RFC 9110 §15.5.11: for good
BUSY = (429, 503)  # those that speak of the receiver as a whole, and not of one call
MAX_RETRY_AFTER = timedelta(hours=24)  # the ladder's longest wait


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call brought. `code` 0: no answer, and `text` says why; else `text` is the beginning of the body."""

    code: int
    text: str
    is_whole: bool = True  # the body came to its end, or to as much as is read of one
    retry_after: str | None = None
    location: str | None = None
    duration_ms: int = 0

    @property
    def is_success(self) -> bool:
        """2xx, and not broken off."""
        return 200 <= self.code < 300 and self.is_whole

    @property
    def is_gone(self) -> bool:
        """The receiver wants nothing any more."""
        return self.code == GONE

    @property
    def words(self) -> str:
        """What is kept of it."""
        if 300 <= self.code < 400:
            return f"Redirects are not followed ({self.location or 'to nowhere'})."
        if 200 <= self.code < 300 and not self.is_whole:
            return f"The answer broke off. {self.text}".rstrip()
        return self.text

    @property
    def result(self) -> str:
        """A word for the metrics."""
        if self.code == 0:
            return "unreachable"
        return "success" if self.is_success else "broken_off" if self.code < 300 else f"{self.code // 100}xx"


def next_try(answer: Answer, tries: int, now: datetime, schedule: RetrySchedule) -> datetime | None:
    """When a delivery is tried again after `tries` tries (≥ 1), the last of which was answered so; None: never."""
    if answer.is_success or answer.is_gone:
        return None
    by_ladder = schedule.next_try(tries, now)
    asked = read_retry_after(answer.retry_after, now)
    return by_ladder if by_ladder is None or asked is None else max(by_ladder, now + asked)


def read_retry_after(text: str | None, now: datetime) -> timedelta | None:
    """The wait that a Retry-After asks for (RFC 9110 §10.2.3: seconds or a date), within bounds; None for nonsense."""
    text = (text or "").strip()
    if not text or len(text) > 40:
        return None
    if text.isascii() and text.isdecimal():
        wait = timedelta(seconds=min(int(text), int(MAX_RETRY_AFTER.total_seconds())))
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):  # the year 99999999999
            return None
        wait = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now
    return min(max(wait, timedelta()), MAX_RETRY_AFTER)


def holds_back(answer: Answer, now: datetime) -> timedelta:
    """How long nothing at all should be sent to a receiver that says so."""
    asked = read_retry_after(answer.retry_after, now) if answer.code in BUSY else None
    return asked or timedelta()
