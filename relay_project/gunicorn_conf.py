"""gunicorn's configuration of the web process; `manage.py run_web` starts it.

The arbiter answers the probes and forks the workers. The application is loaded in the arbiter, once for all of them,
and so before a thread of the probes exists.
"""

import os

import django
import structlog

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_project.settings")
django.setup()

from django.conf import settings  # noqa: E402 — read after setup

from relay_project.arbiter import Arbiter, Log, endpoint  # noqa: E402

log = structlog.get_logger(__name__)

bind = [endpoint(*settings.WEB_BIND)]
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

accesslog = None  # relay_project.web.requests logs one structured line a request
logger_class = Log

_arbiter = Arbiter(
    "web", workers, lambda: log.info("web_listening", address=bind[0], workers=workers, threads=threads)
)  # fmt: skip
when_ready = _arbiter.when_ready
post_fork = _arbiter.post_fork
child_exit = _arbiter.child_exit
on_exit = _arbiter.on_exit
