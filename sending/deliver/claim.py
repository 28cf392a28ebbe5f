"""Claim: one UPDATE takes due rows, gives them an attempt id, a sender and a lease, before anything is dialled.

Discover rarely, claim from known positions. About once a second a loose index scan lists what (priority, project) have
something due in a lane; in between, claims go round that ring, at most RING_STEP entries at a time, each starting after
the last row taken there, less a margin for accepts that commit late. The floors are hints: they keep claims from stepping
over dead index entries (a pg_dump's old snapshot) and are forgotten when a claim finds nothing where the list says
something, and every few seconds.
"""

import time
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db import connection

from ips.senders import ServedIp
from projects.life import STOPPED
from sending.models import TEST_LANE

RING_STEP = 50  # entries a claim looks at; with more projects due, each is reached within ⌈entries / 50⌉ claims
DISCOVER_SECONDS = 1.0
FORGET_SECONDS = 5.0
LATE_COMMIT = timedelta(
    seconds=1
)  # an accept's due time is drawn before its commit: rows appear behind the last one taken
ANY_PRIORITY = 32_767  # as large as the column holds
PRIORITIES = 3  # rounds of a claim: what is more urgent and turns out to be gone does not keep the rest from going
URGENT = 0  # transactional mail and notices; what is larger is bulk
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

Key = tuple[int, int, int]  # lane, priority, project


@dataclass(frozen=True, slots=True)
class Claimed:
    """One waiting row in flight. Rows of one send and domain share the attempt id."""

    recipient_id: int
    send_id: int
    project_id: int
    queue_id: int
    domain: str
    attempt_id: int
    tries: int
    size_bytes: int
    source_ip_id: int
    lost: int
    due_at: datetime  # when it was due: its place among its project's mail, kept when it is given back
    priority: int
    lane: int

    @property
    def is_test(self) -> bool:
        """Of a test key: no site, no limit and no count is concerned."""
        return self.lane == TEST_LANE

    @property
    def is_sticky(self) -> bool:
        """A retry, which stays on its IP."""
        return self.lane < 0


@dataclass(slots=True)
class Ring:
    """What one sender knows of the lanes it serves. Its methods block; one database thread at a time."""

    sender_id: int
    floors: "OrderedDict[Key, datetime]" = field(default_factory=OrderedDict)
    discovered_at: dict[int, float] = field(default_factory=dict)  # by source IP
    forgotten_at: float = -1e9

    def claim(
        self,
        ip: ServedIp,
        rows: int,
        lease_seconds: float,
        now: datetime,
        lanes: Sequence[int] | None = None,
        up_to: int = ANY_PRIORITY,
    ) -> list[Claimed]:
        """Take up to about `rows` due rows for this source IP (siblings in one domain come along).

        From all its lanes or from these, and nothing less urgent than `up_to`.
        """
        self._discover_if_stale(ip)
        for _ in range(PRIORITIES):
            keys = self._next_keys(lanes_of(ip) if lanes is None else lanes, rows, up_to)
            taken = _claim_rows(keys, self.floors, ip, self.sender_id, rows, now, lease_seconds) if keys else []
            self._advance(keys, taken)
            if taken or not keys:
                return [row for row, _, _ in taken]
        return []

    def forget(self) -> None:
        """Discover at the next claim: a wake-up says that something is new."""
        self.discovered_at.clear()

    def start_over(self) -> None:
        """Trust no floor, as when a claim was rolled back; whose turn it is stays."""
        for key in self.floors:
            self.floors[key] = _LONG_AGO
        self.discovered_at.clear()

    def _discover_if_stale(self, ip: ServedIp) -> None:
        clock = time.monotonic()
        if clock - self.forgotten_at > FORGET_SECONDS:
            self.start_over()
            self.forgotten_at = clock
        is_fresh = clock - self.discovered_at.get(ip.id, -1e9) < DISCOVER_SECONDS
        if is_fresh and any(key[0] in lanes_of(ip) for key in self.floors):
            return
        self.discovered_at[ip.id] = clock
        found = discover(lanes_of(ip))
        for key in [key for key in self.floors if key[0] in lanes_of(ip) and key not in found]:
            del self.floors[key]
        for key in found:
            self.floors.setdefault(key, _LONG_AGO)

    def _next_keys(self, lanes: Sequence[int], rows: int, up_to: int) -> list[Key]:
        """The next entries of the ring for these lanes: of the most urgent priority that has any.

        No more than `rows`, so that each has a share: one that the claim did not reach would lose its turn.
        """
        mine = [key for key in self.floors if key[0] in lanes and key[1] <= up_to]
        if not mine:
            return []
        urgent = min(key[1] for key in mine)
        return [key for key in mine if key[1] == urgent][: min(RING_STEP, rows)]

    def _advance(self, keys: Sequence[Key], taken: Sequence[tuple[Claimed, Key, datetime | None]]) -> None:
        """Move floors forward and the visited entries to the ring's end; entries that gave nothing leave it."""
        hits = set()
        for _, key, due_at in taken:
            hits.add(key)
            if due_at is not None and key in self.floors:  # a sibling says nothing about what is due before it
                self.floors[key] = max(self.floors[key], due_at - LATE_COMMIT)
        for key in keys:
            if key in hits:
                self.floors.move_to_end(key)
            else:
                del self.floors[key]  # found again, without a floor, by the next discovery


def by_attempt(rows: Sequence[Claimed]) -> list[list[Claimed]]:
    """Rows grouped by their attempt, in order."""
    groups: dict[int, list[Claimed]] = defaultdict(list)
    for row in rows:
        groups[row.attempt_id].append(row)
    return list(groups.values())


