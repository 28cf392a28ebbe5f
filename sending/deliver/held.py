"""Held mail: rows of sites that may not be tried now. They hang on ips_heldsite and cost no claims.

Nobody owns them. Every sender looks now and then which held sites of its queues have mail, asks its own gates, and takes
from the held rows directly as many as its IPs may send: the most urgent first, in turn over the projects. The rest stays
where it is, with the time of the next slot. So a dead sender strands nothing, a limit that vanished lets the mail go, and
a site that is held has no claims, no conversations and no place in the room of other mail.

Rows that any IP of a queue may carry hang on (queue, no IP, site), retries that stay on an IP on (queue, IP, site).
"""

import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from ips.senders import ServedIp
from projects.life import STOPPED
from relay_project.mail.text import clean
from sending.deliver.claim import ANY_PRIORITY, REGISTER, Claimed, by_attempt
from sending.deliver.gate import Gate
from sending.deliver.shaper import HeldKey, Shaper

MAX_REASON = 512  # characters, the column's
LOOK_SECONDS = 0.5  # from one look for held mail to the next; gates let mail in for longer than that (HORIZON_SECONDS)
LOOK_SITES = 1000  # of one look, in the order of their slots
TAKE_SECONDS = 0.2  # of one look: what is due waits meanwhile; sites that were not reached have their turn at the next
BEHIND_SECONDS = 0.5  # mail that came while earlier mail hangs is not before it
PAUSED_QUEUE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Hold:
    """Where a row shall hang, for how long, and why."""

    key: HeldKey
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Hanging:
    """A held site with mail, as one look found it."""

    id: int
    queue_id: int
    source_ip_id: int | None
    site: str
    is_due: bool  # its slot has come, or should have
    is_paused: bool  # its queue is
    priority: int  # of the most urgent mail there

    @property
    def key(self) -> HeldKey:
        """What the shaper knows it by."""
        return self.queue_id, self.source_ip_id, self.site


def held_key(row: Claimed, site: str) -> HeldKey:
    """Where a row of this site hangs."""
    return row.queue_id, row.source_ip_id if row.is_sticky else None, site


# --- Hanging mail up -------------------------------------------------------------------------------------------------


# A slot that is still to come stays if it is earlier: senders have slots of their own, and the table shows the next.
_HANG = """
INSERT INTO ips_heldsite (queue_id, source_ip_id, site, reason, next_slot)
SELECT * FROM unnest(%(queues)s::bigint[], %(ips)s::bigint[], %(sites)s::text[], %(reasons)s::text[],
                     %(slots)s::timestamptz[])
ON CONFLICT (queue_id, source_ip_id, site) DO UPDATE SET
  reason = CASE WHEN ips_heldsite.next_slot BETWEEN %(now)s AND EXCLUDED.next_slot
                THEN ips_heldsite.reason ELSE EXCLUDED.reason END,
  next_slot = CASE WHEN ips_heldsite.next_slot > %(now)s
                   THEN least(ips_heldsite.next_slot, EXCLUDED.next_slot) ELSE EXCLUDED.next_slot END
RETURNING queue_id, source_ip_id, site, id
"""


def hang(holds: Iterable[Hold], now: datetime) -> dict[HeldKey, int]:
    """The held sites of these, made or moved on, in a fixed order, in the caller's transaction."""
    soonest: dict[HeldKey, Hold] = {}
    for hold in sorted(holds, key=lambda hold: -hold.seconds):
        soonest[hold.key] = hold
    if not soonest:
        return {}
    ordered = [soonest[key] for key in sorted(soonest, key=lambda key: (key[0], key[1] or 0, key[2]))]
    with connection.cursor() as cursor:
        cursor.execute(
            _HANG,
            {
                "queues": [hold.key[0] for hold in ordered],
                "ips": [hold.key[1] for hold in ordered],
                "sites": [hold.key[2] for hold in ordered],
                "reasons": [clean(hold.reason, MAX_REASON) for hold in ordered],
                "slots": [now + timedelta(seconds=hold.seconds) for hold in ordered],
                "now": now,
            },
        )
        return {(queue_id, ip_id, site): held_id for queue_id, ip_id, site, held_id in cursor.fetchall()}


