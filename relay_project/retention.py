"""How long what happened is kept, and its removal.

Every app says in its module `retention` (found as admin modules are) which partitioned tables leave together, and which
small tables are swept row by row. `run`, one at a time, takes whole days out of the former and old rows out of the latter.
A day that something still needs (mail that waits, an event that nobody has read) stays, and the run says why.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from time import monotonic, sleep
from typing import Any

import structlog
from django.db import OperationalError, connection
from django.db.backends.utils import CursorWrapper
from django.utils.module_loading import autodiscover_modules

from relay_project.db.dropping import Partition, State, finish_detaching, is_lock_timeout, list_partitions, remove
from relay_project.db.ids import id_floor
from relay_project.db.locks import RETENTION, try_lock
from relay_project.db.partitions import Day
from relay_project.metrics import Counter, Gauge
from relay_project.models import RetentionRun

OLDEST = Gauge("relay_history_oldest_timestamp_seconds", "Start of the oldest day that is kept.", ["family"])
BYTES = Gauge("relay_history_bytes", "Size of what is kept, with indexes.", ["family"])
DROPPED = Counter("relay_partitions_dropped_total", "Days of tables that retention dropped.", ["family"])
SWEPT = Counter("relay_retention_rows_total", "Rows that retention deleted.", ["what"])
FINISHED = Gauge("relay_retention_finished_timestamp_seconds", "When retention last ran to its end.")

IN_USE = "somebody uses the table"
RUNS_KEPT = timedelta(days=90)
CLOCKS_DIFFER = timedelta(minutes=1)  # from here on somebody should know

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Family:
    """Partitioned tables whose days leave together, children first.

    `days()`: how long a day is kept, counted from its end; 0: for ever. `needed(cursor, day, now)` says why a day that is
    due must stay, or "".
    """

    name: str
    tables: tuple[str, ...]
    days: Callable[[], int]
    needed: Callable[[CursorWrapper, Day, datetime], str]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Old rows of a small table: `delete(now)` works in steps that hold few locks and returns how many left."""

    name: str
    days: Callable[[], int]  # 0: for ever, and `delete` is not asked
    delete: Callable[[datetime], int]


@dataclass(frozen=True, slots=True)
class DuePartition:
    """A table's day whose time has come, and why it stays all the same ("": it goes)."""

    family: Family
    partition: Partition
    reason: str

    @property
    def due_at(self) -> datetime:
        """When its time came."""
        return end_of(self.partition.day) + timedelta(days=self.family.days())


@dataclass(frozen=True, slots=True)
class Kept:
    """What there is of a family now."""

    family: Family
    since: date | None
    days: int
    size_bytes: int
    rows: int  # the planner's estimate


@dataclass(slots=True)
class _Tally:
    partitions: int = 0
    rows: int = 0
    size_bytes: int = 0
    kept_back: list[DuePartition] = field(default_factory=list)


_families: dict[str, Family] = {}
_sweeps: dict[str, Sweep] = {}


def keep(family: Family) -> None:
    """Register partitioned tables; families are dropped in the order in which they were registered."""
    _families[family.name] = family


def sweep(name: str, days: Callable[[], int]) -> Callable[[Callable[[datetime], int]], Callable[[datetime], int]]:
    """Register a function that deletes a small table's rows whose time has come by a moment."""

    def register(delete: Callable[[datetime], int]) -> Callable[[datetime], int]:
        _sweeps[name] = Sweep(name, days, delete)
        return delete

    return register


def families() -> list[Family]:
    """Every family of every app."""
    autodiscover_modules("retention")
    return list(_families.values())


def sweeps() -> list[Sweep]:
    """Every small table of every app."""
    autodiscover_modules("retention")
    return list(_sweeps.values())


def end_of(day: Day) -> datetime:
    """The end of a UTC day."""
    return datetime.combine(day.day + timedelta(days=1), datetime.min.time(), UTC)


# --- What there is, and what is due --------------------------------------------------------------------------------


def what_is_kept(cursor: CursorWrapper) -> list[Kept]:
    """Every family's days, size and estimated rows; days that hold nothing yet do not count as kept."""
    partitions = list_partitions(cursor)
    cursor.execute("SELECT clock_timestamp()")
    today = cursor.fetchone()[0].astimezone(UTC).date()
    found = []
    for family in families():
        own = [p for p in partitions if p.table in family.tables and p.day.day <= today]
        days = sorted({p.day.day for p in own})
        size, rows = sum(p.size_bytes for p in own), sum(p.rows for p in own)
        found.append(Kept(family, days[0] if days else None, len(days), size, rows))
    return found


def what_is_due(cursor: CursorWrapper, now: datetime) -> Iterator[DuePartition]:
    """What should leave at `now`, family by family, the oldest day first, children first."""
    partitions = list_partitions(cursor)
    for family in families():
        for day in _due_days(family, partitions, now):
            reason = family.needed(cursor, day, now)
            own = {p.table: p for p in partitions if p.day == day}
            yield from (DuePartition(family, own[table], reason) for table in family.tables if table in own)


def _due_days(family: Family, partitions: list[Partition], now: datetime) -> list[Day]:
    days = family.days()
    if not days:
        return []
    horizon = id_floor(now - timedelta(days=days))
    due = {p.day.day: p.day for p in partitions if p.table in family.tables and p.day.ceiling <= horizon}
    return [due[key] for key in sorted(due)]


def stranded(cursor: CursorWrapper, now: datetime) -> list[Partition]:
    """Tables of a day that are detached although their time has not come: somebody must attach or drop them."""
    partitions = list_partitions(cursor)
    due = {day.day for family in families() for day in _due_days(family, partitions, now)}
    return [p for p in partitions if p.state is State.DETACHED and p.day.day not in due]


