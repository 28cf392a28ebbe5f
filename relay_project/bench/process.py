"""The product's processes as children of a benchmark, and what they cost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from django.conf import settings

from relay_project.bench.plan import BenchError
from relay_project.db.child import last_lines, open_log, tethered

STOP_SECONDS = 30.0  # more than SHUTDOWN_SECONDS
TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """One command of manage.py with a log of its own; a context that stops it."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.name = arguments[0]
        self._argv = [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]
        self._env = {**os.environ, "LOG_LEVEL": "info", **env}  # what it costs in production, it costs here
        self._log = folder / f"{self.name}.log"

    def __enter__(self) -> Self:
        with open_log(self._log) as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own commands
                tethered(self._argv, sign=signal.SIGTERM),
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started_at = time.time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check_alive(self) -> None:
        """Raise BenchError with its last words when it has ended."""
        code = self._process.poll()
        if code is not None:
            words = " | ".join(last_lines(self._log, 3)) or "nothing"
            raise BenchError(f"{self.name} ended with code {code} and wrote: {words}")

    def peak_bytes(self) -> int:
        """The greatest memory peak (VmHWM) among it and its children."""
        return max((_peak_bytes(pid) for pid in family(self.pid)), default=0)


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:  # grows as it is walked
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(word) for word in _read(children).split()]
    return found


def cpu_seconds(pid: int | None) -> float:
    """CPU time of a process, its descendants, and those of them that have ended; 0 for None."""
    return sum(_cpu_seconds(each) for each in family(pid)) if pid is not None else 0.0


def _cpu_seconds(pid: int) -> float:
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS  # utime, stime and those of reaped children: proc(5)


def _peak_bytes(pid: int) -> int:
    for line in _read(Path(f"/proc/{pid}/status")).splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""
