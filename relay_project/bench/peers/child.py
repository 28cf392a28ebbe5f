"""A peer as a child process: started by its own `start`, ended by pid, a context around both."""

import os
import signal
import subprocess
from types import TracebackType
from typing import Self

STOP_SECONDS = 20.0  # what a peer gets between SIGTERM and SIGKILL


class Peer:
    """One foreign program that runs in a session of its own. `start` sets `_process`."""

    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def pid(self) -> int:
        """Its process id; what it started are its children."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and return when it serves."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it, and with it what it started."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
