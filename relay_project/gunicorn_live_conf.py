"""gunicorn's configuration of the live process; `manage.py run_live` starts it.

One worker, which holds all streams in one loop: more of them are more such processes, each at an address of its own.
"""

import os

import django
import structlog

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_project.settings")
django.setup()

from django.conf import settings  # noqa: E402 — read after setup

from relay_project.arbiter import Arbiter, Log, endpoint  # noqa: E402

log = structlog.get_logger(__name__)

bind = [endpoint(*settings.LIVE_BIND)]
worker_class = "webhooks.live.worker.Worker"
workers = 1
preload_app = True
proc_name = "relay-live"
control_socket_disable = True  # otherwise every instance of this account fights for ~/.gunicorn/gunicorn.ctl

timeout = 60  # seconds without a sign of life of the worker's loop
graceful_timeout = settings.SHUTDOWN_SECONDS
keepalive = 5  # seconds
asgi_lifespan = "on"
backlog = 2048  # all clients of a process that has ended come at once
websocket_max_message_size = 4096  # octets; clients have nothing to say
limit_request_line = 4094  # octets
limit_request_fields = 100
limit_request_field_size = 8190  # octets a header
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 — a heartbeat file, unlinked at once

# gunicorn itself trusts no proxy: webhooks.live.asked reads TRUSTED_PROXIES.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""

accesslog = None  # it would write tokens down; the streams log one line each
logger_class = Log

_arbiter = Arbiter("live", workers, lambda: log.info("live_listening", address=bind[0]))
when_ready = _arbiter.when_ready
post_fork = _arbiter.post_fork
child_exit = _arbiter.child_exit
on_exit = _arbiter.on_exit
