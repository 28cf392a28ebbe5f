"""The probe listener and the checks behind it."""

import asyncio
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.db import connection

from relay_project import health
from relay_project.health import CannotListen, HealthResult, ProbeServer, run_all

LOOPBACK = ("127.0.0.1", 0)


def get(server: ProbeServer, path: str, method: str = "GET") -> tuple[int, bytes, dict[str, str]]:
    """Ask a probe server as an orchestrator would."""
    client = http.client.HTTPConnection(*server.address, timeout=10)
    try:
        client.request(method, path)
        answer = client.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        client.close()


def good() -> list[HealthResult]:
    return [HealthResult("database", True, "PostgreSQL 18.6")]


def bad() -> list[HealthResult]:
    return [*good(), HealthResult("partitions", False, "Today has no partition.", {"days": 0})]


@contextmanager
def silent_listener() -> Iterator[tuple[str, int]]:
    """Something that accepts connections and never says a word, as a hanging database does."""
    with socket.create_server(LOOPBACK, backlog=16) as listener:
        yield listener.getsockname()


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_each_page_answers_get_and_head(path: str) -> None:
    with ProbeServer("web", LOOPBACK, good) as server:
        status, body, headers = get(server, path)
        head_status, nothing, head_headers = get(server, path, "HEAD")
    assert (status, head_status, nothing) == (200, 200, b"")
    assert int(headers["Content-Length"]) == len(body) > 0
    assert head_headers["Content-Type"] == headers["Content-Type"]


def test_other_paths_are_404_and_other_methods_are_refused() -> None:
    with ProbeServer("web", LOOPBACK, good) as server:
        assert get(server, "/")[0] == 404
        assert get(server, "/health/../ready")[0] == 404
        assert get(server, "/health?verbose=1")[0] == 200
        assert get(server, "/health", "POST")[0] == 501


@pytest.mark.parametrize(("ready", "status", "word"), [(good, 200, "ok"), (bad, 503, "failed")])
def test_ready_tells_each_check(ready: Callable[[], list[HealthResult]], status: int, word: str) -> None:
    with ProbeServer("web", LOOPBACK, ready) as server:
        answered, body, _ = get(server, "/ready")
    told = json.loads(body)
    assert (answered, told["status"]) == (status, word)
    assert told["checks"]["database"] == {"passed": True, "detail": "PostgreSQL 18.6", "data": {}, "duration_ms": 0.0}
    assert set(told["checks"]) == {result.name for result in ready()}


def test_health_follows_the_loop_and_not_the_database() -> None:
    beats = iter([True, False])
    with ProbeServer("senders", LOOPBACK, bad, alive=lambda: next(beats)) as server:
        assert (get(server, "/health")[0], get(server, "/health")[0]) == (200, 503)


def test_a_check_that_raises_is_a_failed_check_with_its_reason() -> None:
    def ready() -> list[HealthResult]:
        raise RuntimeError("no such \0 table")

    with ProbeServer("web", LOOPBACK, ready) as server:
        status, body, _ = get(server, "/ready")
    assert status == 503
    assert json.loads(body)["checks"]["checks"]["detail"] == "RuntimeError: no such table"


def test_a_database_that_hangs_is_a_503_within_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with silent_listener() as (host, port), ProbeServer("web", LOOPBACK) as server:
        monkeypatch.setitem(settings.DATABASES["default"], "HOST", host)
        monkeypatch.setitem(settings.DATABASES["default"], "PORT", port)
        started = time.monotonic()
        status, body, _ = get(server, "/ready")
        took = time.monotonic() - started
        liveness = get(server, "/health")[0]
    assert (status, liveness) == (503, 200)
    assert not json.loads(body)["checks"]["database"]["passed"]
    assert took < 3


def test_a_run_that_never_ends_costs_one_thread_however_often_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "READY_SECONDS", 0.2)
    release, runs = threading.Event(), []

    def ready() -> list[HealthResult]:
        runs.append(1)
        release.wait(10)
        return good()

    with ProbeServer("web", LOOPBACK, ready) as server:
        answers = [get(server, "/ready")[0] for _ in range(3)]
        release.set()
        monkeypatch.setattr(health, "READY_SECONDS", 5)
        answers.append(get(server, "/ready")[0])
    assert answers == [503, 503, 503, 200]
    assert len(runs) <= 2


def test_a_taken_port_is_one_clear_sentence_that_names_the_setting() -> None:
    with silent_listener() as address, pytest.raises(CannotListen) as refused:
        ProbeServer("senders", address, good).start()
    assert str(refused.value) == (
        f"127.0.0.1:{address[1]} is taken by another program: "
        "set PROBE_SENDERS to an address that is free on this machine."
    )


def test_the_port_is_free_again_after_stop() -> None:
    with ProbeServer("web", LOOPBACK, good) as server:
        address = server.address
    with ProbeServer("web", address, good) as again:
        assert get(again, "/health")[0] == 200


def test_it_answers_on_ipv6() -> None:
    with ProbeServer("web", ("::1", 0), good) as server:
        assert get(server, "/health")[0] == 200


def test_a_busy_asyncio_loop_does_not_silence_it() -> None:
    async def engine(server: ProbeServer) -> int:
        asked = asyncio.create_task(asyncio.to_thread(get, server, "/health"))
        await asyncio.sleep(0)
        time.sleep(0.3)
        return (await asked)[0]

    with ProbeServer("senders", LOOPBACK, good) as server:
        assert asyncio.run(engine(server)) == 200


def test_probes_are_never_logged_at_info(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), ProbeServer("web", LOOPBACK, good) as server:
        get(server, "/health")
    assert caplog.records == []


def test_a_crowd_of_idle_clients_is_hung_up_on() -> None:
    with ProbeServer("web", LOOPBACK, good) as server:
        crowd = [socket.create_connection(server.address) for _ in range(health.MAX_CLIENTS + 5)]
        crowd[-1].settimeout(5)
        assert crowd[-1].recv(1) == b""
        for client in crowd:
            client.close()


@pytest.mark.django_db(transaction=True)
def test_a_migrated_database_is_ready_through_the_listener() -> None:
    with ProbeServer("sandbox", LOOPBACK) as server:
        status, body, _ = get(server, "/ready")
    told = json.loads(body)["checks"]
    assert status == 200, told
    assert set(told) == {"database", "migrations", "partitions"}
    assert told["database"]["detail"].startswith("PostgreSQL ")
    assert told["partitions"]["data"]["days"] >= 7


@pytest.mark.django_db
def test_todays_missing_partition_fails_and_few_days_warn_housekeeping_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome(role: str, days: int) -> dict[str, bool]:
        monkeypatch.setattr(health, "days_ready", lambda cursor: days)
        return {result.name: result.passed for result in run_all(role) if result.name.startswith("partitions")}

    assert outcome("web", 3) == {"partitions": True}
    assert outcome("web", 0) == {"partitions": False}
    assert outcome("housekeeping", 6) == {"partitions": True, "partitions_ahead": False}
    assert outcome("housekeeping", 7) == {"partitions": True, "partitions_ahead": True}


@pytest.mark.django_db
def test_an_unapplied_migration_is_not_ready() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'queues'")
    migrations = {result.name: result for result in run_all("web")}["migrations"]
    assert not migrations.passed
    assert "manage.py migrate" in migrations.detail


def test_with_the_database_gone_nothing_else_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> HealthResult:
        raise OSError("connection refused")

    monkeypatch.setitem(health._checks, "database", health.Check("database", frozenset(), refused))
    first, *others = run_all("web")
    assert first.detail == "OSError: connection refused"
    assert {result.detail for result in others} == {"Needs the database."}
