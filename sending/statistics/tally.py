"""What a reader found, gathered in memory and added to the hours' and the days' rows in its transaction."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import orjson
from django.conf import settings
from django.db.backends.utils import CursorWrapper

from relay_project.mail.mx import provider_name
from sending.models import INSTANCE, Dimension, RecipientStatus
from sending.statistics.latency import BUCKETS

# The states that are counted; `queued` is what none of them accounts for.
STATES = (
    RecipientStatus.DEFERRED,
    RecipientStatus.ACCEPTED,
    RecipientStatus.BOUNCED,
    RecipientStatus.COMPLAINED,
    RecipientStatus.FAILED,
    RecipientStatus.SUPPRESSED,
    RecipientStatus.CANCELLED,
)
FIGURES = ("total", *(state.value for state in STATES), "deferrals")
TAGS_A_DAY = 100  # of a project: whatever comes after them is counted together
OTHER = "other"
_PLACE = {name: place for place, name in enumerate(FIGURES)}
_WIDTH = len(FIGURES) + BUCKETS

RowKey = tuple[int, str, str, Any]  # project, dimension, key, hour or day


@dataclass(frozen=True, slots=True)
class Mail:
    """What a send is counted under; `hour` is that of its accept."""

    project_id: int
    hour: datetime
    domain: str
    queue_id: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """By what a recipient was tried."""

    source_ip_id: int | None
    site: str


class Tally:
    """Sums by mail and way; `write` adds them to the tables."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Mail, Way | None], list[int]] = defaultdict(lambda: [0] * _WIDTH)

    def add(self, mail: Mail, way: Way | None, figure: str, number: int = 1) -> None:
        """Count so many more (or less) of one figure."""
        self._sums[mail, way][_PLACE[figure]] += number

    def add_latency(self, mail: Mail, way: Way | None, bucket: int) -> None:
        """Count an accepted recipient by how long that took."""
        self._sums[mail, way][len(FIGURES) + bucket] += 1

    def write(self, cursor: CursorWrapper, now: datetime) -> None:
        """Add everything, in the caller's transaction. Hours that are no longer kept are not made anew."""
        days: dict[RowKey, list[int]] = defaultdict(lambda: [0] * _WIDTH)
        hours: dict[RowKey, list[int]] = defaultdict(lambda: [0] * _WIDTH)
        oldest = now - timedelta(days=settings.RETENTION_STATISTICS_HOURS_DAYS)
        tags = _known_tags(cursor, {mail for mail, _ in self._sums if mail.tags})
        for (mail, way), figures in self._sums.items():
            for project_id, dimension, key in _rows_of(mail, way, tags):
                _add(days[project_id, dimension, key, mail.hour.date()], figures)
                if mail.hour >= oldest:
                    _add(hours[project_id, dimension, key, mail.hour], figures)
        _upsert(cursor, "hour", hours)
        _upsert(cursor, "day", days)


def _rows_of(mail: Mail, way: Way | None, tags: "_Tags") -> Iterator[tuple[int, str, str]]:
    """The rows that one group counts in: the project's, and the instance's."""
    project, queue = mail.project_id, str(mail.queue_id)
    yield project, Dimension.PROJECT.value, ""
    yield project, Dimension.DOMAIN.value, mail.domain
    yield project, Dimension.QUEUE.value, queue
    yield INSTANCE, Dimension.ALL.value, ""
    yield INSTANCE, Dimension.PROJECT.value, str(project)
    yield INSTANCE, Dimension.QUEUE.value, queue
    for tag in tags.of(mail):
        yield project, Dimension.TAG.value, tag
    if way is None:
        return
    provider = provider_name(way.site)
    for owner in (project, INSTANCE):
        yield owner, Dimension.PROVIDER.value, provider
        if way.source_ip_id is not None:
            yield owner, Dimension.IP.value, str(way.source_ip_id)


