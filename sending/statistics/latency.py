"""From accept to the next hop's 250, as a histogram: what can be added up, and gives percentiles near enough."""

from bisect import bisect_left
from collections.abc import Sequence

# Upper bounds in seconds; what took longer is counted in one more bucket.
BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0)
BUCKETS = len(BOUNDS) + 1


def bucket_of(seconds: float) -> int:
    """Which bucket a time falls into."""
    return bisect_left(BOUNDS, seconds)


def percentile(counts: Sequence[int], part: int) -> float | None:
    """The time (seconds) within which `part` per cent were done, None of nothing.

    Straight within its bucket; of the last bucket, its lower bound.
    """
    wanted = sum(counts) * part / 100
    if not wanted:
        return None
    passed = 0.0
    for index, number in enumerate(counts):
        if number and passed + number >= wanted:
            low = BOUNDS[index - 1] if index else 0.0
            high = BOUNDS[index] if index < len(BOUNDS) else low
            return round(low + (high - low) * (wanted - passed) / number, 3)
        passed += number
    return BOUNDS[-1]
