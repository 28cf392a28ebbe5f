"""Running the product's processes as children: started, watched, restarted when they die, and stopped together.

Each child has a log of its own and leads a process group of its own, so that Ctrl-C reaches only the supervisor, which
then stops all of them in good order. When the supervisor itself is killed the kernel sends them SIGTERM (db.child).

Nothing here has a thread: the owner calls `tick()` several times a second, or `run()`, which does that.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from relay_project.db.child import last_lines, open_log, tethered

FIRST_PAUSE_SECONDS = 1.0  # doubles with each death
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0  # a child that has lived this long starts again with the first pause
STOP_SECONDS = 15.0  # what a child gets between SIGTERM and SIGKILL to finish what is in flight
TICK_SECONDS = 0.2
QUOTED_LINES = 5


@dataclass(frozen=True, slots=True)
class Program:
    """What a child runs: a name for people and for its log, the command line, and what it adds to the environment."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Death:
    """A child that ended without being asked to."""

    name: str
    pid: int
    how: str  # "exit code 1", "signal SIGKILL", or why it could not be started
    after_seconds: float
    last_lines: Sequence[str]
    pause_seconds: float


class _Child:
    """One program and, while it runs, its process."""

    def __init__(self, program: Program, log: Path | None) -> None:
        self.program = program
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.began = 0.0
        self.log_began = 0
        self.pause = FIRST_PAUSE_SECONDS
        self.due = 0.0  # when to start it again, in the monotonic clock

    def start(self, now: float) -> None:
        self.began = now
        if self.log is None:
            self.process = self._popen(None)
            return
        with open_log(self.log) as log:
            self.log_began = log.tell()
            self.process = self._popen(log)

    def _popen(self, output: IO[bytes] | None) -> "subprocess.Popen[bytes]":
        """Start the process; without a log it writes where its parent writes."""
        return subprocess.Popen(  # noqa: S603 - our own commands
            tethered(self.program.argv, sign=signal.SIGTERM),
            env={**os.environ, **self.program.env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
            start_new_session=True,
        )

    def bury(self, now: float) -> Death | None:
        """Return how the child died, once, and set when it starts again; None while it lives."""
        if self.process is None or not self.has_ended():
            return None
        pid, code = self.process.pid, self.end()
        lived = now - self.began
        self.pause = FIRST_PAUSE_SECONDS if lived >= STEADY_SECONDS else self.pause
        lines = last_lines(self.log, QUOTED_LINES, since=self.log_began) if self.log is not None else []
        death = Death(self.program.name, pid, _how(code), lived, lines, self.pause)
        self.due = now + self.pause
        self.pause = min(self.pause * 2, LONGEST_PAUSE_SECONDS)
        return death

    def has_ended(self) -> bool:
        """Whether the process has ended; its pid stays taken (WNOWAIT), so that its group can still be named."""
        if self.process is None:
            return True
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self) -> int:
        """Kill what is left of the group, with what the child started itself, and return the child's exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


class Supervisor:
    """A set of children that live and stop together. Start it from the main thread (db.child says why)."""

    def __init__(
        self,
        programs: Sequence[Program],
        logs: Path | None,
        on_death: Callable[[Death], None],
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        """Prepare children that write to `<logs>/<name>.log` (None: where we write); `on_death` is told of each that
        ends unasked."""
        self._children = [_Child(program, logs / f"{program.name}.log" if logs else None) for program in programs]
        self._stop_seconds = stop_seconds
        self._on_death = on_death
        self._stopping = threading.Event()

    def __enter__(self) -> "Supervisor":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start every child."""
        now = time.monotonic()
        for child in self._children:
            child.start(now)

    def pids(self) -> dict[str, int]:
        """Return the process id of each child that runs."""
        return {child.program.name: child.process.pid for child in self._children if child.process is not None}

    def tick(self, now: float | None = None) -> None:
        """Report those that died and start those whose pause is over; `now` is the monotonic clock's."""
        now = time.monotonic() if now is None else now
        for child in self._children:
            if death := child.bury(now):
                self._on_death(death)
            elif child.process is None and now >= child.due:
                child.start(now)

    def run(self, each_tick: Callable[[], None] = lambda: None) -> None:
        """Watch over the children until SIGINT or SIGTERM, or until `ask_to_stop()`; they still run on return."""
        with on_signals(self.ask_to_stop):
            while not self._stopping.wait(TICK_SECONDS):
                self.tick()
                each_tick()

    def ask_to_stop(self) -> None:
        """Make `run()` return; safe in a signal handler."""
        self._stopping.set()

    def stop(self) -> list[str]:
        """Ask all to end, kill those that have not in time, and return their names.

        A SIGINT or SIGTERM while this waits means: do not wait.
        """
        hurry = threading.Event()
        deadline = time.monotonic() + self._stop_seconds
        with on_signals(hurry.set):
            for child in self._children:
                if child.process is not None and not child.has_ended():
                    child.process.terminate()
            while not all(child.has_ended() for child in self._children) and time.monotonic() < deadline:
                if hurry.wait(TICK_SECONDS / 10):
                    break
        killed = [child.program.name for child in self._children if not child.has_ended()]
        for child in self._children:
            child.end()
        return killed


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


@contextmanager
def on_signals(call: Callable[[], None]) -> Iterator[None]:
    """Have SIGINT and SIGTERM call a function instead of ending this process, for the block."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        call()

    before = {sign: signal.signal(sign, handle) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Have SIGTERM unwind like Ctrl-C, so that what was started is stopped and removed."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
