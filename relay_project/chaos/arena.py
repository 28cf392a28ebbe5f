"""Where a trial takes place: a PostgreSQL of its own, a witness, and the product's processes, all of which may be hurt."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg

from relay_project.bench.accept import await_ready
from relay_project.bench.database import BenchDatabase
from relay_project.bench.launch import environment
from relay_project.bench.plan import BenchError, Plan
from relay_project.bench.process import Process, family
from relay_project.chaos.witness import Witness
from relay_project.db.child import tethered
from relay_project.db.embedded import EmbeddedPostgres, EmbeddedPostgresError
from relay_project.quickstart.ports import LOOPBACK, choose_ports

POLL_SECONDS = 0.05
ANSWER_SECONDS = 120.0  # for a short command of manage.py
QUIET_SECONDS = 60.0  # without any progress; the longest lease is 45
# Deadlines as short as they may be, so that leases run out and retries come within a trial.
SETTINGS = {
    "CONVERSATION_SECONDS": "40",
    "LEASE_GRACE_SECONDS": "5",
    "RETRY_SCHEDULE": ",".join(["2s"] * 20),
    "WEBHOOK_RETRY_SCHEDULE": ",".join(["2s"] * 20),
    "PRIVATE_WEBHOOKS": "true",
    "SHUTDOWN_SECONDS": "10",
    "LOG_LEVEL": "info",
}


PROBES = {
    "run_web": "PROBE_WEB",
    "run_senders": "PROBE_SENDERS",
    "run_webhooks": "PROBE_WEBHOOKS",
    "run_smtp": "PROBE_SMTP",
}

Context = TypeVar("Context")


class ChaosError(BenchError):
    """The trial has no valid result; the message is one sentence."""


@dataclass(slots=True)
class Loader:
    """The accepting process: which numbers it was told are safe, and which are in doubt."""

    process: "subprocess.Popen[str]"
    accepted: set[int] = field(default_factory=set)
    doubtful: set[int] = field(default_factory=set)
    reader: threading.Thread | None = None
    is_killed: bool = False

    def read(self) -> None:
        """Take down what it says until it ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):  # cut by a SIGKILL: not said
                record = json.loads(line)
                self.accepted.update(range(*record.get("accepted", (0, 0))))
                self.doubtful.update(range(*record.get("doubtful", (0, 0))))

    def join(self, seconds: float) -> None:
        """Wait for its end and its last words; raises ChaosError when it does not come."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise ChaosError(f"The load was not accepted within {seconds:.0f} seconds.") from None
        assert self.reader is not None
        self.reader.join()
        if self.process.returncode and not self.is_killed:
            raise ChaosError(f"The accepting process ended with code {self.process.returncode}.")

    def kill(self) -> None:
        """SIGKILL, in mid-accept."""
        self.is_killed = True
        self.process.kill()


class Arena:
    """A context; everything it starts ends with it."""

    def __init__(self, folder: Path, messages: int, witness: Witness) -> None:
        self.folder = folder
        self.messages = messages
        self.witness = witness
        self.loaders: list[Loader] = []
        self._stack = ExitStack()
        self._number = 0
        self._probes: dict[int, int] = {}  # pid → port
        self.project = ""
        self.server = EmbeddedPostgres(folder / "data")
        self.env: dict[str, str] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.witness)
            stack.callback(self.server.stop)
            self.start_database()
            self.env = self._environment()
            self.project = str(self.ask("prepare")["project"])
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _environment(self) -> dict[str, str]:
        database = BenchDatabase(self.server.url, "", self.server.pid, self.server.data)
        route = {"SMTP_ROUTES": json.dumps({"*": f"127.0.0.1:{self.witness.port}"})}
        plan = Plan("drain", signatures=1)
        return {**environment(plan, database, self.folder), **SETTINGS, **route}

    # --- the database ----------------------------------------------------------------------------------------------

    def start_database(self) -> None:
        """Start it, again; it recovers what was committed."""
        try:
            self.server.start()
        except EmbeddedPostgresError as error:
            raise ChaosError(str(error)) from None

    def crash_database(self) -> None:
        """SIGQUIT: every session ends at once, nothing is written; the next start recovers."""
        pid = self.server.pid
        if pid is not None:
            os.kill(pid, signal.SIGQUIT)
            wait_until(lambda: not self.server.is_running, 30, "PostgreSQL did not end")

    def kill_database(self) -> None:
        """SIGKILL for the server and all of its processes; the next start recovers."""
        pid = self.server.pid
        if pid is not None:
            for each in family(pid):
                hurt(each, signal.SIGKILL)
            wait_until(lambda: not self.server.is_running, 30, "PostgreSQL did not end")

    def terminate(self, condition: str) -> int:
        """pg_terminate_backend for the sessions that meet a condition on pg_stat_activity; returns how many."""
        statement = f"""SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                         WHERE pid <> pg_backend_pid() AND datname = current_database() AND ({condition})"""  # noqa: S608
        return int(self.query(statement)[0][0])

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a statement, on a session of the trial's own."""
        with psycopg.connect(self.server.url, connect_timeout=10) as connection:
            return connection.execute(statement).fetchall()

    @contextlib.contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Nobody else reads or writes the table meanwhile."""
        with psycopg.connect(self.server.url) as connection:
            connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield

    # --- processes -------------------------------------------------------------------------------------------------

    def start(self, *arguments: str, **settings: str) -> Process:
        """Start a command of manage.py that runs until the arena ends, or is hurt."""
        name = PROBES.get(arguments[0], "PROBE_HOUSEKEEPING")
        port = choose_ports({name: 0})[name]
        own = {name: f"{LOOPBACK}:{port}", **settings}
        process = self.enter(Process(arguments, {**self.env, **own}, self.folder))
        self._probes[process.pid] = port
        return process

    def start_ready(self, *arguments: str, **settings: str) -> Process:
        """The same; returns when its probe says that it is ready."""
        process = self.start(*arguments, **settings)
        await_ready(process, (LOOPBACK, self._probes[process.pid]))
        return process

    def enter(self, context: AbstractContextManager[Context]) -> Context:
        """Something else that ends with the arena."""
        return self._stack.enter_context(context)

    def at_end(self, work: Callable[[], None]) -> None:
        """Have it done when the arena ends."""
        self._stack.callback(work)

    def start_senders(self) -> Process:
        """Two sender processes under their supervisor; returns when each serves an IP."""
        senders = self.start("run_senders", "--processes", "2")
        wait_until(lambda: self._serve(senders), 90, "The senders did not take the source IPs")
        return senders

    def _serve(self, senders: Process) -> bool:
        senders.check_alive()
        return len(self.sender_pids()) >= 2

    def sender_pids(self) -> dict[str, int]:
        """Source address → the process that serves it."""
        rows = self.query(
            "SELECT host(i.address), s.pid FROM ips_sourceip i JOIN ips_sender s ON s.id = i.served_by_id"
        )
        return {address: pid for address, pid in rows if alive(pid)}

    def load(self, messages: int = 0, pace: float = 300, batch: int = 10) -> Loader:
        """Begin to accept that many messages (0: the trial's number), `pace` a second."""
        messages = messages or self.messages
        process = self._inside("load", self.project, str(self._number), str(messages), str(batch), str(pace))
        self._number += messages
        loader = Loader(process)
        loader.reader = threading.Thread(target=loader.read, daemon=True)
        loader.reader.start()
        self.loaders.append(loader)
        return loader

    def ask(self, *words: str, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """The answer of a short command inside the product."""
        process = self._inside(*words)
        try:
            output, _ = process.communicate(timeout=seconds)
            return dict(json.loads(output.splitlines()[-1]))
        except (subprocess.TimeoutExpired, IndexError, ValueError):
            process.kill()
            raise ChaosError(f"`chaos --inside {words[0]}` gave no answer.") from None

    def hurry(self, seconds: float) -> "subprocess.Popen[str]":
        """Somebody presses "try now" for that long."""
        return self._inside("hurry", str(seconds))

    def _inside(self, *words: str) -> "subprocess.Popen[str]":
        manage = Path(__file__).parents[2] / "manage.py"
        process = subprocess.Popen(  # noqa: S603 - our own command
            tethered([sys.executable, str(manage), "chaos", "--inside", *words], sign=signal.SIGKILL),
            env={**self.env, "LOG_LEVEL": "warning"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        self._stack.callback(_end, process)
        return process


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def kill_all(process: Process) -> None:
    """SIGKILL a process and all that it started."""
    for pid in family(process.pid):
        hurt(pid, signal.SIGKILL)


def hurt(pid: int, sign: signal.Signals) -> None:
    """Send a signal; one that has ended already feels nothing."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sign)


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Wait for it; raises ChaosError with `otherwise` and the seconds. A database that is away is no answer."""
    give_up = time.monotonic() + seconds
    while True:
        with contextlib.suppress(psycopg.Error):
            if condition():
                return
        if time.monotonic() > give_up:
            raise ChaosError(f"{otherwise} within {seconds:.0f} seconds.")
        time.sleep(POLL_SECONDS)


def await_progress(is_done: Callable[[], bool], progress: Callable[[], int]) -> None:
    """Wait for it as long as there is some progress; raises ChaosError after QUIET_SECONDS without any."""
    last, since = progress(), time.monotonic()
    while not is_done():
        time.sleep(POLL_SECONDS)
        now = progress()
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > QUIET_SECONDS:
            raise ChaosError(f"Nothing moved for {QUIET_SECONDS:.0f} seconds.")


def answers(port: int) -> bool:
    """Whether somebody takes a connection within a second."""
    try:
        with socket.create_connection((LOOPBACK, port), 1.0):
            return True
    except OSError:
        return False
