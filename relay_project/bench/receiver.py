"""The sink as a child process, and what arrived at it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from array import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from django.conf import settings

from relay_project.bench.plan import BenchError
from relay_project.db.child import tethered
from relay_project.quickstart.ports import LOOPBACK

ANSWER_SECONDS = 10.0
STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Every mail that came, in order: `times` (as time.time()) and the `numbers` of their recipients."""

    times: array[float]
    numbers: array[int]
    cpu_us: float  # of the sink, for each mail

    @property
    def duplicates(self) -> int:
        """Mails that came once more than they should."""
        return len(self.numbers) - len(set(self.numbers))

    def missing(self, messages: int) -> int:
        """How many of the numbers 0 … messages-1 did not come."""
        return messages - len(set(self.numbers) & set(range(messages)))

    def first_time(self) -> dict[int, float]:
        """number → when it came first."""
        return dict(zip(reversed(self.numbers), reversed(self.times), strict=True))

    def by_second(self) -> list[int]:
        """How many came in each second since the first one."""
        seconds = Counter(int(at - self.times[0]) for at in self.times)
        return [seconds[second] for second in range(max(seconds) + 1)]


class Receiver:
    """A running sink; a context that ends it."""

    def __init__(self, folder: Path) -> None:
        self._report, self._times, self._numbers = folder / "sink.json", folder / "times", folder / "numbers"

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "relay_project.sandbox.sink", "--address", LOOPBACK]
        command += ["--report", str(self._report), "--times", str(self._times), "--numbers", str(self._numbers)]
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            tethered(command, sign=signal.SIGTERM),
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchError("The sink did not start.")
        self.port = int(json.loads(line)["port"])
        self._line = socket.create_connection((LOOPBACK, self.port), timeout=ANSWER_SECONDS)
        self._answers = self._line.makefile("rb")
        self._answers.readline()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answers.close()
        self._line.close()
        self._end()

    @property
    def route(self) -> dict[str, str]:
        """The setting that sends all mail here."""
        return {"SMTP_ROUTES": json.dumps({"*": f"{LOOPBACK}:{self.port}"})}

    def count(self) -> int:
        """How many mails have come so far."""
        self._line.sendall(b"XSTAT\r\n")
        return int(json.loads(self._answers.readline()[4:])["messages"])

    def arrivals(self) -> Arrivals:
        """End the sink and read what it wrote."""
        self._end()
        record = json.loads(self._report.read_text())
        times, numbers = array("d", self._times.read_bytes()), array("q", self._numbers.read_bytes())
        return Arrivals(times, numbers, record["cpu_us_per_message"])

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
