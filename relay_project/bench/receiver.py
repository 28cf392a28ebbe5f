"""The sink as a child process, the sites it stands in for, and what arrived at it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from django.conf import settings

from relay_project.bench.letters import TARPIT_DOMAIN
from relay_project.bench.plan import BenchError, Plan, Remote
from relay_project.bench.process import cpu_seconds
from relay_project.db.child import tethered
from relay_project.sandbox.manners import Manner, as_json

ANSWER_SECONDS = 10.0
STOP_SECONDS = 30.0
TARPIT_ADDRESS = "127.0.99.1"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Every mail that came, in order: `times` (as time.time()) and the `numbers` of their recipients."""

    times: array[float]
    numbers: array[int]
    cpu_us: float  # of the sink, for each mail
    sample: bytes = b""  # the first one, as it came
    connections: int = 0
    handshakes: int = 0  # of TLS

    @property
    def duplicates(self) -> int:
        """Mails that came once more than they should."""
        return len(self.numbers) - len(set(self.numbers))

    def missing(self, mails: int) -> int:
        """How many of the numbers 0 … mails-1 did not come."""
        return mails - len(set(self.numbers) & set(range(mails)))

    def of(self, numbers: range) -> Arrivals:
        """Only those whose number is in the range."""
        kept = [at for at, number in enumerate(self.numbers) if number in numbers]
        times, kept_numbers = array("d", [self.times[at] for at in kept]), array("q", [self.numbers[at] for at in kept])
        return replace(self, times=times, numbers=kept_numbers)

    def first(self, count: int) -> Arrivals:
        """The first ones that came."""
        return replace(self, times=self.times[:count], numbers=self.numbers[:count])

    def first_time(self) -> dict[int, float]:
        """number → when it came first."""
        return dict(zip(reversed(self.numbers), reversed(self.times), strict=True))

    def by_second(self) -> list[int]:
        """How many came in each second since the first one."""
        seconds = Counter(int(at - self.times[0]) for at in self.times)
        return [seconds[second] for second in range(max(seconds) + 1)]


class Receiver:
    """A running sink; a context that ends it."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._plan = plan
        self.addresses = site_addresses(plan.remote.sites)
        self._report, self._times, self._numbers = folder / "sink.json", folder / "times", folder / "numbers"
        self._sample = folder / "sample.eml"

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            tethered(self._command(), sign=signal.SIGTERM),
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
        self._line = socket.create_connection((self.addresses[0], self.port), timeout=ANSWER_SECONDS)
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
        """The setting that sends all mail here: each domain to its site, by turns."""
        addresses, traffic = self.addresses, self._plan.traffic
        table = {f"r{number}.test": addresses[number % len(addresses)] for number in range(traffic.domains)}
        if len(addresses) == 1:
            table = {}
        table |= {TARPIT_DOMAIN: TARPIT_ADDRESS, "*": addresses[0]}
        return {"SMTP_ROUTES": json.dumps({domain: f"{address}:{self.port}" for domain, address in table.items()})}

    def count(self) -> int:
        """How many mails have come so far, without those that the tarpit let through."""
        by_address: dict[str, int] = self._ask()["by_address"]
        return sum(count for address, count in by_address.items() if address != TARPIT_ADDRESS)

    def cpu_seconds(self) -> float:
        """CPU time of the sink's process."""
        return cpu_seconds(self._process.pid)

    def arrivals(self) -> Arrivals:
        """End the sink and read what it wrote."""
        self._end()
        record = json.loads(self._report.read_text())
        times, numbers = array("d", self._times.read_bytes()), array("q", self._numbers.read_bytes())
        counts = record["connections"] - 1, record["handshakes"]  # one connection is our own
        return Arrivals(times, numbers, record["cpu_us_per_message"], self._sample.read_bytes(), *counts)

    def _ask(self) -> dict[str, Any]:
        self._line.sendall(b"XSTAT\r\n")
        return dict(json.loads(self._answers.readline()[4:]))

    def _command(self) -> list[str]:
        remote = self._plan.remote
        addresses = [*self.addresses, *([TARPIT_ADDRESS] if remote.tarpit_mails else [])]
        command = [sys.executable, "-m", "relay_project.sandbox.sink", "--manners", as_json(manners_of(remote))]
        command += [word for address in addresses for word in ("--address", address)]
        command += ["--report", str(self._report), "--times", str(self._times), "--numbers", str(self._numbers)]
        command += ["--sample", str(self._sample)]
        return command + ["--starttls"] * remote.starttls + ["--chunking"] * remote.chunking

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


def site_addresses(sites: int) -> Sequence[str]:
    """Loopback addresses for that many sites; all of 127/8 is this machine."""
    return [f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(sites)]


def manners_of(remote: Remote) -> dict[str, Manner]:
    """What the sink is told."""
    table = {"*": Manner(defer=remote.defer, bounce=remote.bounce, drop=remote.drop, cut=remote.cut)}
    if remote.tarpit_mails:
        table[TARPIT_ADDRESS] = Manner(tarpit_seconds=remote.tarpit_seconds)
    return table
