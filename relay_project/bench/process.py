"""The product's processes as children of a benchmark, and what they cost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

    def ask_to_stop(self) -> None:
        """SIGTERM, without waiting."""
        self._process.terminate()

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
        return max((peak_bytes_of(pid) for pid in family(self.pid)), default=0)


@dataclass(frozen=True, slots=True)
class Meter:
    """The clocks at the beginning of the measured part."""

    process: Process
    server_pid: int | None
    began: float
    process_cpu: float
    server_cpu: float
    own_cpu: float
    machine_cpu: float
    sink_cpu: float

    @classmethod
    def start(cls, process: Process, server_pid: int | None, sink_cpu: float = 0.0) -> "Meter":
        """Read them; `sink_cpu` is what the sink has spent so far, in seconds."""
        return cls(
            process,
            server_pid,
            time.monotonic(),
            cpu_seconds(process.pid),
            cpu_seconds(server_pid),
            time.process_time(),
            machine_cpu_seconds(),
            sink_cpu,
        )

    def read(self, sink_cpu: float = 0.0) -> "Cost":
        """What was spent since."""
        process = cpu_seconds(self.process.pid) - self.process_cpu
        server = cpu_seconds(self.server_pid) - self.server_cpu if self.server_pid is not None else None
        others = machine_cpu_seconds() - self.machine_cpu - process - (server or 0.0)
        own, sink = time.process_time() - self.own_cpu, sink_cpu - self.sink_cpu
        seconds = time.monotonic() - self.began
        return Cost(seconds, process, server, own, others - own - sink, self.process.peak_bytes())


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of the measured part; `own` is this process's, which accepts; `others` is no part of the benchmark."""

    seconds: float
    process: float
    server: float | None
    own: float
    others: float
    peak_bytes: int

    def as_record(self, name: str, messages: int) -> dict[str, float | None]:
        """For each message, and how many cores something else had meanwhile (unknown with a server of others)."""
        each = 1e6 / messages
        busy = None if self.server is None else round(max(self.others, 0.0) / self.seconds, 2)
        return {
            f"{name}_cpu_us": round(self.process * each),
            "postgresql_cpu_us": None if self.server is None else round(self.server * each),
            f"{name}_peak_mib": round(self.peak_bytes / 2**20, 1),
            "cores_busy_elsewhere": busy,
        }


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


def machine_cpu_seconds() -> float:
    """CPU time that all processes of this machine, and its kernel, have spent; proc(5), /proc/stat."""
    user, nice, system, _idle, _iowait, irq, softirq = _read(Path("/proc/stat")).split()[1:8]
    return sum(map(int, (user, nice, system, irq, softirq))) / TICKS


def _cpu_seconds(pid: int) -> float:
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS  # utime, stime and those of reaped children: proc(5)


def peak_bytes_of(pid: int) -> int:
    """The memory peak of a process; 0 for one that has ended."""
    for line in _read(Path(f"/proc/{pid}/status")).splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""
