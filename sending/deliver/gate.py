"""Gate: what one source IP may do at one site, kept in the memory of the one sender that serves the IP.

A job enters before anything costly is done for it, waits for a connection, keeps the pace, and leaves. What may not enter
goes back to the table and hangs there (sending.deliver.held). All in the event loop; `room` and `refusal` only read, and
may be asked from the claim thread. `now` is `time.monotonic()`; `clock` is the time of day, for what is written down.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heapify, heappop, heappush

from relay_project.mail.rates import NANOSECONDS, Learned, Limits, Pacer, learn, next_slot, take_slot, went_well
from sending.deliver.pool import Line

HORIZON_SECONDS = 2.0  # mail is taken on whose turn comes within this; a sender at rest looks once a second
PATIENCE_SECONDS = 2 * HORIZON_SECONDS  # that a connection is kept for a job whose turn has not come
SLOW_SECONDS = 1.0  # a site whose mail waits this long for a connection is a slow one
QUICK_AGAIN = 5  # seconds in a row in which it did not use all its connections
BUSY_SECONDS = 1.0  # mail that found all connections busy is looked at again after this
PAUSE_SECONDS = 60.0  # mail of a paused site says so for this long, then again
NO_LIMIT = 1_000_000

Waiter = tuple[int, int, float, int, float, "asyncio.Future[bool]"]  # priority, order, deadline, key, since, future


@dataclass(frozen=True, slots=True)
class Rules:
    """What the tables say of a gate. `limits` are the configured ones with `connections`; `paused`: why, by staff."""

    limits: Limits
    paused: str | None = None
    learned: Learned | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a job may not enter, in words, and when it is worth another look."""

    seconds: float
    reason: str


