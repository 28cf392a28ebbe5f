"""Statistics over the API: the contract's two calls, and series by hour or day; all from roll-ups (lesson P9)."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from projects.endpoint import Endpoint
from projects.objects import timestamp
from projects.scopes import Scope, by_method
from relay_project.web.describe import describe
from relay_project.web.errors import violation
from relay_project.web.pagination import read_choice, read_number, read_text
from relay_project.web.schema import answer, choice, integer, listed, moment, nullable, number, string, text
from sending.api.sends import DATE, read_moment
from sending.models import Dimension
from sending.statistics.names import OTHERS, names_of
from sending.statistics.read import Figures, Interval, Range, Series, read_days, read_figures, read_series

PERIODS = {"30d": timedelta(days=30), "7d": timedelta(days=7), "24h": timedelta(hours=24)}
DIMENSIONS = tuple(dimension.value for dimension in Dimension if dimension is not Dimension.ALL)
CHART_DAYS = 30
MAX_STEPS = 400  # of a series: a year of days, sixteen of hours
DEFAULT_SERIES, MAX_SERIES = 10, 25
EARLIEST, LATEST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2089, 1, 1, tzinfo=UTC)  # of ids

STATS = answer(
    "Stats",
    {
        "sends": integer("Recipients of what was accepted in the period."),
        "bounce_rate": number("Bounced ones as a share of them, 0 to 1."),
        "complaint_rate": number("Those that complained as a share of them, 0 to 1."),
    },
)
CHART = answer(
    "ChartDay",
    {
        "date": string("A UTC day.", format="date"),
        "total": integer("Recipients of what was accepted on that day."),
        "bounced": integer(),
        "complained": integer(),
        "accepted": integer(),
        "queued": integer("Those that wait: not tried yet, or deferred."),
    },
)
_COUNTS = {
    "sends": integer("Recipients. By IP and provider: those that were tried."),
    **{
        name: integer()
        for name in ("accepted", "deferred", "bounced", "complained", "failed", "suppressed", "cancelled")
    },
    "queued": integer("Not tried yet."),
    "deferrals": integer("Tries that were put off, of all these recipients."),
    "bounce_rate": number(),
    "complaint_rate": number(),
}
POINT = answer("SeriesPoint", {"time": moment("The beginning of the step."), **_COUNTS})
LATENCY = answer(
    "Latency",
    {name: nullable(number()) for name in ("p50", "p90", "p99")},
    "Seconds from accept to the receiver's 250.",
)
SERIES = answer(
    "Series",
    {
        "key": nullable(string("Null: all that are not among the greatest.")),
        "name": string(),
        **_COUNTS,
        "latency": LATENCY,
        "points": listed(POINT, "Every step, the oldest first."),
    },
)
SERIES_ANSWER = answer(
    "SeriesAnswer",
    {
        "interval": choice(Interval),
        "by": choice(DIMENSIONS),
        "from": moment("The beginning of the first step."),
        "to": moment(),
        "series": listed(SERIES, "The greatest first."),
    },
)
SERIES_QUERY = {
    "interval": choice(Interval, "Steps; default: `day`."),
    "by": choice(DIMENSIONS, "Default: `project`."),
    "from": text(
        "`2026-11-22`, `2026-11-22 09:30:00` or Unix seconds; default: 30 days, or 24 hours, ago.", format="day-or-time"
    ),
    "to": text("The same; a day is included. Default: now.", format="day-or-time"),
    "key": text("Only this domain, provider, tag, or id of a queue or IP."),
    "limit": integer(
        "How many series; what is beyond is summed up in one more.", 1, MAX_SERIES, default=DEFAULT_SERIES
    ),
}


class StatsView(Endpoint):
    """`/analytics/stats`."""

    section = "Analytics"
    required_scope = by_method(GET=Scope.ANALYTICS_READ)

    @describe(
        "getStats",
        "Get a period's figures",
        query={"period": choice(PERIODS, "Default: `30d`.")},
        answer=STATS,
    )
    def get(self, request: Request) -> Response:
        """How much, and how badly, of the last 30 days, 7 days or 24 hours."""
        period = read_choice(request.query_params, "period", list(PERIODS)) or "30d"
        [figures] = read_figures(self.project.pk, datetime.now(UTC) - PERIODS[period])
        return Response(
            {"sends": figures.sends, "bounce_rate": figures.bounce_rate, "complaint_rate": figures.complaint_rate}
        )


class ChartView(Endpoint):
    """`/analytics/sends/chart`."""

    section = "Analytics"
    required_scope = by_method(GET=Scope.ANALYTICS_READ)

    @describe("getSendsChart", "Get each of the last 31 days", answer=listed(CHART))
    def get(self, request: Request) -> Response:
        """31 days, today the last."""
        today = datetime.now(UTC).date()
        days = read_days(self.project.pk, today - timedelta(days=CHART_DAYS), today)
        return Response(
            [
                {
                    "date": day.isoformat(),
                    "total": figures.sends,
                    "bounced": figures["bounced"],
                    "complained": figures["complained"],
                    "accepted": figures["accepted"],
                    "queued": figures.waiting,
                }
                for day, figures in days.items()
            ]
        )


class SeriesView(Endpoint):
    """`/analytics/series`."""

    section = "Analytics"
    required_scope = by_method(GET=Scope.ANALYTICS_READ)

    @describe(
        "getSeries",
        "Get series by hour or day",
        f"At most {MAX_STEPS} steps. Everything counts in the hour in which its mail was accepted.",
        query=SERIES_QUERY,
        answer=SERIES_ANSWER,
    )
    def get(self, request: Request) -> Response:
        """What was sent and what became of it, by a dimension and over time."""
        wanted = read_range(request.query_params, self.project.pk, datetime.now(UTC))
        limit = read_limit(request.query_params)
        series = read_series(wanted, limit)
        return Response(series_answer(wanted, series, names_of(wanted.dimension, series, self.project)))


def read_range(query: Mapping[str, str], project_id: int, now: datetime) -> Range:
    """What a query asks for; raises ApiError 422 with the parameter."""
    interval = Interval(read_choice(query, "interval", list(Interval)) or Interval.DAY)
    dimension = Dimension(read_choice(query, "by", list(DIMENSIONS)) or Dimension.PROJECT)
    end = _moment(query, "to", is_end=True) or now
    usual = timedelta(days=1) if interval is Interval.HOUR else timedelta(days=CHART_DAYS)
    start = _moment(query, "from", is_end=False) or end - usual
    if start >= end:
        raise violation("from", "This value should be before that of to.")
    if end - interval.floor(start) > MAX_STEPS * interval.length:
        raise violation("from", f"This value should be at most {MAX_STEPS} {interval.value}s before that of to.")
    return Range(project_id, dimension, interval, start, end, read_text(query, "key"))


def read_limit(query: Mapping[str, str]) -> int:
    """How many series; raises ApiError."""
    limit = read_number(query, "limit")
    if limit is not None and not 1 <= limit <= MAX_SERIES:
        raise violation("limit", f"This value should be between 1 and {MAX_SERIES}.")
    return DEFAULT_SERIES if limit is None else limit


def series_answer(wanted: Range, series: list[Series], names: Mapping[str, str]) -> dict[str, Any]:
    """The answer, a project's or the instance's."""
    steps = wanted.steps
    return {
        "interval": wanted.interval.value,
        "by": wanted.dimension.value,
        "from": timestamp(wanted.interval.floor(wanted.start)),
        "to": timestamp(wanted.end),
        "series": [
            {
                "key": None if one.is_others else one.key,
                "name": OTHERS if one.is_others else names.get(one.key, one.key),
                **counts(one.whole),
                "latency": {f"p{part}": one.percentile(part) for part in (50, 90, 99)},
                "points": [{"time": timestamp(step), **counts(one.points.get(step, Figures()))} for step in steps],
            }
            for one in series
        ],
    }


def counts(figures: Figures) -> dict[str, Any]:
    """The figures by their names."""
    return {
        "sends": figures.sends,
        **figures.by_status(),
        "deferrals": figures["deferrals"],
        "bounce_rate": figures.bounce_rate,
        "complaint_rate": figures.complaint_rate,
    }


def _moment(query: Mapping[str, str], name: str, *, is_end: bool) -> datetime | None:
    """A day or a time as filters of sends take it, or Unix seconds; of a time in which mail can have been sent."""
    raw = (query.get(name) or "").strip()
    is_unix = raw.isascii() and raw.isdigit() and len(raw) > len("20261122")
    if is_unix:
        found = datetime.fromtimestamp(int(raw), UTC) if len(raw) <= len("4102444800") else None
    else:
        found = read_moment(query, name, is_end=is_end)
        if found is None:
            return None
    if found is None or not EARLIEST <= found < LATEST:
        raise violation(name, DATE)
    return found
