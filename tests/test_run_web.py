"""`manage.py run_web` as a process: it serves, answers its probes, trusts nobody, and stops when told."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

import pytest
from django.db import connection

from relay_project.web.worker import REQUEST_SECONDS

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 40  # generous: the machine may be busy
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.journey]


@dataclass
class Web:
    """A running web process."""

    process: subprocess.Popen[bytes]
    port: int
    probe: int
    log: IO[bytes]

    def told(self) -> str:
        """All that it has logged so far."""
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), size, 0).decode()  # where the process goes on writing is left alone

    def get(self, port: int, path: str, **headers: str) -> tuple[int, bytes]:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            client.request("GET", path, headers=headers)
            answer = client.getresponse()
            return answer.status, answer.read()
        finally:
            client.close()

    def is_ready(self) -> bool:
        try:
            return self.get(self.probe, "/ready")[0] == 200
        except OSError:
            return False


def database_url() -> str:
    """The test database, for another process."""
    database = connection.settings_dict
    user = f"{quote(database['USER'])}:{quote(database['PASSWORD'] or 'x')}"
    host = database.get("OPTIONS", {}).get("host") or database["HOST"] or ""
    if host.startswith("/"):
        return f"postgresql://{user}@/{database['NAME']}?host={host}&port={database['PORT'] or 5432}"
    return f"postgresql://{user}@{host}:{database['PORT'] or 5432}/{database['NAME']}"


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def command(port: int, probe: int, folder: Path, log: int | IO[bytes]) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "DATABASE_URL": database_url(),
        "APP_SECRET": "a-secret-that-only-the-tests-of-this-checkout-know",
        "RELAY_ENV_FILE": os.devnull,
        "DJANGO_SETTINGS_MODULE": "relay_project.settings",
        "WEB_BIND": f"127.0.0.1:{port}",
        "PROBE_WEB": f"127.0.0.1:{probe}",
        "TMPDIR": str(folder),
        "SHUTDOWN_SECONDS": "5",
    }
    return subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "run_web"],
        cwd=folder,
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
    )


@contextmanager
def running(folder: Path) -> Iterator[Web]:
    port, probe = free_ports(2)
    with tempfile.TemporaryFile() as log:  # not a pipe, which nobody reads while a long journey goes on
        web = Web(command(port, probe, folder, log), port, probe, log)
        try:
            give_up = time.monotonic() + START_SECONDS
            while not web.is_ready():
                assert web.process.poll() is None, web.told()
                assert time.monotonic() < give_up, "run_web did not become ready"
                time.sleep(0.1)
            yield web
        finally:
            web.process.terminate()
            try:
                web.process.wait(15)
            except subprocess.TimeoutExpired:
                web.process.kill()


def test_it_serves_answers_its_probes_and_stops_leaving_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as web:
        assert web.get(web.port, "/api/health")[0] == 200
        assert web.get(web.probe, "/health") == (200, b'{"status": "ok"}\n')
        checks = json.loads(web.get(web.probe, "/ready")[1])["checks"]
        assert {"workers", "database", "migrations", "partitions"} <= set(checks)
        assert checks["workers"]["data"] == {"workers": 2}
        assert b"process_resident_memory_bytes" in web.get(web.probe, "/metrics")[1]
        assert [path.name[:18] for path in tmp_path.iterdir()] == ["relay-metrics-web-"]
        web.process.send_signal(signal.SIGTERM)
        assert web.process.wait(15) == 0
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(ConnectionRefusedError):
            web.get(web.probe, "/health")


def test_a_dead_worker_is_replaced_and_the_probes_stay(tmp_path: Path) -> None:
    with running(tmp_path) as web:
        children = Path(f"/proc/{web.process.pid}/task/{web.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        give_up = time.monotonic() + 15
        while set(Path(f"/proc/{web.process.pid}/task/{web.process.pid}/children").read_text().split()) == set(
            children
        ):
            assert time.monotonic() < give_up, "no new worker"
            time.sleep(0.05)
        assert web.get(web.probe, "/health")[0] == 200
        assert web.get(web.port, "/api/health")[0] == 200


def test_no_forwarded_header_is_believed_by_default(tmp_path: Path) -> None:
    """Lesson S4: gunicorn's own default trusts loopback; ours trusts nobody, so http stays http."""
    with running(tmp_path) as web:
        forged = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.66", "X-Forwarded-Ssl": "on"}
        assert web.get(web.port, "/api/health", **forged)[0] == 200
        assert web.get(web.port, "/" + "x" * 5000)[0] == 414  # the request line has a limit
        web.process.send_signal(signal.SIGTERM)
        web.process.wait(15)
        told = web.told()
    assert "/api/health" in told
    assert "192.0.2.66" not in told


@pytest.mark.parametrize("taken", ["WEB_BIND", "PROBE_WEB"])
def test_a_taken_port_is_one_sentence_and_exit_status_one(tmp_path: Path, taken: str) -> None:
    port, probe = free_ports(2)
    with socket.create_server(("127.0.0.1", port if taken == "WEB_BIND" else probe)):
        process = command(port, probe, tmp_path, subprocess.PIPE)
        told = process.communicate(timeout=START_SECONDS)[0].decode().strip().splitlines()
    assert process.returncode == 1
    assert len(told) == 1
    assert told[0].endswith(f"is taken by another program: set {taken} to an address that is free on this machine.")


def test_silent_and_dawdling_clients_stop_nobody_else(tmp_path: Path) -> None:
    """Sixteen threads serve; forty connections that say nothing, and forty with an endless refused body, took them all."""
    refused = b"POST /api/console/sends HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{"
    with running(tmp_path) as web:
        for said in (b"", refused):
            clients = [socket.create_connection(("127.0.0.1", web.port)) for _ in range(40)]
            for client in clients:
                client.sendall(said)
            begun = time.monotonic()
            assert web.get(web.port, "/api/health")[0] == 200
            assert time.monotonic() - begun < 4
            for client in clients:
                client.close()


def test_a_request_that_does_not_arrive_is_given_up(tmp_path: Path) -> None:
    with running(tmp_path) as web, socket.create_connection(("127.0.0.1", web.port)) as client:
        client.sendall(b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        client.settimeout(REQUEST_SECONDS + 10)
        assert client.recv(1000) == b""
