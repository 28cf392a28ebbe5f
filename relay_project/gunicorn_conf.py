"""gunicorn's configuration of the web process; `manage.py run_web` starts it.

The arbiter answers the probes and forks the workers. The application is loaded in the arbiter, once for all of them,
and so before a thread of the probes exists.
"""

import gc
import logging
import os
import sys
from typing import Any

import django
import structlog
from gunicorn.glogging import Logger

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_project.settings")
django.setup()

from django.conf import settings  # noqa: E402 — read after setup

from relay_project import metrics  # noqa: E402
from relay_project.health import CannotListen, HealthResult, ProbeServer, run_all  # noqa: E402

log = structlog.get_logger(__name__)


def _endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


bind = [_endpoint(*settings.WEB_BIND)]
worker_class = "relay_project.web.worker.Worker"
workers = settings.WEB_WORKERS
threads = settings.WEB_THREADS
preload_app = True
proc_name = "relay-web"
control_socket_disable = True  # otherwise every instance of this account fights for ~/.gunicorn/gunicorn.ctl

timeout = 60  # seconds without a sign of life of a worker's main loop; a slow request does not count
graceful_timeout = settings.SHUTDOWN_SECONDS
keepalive = 5  # seconds
limit_request_line = 4094  # octets; our longest URL is a search over sends
limit_request_fields = 100
limit_request_field_size = 8190  # octets a header; RFC 9110 §5.4 leaves it to the server
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 — a heartbeat file, unlinked at once

# gunicorn itself trusts no proxy (its default trusts loopback): relay_project.web.proxies reads TRUSTED_PROXIES.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""

# Objects between collections, by generation: a request makes thousands that end with it, and few are cycles.
GC_THRESHOLDS = (10_000, 20, 20)

accesslog = None  # relay_project.web.requests logs one structured line a request


class Log(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own messages go the way of all others (relay_project.logs); its chatter stays out."""

    def setup(self, cfg: Any) -> None:
        """Let go of gunicorn's handlers."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)


logger_class = Log

_probes: ProbeServer | None = None


def when_ready(server: Any) -> None:
    """In the arbiter, when the port is ours."""
    global _probes
    _probes = ProbeServer("web", settings.PROBES["web"], lambda: [_workers(server), *run_all("web")])
    try:
        _probes.start()
    except CannotListen as error:
        sys.exit(str(error))
    log.info("web_listening", address=bind[0], workers=workers, threads=threads)


def post_fork(server: Any, worker: Any) -> None:
    """In a new worker: the probe port belongs to the arbiter alone, and what was loaded is no garbage to look for."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    if _probes is not None:
        _probes.close_inherited()


def child_exit(server: Any, worker: Any) -> None:
    """In the arbiter, when a worker has ended."""
    metrics.forget_child(worker.pid)


def on_exit(server: Any) -> None:
    """In the arbiter, last of all."""
    if _probes is not None:
        _probes.stop()
    metrics.stop_sharing()


def _workers(server: Any) -> HealthResult:
    alive = len(server.WORKERS)
    return HealthResult("workers", alive > 0, f"{alive} of {settings.WEB_WORKERS} workers", {"workers": alive})
