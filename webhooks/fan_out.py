"""The reader of the feed that makes deliveries: one for each webhook that wants an event, with URL and body as they are now.

One process at a time, and one transaction for what a batch brings and how far it came: a batch is made once or not at
all. What nobody is told of is passed over without reading it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from relay_project.db.ids import id_time
from relay_project.db.locks import WEBHOOK_FAN_OUT
from relay_project.metrics import Counter, Gauge
from sending.statistics.positions import move, position_of
from webhooks.feed import FeedEvent, events_at, read_positions
from webhooks.filters import Filters
from webhooks.loop import Loop
from webhooks.models import DeliveryKind
from webhooks.payload import bodies
from webhooks.write import NewDelivery, text_of, write_deliveries

READER = "webhooks"
BATCH = 300  # events a transaction
IDLE_SECONDS = 1.0  # notifications wake it (webhooks.listen)
BUSY_SECONDS = 0.02
MEASURE_SECONDS = 5.0

MADE = Counter("relay_webhook_deliveries_made_total", "Deliveries to webhooks that events led to.")
LAG = Gauge("relay_webhook_lag_seconds", "How old the oldest event is for which no deliveries were made yet.")

_TARGETS = """
SELECT id, project_id, url, events, tags, domains FROM webhooks_webhook
 WHERE project_id = ANY(%s) AND is_enabled ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A webhook that may be told."""

    webhook_id: int
    url: str
    filters: Filters
    kind: DeliveryKind = DeliveryKind.EVENT  # of the deliveries that are made for it


class FanOut(Loop):
    """The loop: woken by the sequencer's notifications."""

    def __init__(self, batch: int = BATCH) -> None:
        super().__init__("fan_out", self._read, batch, survives=True, pause=(BUSY_SECONDS, IDLE_SECONDS))
        self._measured_at = -1e9

    def _read(self) -> int:
        done = fan_out(self._batch)
        if done < self._batch and monotonic() - self._measured_at >= MEASURE_SECONDS:
            self._measured_at = monotonic()
            LAG.set(lag_seconds(datetime.now(UTC)))
        return done


def fan_out(limit: int = BATCH) -> int:
    """Make the deliveries of up to `limit` events of the feed, in a transaction; returns how many were looked at.

    0 also when another process is at it.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [WEBHOOK_FAN_OUT])
        if not cursor.fetchone()[0]:
            return 0
        positions = read_positions(cursor, position_of(cursor, READER), limit)
        if not positions:
            return 0
        targets = targets_of(cursor, {project_id for _, _, project_id in positions if project_id is not None})
        if targets:
            wanted = [position for position in positions if position[2] in targets]
            kinds = {kind for several in targets.values() for target in several for kind in target.filters.kinds}
            rows = deliveries_for(events_at(cursor, wanted, kinds), targets)
            write_deliveries(cursor, rows)
            MADE.inc(len(rows))
        move(cursor, READER, positions[-1][0])
    return len(positions)


def targets_of(cursor: CursorWrapper, projects: Iterable[int]) -> dict[int, list[Target]]:
    """The enabled webhooks of some projects, by project."""
    found: dict[int, list[Target]] = defaultdict(list)
    cursor.execute(_TARGETS, [list(projects)])
    for webhook_id, project_id, url, kinds, tags, domains in cursor.fetchall():
        found[project_id].append(
            Target(webhook_id, url, Filters(frozenset(kinds), frozenset(tags), frozenset(domains)))
        )
    return dict(found)


def deliveries_for(events: Sequence[FeedEvent], targets: dict[int, list[Target]]) -> list[NewDelivery]:
    """A delivery for each event and each webhook that wants it, in the order of the events."""
    asked = [
        event for event in events if any(event.kind in target.filters.kinds for target in targets[event.project_id])
    ]
    rows = []
    for event, body in zip(asked, bodies(asked), strict=True):
        wanting = [target for target in targets[event.project_id] if target.filters.wants(body)]
        text = text_of(body) if wanting else ""
        rows += [
            NewDelivery(
                event.project_id, each.webhook_id, event.id, event.subject_id, event.kind, each.url, text, each.kind
            )
            for each in wanting
        ]
    return rows


_OLDEST = """
SELECT event_id FROM projects_feedposition
 WHERE position > coalesce((SELECT position FROM sending_readerposition WHERE name = %s), 0) ORDER BY position LIMIT 1
"""


def lag_seconds(now: datetime) -> float:
    """How old the oldest event is that was not looked at; 0 where none waits."""
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST, [READER])
        row = cursor.fetchone()
    return max((now - id_time(row[0])).total_seconds(), 0.0) if row else 0.0
