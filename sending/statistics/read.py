"""Reading the counts: of a window, day by day, and as series. Ranges of the tables' keys, never the mail itself."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from django.db import connection

from sending.models import Dimension, RecipientStatus
from sending.statistics.latency import BUCKETS, percentile
from sending.statistics.tally import FIGURES, STATES, hour_of, midnight

OTHERS = ""  # the key of what is not among the greatest; no dimension that has several keys has this one


class Interval(StrEnum):
    """How long the steps of a series are."""

    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        """One step."""
        return timedelta(hours=1) if self is Interval.HOUR else timedelta(days=1)

    def floor(self, moment: datetime) -> datetime:
        """The beginning of the step that a moment (UTC) lies in."""
        return hour_of(moment) if self is Interval.HOUR else midnight(moment.astimezone(UTC).date())


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of some recipients, each where it stands now."""

    numbers: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> int:
        return self.numbers.get(name, 0)

    @property
    def sends(self) -> int:
        """All recipients. What an attempt decides about (IP, provider) has no count of its own for those, and in the
        seconds in which outcomes are ahead of what came in there are at least as many as have a state."""
        return max(self["total"], self.tried)

    @property
    def tried(self) -> int:
        """Those with a state."""
        return sum(max(self[state], 0) for state in STATES)

    @property
    def waiting(self) -> int:
        """Those that wait: not tried yet, or deferred."""
        return self.sends - self.tried + max(self["deferred"], 0)

    @property
    def bounce_rate(self) -> float:
        """Bounced ones as a share of all, 0 to 1."""
        return self._share(RecipientStatus.BOUNCED)

    @property
    def complaint_rate(self) -> float:
        """Those that complained as a share of all."""
        return self._share(RecipientStatus.COMPLAINED)

    def by_status(self) -> dict[str, int]:
        """Status → recipients, `queued` included."""
        counted = {state.value: max(self[state], 0) for state in STATES}
        return {RecipientStatus.QUEUED.value: self.sends - self.tried, **counted}

    def _share(self, state: str) -> float:
        return round(self[state] / self.sends, 6) if self.sends else 0.0


@dataclass(frozen=True, slots=True)
class Series:
    """One key's figures: together, by step, and how long it took to be accepted."""

    key: str
    whole: Figures
    points: Mapping[datetime, Figures]
    latency: Sequence[int] = (0,) * BUCKETS
    is_others: bool = False

    def percentile(self, part: int) -> float | None:
        """Seconds from accept to 250 that `part` per cent stayed below."""
        return percentile(self.latency, part)