def measure() -> None:
    """Set the gauges."""
    with connection.cursor() as cursor:
        for kept in what_is_kept(cursor):
            BYTES.labels(kept.family.name).set(kept.size_bytes)
            if kept.since is not None:
                since = datetime.combine(kept.since, datetime.min.time(), UTC)
                OLDEST.labels(kept.family.name).set(since.timestamp())
    last = RetentionRun.objects.exclude(finished_at=None).order_by("-id").first()
    if last is not None and last.finished_at is not None:
        FINISHED.set(last.finished_at.timestamp())


def by_both_clocks(now: datetime) -> datetime:
    """Now, by this host or by the database, whichever is behind: a clock that runs ahead must not drop what is young."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        theirs: datetime = cursor.fetchone()[0]
    if abs(now - theirs) > CLOCKS_DIFFER:
        log.warning("retention.clocks_differ", here=now.isoformat(), database=theirs.isoformat())
    return min(now, theirs)


# --- Removal -------------------------------------------------------------------------------------------------------


def run(now: datetime) -> RetentionRun | None:
    """Remove what is due at `now`; None when another process is at it. Outside a transaction.

    What it did is a row of RetentionRun, also when it fails. A removal that is cut anywhere is finished by the next run.
    """
    with connection.cursor() as cursor, _alone(cursor) as is_alone:
        if not is_alone:
            log.info("retention.busy_elsewhere")
            return None
        record = RetentionRun.objects.create(started_at=now)
        tally = _Tally()
        try:
            _remove_days(cursor, now, tally)
            _sweep_rows(now, tally)
            RetentionRun.objects.filter(started_at__lt=now - RUNS_KEPT).delete()
        except Exception as error:
            record.error = f"{type(error).__name__}: {error}"[:2000]
            raise
        finally:
            _write(record, tally)
    log.info("retention.done", partitions=tally.partitions, rows=tally.rows, kept_back=len(tally.kept_back))
    return record


@contextmanager
def _alone(cursor: CursorWrapper) -> Iterator[bool]:
    is_alone = try_lock(cursor, RETENTION)
    try:
        yield is_alone
    finally:
        if is_alone:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [RETENTION])


def _write(record: RetentionRun, tally: _Tally) -> None:
    record.finished_at = None if record.error else datetime.now(UTC)
    record.partitions, record.rows, record.size_bytes = tally.partitions, tally.rows, tally.size_bytes
    record.kept_back = [
        {"partition": due.partition.name, "reason": due.reason, "due_at": due.due_at.isoformat()}
        for due in tally.kept_back
    ]
    record.save()


def _remove_days(cursor: CursorWrapper, now: datetime, tally: _Tally) -> None:
    try:
        finish_detaching(cursor)
    except OperationalError as error:
        if not is_lock_timeout(error):
            raise
        log.warning("retention.in_the_way", error=str(error).strip())
    stuck: dict[tuple[str, date | None], str] = {}  # a table that stays keeps its parents of that day
    for due in list(what_is_due(cursor, now)):
        name, day = due.family.name, due.partition.day.day
        reason = due.reason or stuck.get((name, None)) or stuck.get((name, day)) or _remove(cursor, due, now)
        if not reason:
            tally.partitions += 1
            tally.size_bytes += due.partition.size_bytes
            DROPPED.labels(due.family.name).inc()
            continue
        # While one day of a table is detaching, the table lets no other go.
        stuck[name, None if reason == IN_USE else day] = reason
        tally.kept_back.append(DuePartition(due.family, due.partition, reason))


def _remove(cursor: CursorWrapper, due: DuePartition, now: datetime) -> str:
    """Drop it, or say why it stays. A partition may have been finished or dropped since it was listed: look at it again."""
    name = due.partition.name
    found = [partition for partition in list_partitions(cursor) if partition.name == name]
    try:
        reason = remove(cursor, found[0], lambda: due.family.needed(cursor, due.partition.day, now)) if found else ""
    except OperationalError as error:
        if not is_lock_timeout(error):
            raise
        log.warning("retention.in_the_way", partition=name, error=str(error).strip())
        return IN_USE
    if not reason:
        log.info("retention.dropped", partition=name, size_bytes=due.partition.size_bytes)
    return reason


def _sweep_rows(now: datetime, tally: _Tally) -> None:
    for one in sweeps():
        deleted = one.delete(now) if one.days() else 0
        tally.rows += deleted
        SWEPT.labels(one.name).inc(deleted)
        if deleted:
            log.info("retention.swept", what=one.name, rows=deleted)


def delete_in_steps(statement: str, values: dict[str, Any], rows: int = 5000) -> int:
    """Run a DELETE with `LIMIT %(rows)s` in it until it finds less, each time in a transaction of its own."""

    def step(number: int) -> int:
        with connection.cursor() as cursor:
            cursor.execute(statement, {**values, "rows": rows})
            return int(cursor.rowcount)

    return in_steps(step, enough=rows)


def in_steps(step: Callable[[int], int], enough: int = 1) -> int:
    """Call step(0), step(1), … until one deletes fewer rows than `enough`; returns the sum.

    Between steps it rests for as long as the last one took: mail that leaves meanwhile has half of the machine at least.
    """
    deleted = number = 0
    while True:
        begun = monotonic()
        found = step(number)
        deleted, number = deleted + found, number + 1
        if found < enough:
            return deleted
        sleep(monotonic() - begun)
