"""Shaper: all gates of one sender, and what is known of sites beyond them.

It finds the gate of a job, knows which site a domain led to, shares the room that slow sites may take, keeps the ceilings
of IPs that are being warmed up, and carries lessons between the gates and the tables (ips.limits). Its methods run in
the event loop, but those that say that they are asked from the claim thread, and those only read.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import structlog
from django.conf import settings

from ips import limits
from ips.limits import SiteRow, SiteRows
from ips.senders import ServedIp
from ips.warmup import ceiling
from relay_project.mail.classify import without_addresses
from relay_project.mail.mx import limits_of, provider_name
from relay_project.mail.rates import NANOSECONDS, Learned, Limits, Pacer
from relay_project.mail.text import clean
from relay_project.metrics import Counter
from sending.deliver.gate import Gate, Rules

log = structlog.get_logger()

THROTTLES = Counter("relay_site_throttles_total", "Lessons: a site told a source IP to slow down.", ["site"])

MAX_DOMAINS = 50_000  # remembered; beyond it all are forgotten and found again by their next mail
MAX_REPLY = 512  # characters of what a site said, the column's
IDLE_SECONDS = 60.0  # a gate that nobody used for this long is made anew when it is needed
FIXED_MESSAGES = 1000  # a connection, to a host that the operator named

GateKey = tuple[int, str]  # source IP, site
HeldKey = tuple[int, int | None, str]  # queue, source IP (None: any of the queue's), site


@dataclass(frozen=True, slots=True)
class Tables:
    """What the tables say at one moment of the IPs of a sender."""

    rows: Mapping[tuple[int | None, str], SiteRow]
    hours: Mapping[tuple[int, str], int]
    warmups: Mapping[int, date]
    days: Mapping[int, int]


def read_tables(ip_ids: Sequence[int], now: datetime, rows: SiteRows | None = None) -> Tables:
    """Read them, in a database thread; `rows`: those of the last time, read again only if they changed."""
    warmups = limits.read_warmups(ip_ids)
    return Tables(
        (rows or SiteRows()).read(ip_ids),
        limits.read_hours(ip_ids, now),
        warmups,
        limits.read_days(list(warmups), now.date()) if warmups else {},
    )


def exchange(shaper: "Shaper", ip_ids: Sequence[int], now: datetime) -> Tables:
    """Write down what sites taught us, then read what holds, in a database thread."""
    if lessons := shaper.unsaved():
        limits.write_learned(lessons)
        shaper.saved(lessons)
    return read_tables(ip_ids, now, shaper.rows_read)


@dataclass(slots=True)
class Warmth:
    """An IP in warm-up: messages of today, by the tables when it was taken over and by our own claims since."""

    began: date
    day: date
    begun: int

    def room(self, today: date) -> int | None:
        """Messages that it may still begin today; None without a ceiling."""
        most = ceiling(self.began, today, settings.WARMUP_PLAN)
        if most is None:
            return None
        return max(most - (self.begun if self.day == today else 0), 0)

    def count(self, messages: int, today: date) -> None:
        """So many more were claimed, or (negative) given back."""
        self.begun = max((self.begun if self.day == today else 0) + messages, 0)
        self.day = today


@dataclass(slots=True)
class Shaper:
    """What one sender knows of the sites that its IPs send to."""

    fixed: Collection[str] = ()  # sites of SMTP_ROUTES
    gates: dict[GateKey, Gate] = field(default_factory=dict)
    watched: dict[GateKey, Gate] = field(default_factory=dict)  # those that are not open: only they need asking
    domains: dict[str, str] = field(default_factory=dict)  # domain → the site that its mail was last routed to
    hanging: set[HeldKey] = field(default_factory=set)  # held sites with mail, as of the last look
    warm: dict[int, Warmth] = field(default_factory=dict)
    rows_read: SiteRows = field(default_factory=SiteRows)  # the claim thread's
    _rows: Mapping[tuple[int | None, str], SiteRow] = field(default_factory=dict)
    _has_saved: bool = False  # since the tables were obeyed
    _hours: dict[GateKey, int] = field(default_factory=dict)
    _taken_at: dict[int, float] = field(default_factory=dict)  # source IP → when it was taken over

    # --- finding a gate --------------------------------------------------------------------------------------------

    def gate(self, ip: ServedIp, domain: str, site: str) -> Gate:
        """The gate that a job goes through; its domain's site is remembered."""
        if self.domains.get(domain) != site:
            if len(self.domains) >= MAX_DOMAINS:
                self.domains.clear()
            self.domains[domain] = site
        return self.gate_of(ip, site)

    def gate_of(self, ip: ServedIp, site: str) -> Gate:
        """The gate of an IP at a site, made if it must be; from either thread, since a dict's setdefault is one step."""
        gate = self.gates.get((ip.id, site))
        return gate if gate is not None else self._make(ip, site)

    def _make(self, ip: ServedIp, site: str) -> Gate:
        now, clock = time.monotonic(), datetime.now(UTC)
        gate = Gate(site, ip.address, self._rules(ip.id, site), learns=site not in self.fixed)
        gate.start(now, clock, lambda pacer: self._spent(ip.id, site, pacer, now))
        gate = self.gates.setdefault((ip.id, site), gate)
        if not gate.is_open:
            self.watched[ip.id, site] = gate
        return gate

    def _spent(self, ip_id: int, site: str, pacer: Pacer, now: float) -> int:
        """What an IP's former process may have sent: counted for hours; for shorter windows the worst, until they are over."""
        if pacer.window >= 3600 * NANOSECONDS:
            return self._hours.pop((ip_id, site), 0)
        is_fresh = now - self._taken_at.get(ip_id, now) < pacer.window / NANOSECONDS
        return pacer.burst if is_fresh else 0

    def _rules(self, ip_id: int, site: str) -> Rules:
        """The IP's own row over everybody's over the provider's over the settings. A fixed site has neither provider
        nor lessons: the operator named it, and knows it."""
        is_fixed = site in self.fixed
        mine, everybodys = self._rows.get((ip_id, site)), self._rows.get((None, site))
        found = Limits(settings.SITE_CONNECTIONS, FIXED_MESSAGES if is_fixed else None)
        found = found if is_fixed else limits_of(site).over(found)
        for row in (everybodys, mine):
            found = row.limits.over(found) if row else found
        paused = next((row.paused for row in (mine, everybodys) if row and row.paused is not None), None)
        return Rules(found, paused, mine.learned if mine and not is_fixed else None)

    # --- the tables ------------------------------------------------------------------------------------------------

    def obey(self, tables: Tables, ip_ids: Collection[int]) -> None:
        """Follow the tables; `ip_ids` are served now."""
        now, clock = time.monotonic(), datetime.now(UTC)
        is_new, self._rows = self._has_saved or tables.rows != self._rows, tables.rows
        for ip_id in set(ip_ids) - set(self._taken_at):
            self._taken_at[ip_id] = now
            self._hours |= {key: count for key, count in tables.hours.items() if key[0] == ip_id}
        for ip_id in set(self._taken_at) - set(ip_ids):
            del self._taken_at[ip_id]
            self.warm.pop(ip_id, None)
        self._obey_warmups(tables, clock.date())
        if is_new:
            for (ip_id, site), gate in list(self.gates.items()):
                gate.obey(self._rules(ip_id, site), now, clock)
            self._watch()
            self._has_saved = False

    def _obey_warmups(self, tables: Tables, today: date) -> None:
        """An IP that begins (or was taken over in) its warm-up is counted from the tables, afterwards by ourselves."""
        for ip_id in set(self.warm) - set(tables.warmups):
            del self.warm[ip_id]
        for ip_id, began in tables.warmups.items():
            if ip_id in self._taken_at and (ip_id not in self.warm or self.warm[ip_id].began != began):
                self.warm[ip_id] = Warmth(began, today, tables.days.get(ip_id, 0))

    def unsaved(self) -> list[tuple[int, str, Learned | None]]:
        """Lessons that the tables do not have, in the claim thread."""
        return [
            (ip_id, site, gate.learned)
            for (ip_id, site), gate in list(self.gates.items())
            if gate.learned is not gate.saved
        ]

    def saved(self, lessons: Iterable[tuple[int, str, Learned | None]]) -> None:
        """The tables have them now; if the next reading says otherwise, staff were quick."""
        self._has_saved = True
        for ip_id, site, learned in lessons:
            if (gate := self.gates.get((ip_id, site))) is not None:
                gate.saved = learned

    # --- while mail goes -------------------------------------------------------------------------------------------

    def throttled(self, ip: ServedIp, gate: Gate, reply: str, began_at: float) -> None:
        """A site told us to slow down, in these words."""
        reply = clean(without_addresses(" ".join(reply.split())), MAX_REPLY)
        if not gate.throttled(reply, began_at, time.monotonic(), datetime.now(UTC)):
            return
        self.watched[ip.id, gate.site] = gate
        THROTTLES.labels(provider_name(gate.site)).inc()
        learned = gate.learned
        assert learned is not None
        log.warning(
            "site.throttled",
            site=gate.site,
            source_ip_id=ip.id,
            reply=reply,
            per_minute=learned.per_minute,
            connections=learned.connections,
            back_off_seconds=learned.back_off.total_seconds(),
        )

    def tick(self) -> None:
        """Once a second."""
        now, clock = time.monotonic(), datetime.now(UTC)
        crawling = sum(gate.crawls for gate in list(self.gates.values()))
        share = settings.IN_FLIGHT_ROWS * settings.SITE_SHARE // 100 // max(1, crawling)
        for key, gate in list(self.gates.items()):
            gate.share = max(share, 1)
            if gate.inside or not gate.is_open:
                before = gate.learned
                gate.tick(now, clock)
                if before is not None and gate.learned is None:
                    log.info("site.lesson_over", site=gate.site, source_ip_id=key[0])
            if gate.is_idle(now, IDLE_SECONDS):
                del self.gates[key]
        self._watch()

    def _watch(self) -> None:
        self.watched = {key: gate for key, gate in list(self.gates.items()) if not gate.is_open}

    # --- asked from the claim thread -------------------------------------------------------------------------------

    def warm_room(self, ip_id: int) -> int | None:
        """Messages that an IP may begin today beside its retries; None without a ceiling."""
        warmth = self.warm.get(ip_id)
        return None if warmth is None else warmth.room(datetime.now(UTC).date())

    def count(self, ip_id: int, messages: int) -> None:
        """So many were claimed by an IP, or (negative) given back."""
        if (warmth := self.warm.get(ip_id)) is not None:
            warmth.count(messages, datetime.now(UTC).date())
