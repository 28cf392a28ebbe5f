"""Health: named checks, and the listener on which every process answers for itself.

`/health` says whether the process lives and asks no database; `/ready` runs the role's checks and answers 200 or 503
within READY_SECONDS, however long the database hangs; `/metrics` is Prometheus's page. The address is loopback unless
the operator says otherwise (lesson S1), and nothing here changes anything.

An app adds checks in its module `health` (found as admin modules are):

    @check("senders", roles=("housekeeping",))
    def senders() -> HealthResult:
        return failed("No sender is running.") if … else passed("2 senders")
"""

import errno
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from time import monotonic
from types import TracebackType
from typing import Any, Self

import structlog
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections
from django.db.utils import InterfaceError, load_backend
from django.utils.module_loading import autodiscover_modules

from relay_project import metrics
from relay_project.db.migrate import missing_migrations
from relay_project.db.partitions import WARNING_DAYS, days_ready
from relay_project.mail.text import clean
from relay_project.models import RetentionRun
from relay_project.retention import IN_USE, stranded

READY_SECONDS = 2.5  # a probe that waits longer is commonly counted as failed; leaves 0.5 s of the promised 3
CONNECT_SECONDS = 2  # libpq's least value
STATEMENT_MILLISECONDS = 2000
CLIENT_SECONDS = 5  # for sending a request line; one that dawdles is cut
MAX_CLIENTS = 32  # threads at once; a probe endpoint needs two
DETAIL_LIMIT = 500  # characters of an error's text

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HealthResult:
    """What one check found; `detail` is a sentence for people, `data` the figures behind it."""

    name: str
    passed: bool
    detail: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    duration_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Check:
    """A named check and the roles that ask it; no roles: every one."""

    name: str
    roles: frozenset[str]
    run: Callable[[], HealthResult]


CheckFunction = Callable[[], HealthResult]
_checks: dict[str, Check] = {}


def check(name: str, *, roles: tuple[str, ...] = ()) -> Callable[[CheckFunction], CheckFunction]:
    """Register a check. It may raise: an exception is a failure whose text is the detail."""

    def register(function: CheckFunction) -> CheckFunction:
        _checks[name] = Check(name, frozenset(roles), function)
        return function

    return register


def passed(detail: str = "", **data: Any) -> HealthResult:
    """A check's good answer; its name and time are added by run_all."""
    return HealthResult("", True, detail, data)


def failed(detail: str, **data: Any) -> HealthResult:
    """A check's bad answer: what is wrong and what to do."""
    return HealthResult("", False, detail, data)


def run_all(role: str | None = None) -> list[HealthResult]:
    """Run the checks of a role (None: all of them) over this thread's connection; never raises.

    With the database unreachable the others are not tried: each would wait for it again.
    """
    autodiscover_modules("health")
    results = [run_check(_checks["database"])]
    for found in list(_checks.values()):
        if found.name != "database" and (role is None or not found.roles or role in found.roles):
            results.append(
                run_check(found) if results[0].passed else HealthResult(found.name, False, "Needs the database.")
            )
    return results


def run_check(found: Check) -> HealthResult:
    """Run one check; never raises, and tells its name and time."""
    started = monotonic()
    try:
        result = found.run()
    except Exception as error:  # noqa: BLE001 — whatever a check trips over is what it has to say
        result = failed(_one_line(error))
    return replace(result, name=found.name, duration_ms=round((monotonic() - started) * 1000, 1))


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {clean(str(error), DETAIL_LIMIT)}".split())


def as_answer(results: list[HealthResult]) -> tuple[int, dict[str, Any]]:
    """(status code, body) of `/ready`: 200, or 503 when a check failed."""
    good = all(result.passed for result in results)
    body = {
        "status": "ok" if good else "failed",
        "checks": {
            result.name: {
                "passed": result.passed,
                "detail": result.detail,
                "data": dict(result.data),
                "duration_ms": result.duration_ms,
            }
            for result in results
        },
    }
    return (200 if good else 503), body


# --- The checks of this floor --------------------------------------------------------------------------------------


@check("database")
def _database() -> HealthResult:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version')")
            version = cursor.fetchone()[0]
    except (DatabaseError, InterfaceError) as error:
        return failed(f"The database does not answer: {_one_line(error)}")
    return passed(f"PostgreSQL {version}")


