"""The trial `mailbox`: depositors and receivers go on while the web, the sequencer and the database are killed in turn."""

import http.client
import itertools
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from relay_project.bench.process import family
from relay_project.chaos.arena import Arena, ChaosError, await_progress, hurt, kill_all
from relay_project.quickstart.ports import LOOPBACK

NAME = "orders"
DEPOSITORS, RECEIVERS = 4, 2
BATCH = 10  # items of a deposit, of every other depositor
ROUNDS = 2  # of all misfortunes
FLOW_SECONDS = 2.0  # between two of them
GONE_SECONDS = 1.0  # of a database that crashed
LOAD_SECONDS = 60.0  # that mail comes for
PATIENCE = 300.0  # beyond them
AGAIN_SECONDS = 0.05  # before what failed is asked again
LEASE_SECONDS, WAIT_SECONDS, LIMIT = 5, 1, 100
TIMEOUT_SECONDS = 15.0

Answer = dict[str, Any]
# What lies in a mailbox, is in a receiver's hands, or is behind its place in the feed.
_LEFT = """
SELECT (SELECT count(*) FROM webhooks_mailboxitem WHERE acked_at IS NULL) + (SELECT count(*) FROM webhooks_mailboxevent)
     + (SELECT count(*) FROM webhooks_mailbox box
          JOIN projects_feedposition feed ON feed.project_id = box.project_id AND feed.position > box.position)
"""


class Side(threading.Thread):
    """Somebody who asks for something over and over, until told to stop; what fails is asked again."""

    def __init__(self, port: int, token: str) -> None:
        super().__init__(daemon=True)
        self.port, self.token = port, token
        self.failed = 0  # requests without the answer that was asked for
        self._is_over = threading.Event()

    def run(self) -> None:
        """Go on."""
        while not self._is_over.is_set():
            self.turn()

    def turn(self) -> None:
        """Once."""
        raise NotImplementedError

    def stop(self) -> None:
        """End, soon."""
        self._is_over.set()

    def call(self, what: str, body: object | None = None) -> Answer | None:
        """The answer, or None when told to stop before one came."""
        while True:
            answer = call(self.port, self.token, what, body)
            if answer is not None:
                return answer
            self.failed += 1
            if self._is_over.wait(AGAIN_SECONDS):
                return None


class Depositor(Side):
    """Deposits `batch` items at a time; each has a key, as the docs advise, so that to say it again does no harm."""

    def __init__(self, port: int, token: str, name: str, batch: int = 1) -> None:
        super().__init__(port, token)
        self.stored: dict[str, str] = {}  # id, of what was answered with 202 → key
        self._keys = (f"{name}-{number}" for number in itertools.count())
        self._batch = batch

    def turn(self) -> None:
        """Deposit the next ones."""
        keys = [next(self._keys) for _ in range(self._batch)]
        items = [{"key": key, "payload": payload_of(key)} for key in keys]
        answer = self.call("", items[0] if self._batch == 1 else {"items": items})
        if answer is not None:
            ids = [each["id"] for each in answer.get("items", [answer])]
            self.stored.update(zip(ids, keys, strict=True))


class Handed(NamedTuple):
    """An item as it was handed out, and when it was asked for."""

    asked_at: float
    id: str
    kind: str
    key: str | None
    payload: Any
    times: int  # it was handed out by then, this one included


class Receiver(Side):
    """Receives and acknowledges."""

    def __init__(self, port: int, token: str) -> None:
        super().__init__(port, token)
        self.handed: list[Handed] = []
        self.acked: dict[str, float] = {}  # id → when that was answered

    def turn(self) -> None:
        """A batch."""
        asked_at = time.monotonic()
        answer = call(self.port, self.token, f"/receive?limit={LIMIT}&lease={LEASE_SECONDS}&wait={WAIT_SECONDS}")
        if answer is None:
            self.failed += 1
            time.sleep(AGAIN_SECONDS)
            return
        items = answer["items"]
        names = ("id", "kind", "key", "payload", "receive_count")
        self.handed += [Handed(asked_at, *(each[name] for name in names)) for each in items]
        if items and (said := self.call("/ack", {"ids": [each["id"] for each in items]})):
            self.acked.update(dict.fromkeys(said["acked"], time.monotonic()))


def call(port: int, token: str, what: str, body: object | None = None) -> Answer | None:
    """The answer of the mailbox, or None for whatever else became of it."""
    client = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_SECONDS)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        client.request(
            "GET" if body is None else "POST",
            f"/v1/mailbox/{NAME}{what}",
            None if body is None else json.dumps(body),
            headers,
        )
        answer = client.getresponse()
        return dict(json.loads(answer.read())) if answer.status in (200, 202) else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        client.close()


