"""Staff admin: roll-ups of what was sent, as lists and as charts, their readers, and the texts that searches use."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString

from ips.models import SourceIp
from projects.models import Project
from queues.models import Queue
from relay_project.db.ids import id_time
from relay_project.web.staff import Facts, Happened, column, link_to
from sending.models import DayCount, Dimension, HourCount, ReaderPosition, SearchText
from sending.models.statistics import INSTANCE
from sending.statistics.chart import CHART_HEIGHT, GROUPS, outlines_of
from sending.statistics.names import names_of
from sending.statistics.read import Interval, Range, Series, read_series
from sending.statistics.shown import PERIODS, Row, bars_of_series, rows_of, seconds, tile_of_series

FIGURES = ("total", "accepted", "deferred", "bounced", "complained", "failed", "suppressed", "cancelled")


DIMENSIONS = {
    Dimension.PROJECT: "Project",
    Dimension.IP: "Source IP",
    Dimension.PROVIDER: "Receiving provider",
    Dimension.QUEUE: "Queue",
    Dimension.DOMAIN: "Sending domain",
}
LINKED: dict[Dimension, type[Model]] = {Dimension.PROJECT: Project, Dimension.IP: SourceIp, Dimension.QUEUE: Queue}
CHARTS = 12  # of parts, the greatest; the others share one


class Counts(Facts):
    """Recipients by where they stand. Project 0 is the whole installation."""

    list_filter = ("dimension",)
    search_fields = ("=project_id", "=key")
    search_help_text = "A project's id (0: all), or a key: a domain, a provider, a tag, an id"


@admin.register(HourCount)
class HourCountAdmin(Counts):
    """By the hour of the accept."""

    list_display = ("hour", "project_id", "dimension", "key", *FIGURES)
    ordering = ("-hour", "project_id", "dimension", "key")


@admin.register(DayCount)
class DayCountAdmin(Counts):
    """By the day of the accept."""

    list_display = ("day", "project_id", "dimension", "key", *FIGURES)
    ordering = ("-day", "project_id", "dimension", "key")

    def get_urls(self) -> list[URLPattern]:
        """The charts are of both tables, by the length of the period."""
        page = path("charts/", self.admin_site.admin_view(self.charts), name="statistics_changelist")
        return [page, *super().get_urls()]

    def charts(self, request: HttpRequest) -> HttpResponse:
        """Everybody's mail of a period, and the same in parts; what the address asks for and does not exist is the default."""
        period, by = request.GET.get("period", ""), request.GET.get("by", "")
        period = period if period in PERIODS else "24h"
        dimension = Dimension(by) if by in [each.value for each in DIMENSIONS] else Dimension.PROJECT
        context = {
            **self.admin_site.each_context(request),
            "title": "Statistics",
            "period": period,
            "periods": [(key, title) for key, (title, _, _) in PERIODS.items()],
            "by": dimension.value,
            "dimensions": [(each.value, title) for each, title in DIMENSIONS.items()],
            "groups": list(GROUPS),
            **_charts(period, dimension, datetime.now(UTC)),
        }
        return TemplateResponse(request, "admin/statistics.html", context)


@dataclass(frozen=True, slots=True)
class Chart:
    """One part's bars, as a path for each colour."""

    row: Row
    link: SafeString | str
    outlines: dict[str, str]


def _charts(period: str, dimension: Dimension, now: datetime) -> dict[str, Any]:
    title, length, interval = PERIODS[period]
    whole = read_series(Range(INSTANCE, Dimension.PROJECT, interval, now - length, now), 0)
    wanted = Range(INSTANCE, dimension, interval, now - length, now)
    parts = read_series(wanted, CHARTS)
    bars = bars_of_series(wanted, whole[0] if whole else None)
    return {
        "tile": tile_of_series(title, whole),
        "latency": [(f"{part} %", seconds(whole[0].percentile(part))) for part in (50, 90, 99)] if whole else [],
        "bars": bars,
        "outlines": outlines_of(bars),
        "width": 10 * len(bars),
        "height": CHART_HEIGHT,
        "most": max((bar.total for bar in bars), default=0),
        "is_hourly": interval is Interval.HOUR,
        "charts": _parts(wanted, parts),
    }


def _parts(wanted: Range, parts: list[Series]) -> list[Chart]:
    rows = rows_of(parts, names_of(wanted.dimension, parts))
    return [
        Chart(row, _link(wanted.dimension, one, row.name), outlines_of(bars_of_series(wanted, one)))
        for row, one in zip(rows, parts, strict=True)
    ]


def _link(dimension: Dimension, series: Series, name: str) -> SafeString | str:
    """To what the part is about, where it has a page."""
    is_one = dimension in LINKED and series.key.isascii() and series.key.isdigit() and not series.is_others
    return link_to(LINKED[dimension], series.key, name) if is_one else name


@admin.register(ReaderPosition)
class ReaderPositionAdmin(Facts):
    """How far the readers of the event log have come."""

    list_display = ("name", "position", "moved_at")


@admin.register(SearchText)
class SearchTextAdmin(Happened):
    """What mail is searched by."""

    list_display = ("send_id", "accepted_at", "from_text", "subject_text")
    ordering = ("-send_id",)

    @column("accepted", ordering="send_id")
    def accepted_at(self, row: SearchText) -> str:
        """The moment that the send's id carries."""
        return f"{id_time(row.send_id):%Y-%m-%d %H:%M:%S}"
