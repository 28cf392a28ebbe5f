"""webhooks.sequencer and `manage.py run_webhooks`: events get positions, whatever happens to the database."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from django.db import OperationalError, connection

from projects.events import NewEvent, emit
from projects.models import Event, FeedPosition
from relay_project.net.tcp import free_port
from webhooks import sequencer as module
from webhooks.loop import IDLE_SECONDS, RETRY_SECONDS
from webhooks.sequencer import LOOK_SECONDS, Sequencer

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 20.0


def event(subject_id: int) -> NewEvent:
    return NewEvent(1, "domain.created", "domain", subject_id, {})


def wait_until(true: Callable[[], bool]) -> None:
    tick, give_up = threading.Event(), time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < give_up
        tick.wait(0.05)


def feed_length(number: int) -> Callable[[], bool]:
    return lambda: FeedPosition.objects.count() == number


@pytest.mark.django_db
def test_looks_follow_each_other_by_what_they_found():
    sequencer = Sequencer(batch=2)
    emit(*(event(number) for number in range(3)))
    assert sequencer.look(1.0) == 0.0, "a full batch: there may be more"
    assert LOOK_SECONDS <= sequencer.look(0.0) < IDLE_SECONDS, "every reader waits for this one"
    assert LOOK_SECONDS <= sequencer.look(LOOK_SECONDS) < IDLE_SECONDS
    assert FeedPosition.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_a_lost_database_is_waited_for(monkeypatch):
    def lost(cursor: object, limit: int) -> int:
        raise OperationalError("server closed the connection unexpectedly")

    sequencer = Sequencer()
    emit(event(1))
    with monkeypatch.context() as broken:
        broken.setattr(module, "sequence_outbox", lost)
        assert sequencer.look() == sequencer.look() == RETRY_SECONDS
        assert sequencer.is_alive()
    assert sequencer.look() >= LOOK_SECONDS
    assert FeedPosition.objects.count() == 1


def database_url() -> str:
    """The test database, as the child's DATABASE_URL."""
    where = connection.get_connection_params()
    user, password = quote(str(where.get("user", "")), safe=""), quote(str(where.get("password", "")), safe="")
    host, port = str(where.get("host", "")), f":{where['port']}" if where.get("port") else ""
    if host.startswith("/"):
        return f"postgresql://{user}:{password}@/{where['dbname']}?host={host}"
    return f"postgresql://{user}:{password}@{host}{port}/{where['dbname']}"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """A running run_webhooks on the test database: the process, its probe port and its log."""
    port, log = free_port(), tmp_path / "log"
    environment = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "PROBE_WEBHOOKS": f"127.0.0.1:{port}",
        "RELAY_ENV_FILE": os.devnull,
        "DJANGO_SETTINGS_MODULE": "relay_project.settings",
    }
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "manage.py", "run_webhooks"], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    yield child, port, log
    child.kill()
    child.wait()


def probe(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


@pytest.mark.journey
@pytest.mark.django_db(transaction=True)
def test_the_process_orders_events_survives_a_cut_connection_and_stops(process):
    child, port, log = process
    emit(event(1))
    wait_until(feed_length(1))
    assert probe(port, "/health")[0] == 200
    _, ready = probe(port, "/ready")
    assert json.loads(ready)["checks"]["event_log"]["passed"]
    assert b"relay_events_sequenced_total 1.0" in probe(port, "/metrics")[1]

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")  # noqa: E501  # fmt: skip
    emit(event(2))
    wait_until(feed_length(2))
    assert Event.objects.count() == 2

    child.send_signal(signal.SIGTERM)
    assert child.wait(PATIENCE_SECONDS) == 0
    assert b"webhooks.stopped" in log.read_bytes()