@dataclass(frozen=True, slots=True)
class Range:
    """Whose counts, of what, and of which steps: from `start` (its step included) to before `end`."""

    project_id: int
    dimension: Dimension
    interval: Interval
    start: datetime
    end: datetime
    key: str | None = None

    @property
    def steps(self) -> list[datetime]:
        """The beginning of each step."""
        first = self.interval.floor(self.start)
        number = max(-((first - self.end) // self.interval.length), 0)
        return [first + step * self.interval.length for step in range(number)]

    @property
    def values(self) -> dict[str, Any]:
        """For the statements."""
        first = self.interval.floor(self.start)
        is_day = self.interval is Interval.DAY
        return {
            "project": self.project_id,
            "dimension": self.dimension.value,
            "start": first.date() if is_day else first,
            "end": (self.end - timedelta(microseconds=1)).date() if is_day else self.end,
            "key": self.key,
        }


_SUMS = ", ".join(f"sum({name})::bigint" for name in FIGURES)
_WHERE = """
  FROM sending_{unit}count
 WHERE project_id = %(project)s AND dimension = %(dimension)s AND {unit} >= %(start)s AND {unit} {before} %(end)s
   AND (%(key)s::text IS NULL OR key = %(key)s)
"""
_GREATEST = "SELECT key" + _WHERE + " GROUP BY key ORDER BY sum(greatest(total, accepted)) DESC, key LIMIT %(limit)s"
_POINTS = f"SELECT CASE WHEN key = ANY(%(keys)s) THEN key END, {{unit}}, {_SUMS}" + _WHERE + " GROUP BY 1, 2"
_LATENCY = (
    "SELECT CASE WHEN key = ANY(%(keys)s) THEN key END, place, sum(number)::bigint"
    + _WHERE.replace("count\n", "count CROSS JOIN unnest(latency) WITH ORDINALITY AS l(number, place)\n")
    + " GROUP BY 1, 2"
)


_SINCE = f"""
SELECT w.place, {_SUMS}
  FROM unnest(%(since)s::timestamptz[]) WITH ORDINALITY AS w(since, place) JOIN sending_hourcount c ON c.hour >= w.since
 WHERE c.project_id = %(project)s AND c.dimension = 'project' AND c.key = '' AND c.hour >= %(first)s
 GROUP BY 1
"""  # noqa: S608 — constants of this module
_DAYS = f"""
SELECT day, {_SUMS} FROM sending_daycount
 WHERE project_id = %(project)s AND dimension = 'project' AND key = '' AND day >= %(first)s AND day <= %(last)s
 GROUP BY 1
"""  # noqa: S608


def read_figures(project_id: int, *since: datetime) -> list[Figures]:
    """A project's recipients of the hours from each moment (its hour included) on; one statement."""
    moments = [hour_of(moment) for moment in since]
    with connection.cursor() as cursor:
        cursor.execute(_SINCE, {"project": project_id, "since": moments, "first": min(moments)})
        found = {place: _figures(numbers) for place, *numbers in cursor.fetchall()}
    return [found.get(place, Figures()) for place in range(1, len(moments) + 1)]


def read_days(project_id: int, first: date, last: date) -> dict[date, Figures]:
    """A project's recipients of each UTC day."""
    with connection.cursor() as cursor:
        cursor.execute(_DAYS, {"project": project_id, "first": first, "last": last})
        found = {day: _figures(numbers) for day, *numbers in cursor.fetchall()}
    days = [first + timedelta(days=step) for step in range((last - first).days + 1)]
    return {day: found.get(day, Figures()) for day in days}


def read_series(wanted: Range, limit: int) -> list[Series]:
    """The `limit` greatest keys, the greatest first, and the others together, last."""
    unit = wanted.interval.value
    words = {"unit": unit, "before": "<=" if wanted.interval is Interval.DAY else "<"}
    with connection.cursor() as cursor:
        cursor.execute(_GREATEST.format(**words), {**wanted.values, "limit": limit})
        keys = [key for (key,) in cursor.fetchall()]
        values = {**wanted.values, "keys": keys}
        cursor.execute(_POINTS.format(**words), values)
        points = cursor.fetchall()
        cursor.execute(_LATENCY.format(**words), values)
        latency = cursor.fetchall()
    return _series(keys, points, latency)


def _series(keys: Sequence[str], points: Iterable[Any], latency: Iterable[Any]) -> list[Series]:
    by_key: dict[str | None, dict[datetime, Figures]] = defaultdict(dict)
    for key, moment, *numbers in points:
        begin = moment if isinstance(moment, datetime) else midnight(moment)
        by_key[key][begin] = _figures(numbers)
    buckets: dict[str | None, list[int]] = defaultdict(lambda: [0] * BUCKETS)
    for key, place, number in latency:
        if place <= BUCKETS:
            buckets[key][place - 1] = number
    found = [Series(key, _sum(by_key[key].values()), by_key[key], buckets[key]) for key in keys]
    if None in by_key:
        found.append(Series(OTHERS, _sum(by_key[None].values()), by_key[None], buckets[None], is_others=True))
    return found


def _figures(numbers: Sequence[int]) -> Figures:
    return Figures(dict(zip(FIGURES, numbers, strict=True)))


def _sum(all_figures: Iterable[Figures]) -> Figures:
    sums: dict[str, int] = defaultdict(int)
    for figures in all_figures:
        for name, number in figures.numbers.items():
            sums[name] += number
    return Figures(dict(sums))
