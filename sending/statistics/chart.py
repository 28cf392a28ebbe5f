"""Figures as shapes: tiles and bars, computed here so that templates only place them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sending.models import RecipientStatus
from sending.recent import Counts, Recent

# The colours a recipient's status is drawn in, from the bottom of a bar to its top.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "accepted": (RecipientStatus.ACCEPTED,),
    "waiting": (RecipientStatus.QUEUED, RecipientStatus.DEFERRED),
    "bounced": (RecipientStatus.BOUNCED, RecipientStatus.FAILED),
    "complained": (RecipientStatus.COMPLAINED,),
    "not sent": (RecipientStatus.SUPPRESSED, RecipientStatus.CANCELLED),
}
CHART_HEIGHT = 100.0  # units of the drawing
# Where mailbox providers begin to mind: the thresholds of the contract's /init.
BOUNCE_RATES = (0.02, 0.05)
COMPLAINT_RATES = (0.001, 0.005)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a bar; `start` and `length` in the drawing's units."""

    group: str
    number: int
    start: float
    length: float


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with what it means."""

    label: str
    text: str
    tone: str


@dataclass(frozen=True, slots=True)
class Tile:
    """The figures of one window."""

    title: str
    total: int
    parts: tuple[Part, ...]
    rates: tuple[Rate, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """One day of the chart; `place` counts from the left."""

    place: int
    date: date | datetime
    total: int
    parts: tuple[Part, ...]


def tiles(recent: Recent) -> list[Tile]:
    """24 hours, 7 days, 30 days."""
    windows = (("Last 24 hours", recent.day), ("Last 7 days", recent.week), ("Last 30 days", recent.month))
    return [tile_of(title, counts) for title, counts in windows]


def tile_of(title: str, counts: Counts) -> Tile:
    """The figures of one window, with their rates once something is final."""
    rates: tuple[Rate, ...] = ()
    if counts.final:
        rates = (
            Rate("accepted", _percent(counts.rate(RecipientStatus.ACCEPTED)), "ok"),
            bounces_of(counts),
            complaints_of(counts),
        )
    return Tile(title, counts.total, _parts(counts, counts.total, 100.0), rates)


def chart_bars(recent: Recent) -> list[Bar]:
    """Thirty bars on one scale."""
    return bars_of([(day.date, day.counts) for day in recent.days])


def bars_of(steps: Sequence[tuple[date | datetime, Counts]]) -> list[Bar]:
    """A bar for each step, all on one scale."""
    most = max((counts.total for _, counts in steps), default=0)
    return [
        Bar(place, moment, counts.total, _parts(counts, most, CHART_HEIGHT))
        for place, (moment, counts) in enumerate(steps)
    ]


def outlines_of(bars: Sequence[Bar]) -> dict[str, str]:
    """The same bars as one path for each colour, ten units apart: where there are many charts on a page."""
    outlines: dict[str, list[str]] = defaultdict(list)
    for bar in bars:
        for part in bar.parts:
            outlines[part.group].append(f"M{10 * bar.place + 1.5:g} {part.start:g}h7v{part.length:g}h-7z")
    return {group: "".join(pieces) for group, pieces in outlines.items()}


def rate_of(label: str, share: float, thresholds: tuple[float, float], places: int = 1) -> Rate:
    """A share, coloured by where mailbox providers begin to mind."""
    return Rate(label, _percent(share, places), _tone(share, thresholds))


def bounces_of(counts: Counts) -> Rate:
    """What was refused for good, or given up, of what is final."""
    refused = counts.rate(RecipientStatus.BOUNCED) + counts.rate(RecipientStatus.FAILED)
    return rate_of("bounced", refused, BOUNCE_RATES)


def complaints_of(counts: Counts) -> Rate:
    """What was complained about, of what is final."""
    return rate_of("complaints", counts.rate(RecipientStatus.COMPLAINED), COMPLAINT_RATES, 2)


def _parts(counts: Counts, whole: int, length: float) -> tuple[Part, ...]:
    parts = []
    start = 0.0
    for group, statuses in GROUPS.items():
        number = sum(counts.by_status.get(status, 0) for status in statuses)
        if number:
            share = round(length * number / whole, 2)
            parts.append(Part(group, number, round(start, 2), share))
            start += share
    return tuple(parts)


def _percent(share: float, places: int = 1) -> str:
    if 0.999 < share < 1:
        return f"{int(share * 1000) / 10:.1f} %"  # never "100 %" where one is missing
    return f"{share * 100:.{places}f} %" if share not in (0.0, 1.0) else f"{share * 100:.0f} %"


def _tone(share: float, thresholds: tuple[float, float]) -> str:
    warning, error = thresholds
    return "bad" if share >= error else "later" if share >= warning else "ok"