@check("migrations")
def _migrations() -> HealthResult:
    missing = missing_migrations()
    if missing:
        return failed(f"{len(missing)} migrations are not applied; run `manage.py migrate`.", missing=len(missing))
    return passed("all applied")


@check("partitions")
def _partitions() -> HealthResult:
    days = _days_ready()
    if days == 0:
        return failed("Today has no partition, so no mail can be accepted; start run_housekeeping.", days=0)
    return passed(f"{days} days ready", days=days)


@check("partitions_ahead", roles=("housekeeping",))
def _partitions_ahead() -> HealthResult:
    days = _days_ready()
    if days < WARNING_DAYS:
        return failed(f"Partitions are ready for {days} days only; housekeeping should make them.", days=days)
    return passed(f"{days} days ready", days=days)


def _days_ready() -> int:
    with connection.cursor() as cursor:
        return days_ready(cursor)


RETENTION_SILENT = timedelta(hours=6)  # it runs every hour
RETENTION_OVERDUE = timedelta(days=2)  # a dump of the database may be in the way for a night


@check("retention", roles=("housekeeping",))
def _retention() -> HealthResult:
    """It runs, ends well, and nothing that is due stays because somebody is always in the way."""
    now = datetime.now(UTC)
    last = RetentionRun.objects.first()
    if last is None:
        return passed("has not run yet")
    if last.error:
        return failed(f"The last run of retention failed: {last.error}")
    if now - last.started_at > RETENTION_SILENT:
        return failed(f"Retention has not run since {last.started_at:%d %b, %H:%M} UTC: is run_housekeeping running?")
    stuck = [
        one["partition"]
        for one in last.kept_back
        if one["reason"] == IN_USE and now - datetime.fromisoformat(one["due_at"]) > RETENTION_OVERDUE
    ]
    if stuck:
        return failed(f"{stuck[0]} is due for days and always in use: end the transaction that holds it.", stuck=stuck)
    with connection.cursor() as cursor:
        lost = [partition.name for partition in stranded(cursor, now)]
    if lost:
        return failed(f"{lost[0]} is detached and not due: attach it again, or drop it.", detached=lost)
    return passed(f"ran {last.started_at:%d %b, %H:%M} UTC", kept_back=len(last.kept_back))


# --- The listener --------------------------------------------------------------------------------------------------


class CannotListen(OSError):
    """A listener's address cannot be used; the message is a sentence for the operator."""


def cannot_listen(setting: str, address: tuple[str, int], error: OSError) -> CannotListen:
    """The sentence for an address that cannot be listened on, naming the setting that chooses it."""
    host, port = address
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    reason = (
        "is taken by another program"
        if error.errno == errno.EADDRINUSE
        else f"cannot be used ({error.strerror or error})"
    )
    return CannotListen(f"{where} {reason}: set {setting} to an address that is free on this machine.")


class ProbeServer:
    """Answers `/health`, `/ready` and `/metrics` of one process from threads of its own (asyncio is not disturbed).

    `ready` is run on a connection of its own; `alive` (a loop's heartbeat, say) makes `/health` 503 when it says no.
    Raises CannotListen on start. Use it as a context manager, or start() and stop().
    """

    def __init__(
        self,
        role: str,
        address: tuple[str, int],
        ready: Callable[[], list[HealthResult]] | None = None,
        alive: Callable[[], bool] | None = None,
    ) -> None:
        self.role = role
        self.address = address
        self._alive = alive or (lambda: True)
        self._readiness = Readiness(ready or (lambda: run_all(role)))
        self._listener: _Listener | None = None

    def start(self) -> None:
        """Bind and answer from now on; port 0 takes a free one, which `address` then names."""
        try:
            self._listener = _Listener(self.address, self._answer)
        except OSError as error:
            raise cannot_listen(f"PROBE_{self.role.upper()}", self.address, error) from None
        self.address = self._listener.socket.getsockname()[:2]
        serve = threading.Thread(target=self._listener.serve_forever, args=(0.2,), name="probes", daemon=True)
        serve.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        if self._listener is not None:
            self._listener.shutdown()
            self._listener.server_close()
            self._listener = None

    def close_inherited(self) -> None:
        """In a forked child: let go of the parent's listening socket, so that the port is free when the parent ends."""
        if self._listener is not None:
            self._listener.socket.close()
            self._listener = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _answer(self, path: str) -> tuple[int, str, bytes]:
        if path == "/health":
            alive = self._alive()
            return _json(200 if alive else 503, {"status": "ok" if alive else "stalled"})
        if path == "/ready":
            return _json(*as_answer(self._readiness.results()))
        if path == "/metrics":
            return 200, metrics.CONTENT_TYPE_LATEST, metrics.page()
        return _json(404, {"status": "unknown path", "paths": ["/health", "/ready", "/metrics"]})