def divert(rows: Sequence[Claimed], shaper: Shaper, now: float) -> tuple[list[Claimed], list[tuple[Claimed, Hold]]]:
    """Split what was just claimed: what may go, and what belongs to a held site as far as its domain's site is known.

    Asked before anything is loaded, so that a held site's new mail costs a claim once and nothing else.
    """
    if not shaper.watched and not shaper.hanging:
        return list(rows), []
    going: list[Claimed] = []
    held: list[tuple[Claimed, Hold]] = []
    rooms: dict[tuple[int, str], int] = {}
    for group in by_attempt(rows):
        hold = _hold_of(group[0], shaper, rooms, now)
        if hold is None:
            going += group
        else:
            held += [(row, hold) for row in group]
    return going, held


def _hold_of(row: Claimed, shaper: Shaper, rooms: dict[tuple[int, str], int], now: float) -> Hold | None:
    site = shaper.domains.get(row.domain)
    if site is None or row.is_test:
        return None
    key, gate = held_key(row, site), shaper.watched.get((row.source_ip_id, site))
    place = row.source_ip_id, site
    if gate is not None:
        left = rooms[place] = rooms.get(place, gate.room(now)) - 1
        if left < 0:
            refusal = gate.refusal(now)
            return Hold(key, refusal.seconds, refusal.reason)
    if key in shaper.hanging:
        return Hold(key, BEHIND_SECONDS, f"{site}: mail that waited before it goes first")
    return None


# --- Taking it from there --------------------------------------------------------------------------------------------


# One probe of the index for each: the order keeps the planner from a scan that it takes for as short.
_LOOK = """
SELECT h.id, h.queue_id, h.source_ip_id, h.site, h.next_slot <= %(now)s, q.paused_at IS NOT NULL, hanging.priority
  FROM ips_heldsite h JOIN queues_queue q ON q.id = h.queue_id, LATERAL (
    SELECT w.priority FROM sending_waiting w WHERE w.phase = 2 AND w.held_site_id = h.id
     ORDER BY w.priority, w.project_id, w.due_at, w.recipient_id LIMIT 1) hanging
 WHERE h.source_ip_id = ANY(%(ips)s) OR h.source_ip_id IS NULL AND h.queue_id = ANY(%(queues)s)
 ORDER BY h.next_slot LIMIT %(most)s
"""
# What hangs there of stopped projects is stepped over; it is few, as their mail is taken off (sending.backlog.stopped).
# The projects in turn after the last one that was served, of the most urgent priority that hangs there.
_TAKE = f"""
WITH RECURSIVE urgent AS (
  SELECT priority FROM sending_waiting WHERE phase = 2 AND held_site_id = %(held)s AND priority <= %(up_to)s
     AND project_id NOT IN ({STOPPED})
   ORDER BY priority LIMIT 1
), walk AS (
  SELECT * FROM (
    SELECT w.priority, w.project_id FROM urgent u, LATERAL (
      SELECT priority, project_id FROM sending_waiting s
       WHERE s.phase = 2 AND s.held_site_id = %(held)s AND s.priority = u.priority AND s.project_id > %(after)s
       ORDER BY s.priority, s.project_id LIMIT 1) w) first
  UNION ALL
  SELECT n.priority, n.project_id FROM walk, LATERAL (
    SELECT priority, project_id FROM sending_waiting s
     WHERE s.phase = 2 AND s.held_site_id = %(held)s AND s.priority = walk.priority AND s.project_id > walk.project_id
     ORDER BY s.priority, s.project_id LIMIT 1) n
), turn AS MATERIALIZED (
  SELECT priority, project_id FROM walk WHERE project_id NOT IN ({STOPPED}) LIMIT %(rows)s
), picked AS MATERIALIZED (
  SELECT r.* FROM turn t, LATERAL (
    SELECT w.recipient_id, w.send_id, w.domain, w.due_at, w.lane, w.priority FROM sending_waiting w
     WHERE w.phase = 2 AND w.held_site_id = %(held)s AND w.priority = t.priority AND w.project_id = t.project_id
     ORDER BY w.due_at, w.recipient_id LIMIT (SELECT ceil(%(rows)s::float8 / count(*))::int FROM turn)
       FOR UPDATE SKIP LOCKED) r
  LIMIT %(rows)s
)""" + REGISTER.format("s.phase + 0 = 2 AND s.held_site_id + 0 = %(held)s")  # noqa: S608 — constants only
# Skipping what somebody else moves: nobody waits for a lock while they hold others.
_POSTPONE = """
UPDATE ips_heldsite h SET next_slot = p.slot, reason = p.reason
  FROM unnest(%(ids)s::bigint[], %(slots)s::timestamptz[], %(reasons)s::text[]) AS p(id, slot, reason)
 WHERE h.id = p.id AND h.id = ANY(ARRAY(
   SELECT id FROM ips_heldsite WHERE id = ANY(%(ids)s) AND next_slot <= %(now)s FOR UPDATE SKIP LOCKED))
"""