def payload_of(key: str) -> dict[str, str]:
    """What is deposited under a key."""
    return {"order": key}


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came out of the mailbox. What was handed out again is the price, and no defect, until it was acknowledged."""

    deposits: int  # that were answered with 202
    events: int  # that the mailbox subscribes to
    handed: int
    again: int  # of them not for the first time, whether or not that answer came
    lost: int  # deposits that never came
    missing: int  # events that never came
    returned: int  # handed out again after the acknowledgement was answered
    foreign: int  # neither deposited nor such an event
    altered: int  # with another payload than was deposited
    made_twice: int  # keys with more than one item
    left: int  # not acknowledged at the end
    failed: int  # requests: somebody noticed
    misfortunes: int

    @property
    def is_good(self) -> bool:
        """Whether the promise was kept."""
        wrong = (self.lost, self.missing, self.returned, self.foreign, self.altered, self.made_twice, self.left)
        return bool(self.deposits and self.events) and not any(wrong)

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "is_good": self.is_good}

    def __str__(self) -> str:
        return (
            f"{self.deposits:,} deposits and {self.events:,} events, handed out {self.handed:,}, {self.again:,} again, "
            f"{self.lost:,} lost, {self.missing:,} missing, {self.returned:,} returned, {self.foreign:,} foreign, "
            f"{self.altered:,} altered, {self.made_twice:,} made twice, {self.left:,} left"
        )


class Scene:
    """The processes and both sides of the mailbox, and what may happen to them."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.mailbox = arena.ask("open_mailbox", arena.project, NAME)
        self.web = arena.start_ready("run_web")
        self.webhooks = arena.start_ready("run_webhooks")
        port = int(arena.env["WEB_BIND"].rpartition(":")[2])
        self.depositors = [
            Depositor(port, self.mailbox["deposit"], f"d{number}", BATCH if number % 2 else 1)
            for number in range(DEPOSITORS)
        ]
        self.receivers = [Receiver(port, self.mailbox["receive"]) for _ in range(RECEIVERS)]
        self.misfortunes = (
            self.kill_web,
            self.kill_workers,
            self.kill_sequencer,
            self.cut_sessions,
            self.crash_database,
            self.kill_database,
        )

    def stored(self) -> int:
        """How much was deposited."""
        return sum(len(each.stored) for each in self.depositors)

    def handed(self) -> int:
        """How much was handed out."""
        return sum(len(each.handed) for each in self.receivers)

    def flow(self) -> None:
        """Return a while after both sides have gone on; raises ChaosError when one does not, or a process ended by itself."""
        for count in (self.stored, self.handed):
            before = count()
            await_progress(lambda count=count, before=before: count() > before, count)  # type: ignore[misc]
        time.sleep(FLOW_SECONDS)
        for process in (self.web, self.webhooks):
            process.check_alive()

    def kill_web(self) -> None:
        """All of it; another one is started in its place."""
        kill_all(self.web)
        self.web = self.arena.start_ready("run_web")

    def kill_workers(self) -> None:
        """Those that answer; the one above them starts others."""
        for pid in family(self.web.pid)[1:]:
            hurt(pid, signal.SIGKILL)

    def kill_sequencer(self) -> None:
        """And all that is in its process."""
        kill_all(self.webhooks)
        self.webhooks = self.arena.start_ready("run_webhooks")

    def cut_sessions(self) -> None:
        """Every session of the database, in mid-commit too."""
        self.arena.terminate("true")

    def crash_database(self) -> None:
        """As pg_ctl stop --mode=immediate."""
        self.arena.crash_database()
        time.sleep(GONE_SECONDS)
        self.arena.start_database()

    def kill_database(self) -> None:
        """SIGKILL for each of its processes."""
        self.arena.kill_database()
        self.arena.start_database()


def kill_in_turn(arena: Arena) -> Callable[[], Fetched]:
    """Each misfortune, with both sides at work, ROUNDS times."""
    scene = Scene(arena)
    arena.start_senders()
    for side in (*scene.depositors, *scene.receivers):
        arena.at_end(side.stop)
        side.start()
    loader = arena.load(pace=arena.messages / LOAD_SECONDS)
    for misfortune in scene.misfortunes * ROUNDS:
        scene.flow()
        misfortune()
    scene.flow()
    loader.join(LOAD_SECONDS + PATIENCE)
    for each in scene.depositors:
        each.stop()
        each.join()
    return lambda: _compare(scene)


def _compare(scene: Scene) -> Fetched:
    """When nothing is left; what is not fetched while nothing is handed out for long stays."""

    def left() -> int:
        return int(scene.arena.query(_LEFT)[0][0])

    with suppress(ChaosError):
        await_progress(lambda: not left(), scene.handed)
    for each in scene.receivers:
        each.stop()
        each.join()
    events = scene.arena.ask("mailbox_events", str(scene.mailbox["id"]))["events"]
    stored = {number: key for each in scene.depositors for number, key in each.stored.items()}
    handed = [item for each in scene.receivers for item in each.handed]
    acked = {number: at for each in scene.receivers for number, at in each.acked.items()}
    failed = sum(side.failed for side in (*scene.depositors, *scene.receivers))
    misfortunes = len(scene.misfortunes) * ROUNDS
    return compare(stored, events, handed, acked, left=left(), failed=failed, misfortunes=misfortunes)


def compare(
    stored: Mapping[str, str],
    events: Collection[str],
    handed: Iterable[Handed],
    acked: Mapping[str, float],
    *,
    left: int = 0,
    failed: int = 0,
    misfortunes: int = 0,
) -> Fetched:
    """id → key of deposits, the ids of events that are wanted, what was handed out, and id → when it was acknowledged."""
    wanted, times, items = set(events), Counter[str](), dict[str, str | None]()
    again = foreign = altered = returned = 0
    for item in handed:
        times[item.id] += 1
        again += item.times > 1 or times[item.id] > 1
        returned += acked.get(item.id, item.asked_at) < item.asked_at
        if item.kind == "deposit":
            items[item.id] = item.key
            altered += item.key is None or item.payload != payload_of(item.key)
        else:
            foreign += item.id not in wanted
            altered += item.payload["id"] != item.id
    keys = Counter(items.values())
    return Fetched(
        deposits=len(stored),
        events=len(wanted),
        handed=times.total(),
        again=again,
        lost=len(stored.keys() - items.keys()),
        missing=len(wanted - times.keys()),
        returned=returned,
        foreign=foreign,
        altered=altered + sum(items[number] != key for number, key in stored.items() if number in items),
        made_twice=sum(count > 1 for count in keys.values()),
        left=left,
        failed=failed,
        misfortunes=misfortunes,
    )
