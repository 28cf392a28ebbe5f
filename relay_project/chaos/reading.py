"""Noise for the parsers of reports: mails of every kind with octets, lines and packed files spoilt, and plain nonsense.

What is asked for: no exception, nothing that takes a second, memory flat. Every core reads its share in a process of its own.
"""

import gc
import multiprocessing
import os
import random
import resource
import signal
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from relay_project.bench.process import peak_bytes_of
from relay_project.chaos.specimens import FILES, MESSAGES, PACKERS, REPORTS, nested, with_file
from relay_project.mail.reports.parse import parse_report

SAYS = "mutated bounces, complaints and reports, and nonsense, are read by the parsers"
EACH = 500  # inputs for a mail of the other trials
SLOW_SECONDS = 1.0  # of CPU for one input
GIVE_UP_SECONDS = 10.0  # of CPU; the input is let go
MAY_GROW_MIB = 16.0  # a process, from the first tenth of its inputs on; tables of patterns fill until then
MAX_OCTETS = 2 << 20  # of an input: more than is read of a bounce
PIECES = (
    b"\r\n",
    b"\n\n",
    b"\r",
    b"\n ",
    b"\x00",
    b"<",
    b">",
    b"@",
    b": ",
    b"--b\n",
    b"--b--\n",
    b"=?utf-8?q?",
    b"?=",
    b"=",
    b"&#",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xe2\x80\xae",
    b"5.1.1 ",
    b"550-",
    b"<!--",
    b"Content-Type: message/rfc822\n\n",
    b"Content-Transfer-Encoding: base64\n",
    b"9" * 5000,
    b"1e999",
    b"[" * 3000,
    b"<a>" * 1000,
    b"a@" * 2000,
    b"(" * 2000,
    b"\n\t" * 2000,
)


class TakesForEver(BaseException):
    """Not an Exception: the parsers hold those."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of it. `troubles`: why mails could not be read, as staff are told, and how many each; breaks no promise."""

    inputs: int
    raised: int
    slow: int
    worst_ms: float
    worst: str  # which input took longest: seed and number, as `input_of` takes them
    peak_mib: float
    grown_mib: float
    seconds: float
    found: dict[str, int] = field(default_factory=dict)
    troubles: dict[str, int] = field(default_factory=dict)
    says: str = SAYS

    @property
    def is_good(self) -> bool:
        """Whether the promise was kept."""
        return not (self.raised or self.slow) and self.grown_mib <= MAY_GROW_MIB

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "is_good": self.is_good}

    def __str__(self) -> str:
        return (
            f"{self.inputs:,} inputs, {self.raised} raised, {self.slow} slow, worst {self.worst_ms:,.0f} ms, "
            f"peak {self.peak_mib:,.0f} MiB, grown {self.grown_mib:,.1f} MiB, {self.seconds:,.1f} seconds"
        )


def read_noise(inputs: int) -> Reading:
    """Read so many inputs over all cores."""
    began, cores = time.monotonic(), os.cpu_count() or 1
    shares = [inputs // cores + (core < inputs % cores) for core in range(cores)]
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = list(pool.map(read_share, shares, range(cores)))
    return Reading(
        inputs=sum(part.inputs for part in parts),
        raised=sum(part.raised for part in parts),
        slow=sum(part.slow for part in parts),
        worst_ms=max(part.worst_ms for part in parts),
        worst=max(parts, key=lambda part: part.worst_ms).worst,
        peak_mib=max(part.peak_mib for part in parts),
        grown_mib=max(part.grown_mib for part in parts),
        seconds=round(time.monotonic() - began, 1),
        found=dict(sum((Counter(part.found) for part in parts), Counter())),
        troubles=dict(sum((Counter(part.troubles) for part in parts), Counter())),
    )


def read_share(inputs: int, seed: int) -> Reading:
    """One process's part, in its main thread."""
    rng, began = random.Random(seed), time.monotonic()  # noqa: S311
    signal.signal(signal.SIGPROF, _give_up)
    found, troubles = Counter[str](), Counter[str]()
    raised, slow, worst, worst_number, early = 0, 0, 0.0, 0, 0.0
    for number in range(inputs):
        octets, start = spoilt(rng), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, GIVE_UP_SECONDS)
        try:
            report = parse_report(octets)
        except (Exception, TakesForEver):  # noqa: BLE001 - counted, and the next one read
            raised += 1
        else:
            found[report.kind.value] += 1
            if report.trouble:
                troubles[report.trouble.partition(":")[0]] += 1
        signal.setitimer(signal.ITIMER_PROF, 0)
        taken = time.process_time() - start
        slow += taken > SLOW_SECONDS
        if taken > worst:
            worst, worst_number = taken, number
        if number == inputs // 10:
            early = _resident_mib()
    peak = peak_bytes_of(os.getpid()) / 2**20  # not getrusage's, which begins with that of whoever started the process
    grown = max(_resident_mib() - early, 0.0)
    seconds = time.monotonic() - began
    return Reading(
        inputs,
        raised,
        slow,
        round(worst * 1000, 1),
        f"{seed} {worst_number}",
        round(peak, 1),
        round(grown, 1),
        seconds,
        dict(found),
        dict(troubles),
    )


def input_of(seed: int, number: int) -> bytes:
    """The input that a process with that seed reads so many others before, for a closer look."""
    rng = random.Random(seed)  # noqa: S311
    for _ in range(number):
        spoilt(rng)
    return spoilt(rng)


def spoilt(rng: random.Random) -> bytes:
    """One input."""
    kind = rng.random()
    if kind < 0.03:
        return rng.randbytes(rng.randrange(1, 3000))
    if kind < 0.25:
        file, (name, pack) = rng.choice(FILES), rng.choice(PACKERS)
        packed = pack(mutated(rng, file) if rng.random() < 0.7 else file)
        octets = with_file(mutated(rng, packed) if rng.random() < 0.2 else packed, name, rng.choice(REPORTS))
    else:
        octets = rng.choice(MESSAGES)
    if kind < 0.1 or kind > 0.3:
        octets = mutated(rng, octets)
    if rng.random() < 0.03:
        octets = nested(octets, rng.randrange(1, 200))
    if rng.random() < 0.2:
        octets = octets.replace(b"\n", b"\r\n")
    return octets[:MAX_OCTETS]


def mutated(rng: random.Random, octets: bytes) -> bytes:
    """The same with up to six changes; now and then one is a repetition by the thousand."""
    data = bytearray(octets)
    for _ in range(rng.randrange(1, 7)):
        at, change = rng.randrange(len(data) + 1), rng.randrange(7)
        span = slice(at, at + rng.randrange(1, 80))
        if change == 0:
            del data[span]
        elif change == 1:
            data[at:at] = data[span] * (rng.randrange(2, 5000) if rng.random() < 0.01 else 1)
        elif change == 2:
            data[at:at] = rng.choice(PIECES)
        elif change == 3:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif change == 4:
            data[span] = data[span][::-1]
        elif change == 5:
            other = rng.choice(MESSAGES)
            begin = rng.randrange(len(other))
            data[at:at] = other[begin : begin + rng.randrange(1, 400)]
        else:
            del data[at if rng.random() < 0.1 else len(data) :]
    return bytes(data)


def _resident_mib() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def _give_up(sign: int, frame: FrameType | None) -> None:
    raise TakesForEver