def serve_probes(
    role: str, ready: Callable[[], list[HealthResult]] | None = None, alive: Callable[[], bool] | None = None
) -> ProbeServer:
    """The role's probe server on its configured address (settings.PROBES), to be entered with `with`."""
    return ProbeServer(role, settings.PROBES[role], ready, alive)


class Readiness:
    """Runs the checks in a thread with a bounded connection; callers wait READY_SECONDS at most and share one run."""

    def __init__(self, ready: Callable[[], list[HealthResult]]) -> None:
        self._ready = ready
        self._lock = threading.Lock()
        self._run: _ReadinessRun | None = None

    def results(self) -> list[HealthResult]:
        """The results of a run that is fresh or under way; one failed result when it takes too long."""
        with self._lock:
            if self._run is None or self._run.done.is_set():
                self._run = _ReadinessRun(self._ready)
            run = self._run
        if not run.done.wait(max(0.1, READY_SECONDS - run.age)):
            detail = f"The checks have not ended after {run.age:.1f} s: the database hangs."
            return [HealthResult("database", False, detail, {}, round(run.age * 1000, 1))]
        return run.results


class _ReadinessRun:
    """One run of the checks. A run that hangs for ever costs one thread, because no second is started beside it."""

    def __init__(self, ready: Callable[[], list[HealthResult]]) -> None:
        self.done = threading.Event()
        self.results: list[HealthResult] = []
        self._ready = ready
        self._started = monotonic()
        threading.Thread(target=self._work, name="readiness", daemon=True).start()

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return monotonic() - self._started

    def _work(self) -> None:
        try:
            bound_this_threads_connection()
            self.results = self._ready()
        except Exception as error:
            log.exception("readiness_failed")
            self.results = [HealthResult("checks", False, _one_line(error))]
        finally:
            connections.close_all()  # this thread's own
            self.done.set()


def bound_this_threads_connection() -> None:
    """Give this thread a database connection on which nothing waits for long: connecting, a statement, a dead peer."""
    configured = deepcopy(settings.DATABASES[DEFAULT_DB_ALIAS])
    options = configured.setdefault("OPTIONS", {})
    options.pop("pool", None)
    options |= {
        "connect_timeout": CONNECT_SECONDS,
        "options": f"{options.get('options', '')} -c statement_timeout={STATEMENT_MILLISECONDS}".strip(),
        "application_name": "relay probe",
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 2,
    }
    connections[DEFAULT_DB_ALIAS] = load_backend(configured["ENGINE"]).DatabaseWrapper(
        connections.configure_settings({DEFAULT_DB_ALIAS: configured})[DEFAULT_DB_ALIAS], DEFAULT_DB_ALIAS
    )


@contextmanager
def bounded_statements() -> Iterator[None]:
    """Let no statement of this thread's connection take long, for a page that runs the checks beside other work."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = {STATEMENT_MILLISECONDS}")
        try:
            yield
        finally:
            cursor.execute("RESET statement_timeout")


def _json(status: int, body: Mapping[str, Any]) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(body, default=str).encode() + b"\n"


class _Listener(ThreadingMixIn, TCPServer):
    """A plain TCP server: http.server's own asks DNS for the host's name when it binds, which may hang."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], answer: Callable[[str], tuple[int, str, bytes]]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.answer = answer
        self._free = threading.BoundedSemaphore(MAX_CLIENTS)
        super().__init__(address, _ProbeHandler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand the client to a thread, or hang up on it when MAX_CLIENTS are being served."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one client."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up in mid-answer is not news; anything else is a defect of ours."""
        log.debug("probe_client_lost", exc_info=True)


class _ProbeHandler(BaseHTTPRequestHandler):
    server: _Listener
    server_version = "Relay"
    sys_version = ""
    timeout = CLIENT_SECONDS

    def do_GET(self) -> None:
        """Answer with a body."""
        self._reply(with_body=True)

    def do_HEAD(self) -> None:
        """Answer without one."""
        self._reply(with_body=False)

    def _reply(self, with_body: bool) -> None:
        status, content_type, body = self.server.answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds: not news, and never at info."""
        log.debug("probe", request=format % args)