@dataclass(slots=True)
class HeldMail:
    """What one sender takes held mail through. Its methods block; one database thread at a time."""

    shaper: Shaper
    looked_at: float = -1e9
    turns: dict[int, int] = field(default_factory=dict)  # held site → the project that was served last
    _late: list[tuple[int, Hold]] = field(default_factory=list)

    @property
    def is_time(self) -> bool:
        """The last look was long enough ago."""
        return time.monotonic() - self.looked_at >= LOOK_SECONDS

    def take(
        self, serving: Sequence[ServedIp], rows: int, sender_id: int, lease_seconds: float, now: datetime, up_to: int
    ) -> list[Claimed]:
        """At most about `rows` held rows that may go now, claimed; at most one look each LOOK_SECONDS."""
        if not self.is_time:
            return []
        self.looked_at = clock = time.monotonic()
        found = look(serving, now)
        self.shaper.hanging = {hanging.key for hanging in found}
        self.turns = {hanging.id: self.turns.get(hanging.id, 0) for hanging in found}
        random.shuffle(found)  # no site before the others when there is not room for all, but by its mail's urgency
        found.sort(key=lambda hanging: hanging.priority)
        claim = _Claim(sender_id, now, now + timedelta(seconds=lease_seconds), up_to)
        taken: list[Claimed] = []
        for hanging in found:
            if time.monotonic() - clock > TAKE_SECONDS:
                break
            got, is_empty = self._take_one(hanging, serving, rows - len(taken), claim, clock)
            taken += got
            if is_empty:
                self.shaper.hanging.discard(hanging.key)  # new mail is behind nothing any more
            elif hanging.is_due:
                self._late.append((hanging.id, self._next(hanging, serving, clock)))
        return taken

    def postpone(self, now: datetime) -> None:
        """Write the next slots of what hangs on down, after the commit: nobody waits for one lock holding others."""
        late, self._late = self._late, []
        postpone(late, now)

    def _take_one(
        self, hanging: Hanging, serving: Sequence[ServedIp], rows: int, claim: "_Claim", clock: float
    ) -> tuple[list[Claimed], bool]:
        """What our IPs may carry of one held site, and whether nothing is left there."""
        taken: list[Claimed] = []
        is_empty = False
        if hanging.is_paused:
            return taken, is_empty
        for ip, gate in self._gates(hanging, serving):
            warm = self.shaper.warm_room(ip.id) if hanging.source_ip_id is None else None
            cold = rows if warm is None else warm - claim.begun[ip.id]
            wanted = min(gate.room(clock), rows - len(taken), cold)
            got = self._take_turns(hanging.id, ip, wanted, claim)
            taken += got
            claim.begun[ip.id] += len(got)
            if len(got) < wanted:
                is_empty = claim.up_to == ANY_PRIORITY
                break  # the other IPs would ask in vain
        return taken, is_empty

    def _take_turns(self, held_id: int, ip: ServedIp, wanted: int, claim: "_Claim") -> list[Claimed]:
        """From the project after the last one on; then from the first on, and of the next priorities."""
        taken: list[Claimed] = []
        after = self.turns[held_id]
        while wanted > len(taken):
            got = claim.rows(held_id, ip, wanted - len(taken), after)
            if got:
                self.turns[held_id] = max(row.project_id for row in got)
                taken += got
            elif after == 0:
                break
            after = self.turns[held_id] if got and after else 0
        return taken

    def _next(self, hanging: Hanging, serving: Sequence[ServedIp], clock: float) -> Hold:
        """When one of our IPs may send there again, and why not before."""
        if hanging.is_paused:
            return Hold(hanging.key, PAUSED_QUEUE_SECONDS, f"{hanging.site}: its queue is paused")
        gates = self._gates(hanging, serving)
        refusals = [gate.refusal(clock) for _, gate in gates if not gate.is_open]
        if not refusals:
            is_cold = all(self.shaper.warm_room(ip.id) == 0 for ip, _ in gates) and hanging.source_ip_id is None
            why = "today's warm-up ceiling is reached" if is_cold else "waits for room in a sender"
            return Hold(hanging.key, LOOK_SECONDS, f"{hanging.site}: {why}")
        soonest = min(refusals, key=lambda refusal: refusal.seconds)
        return Hold(hanging.key, max(soonest.seconds, LOOK_SECONDS), soonest.reason)

    def _gates(self, hanging: Hanging, serving: Sequence[ServedIp]) -> list[tuple[ServedIp, Gate]]:
        wanted = hanging.source_ip_id
        return [
            (ip, self.shaper.gate_of(ip, hanging.site))
            for ip in serving
            if (hanging.queue_id in ip.queue_ids if wanted is None else ip.id == wanted)
        ]


