"""What our two gunicorns share: their log, and an arbiter that answers the probes for its workers."""

import gc
import logging
import sys
from collections.abc import Callable
from typing import Any

from django.conf import settings
from gunicorn.glogging import Logger

from relay_project import metrics
from relay_project.health import CannotListen, HealthResult, ProbeServer, run_all

# Objects between collections, by generation: a request makes thousands that end with it, and few are cycles.
GC_THRESHOLDS = (10_000, 20, 20)


def endpoint(host: str, port: int) -> str:
    """An address as gunicorn writes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Log(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own messages go the way of all others (relay_project.logs); its chatter stays out."""

    def setup(self, cfg: Any) -> None:
        """Let go of gunicorn's handlers."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)


class Arbiter:
    """gunicorn's hooks for a role whose probes the arbiter answers."""

    def __init__(self, role: str, workers: int, listening: Callable[[], None]) -> None:
        self._role = role
        self._count = workers
        self._listening = listening
        self._probes: ProbeServer | None = None

    def when_ready(self, server: Any) -> None:
        """In the arbiter, when the port is ours."""
        checks = lambda: [self._workers(server), *run_all(self._role)]  # noqa: E731 — two words for ProbeServer
        self._probes = ProbeServer(self._role, settings.PROBES[self._role], checks)
        try:
            self._probes.start()
        except CannotListen as error:
            sys.exit(str(error))
        self._listening()

    def post_fork(self, server: Any, worker: Any) -> None:
        """In a new worker: the probe port belongs to the arbiter alone, and what was loaded is no garbage to look for."""
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        if self._probes is not None:
            self._probes.close_inherited()

    def child_exit(self, server: Any, worker: Any) -> None:
        """In the arbiter, when a worker has ended."""
        metrics.forget_child(worker.pid)

    def on_exit(self, server: Any) -> None:
        """In the arbiter, last of all."""
        if self._probes is not None:
            self._probes.stop()
        metrics.stop_sharing()

    def _workers(self, server: Any) -> HealthResult:
        alive = len(server.WORKERS)
        return HealthResult("workers", alive > 0, f"{alive} of {self._count} workers", {"workers": alive})
