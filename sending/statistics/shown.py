"""Counts as pages show them: a period's tile and bars, and a line for each of its parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sending.recent import Counts
from sending.statistics.chart import Bar, Rate, Tile, bars_of, bounces_of, complaints_of, tile_of
from sending.statistics.names import OTHERS
from sending.statistics.read import Figures, Interval, Range, Series

PERIODS = {
    "24h": ("Last 24 hours", timedelta(hours=24), Interval.HOUR),
    "7d": ("Last 7 days", timedelta(days=7), Interval.HOUR),
    "30d": ("Last 30 days", timedelta(days=30), Interval.DAY),
    "1y": ("Last year", timedelta(days=365), Interval.DAY),
}


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


def tile_of_series(title: str, whole: Sequence[Series]) -> Tile:
    """The figures of a whole period: its one series, or none."""
    return tile_of(title, Counts(whole[0].whole.by_status() if whole else {}))


def bars_of_series(wanted: Range, series: Series | None) -> list[Bar]:
    """A bar for each step of the range."""
    points = series.points if series else {}
    return bars_of([(step, Counts(points.get(step, Figures()).by_status())) for step in wanted.steps])


def rows_of(series: Sequence[Series], names: Mapping[str, str]) -> list[Row]:
    """The table's lines, with rates as the tile has them."""
    return [_row(OTHERS if one.is_others else names.get(one.key, one.key), one) for one in series]


def _row(name: str, series: Series) -> Row:
    whole = series.whole
    counts = Counts(whole.by_status())
    median = seconds(series.percentile(50))
    return Row(name, whole.sends, whole["accepted"], whole.waiting, bounces_of(counts), complaints_of(counts), median)


def seconds(value: float | None) -> str:
    """A duration in a few characters."""
    if value is None:
        return "–"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"
