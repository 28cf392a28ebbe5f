"""How much of the machine's cores is left for this process, by the kernel's own count (proc(5), /proc/stat).

A sender signs in threads where a core has nothing to do, and in its event loop where all have: threads that share one
interpreter lock then only get into each other's way (up to a tenth of a mail's time at full speed).
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

STAT = Path("/proc/stat")
ENOUGH = 1.4  # cores: one for the loop, and most of another for its threads
LEAST_SECONDS = 0.5  # between looks: the kernel counts in hundredths of a second


@dataclass(frozen=True, slots=True)
class Count:
    """A reading: seconds on the clock, of all cores' work, and of this process's own."""

    at: float
    busy: float
    own: float


def read_count(stat: Path = STAT) -> Count | None:
    """What the cores that this process may run on have done since the machine started; None where nobody counts."""
    try:
        lines = stat.read_text().splitlines()
    except OSError:
        return None
    tick = os.sysconf("SC_CLK_TCK")
    mine = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    busy = sum(_busy_ticks(fields) for line in lines if (fields := line.split()) and fields[0] in mine) / tick
    times = os.times()
    return Count(time.monotonic(), busy, times.user + times.system)


def _busy_ticks(fields: list[str]) -> int:
    """user, nice, system, irq, softirq and steal; not idle and iowait, nor the guests that `user` has in it."""
    user, nice, system, _, _, *rest = map(int, fields[1:9])
    return user + nice + system + sum(rest)


@dataclass(slots=True)
class Cores:
    """Looked at once a second or so; until there are two readings, a core counts as spare."""

    has_spare: bool = True
    _last: Count | None = field(default_factory=read_count)

    def look(self, count: Count | None = None) -> None:
        """Compare with the former reading: what the others leave of the cores is ours to use."""
        count = count or read_count()
        last = self._last
        if count is None or last is None or count.at - last.at < LEAST_SECONDS:
            return
        span = count.at - last.at
        others = max(count.busy - last.busy - (count.own - last.own), 0.0) / span
        self.has_spare = len(os.sched_getaffinity(0)) - others >= ENOUGH
        self._last = count
