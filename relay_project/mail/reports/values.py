"""Numbers and times as reports write them."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_COUNT = 10**9  # of messages or sessions in one row: more is nonsense, and sums of it must fit a column
EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def count_of(said: object) -> int:
    """A count, as a number or as text; 0 for what is none, the greatest for what is more."""
    if isinstance(said, bool) or not isinstance(said, (int, float, str)):
        return 0
    try:
        return min(max(int(float(said)), 0), MAX_COUNT)
    except OverflowError:
        return MAX_COUNT
    except ValueError:
        return 0


def moment_of(said: object) -> datetime | None:
    """A time, in UTC: seconds or milliseconds since 1970, ISO 8601, or as in mail. None for nonsense."""
    if isinstance(said, (int, float)):
        said = str(said)
    if not isinstance(said, str):
        return None
    said = said.strip()[:100]
    try:
        moment = _from_number(said) if said[:1].isdigit() and said.replace(".", "", 1).isdecimal() else _from_text(said)
    except (ValueError, OverflowError, OSError, TypeError, IndexError):
        return None
    return moment if EARLIEST <= moment <= LATEST else None


def _from_number(said: str) -> datetime:
    seconds = float(said)
    return datetime.fromtimestamp(seconds / 1000 if seconds > 100_000_000_000 else seconds, UTC)


def _from_text(said: str) -> datetime:
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        moment = parsedate_to_datetime(said)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
