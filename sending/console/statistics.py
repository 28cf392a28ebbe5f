"""The page of numbers: a period, its figures and bars, and the same by domain, queue, address, provider or tag."""

from datetime import UTC, datetime

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from projects.console.page import Place, project_page, render_place
from projects.scopes import Scope
from sending.models import Dimension
from sending.statistics.names import names_of
from sending.statistics.read import Interval, Range, read_series
from sending.statistics.shown import PERIODS, bars_of_series, rows_of, seconds, tile_of_series

DIMENSIONS = {
    Dimension.DOMAIN: "Sending domain",
    Dimension.PROVIDER: "Receiving provider",
    Dimension.IP: "Source IP",
    Dimension.QUEUE: "Queue",
    Dimension.TAG: "Tag",
}
ROWS = 20  # of the table


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
        "tile": tile_of_series(PERIODS[period][0], whole),
        "bars": bars_of_series(own, whole[0] if whole else None),
        "is_hourly": interval is Interval.HOUR,
        "latency": [(f"{part} %", seconds(whole[0].percentile(part))) for part in (50, 90, 99)] if whole else [],
        "rows": rows_of(parts, names_of(dimension, parts, place.project)),
    }
    return render_place(request, place, "sending/statistics.html", context, section="statistics")