def lanes_of(ip: ServedIp) -> tuple[int, ...]:
    """The lanes whose rows this IP may take: its own sticky one, then those of its queues, then that of tests."""
    return (-ip.id, *ip.queue_ids, TEST_LANE)


_DISCOVER = f"""
WITH RECURSIVE walk AS (
  SELECT * FROM (
    SELECT l.lane, w.priority, w.project_id FROM unnest(%(lanes)s::bigint[]) AS l(lane), LATERAL (
      SELECT priority, project_id FROM sending_waiting w WHERE w.lane = l.lane AND w.phase = 0
       ORDER BY priority, project_id, due_at, recipient_id LIMIT 1) w) first
  UNION ALL
  SELECT walk.lane, n.priority, n.project_id FROM walk, LATERAL (
    SELECT priority, project_id FROM sending_waiting w WHERE w.lane = walk.lane AND w.phase = 0
       AND (w.priority, w.project_id) > (walk.priority, walk.project_id)
     ORDER BY priority, project_id, due_at, recipient_id LIMIT 1) n)
SELECT lane, priority, project_id FROM walk WHERE lane NOT IN (SELECT id FROM queues_queue WHERE paused_at IS NOT NULL)
   AND project_id NOT IN ({STOPPED})
"""  # noqa: S608 — a constant


def discover(lanes: Sequence[int]) -> list[Key]:
    """Every (lane, priority, project) with claimable rows, by a loose index scan.

    Paused queues and stopped projects are left out.
    """
    with connection.cursor() as cursor:
        cursor.execute(_DISCOVER, {"lanes": list(lanes)})
        return [(row[0], row[1], row[2]) for row in cursor.fetchall()]


# What every claim ends with: the picked rows' siblings come along, and all are registered as attempts of this sender.
# `phase + 0` keeps the siblings away from the partial index of due rows: without statistics (a young table) the planner
# takes it for as good as the one on send_id, and walks the whole lane for each row picked (1.3 s a claim at 6,000 due).
# LATERAL with its lock keeps the planner from joining the other way round, by one scan of all that waits.
REGISTER = """
, siblings AS MATERIALIZED (
  SELECT w.recipient_id, w.send_id, w.domain, w.due_at, w.lane, w.priority, w.recipient_id = ANY(p.ids) AS is_picked
    FROM (SELECT send_id, domain, lane, array_agg(recipient_id) AS ids FROM picked GROUP BY send_id, domain, lane) p,
         LATERAL (SELECT * FROM sending_waiting s
                   WHERE s.send_id = p.send_id AND s.domain = p.domain AND s.lane = p.lane AND {} FOR UPDATE SKIP LOCKED) w
), grouped AS MATERIALIZED (
  SELECT recipient_id, due_at, lane, priority, is_picked,
         first_value(fresh_id) OVER (PARTITION BY send_id, domain ORDER BY recipient_id) AS attempt_id
    FROM (SELECT *, new_id() AS fresh_id FROM siblings) s
)
UPDATE sending_waiting w
   SET phase = 1, attempt_id = g.attempt_id, sender_id = %(sender)s, lease_until = %(lease)s, due_at = %(lease)s,
       tries = w.tries + 1, source_ip_id = %(ip)s, held_site_id = NULL
  FROM grouped g
 WHERE w.recipient_id = g.recipient_id
RETURNING w.recipient_id, w.send_id, w.project_id, w.queue_id, w.domain, w.attempt_id, w.tries, w.size_bytes,
          w.source_ip_id, w.lost, g.due_at, g.priority, g.lane, g.is_picked
"""
# Rows of sticky lanes belong to a queue too: a paused queue's are left alone there by the last condition of `picked`.
_CLAIM = f"""
WITH picked AS MATERIALIZED (
  SELECT r.* FROM unnest(%(lanes)s::bigint[], %(priorities)s::smallint[], %(projects)s::bigint[],
                         %(floors)s::timestamptz[]) AS t(lane, priority, project_id, due_at), LATERAL (
    SELECT w.recipient_id, w.send_id, w.domain, w.due_at, w.lane, w.priority FROM sending_waiting w
     WHERE w.lane = t.lane AND w.phase = 0 AND w.priority = t.priority AND w.project_id = t.project_id
       AND w.due_at >= t.due_at AND w.due_at <= %(now)s
       AND w.queue_id NOT IN (SELECT id FROM queues_queue WHERE paused_at IS NOT NULL)
       AND w.project_id NOT IN ({STOPPED})
     ORDER BY w.due_at, w.recipient_id LIMIT %(share)s FOR UPDATE SKIP LOCKED) r
  LIMIT %(rows)s
)""" + REGISTER.format("s.phase + 0 = 0 AND s.due_at <= %(now)s")  # noqa: S608 — constants only


def _claim_rows(
    keys: Sequence[Key],
    floors: "OrderedDict[Key, datetime]",
    ip: ServedIp,
    sender_id: int,
    rows: int,
    now: datetime,
    lease_seconds: float,
) -> list[tuple[Claimed, Key, datetime | None]]:
    with connection.cursor() as cursor:
        cursor.execute(
            _CLAIM,
            {
                "lanes": [key[0] for key in keys],
                "priorities": [key[1] for key in keys],
                "projects": [key[2] for key in keys],
                "floors": [floors[key] for key in keys],
                "share": rows // len(keys),
                "rows": rows,
                "now": now,
                "lease": now + timedelta(seconds=lease_seconds),
                "sender": sender_id,
                "ip": ip.id,
            },
        )
        rows_taken = [(Claimed(*row[:13]), row[13]) for row in cursor.fetchall()]
    return [
        (row, (row.lane, row.priority, row.project_id), row.due_at if is_picked else None)
        for row, is_picked in rows_taken
    ]
