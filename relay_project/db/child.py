"""Child processes that cannot outlive their parent, and the files their output goes to.

Run as a script (`python -I -S child.py …`) this module is the step between the parent and the program: it changes to
the account the program is to run as, asks the kernel for a signal when the parent dies, and becomes the program by
exec, so no extra process stays. The order matters: the kernel forgets the request when the account changes (so it comes
after), and keeps it over an exec of an ordinary binary (prctl(2), PR_SET_PDEATHSIG). Done before the fork in the
parent it would be a preexec_fn, which is unsafe beside threads.

The signal comes when the *thread* that started the child ends: start children from the main thread.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
LOG_BYTES = 5 * 1024 * 1024  # a log longer than this when its process starts is set aside as <name>.1
EXIT_NOT_STARTED = 127  # as a shell says it


def tethered(argv: Sequence[str], *, sign: signal.Signals, account: tuple[int, int] | None = None) -> list[str]:
    """Return the command line that runs `argv` as a child which gets the signal `sign` when its parent dies.

    `account` is the (uid, gid) to change to, which only root may; None keeps the parent's.
    """
    uid, gid = account or (-1, -1)
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(sign)), str(uid), str(gid), *argv]


def open_log(path: Path) -> IO[bytes]:
    """Open a log for appending; one that has grown beyond LOG_BYTES is set aside first, replacing the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    return path.open("ab", buffering=0)


def last_lines(path: Path, count: int, since: int = 0) -> list[str]:
    """Return the last `count` non-empty lines of a log, at most 8 KB of it, looking only behind the byte `since`."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(since, size - 8192))
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


def _become(parent: int, sign: int, uid: int, gid: int, argv: list[str]) -> None:
    """Change account, tie this process to its parent, and turn into the program."""
    if uid != -1:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, sign, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(EXIT_NOT_STARTED)  # it died before the request was made
    os.execvp(argv[0], argv)  # noqa: S606 - no shell is meant


if __name__ == "__main__":
    try:
        _become(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
    except OSError as error:
        print(f"{sys.argv[5]}: {error.strerror}", file=sys.stderr)
        sys.exit(EXIT_NOT_STARTED)