@dataclass(frozen=True, slots=True)
class _Claim:
    """Who takes, and until when."""

    sender_id: int
    now: datetime
    lease: datetime
    up_to: int
    begun: Counter[int] = field(default_factory=Counter)  # rows of this look, by source IP

    def rows(self, held_id: int, ip: ServedIp, rows: int, after: int) -> list[Claimed]:
        """Up to about `rows` of one held site, for one IP, from the projects behind `after`."""
        values: dict[str, Any] = {"held": held_id, "after": after, "rows": rows, "up_to": self.up_to, "now": self.now}
        values |= {"sender": self.sender_id, "lease": self.lease, "ip": ip.id}
        with connection.cursor() as cursor:
            cursor.execute(_TAKE, values)
            return [Claimed(*row[:13]) for row in cursor.fetchall()]


def look(serving: Sequence[ServedIp], now: datetime) -> list[Hanging]:
    """The held sites with mail that these IPs might carry; one small query however much hangs."""
    queues = sorted({queue_id for ip in serving for queue_id in ip.queue_ids})
    with connection.cursor() as cursor:
        cursor.execute(_LOOK, {"ips": [ip.id for ip in serving], "queues": queues, "now": now, "most": LOOK_SITES})
        return [Hanging(*row) for row in cursor.fetchall()]


def postpone(late: Sequence[tuple[int, Hold]], now: datetime) -> None:
    """Give held sites whose slot has come, and that may still not be tried, their next slot and its reason."""
    if not late:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            _POSTPONE,
            {
                "ids": [held_id for held_id, _ in late],
                "slots": [now + timedelta(seconds=hold.seconds) for _, hold in late],
                "reasons": [clean(hold.reason, MAX_REASON) for _, hold in late],
                "now": now,
            },
        )