def _add(row: list[int], figures: list[int]) -> None:
    for place, number in enumerate(figures):
        if number:
            row[place] += number


# --- Tags: a customer's own words, so their number is bounded ---------------------------------------------------------

_KNOWN_TAGS = """
SELECT project_id, day, key FROM sending_daycount
 WHERE dimension = 'tag' AND project_id = ANY(%s) AND day = ANY(%s)
"""


class _Tags:
    """Which tags of a project's day have a row of their own: the first TAGS_A_DAY."""

    def __init__(self, known: Iterable[tuple[int, date, str]]) -> None:
        self._known: dict[tuple[int, date], set[str]] = defaultdict(set)
        for project_id, day, tag in known:
            self._known[project_id, day].add(tag)

    def of(self, mail: Mail) -> set[str]:
        """The keys that the mail's tags count under; tags without a row of their own count once, together."""
        own = self._known[mail.project_id, mail.hour.date()] if mail.tags else set()
        found = set()
        for tag in mail.tags:
            if tag not in own and len(own - {OTHER}) < TAGS_A_DAY:
                own.add(tag)
            found.add(tag if tag in own else OTHER)
        return found


def _known_tags(cursor: CursorWrapper, mails: set[Mail]) -> _Tags:
    if not mails:
        return _Tags(())
    projects, days = {mail.project_id for mail in mails}, {mail.hour.date() for mail in mails}
    cursor.execute(_KNOWN_TAGS, [sorted(projects), sorted(days)])
    return _Tags(cursor.fetchall())


# --- The upsert -------------------------------------------------------------------------------------------------------

_COLUMNS = ", ".join(FIGURES)
_TYPES = ", ".join(f"{name} bigint" for name in FIGURES)
_SUMS = ", ".join(f"{name} = t.{name} + EXCLUDED.{name}" for name in FIGURES)
# Locked in the order of the key, although one reader writes at a time.
_UPSERT = f"""
INSERT INTO sending_{{unit}}count AS t (project_id, dimension, key, {{unit}}, {_COLUMNS}, latency)
SELECT project_id, dimension, key, {{unit}}, {_COLUMNS}, latency
  FROM json_to_recordset(%s::json) AS r(project_id bigint, dimension text, key text, {{unit}} {{type}}, {_TYPES},
                                        latency bigint[])
 ORDER BY project_id, dimension, {{unit}}, key
ON CONFLICT (project_id, dimension, {{unit}}, key) DO UPDATE SET {_SUMS},
   latency = CASE WHEN EXCLUDED.latency = '{{{{}}}}' THEN t.latency ELSE ARRAY(
     SELECT coalesce(a, 0) + coalesce(b, 0) FROM unnest(t.latency, EXCLUDED.latency) WITH ORDINALITY AS u(a, b, place)
      ORDER BY place) END
"""  # noqa: S608 — constants of this module
_UPSERTS = {
    "hour": _UPSERT.format(unit="hour", type="timestamptz"),
    "day": _UPSERT.format(unit="day", type="date"),
}


def _upsert(cursor: CursorWrapper, unit: str, rows: Mapping[RowKey, list[int]]) -> None:
    records = [
        {
            "project_id": project_id,
            "dimension": dimension,
            "key": key,
            unit: moment,
            **dict(zip(FIGURES, figures, strict=False)),
            "latency": figures[len(FIGURES) :] if any(figures[len(FIGURES) :]) else [],
        }
        for (project_id, dimension, key, moment), figures in rows.items()
        if any(figures)
    ]
    if records:
        cursor.execute(_UPSERTS[unit], [orjson.dumps(records).decode()])


def hour_of(moment: datetime) -> datetime:
    """The beginning of a moment's hour."""
    return moment.replace(minute=0, second=0, microsecond=0)


def midnight(day: date) -> datetime:
    """The beginning of a UTC day."""
    return datetime.combine(day, time(), UTC)
