"""The trial `webhooks`: deliverers and their receiver are killed in turn, and every event must come to it all the same."""

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from django.conf import settings

from relay_project.chaos.arena import Arena, ChaosError, answers, await_progress, kill_all, wait_until
from relay_project.db.child import tethered
from relay_project.quickstart.ports import LOOPBACK, choose_ports

TURNS = 4  # in each run_webhooks and the receiver are killed apart, and then both at once
KILLS = 4 * TURNS
AWAY_SECONDS = 2.0  # of the receiver
START_SECONDS = 20.0
NOTE = re.compile(r"^(\S+) ([0-9a-f]{64}) ([01])$", re.MULTILINE)
LOAD_SECONDS = 100.0  # that mail comes for, at least
PATIENCE = 300.0  # beyond them


class Listener:
    """The receiver as a process (relay_project.chaos.hearer), on one port whatever becomes of it; a context that ends it."""

    def __init__(self, folder: Path) -> None:
        self.port = choose_ports({"HEARER": 0})["HEARER"]
        self.url = f"http://{LOOPBACK}:{self.port}/told"
        self.secret = ""
        self.count = 0  # lines that were written so far, of all its lives
        self._notes = folder / "notes"
        self._read = 0  # octets of them
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Return when it listens."""
        options = ["--port", str(self.port), "--notes", str(self._notes), "--secret", self.secret]
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            tethered([sys.executable, "-m", "relay_project.chaos.hearer", *options], sign=signal.SIGKILL),
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(lambda: answers(self.port), START_SECONDS, "The receiver did not listen")

    def kill(self) -> None:
        """SIGKILL, with calls half answered."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def heard(self) -> int:
        """How many calls it has noted by now."""
        with contextlib.suppress(FileNotFoundError), self._notes.open("rb") as notes:
            notes.seek(self._read)
            new = notes.read()
            self._read += len(new)
            self.count += new.count(b"\n")
        return self.count

    def await_calls(self, more: int, most: int) -> None:
        """Return when so many more have come, or `most` in all; raises ChaosError when none comes for long."""
        wanted = min(self.heard() + more, most)
        await_progress(lambda: self.heard() >= wanted, self.heard)

    def notes(self) -> list[tuple[str, str, bool]]:
        """(event id, digest of the body, whether it was signed), a call each."""
        return [(event, digest, signed == "1") for event, digest, signed in NOTE.findall(self._notes.read_text())]


@dataclass(frozen=True, slots=True)
class Heard:
    """What the receiver was told, beside what is in the event log. Calls that came again are the price, and no defect."""

    events: int  # of the kinds that the webhook asks for
    heard: int  # of them, at the receiver
    calls: int
    again: int  # calls beyond the first about an event
    retried: int  # deliveries of which a call failed, as those that the receiver's death cut
    missing: int
    foreign: int  # about no such event
    differing: int  # events whose calls had other bodies than the one that was frozen
    unsigned: int
    made_twice: int  # events with more than one delivery
    undelivered: int  # deliveries that are not final, or failed
    kills: int = KILLS

    @property
    def is_good(self) -> bool:
        """Each event once, when those of an id count as one."""
        wrong = (self.missing, self.foreign, self.differing, self.unsigned, self.made_twice, self.undelivered)
        return bool(self.events) and not any(wrong)

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "is_good": self.is_good}

    def __str__(self) -> str:
        return (
            f"{self.events:,} events, {self.heard:,} heard in {self.calls:,} calls, {self.again:,} again, "
            f"{self.retried:,} retried, "
            f"{self.missing:,} missing, {self.foreign:,} foreign, {self.differing:,} differing, "
            f"{self.unsigned:,} unsigned, {self.made_twice:,} made twice, {self.undelivered:,} undelivered"
        )


def kill_both_sides(arena: Arena) -> Callable[[], Heard]:
    """Kills that are spread over the run, each with calls in flight; a second run_webhooks is up before the first dies."""
    listener = arena.enter(Listener(arena.folder))
    webhook = arena.ask("subscribe", arena.project, listener.url)
    listener.secret = webhook["secret"]
    listener.start()
    arena.start_senders()
    current = arena.start_ready("run_webhooks")
    loader = arena.load(pace=arena.messages / LOAD_SECONDS, batch=25)
    events = 2 * arena.messages  # a mail has two at least

    def flow() -> None:
        listener.await_calls(events // (2 * KILLS), events)

    for _ in range(TURNS):
        following = arena.start_ready("run_webhooks")
        flow()
        kill_all(current)
        flow()
        _lose(listener)
        current = arena.start_ready("run_webhooks")
        flow()
        kill_all(following)
        _lose(listener)
    loader.join(LOAD_SECONDS + PATIENCE)
    return lambda: _compare(arena, listener, webhook["id"])


def _lose(listener: Listener) -> None:
    listener.kill()
    time.sleep(AWAY_SECONDS)
    listener.start()


def _compare(arena: Arena, listener: Listener, webhook_id: int) -> Heard:
    """When nothing waits any more; what still does after QUIET_SECONDS without a call is undelivered."""
    with contextlib.suppress(ChaosError):
        await_progress(lambda: not arena.query("SELECT 1 FROM webhooks_webhookwaiting LIMIT 1"), listener.heard)
    told = arena.ask("deliveries", str(webhook_id))
    return compare(listener.notes(), told["events"], told["deliveries"])


def compare(
    notes: Iterable[tuple[str, str, bool]], events: Iterable[str], deliveries: Iterable[tuple[str, str, str, int]]
) -> Heard:
    """The notes, the events that it should be told, and of deliveries the event, the digest of the body, status and tries."""
    wanted, calls = set(events), Counter[str]()
    digests: Mapping[str, set[str]] = defaultdict(set)
    unsigned = 0
    for event, digest, is_signed in notes:
        calls[event] += 1
        digests[event].add(digest)
        unsigned += not is_signed
    made, undelivered, retried = Counter[str](), 0, 0
    for event, digest, status, tries in deliveries:
        made[event] += 1
        digests[event].add(digest)
        undelivered += status != "delivered"
        retried += tries > 1
    return Heard(
        events=len(wanted),
        heard=len(wanted & calls.keys()),
        calls=calls.total(),
        again=calls.total() - len(calls),
        retried=retried,
        missing=len(wanted - calls.keys()),
        foreign=len((calls.keys() | made.keys()) - wanted),
        differing=sum(len(several) > 1 for several in digests.values()),
        unsigned=unsigned,
        made_twice=sum(count > 1 for count in made.values()),
        undelivered=undelivered,
    )
