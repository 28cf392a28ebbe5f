"""The page of numbers: a period, its figures and bars, and the same by domain, queue, address, provider or tag."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from projects.console.page import Place, project_page, render_place
from projects.scopes import Scope
from sending.console.chart import BOUNCE_RATES, COMPLAINT_RATES, Bar, Rate, Tile, bars_of, rate_of, tile_of
from sending.models import Dimension
from sending.recent import Counts
from sending.statistics.names import OTHERS, names_of
from sending.statistics.read import Figures, Interval, Range, Series, read_series

PERIODS = {
    "24h": ("Last 24 hours", timedelta(hours=24), Interval.HOUR),
    "7d": ("Last 7 days", timedelta(days=7), Interval.HOUR),
    "30d": ("Last 30 days", timedelta(days=30), Interval.DAY),
    "1y": ("Last year", timedelta(days=365), Interval.DAY),
}
DIMENSIONS = {
    Dimension.DOMAIN: "From domain",
    Dimension.PROVIDER: "Receiving provider",
    Dimension.IP: "Source IP",
    Dimension.QUEUE: "Queue",
    Dimension.TAG: "Tag",
}
ROWS = 20  # of the table


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    recipients: int
    accepted: int
    waiting: int
    bounces: Rate
    complaints: Rate
    median: str


@require_safe
@project_page(Scope.ANALYTICS_READ)
def statistics(request: HttpRequest, place: Place) -> HttpResponse:
    """The page; what the address asks for and does not exist is the default."""
    period = request.GET.get("period", "")
    period = period if period in PERIODS else "30d"
    by = request.GET.get("by", "")
    dimension = Dimension(by) if by in [each.value for each in DIMENSIONS] else Dimension.DOMAIN
    _, length, interval = PERIODS[period]
    now = datetime.now(UTC)
    own = Range(place.project.pk, Dimension.PROJECT, interval, now - length, now)
    whole = read_series(own, 1)
    parts = read_series(Range(place.project.pk, dimension, interval, now - length, now), ROWS)
    context = {
        "period": period,
        "periods": [(key, title) for key, (title, _, _) in PERIODS.items()],
        "by": dimension.value,
        "dimensions": [(each.value, title) for each, title in DIMENSIONS.items()],
        "column": DIMENSIONS[dimension],
        "tile": _tile(PERIODS[period][0], whole),
        "bars": _bars(own, whole),
        "is_hourly": interval is Interval.HOUR,
        "latency": [(f"{part} %", seconds(whole[0].percentile(part))) for part in (50, 90, 99)] if whole else [],
        "rows": rows_of(parts, names_of(dimension, parts, place.project)),
    }
    return render_place(request, place, "sending/statistics.html", context, section="statistics")


def _tile(title: str, whole: list[Series]) -> Tile:
    return tile_of(title, Counts(whole[0].whole.by_status() if whole else {}))


def _bars(own: Range, whole: list[Series]) -> list[Bar]:
    points = whole[0].points if whole else {}
    return bars_of([(step, Counts(points.get(step, Figures()).by_status())) for step in own.steps])


def rows_of(series: list[Series], names: dict[str, str]) -> list[Row]:
    """The table's lines."""
    return [
        Row(
            OTHERS if one.is_others else names.get(one.key, one.key),
            one.whole.sends,
            one.whole["accepted"],
            one.whole.waiting,
            rate_of("bounced", one.whole.bounce_rate, BOUNCE_RATES),
            rate_of("complaints", one.whole.complaint_rate, COMPLAINT_RATES, 2),
            seconds(one.percentile(50)),
        )
        for one in series
    ]


def seconds(value: float | None) -> str:
    """A duration in a few characters."""
    if value is None:
        return "–"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"
