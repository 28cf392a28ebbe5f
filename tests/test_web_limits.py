"""Limits as the real web process keeps them: several workers, bodies over a socket."""

import http.client
import json
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from projects.api_keys import create_key
from projects.limits import set_limits
from projects.models import Project
from projects.scopes import SCOPES
from tests.test_run_web import Web, running

MEGABYTE = 1_000_000
BODY = 20 * MEGABYTE
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.journey]


def key_of(**limits: int) -> str:
    project = set_limits(Project.objects.create(name="Shop", send_type="transactional"), limits)
    return create_key(project, "k", SCOPES, ["127.0.0.1"])[1]


def post(web: Web, token: str, body: object) -> int:
    client = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)
    try:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        client.request("POST", "/api/console/sends", json.dumps(body), headers)
        return client.getresponse().status
    finally:
        client.close()


def test_two_workers_together_let_exactly_as_many_sends_through_as_a_day_has(tmp_path: Path) -> None:
    token = key_of(sends_per_day=25, sends_per_second=1000)
    with running(tmp_path) as web, ThreadPoolExecutor(8) as pool:
        statuses = Counter(pool.map(lambda _: post(web, token, {}), range(60)))
    assert statuses == {422: 25, 429: 35}, "what is wrong with the body is said after the rate"


def announce(web: Web, path: str, method: str, token: str) -> str:
    """The status line that the head of a request gets alone."""
    with socket.create_connection(("127.0.0.1", web.port), 10) as peer:
        peer.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {BODY}\r\n\r\n".encode()
        )
        return peer.recv(1000).decode("latin-1").splitlines()[0]


def test_a_body_of_20_mb_is_refused_before_any_of_it_is_read(tmp_path: Path) -> None:
    token = key_of()
    with running(tmp_path) as web:
        for method, path in (("POST", "/api/console/sends"), ("PATCH", "/api/console/project")):
            assert announce(web, path, method, token) == "HTTP/1.1 413 Request Entity Too Large"


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/console/sends"), ("PATCH", "/api/console/project")])
def test_a_chunked_body_of_20_mb_is_refused_when_it_has_gone_beyond_the_limit(tmp_path, method, path) -> None:
    token = key_of()
    with running(tmp_path) as web:
        before = max(memory(pid) for pid in workers(web))
        with socket.create_connection(("127.0.0.1", web.port), 10) as peer:
            peer.sendall(
                f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
                "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            )
            answer = pour(peer)
        assert answer.startswith("HTTP/1.1 413")
        assert max(memory(pid) for pid in workers(web)) - before < 3 * BODY
        assert web.get(web.port, "/api/health")[0] == 200


def pour(peer: socket.socket) -> str:
    """Send without end, as far as the server lets us, and give what it says."""
    chunk = b"f4240\r\n" + b"x" * MEGABYTE + b"\r\n"
    peer.settimeout(0.5)
    give_up = time.monotonic() + 20
    while time.monotonic() < give_up:
        try:
            peer.sendall(chunk)
        except (TimeoutError, OSError):
            break
    peer.settimeout(10)
    return peer.recv(1000).decode("latin-1")


def workers(web: Web) -> list[str]:
    return Path(f"/proc/{web.process.pid}/task/{web.process.pid}/children").read_text().split()


def memory(pid: str) -> int:
    """The most octets that a process has had in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
