"""How fast mail may go to a receiving site: limits, the pace that keeps them, and what a site teaches us. Pure.

Times of the pace are whole nanoseconds of one monotonic clock, so that sums are exact; times of what is learned are
datetimes, since they are written down.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta

NANOSECONDS = 1_000_000_000
BURST_SHARE = 10  # a tenth of a window's messages may go at once; the rest is spread over it
_WINDOWS = (("per_second", 1), ("per_minute", 60), ("per_hour", 3600))  # seconds

FIRST_BACK_OFF = timedelta(seconds=30)
LONGEST_BACK_OFF = timedelta(minutes=30)  # long enough to be forgiven, short enough that mail is not late by hours
LOWEST_PER_MINUTE = 6  # a message every 10 s: the least that still finds out whether the site is kind again
LEAST_CEILING = 60  # a minute; a site that threw us out at two a minute was not counting messages
RAISE_AFTER = timedelta(minutes=1)  # of mail that went well
RAISE_BY = 1.25  # from the floor to a thousand a minute in 23 such minutes
FORGET_AFTER = timedelta(days=1)  # without a throttle and without mail to learn from


@dataclass(frozen=True, slots=True)
class Limits:
    """What one source IP may do at one site; None: whatever the next, more general limits say, and at last no limit."""

    connections: int | None = None
    messages_per_connection: int | None = None
    per_second: int | None = None
    per_minute: int | None = None
    per_hour: int | None = None

    def over(self, general: "Limits") -> "Limits":
        """These, and where they say nothing the more general ones."""
        mine = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return replace(general, **mine) if mine else general

    @property
    def ceiling_per_minute(self) -> int | None:
        """The rate that follows from the tightest of the windows, for learning; None without one."""
        found = [value * 60 // seconds for name, seconds in _WINDOWS if (value := getattr(self, name)) is not None]
        return max(1, min(found)) if found else None

    @property
    def words(self) -> str:
        """The rates as people say them, `20 a minute, 500 an hour`; empty without any."""
        named = ((self.per_second, "a second"), (self.per_minute, "a minute"), (self.per_hour, "an hour"))
        return ", ".join(f"{value} {unit}" for value, unit in named if value is not None)

    def pacers(self) -> tuple["Pacer", ...]:
        """A pacer for each window that has a limit."""
        return tuple(
            Pacer(value, seconds * NANOSECONDS)
            for name, seconds in _WINDOWS
            if (value := getattr(self, name)) is not None
        )


@dataclass(slots=True)
class Pacer:
    """Lets at most `most` messages go in any half-open window of `window` nanoseconds, wherever that begins.

    A tenth of them may go at once, the others follow evenly (a generic cell rate: `full_at` is when the whole burst is
    there again). In any window at most burst + ⌈window / interval⌉ − 1 = `most` messages go.
    """

    most: int
    window: int
    full_at: int = 0
    burst: int = field(init=False)
    interval: int = field(init=False)

    def __post_init__(self) -> None:
        """The burst, and the even distance of what follows it, rounded up so that no window ever has one too many."""
        self.burst = max(1, self.most // BURST_SHARE)
        self.interval = -(-self.window // (self.most + 1 - self.burst))

    def next_slot(self, now: int) -> int:
        """When the next message may go: now or later."""
        return max(now, self.full_at - (self.burst - 1) * self.interval)

    def room(self, now: int, until: int) -> int:
        """How many messages may go by `until` if the first goes as soon as it may."""
        spare = until + (self.burst - 1) * self.interval - max(self.full_at, now)
        return spare // self.interval + 1 if spare >= 0 else 0

    def take(self, at: int) -> None:
        """One message goes at that moment, which lies at or after its next slot."""
        self.full_at = max(self.full_at, at) + self.interval

    def spent(self, messages: int, now: int) -> None:
        """So many went in this window and the one before it, by somebody who kept the same pace: of the burst the rest."""
        self.full_at = now + min(messages, self.burst) * self.interval

    def is_rested(self, now: int) -> bool:
        """Nothing of the past matters any more."""
        return self.full_at <= now


def next_slot(pacers: Sequence[Pacer], now: int) -> int:
    """When all of them let the next message go."""
    return max((pacer.next_slot(now) for pacer in pacers), default=now)


def take_slot(pacers: Sequence[Pacer], now: int) -> int:
    """Take the next message's slot and give its moment."""
    at = next_slot(pacers, now)
    for pacer in pacers:
        pacer.take(at)
    return at


@dataclass(frozen=True, slots=True)
class Learned:
    """What a site taught one source IP, and the words it did it with.

    `ceiling`: messages a minute at which the lesson is over. `raised_at`: when the limits were last changed; `back_off`:
    how long the site was left alone the last time.
    """

    per_minute: int
    connections: int
    ceiling: int
    back_off: timedelta
    back_off_until: datetime
    learned_at: datetime
    raised_at: datetime
    reply: str

    @property
    def limits(self) -> Limits:
        """As limits, to be laid over the configured ones."""
        return Limits(connections=self.connections, per_minute=self.per_minute)

    def is_backing_off(self, now: datetime) -> bool:
        """The site is left alone for now: never for longer than was meant, should a clock have been set back since."""
        return now < self.back_off_until <= now + self.back_off

    @property
    def is_untried(self) -> bool:
        """Nothing has gone well since the site was left alone."""
        return self.raised_at <= self.back_off_until


def learn(limits: Limits, learned: Learned | None, observed: int, reply: str, now: datetime) -> Learned:
    """What follows from being told to slow down: half the rate, half the connections, and a pause that doubles.

    Half of the learned rate where there is one, else of the configured one or, where less went or nothing is
    configured, of what went in the last minute (`observed`). `limits` are the configured ones and have `connections`.
    """
    configured = limits.ceiling_per_minute
    connections = limits.connections or 1
    if learned is None:
        back_off, rate = FIRST_BACK_OFF, observed if configured is None else min(configured, max(observed, 1))
        ceiling = configured or max(2 * observed, LEAST_CEILING)
    else:
        back_off, rate, ceiling = min(learned.back_off * 2, LONGEST_BACK_OFF), learned.per_minute, learned.ceiling
        connections = learned.connections
    return Learned(
        per_minute=max(rate // 2, min(LOWEST_PER_MINUTE, configured or LOWEST_PER_MINUTE)),
        connections=max(connections // 2, 1),
        ceiling=ceiling,
        back_off=back_off,
        back_off_until=now + back_off,
        learned_at=now,
        raised_at=now + back_off,
        reply=reply,
    )


def went_well(learned: Learned, limits: Limits, messages: int, now: datetime) -> Learned | None:
    """What is left of the lesson after `messages` went since it was last changed and none was told to slow down.

    A quarter more each RAISE_AFTER in which mail went; None once the configured ceiling is reached again, or when
    nothing was heard for FORGET_AFTER. The next pause starts over once the rate has doubled.
    """
    if now - learned.learned_at > FORGET_AFTER and now - learned.raised_at > FORGET_AFTER:
        return None
    if not messages or -learned.back_off <= now - learned.raised_at < RAISE_AFTER:  # else a clock was set back
        return learned
    rate = max(int(learned.per_minute * RAISE_BY), learned.per_minute + 1)
    if rate >= min(learned.ceiling, limits.ceiling_per_minute or learned.ceiling):
        return None
    most = limits.connections or learned.connections
    eased = max(learned.back_off / RAISE_BY, FIRST_BACK_OFF / 2)
    return replace(
        learned, per_minute=rate, connections=min(learned.connections + 1, most), back_off=eased, raised_at=now
    )
