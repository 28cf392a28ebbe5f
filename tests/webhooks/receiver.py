"""A receiver of webhooks on loopback that does to its callers whatever the path says, and remembers what it heard."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

HANG_SECONDS = 5.0


@dataclass(slots=True)
class Heard:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        """Its body."""
        return orjson.loads(self.body)


@dataclass(slots=True)
class Receiver:
    """Where it is, what it heard, and the answers still to be given by a path before 200."""

    url: str
    requests: list[Heard] = field(default_factory=list)
    answers: dict[str, list[int]] = field(default_factory=dict)
    busy: int = 0  # requests being answered
    most_busy: int = 0
    written: int = 0  # octets of endless answers
    delay: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def heard(self, path: str = "") -> list[Heard]:
        """The requests to a path, or all."""
        with self.lock:
            return [each for each in self.requests if not path or each.path == path]

    def wait_for(self, count: int, path: str = "", seconds: float = 15.0) -> list[Heard]:
        """The requests, once there are so many."""
        give_up = time.monotonic() + seconds
        while len(found := self.heard(path)) < count:
            assert time.monotonic() < give_up, f"{len(found)} requests of {count}"
            time.sleep(0.01)
        return found


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver for the block."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.receiver
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    receiver: Receiver

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        self.stopping = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that hang up are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *values: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """A followed redirect, which there must not be."""
        self.do_POST()

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        heard = Heard(self.path, {name.lower(): value for name, value in self.headers.items()}, body, time.time())
        with receiver.lock:
            receiver.requests.append(heard)
            receiver.busy += 1
            receiver.most_busy = max(receiver.most_busy, receiver.busy)
            codes = receiver.answers.get(self.path) or []
            code = codes.pop(0) if codes else None
        try:
            if receiver.delay:
                time.sleep(receiver.delay)
            if code is not None:
                self._answer(code)
            else:
                getattr(self, f"_{self.path.strip('/').split('/')[0].replace('-', '_')}", self._ok)()
        finally:
            with receiver.lock:
                receiver.busy -= 1

    def _answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _ok(self) -> None:
        self._answer(200, b"ok")

    def _gone(self) -> None:
        self._answer(410, b"gone")

    def _fail(self) -> None:
        self._answer(500, b"out of order")

    def _busy_seconds(self) -> None:
        self._answer(429, b"slow down", Retry_After="7200")

    def _never(self) -> None:
        """A date that no clock has; `/never/503` with a code that speaks of the receiver as a whole."""
        self._answer(503 if "503" in self.path else 500, b"", Retry_After="1 Jan 99999999999999999 00:00:00")

    def _redirect(self) -> None:
        self._answer(302, b"", Location="http://169.254.169.254/latest/meta-data")

    def _redirect_here(self) -> None:
        self._answer(307, b"", Location="/ok")

    def _spoilt(self) -> None:
        """Lesson C11: NUL, a character cut in two at octet 1024, and octets that are no UTF-8."""
        self._answer(500, b"a\0b\xff" + "é".encode() * 3000)

    def _garbage(self) -> None:
        self.wfile.write(b"\x00\xff\xfe what do you want\r\n\r\n")
        self.close_connection = True

    def _half(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"half of it")
        self.close_connection = True

    def _close(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _hang(self) -> None:
        self.server.stopping.wait(HANG_SECONDS)
        self.close_connection = True

    def _endless(self) -> None:
        """30 MB."""
        self.send_response(200)
        self.send_header("Content-Length", str(30 * 2**20))
        self.end_headers()
        piece = b"x" * 2**16
        for _ in range(30 * 2**4):
            self.wfile.write(piece)
            self.server.receiver.written += len(piece)