@dataclass(slots=True)
class Gate:
    """One (source IP, site). `learns`: whether its throttles teach us; a route that the operator named does not."""

    site: str
    address: str
    rules: Rules
    learns: bool = True
    learned: Learned | None = None
    saved: Learned | None = None  # what the table has
    shut_until: float = 0.0
    pacers: tuple[Pacer, ...] = ()
    messages_per_connection: int = NO_LIMIT
    connections: int = 1
    is_probing: bool = False  # after a pause one message goes, until one went well
    is_slow: bool = False
    share: int = NO_LIMIT  # recipients that it may hold while it crawls
    inside: dict[int, int] = field(default_factory=dict)  # jobs that entered → their recipients
    used_at: float = 0.0
    lines: set[Line] = field(default_factory=set)  # between which addresses connections were opened
    is_open: bool = True  # nothing to ask: neither limit nor pause nor slowness
    _recipients: int = 0  # of them all
    _unpaced: set[int] = field(default_factory=set)  # jobs inside that have not taken their slot of the pace
    _talking: set[int] = field(default_factory=set)  # jobs that hold a connection
    _waiters: list[Waiter] = field(default_factory=list)  # a heap
    _order: int = 0
    _done: int = 0  # since the last tick
    _rate: float = 0.0  # messages a second that left, of late
    _quick: int = 0  # ticks in a row
    _minute: tuple[float, int, int] = (0.0, 0, 0)  # its begin, messages begun in it and in the one before
    _well: int = 0  # messages that went since the last lesson changed
    _taught_at: float = -math.inf

    # --- what the tables say ---------------------------------------------------------------------------------------

    def obey(self, rules: Rules, now: float, clock: datetime) -> None:
        """Follow what staff changed. A lesson that differs from what was saved is theirs as well: they forgot it."""
        if rules.learned != self.saved:
            self.learned = self.saved = rules.learned
            self.is_probing = rules.learned is not None and rules.learned.is_backing_off(clock)
        elif rules == self.rules:
            return
        self.rules = rules
        self._settle(now, clock)

    def start(self, now: float, clock: datetime, spent: Callable[[Pacer], int]) -> None:
        """Begin where the predecessor ended; `spent` says how much of a pace may have been used up by it."""
        self.learned = self.saved = self.rules.learned
        self.is_probing = self.learned is not None and self.learned.is_untried
        self.used_at = now
        self._settle(now, clock)
        for pacer in self.pacers:
            pacer.spent(spent(pacer), _ns(now))

    def _settle(self, now: float, clock: datetime) -> None:
        """Derive what is asked on the way from what holds: the narrower of rules and lesson."""
        limits, learned = self.rules.limits, self.learned
        if learned is not None:
            limits = _narrower(learned.limits, limits)
        self.connections = limits.connections or 1
        self.messages_per_connection = limits.messages_per_connection or NO_LIMIT
        self.pacers = _kept(limits.pacers(), self.pacers)
        if self.rules.paused is not None:
            self.shut_until = math.inf
        elif learned is not None and learned.is_backing_off(clock):
            self.shut_until = now + (learned.back_off_until - clock).total_seconds()
        else:
            self.shut_until = 0.0
        self.is_open = not (self.shut_until or self.pacers or self.is_probing or self.is_slow)
        if self.shut_until:
            self._turn_away(len(self._waiters), now)
        else:
            self._hand_on(now)

    # --- going in --------------------------------------------------------------------------------------------------

    def room(self, now: float) -> int:
        """How many more jobs may enter now."""
        if self.is_open:
            return NO_LIMIT
        if now < self.shut_until:
            return 0
        room = NO_LIMIT
        if self.is_probing:
            room = 1 - len(self.inside)
        elif self.is_slow:
            room = self._most - len(self.inside)
            if self.crawls:
                room = min(room, self.share - self._recipients)
        if self.pacers:
            at = _ns(now)
            turns = min(pacer.room(at, at + _ns(HORIZON_SECONDS)) for pacer in self.pacers)
            room = min(room, turns - len(self._unpaced))
        return max(room, 0)

    @property
    def _most(self) -> int:
        """Jobs inside that a slow site keeps busy for the horizon."""
        return self.connections + int(self._rate * HORIZON_SECONDS)

    @property
    def crawls(self) -> bool:
        """A slow site whose connections each carry less than a message in the horizon: only then its share counts.

        One whose mail waits because it is busy, or we are, is not kept from its work.
        """
        return self.is_slow and self._rate * HORIZON_SECONDS < self.connections

    def enter(self, key: int, recipients: int, now: float) -> Refusal | None:
        """Let a job in, or say why not."""
        if not self.is_open and self.room(now) <= 0:
            return self.refusal(now)
        self.used_at = now
        self.inside[key] = recipients
        self._recipients += recipients
        if self.pacers:
            self._unpaced.add(key)
        return None

    def leave(self, key: int, now: float) -> None:
        """A job is through, or goes back: whatever it held is free."""
        self._recipients -= self.inside.pop(key, 0)
        self._unpaced.discard(key)
        if key in self._talking:
            self._talking.remove(key)
            self._done += 1
            self._hand_on(now)

    def refusal(self, now: float) -> Refusal:
        """Why nobody may enter, and until when."""
        if self.rules.paused is not None:
            return Refusal(PAUSE_SECONDS, f"{self.site} is paused by staff: {self.rules.paused}")
        if self.learned is not None and now < self.shut_until:
            quoted = f"{self.site} asked us to slow down: “{self.learned.reply}”"
            return Refusal(self.shut_until - now, f"{quoted}, and is left alone for now by {self.address}")
        if self.pacers and not self.is_probing and not self._is_full:
            wait = (next_slot(self.pacers, _ns(now)) - _ns(now)) / NANOSECONDS
            return Refusal(max(wait, 0.0), self._pace_in_words())
        if self.is_probing:
            return Refusal(BUSY_SECONDS, f"{self.site}: one mail from {self.address} tries whether it takes mail again")
        return Refusal(
            BUSY_SECONDS, f"{self.site} is slow: its {self.connections} connections from {self.address} are busy"
        )

    @property
    def _is_full(self) -> bool:
        return self.is_slow and len(self.inside) >= self._most

    def _pace_in_words(self) -> str:
        learned = self.learned
        if learned is None or learned.per_minute >= (self.rules.limits.ceiling_per_minute or NO_LIMIT):
            return f"{self.site}: {self.rules.limits.words} from {self.address}"
        return f"{self.site}: {learned.limits.words} from {self.address}, since it said “{learned.reply}”"

    # --- waiting for a connection, and for one's turn ----------------------------------------------------------------

    async def connection(self, key: int, priority: int, deadline: float, now: float) -> bool:
        """Wait for a connection, the more urgent first; False when the deadline passed or the site was shut meanwhile."""
        if not self._waiters and len(self._talking) < self._allowed and now >= self.shut_until:
            self._talking.add(key)
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._order += 1
        heappush(self._waiters, (priority, self._order, deadline, key, now, waiter))
        return await waiter

    @property
    def _allowed(self) -> int:
        return 1 if self.is_probing else self.connections

    def _hand_on(self, now: float) -> None:
        """Give what is free to those who wait; one who was cancelled has left its place in the heap."""
        while self._waiters and len(self._talking) < self._allowed and now >= self.shut_until:
            _, _, _, key, _, waiter = heappop(self._waiters)
            if not waiter.done():
                self._talking.add(key)
                waiter.set_result(True)

    @property
    def spare(self) -> int:
        """Connections that nobody talks on: as many may stay open without a message."""
        return self.connections - len(self._talking)

    def pace(self, key: int, now: float) -> float | None:
        """Take the job's turn; returns how many seconds it is away. To be called with a connection in hand.

        None when it is too far away to be waited for: the pace changed after the job had entered.
        """
        self._unpaced.discard(key)
        if not self.pacers:
            return 0.0
        at = _ns(now)
        if next_slot(self.pacers, at) - at > _ns(PATIENCE_SECONDS):
            return None
        return (take_slot(self.pacers, at) - at) / NANOSECONDS

    def is_shut(self, now: float) -> bool:
        """It was shut while a job was on its way to the connection."""
        return now < self.shut_until

    def began(self, now: float) -> None:
        """A message is on its way to the site."""
        begin, this, last = self._minute
        if now - begin < 60:
            self._minute = (begin, this + 1, last)
        else:
            self._minute = (now, 1, this if now - begin < 120 else 0)

    # --- learning --------------------------------------------------------------------------------------------------

    def went(self, began_at: float, now: float) -> None:
        """A message of that moment was answered, and not by being told to slow down."""
        self._well += 1
        if self.is_probing and began_at > self._taught_at:
            self.is_probing = False
            self._hand_on(now)

    def throttled(self, throttle: str, began_at: float, now: float, clock: datetime) -> bool:
        """The site told us to slow down, in these words. True for a new lesson.

        What began before the last lesson belongs to it: ten connections that are told so at once are told so once.
        """
        if not self.learns or began_at <= self._taught_at:
            return False
        self.learned = learn(self.rules.limits, self.learned, self.observed, throttle, clock)
        self._taught_at, self._well, self.is_probing = now, 0, True
        self._settle(now, clock)
        return True

    @property
    def is_counted_by_hour(self) -> bool:
        """Its messages are counted in the tables, so that a restart does not forget them."""
        return self.rules.limits.per_hour is not None

    @property
    def observed(self) -> int:
        """Messages in the last minute, or about that."""
        return max(self._minute[1:])

    def tick(self, now: float, clock: datetime) -> None:
        """Once a second: ease what was learned, see whether the site is slow, let nobody wait beyond their deadline."""
        if self.learned is not None:
            eased = went_well(self.learned, self.rules.limits, self._well, clock)
            if eased is not self.learned:
                self.learned, self._well = eased, 0
        was_open = self.is_open
        self._watch(now)
        if not was_open or self.is_slow:
            self._settle(now, clock)
        if self._waiters:
            self._turn_away(sum(deadline <= now for _, _, deadline, *_ in self._waiters), now, late_first=True)

    def _watch(self, now: float) -> None:
        """By how many left in the last second; a site is slow as soon as somebody has waited too long for it."""
        self._rate += (self._done - self._rate) / 2
        self._done = 0
        if any(now - since > SLOW_SECONDS and not waiter.done() for *_, since, waiter in self._waiters):
            self.is_slow, self._quick = True, 0
            most = min(self._most, max(self.share, 1)) if self.crawls else self._most
            self._turn_away(len(self.inside) - most, now)
        elif self.is_slow:
            self._quick = self._quick + 1 if len(self.inside) < self.connections else 0
            self.is_slow = self._quick < QUICK_AGAIN

    def _turn_away(self, number: int, now: float, late_first: bool = False) -> None:
        """Send so many of those who wait back to the table: the least urgent and last ones, or those who are late."""
        if number <= 0 or not self._waiters:
            return
        self._waiters.sort(key=(lambda w: (w[2] <= now, *w[:2])) if late_first else (lambda w: w[:2]))
        kept = max(len(self._waiters) - number, 0)
        leaving, self._waiters = self._waiters[kept:], self._waiters[:kept]
        heapify(self._waiters)
        for *_, waiter in leaving:
            if not waiter.done():
                waiter.set_result(False)

    def is_idle(self, now: float, seconds: float) -> bool:
        """Nothing would be lost with it: its rules and lessons are in the tables."""
        rested = all(pacer.is_rested(_ns(now)) for pacer in self.pacers)
        return not self.inside and rested and self.learned == self.saved and now - self.used_at > seconds


def _ns(seconds: float) -> int:
    return int(seconds * NANOSECONDS)


def _narrower(lesson: Limits, rules: Limits) -> Limits:
    """Both at once: of each limit that both have the smaller."""
    per_minute = min(lesson.per_minute or NO_LIMIT, rules.per_minute or NO_LIMIT)
    connections = min(lesson.connections or NO_LIMIT, rules.connections or NO_LIMIT)
    return Limits(connections=connections, per_minute=per_minute).over(rules)


def _kept(fresh: tuple[Pacer, ...], former: tuple[Pacer, ...]) -> tuple[Pacer, ...]:
    """The former pacers where nothing changed; a changed one begins where the former one of its window is."""
    if [(p.most, p.window) for p in fresh] == [(p.most, p.window) for p in former]:
        return former
    for pacer in fresh:
        pacer.full_at = max((old.full_at for old in former if old.window == pacer.window), default=0)
    return fresh
