"""Single requests over a few connections that stay open, one at a time on each: a bare HTTP/1.1 client.

An ordinary client costs more than the server's whole answer, and shares its cores; this one writes prepared bytes and
looks for the end of the answer.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import orjson
import uvloop

from relay_project.bench.letters import letter
from relay_project.bench.plan import BenchError
from sending.accept.request import SendRequest

END_OF_HEADER = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"


@dataclass(slots=True)
class Load:
    """What one run of requests gave: seconds of each answered request."""

    requests: Iterator[bytes]
    ends_at: float  # time.perf_counter()
    seconds: list[float] = field(default_factory=list)
    trouble: str = ""
    open: int = 0
    done: "asyncio.Future[None] | None" = None

    def close(self, trouble: str = "") -> None:
        """One connection has ended."""
        self.trouble = self.trouble or trouble
        self.open -= 1
        if self.done is not None and not self.done.done() and (self.trouble or not self.open):
            self.done.set_result(None)


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._answer = b""
        self._is_finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(END_OF_HEADER)
        if not found or len(body) < _length(head):
            return
        self._load.seconds.append(time.perf_counter() - self._asked_at)
        if not head.startswith(b"HTTP/1.1 200"):
            self._finish(f"A request was answered {self._answer[:300].decode(errors='replace')!r}.")
        elif time.perf_counter() >= self._load.ends_at:
            self._finish()
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(f"The web process closed a connection before its answer ({exc or 'end of file'}).")

    def _ask(self) -> None:
        self._answer = b""
        request = next(self._load.requests)
        self._asked_at = time.perf_counter()
        self._transport.write(request)

    def _finish(self, trouble: str = "") -> None:
        if not self._is_finished:
            self._is_finished = True
            self._transport.close()
            self._load.close(trouble)


def run_load(address: tuple[str, int], token: str, body_bytes: int, connections: int, seconds: float) -> list[float]:
    """Ask for `seconds`; returns each request's time in seconds. Raises BenchError for an answer but 200."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(address, _requests(address, token, body_bytes), connections, seconds))


async def _run(address: tuple[str, int], requests: Iterator[bytes], connections: int, seconds: float) -> list[float]:
    loop = asyncio.get_running_loop()
    load = Load(requests, time.perf_counter() + seconds, open=connections, done=loop.create_future())
    for _ in range(connections):
        await loop.create_connection(lambda: Client(load), *address)
    assert load.done is not None
    await load.done
    if load.trouble:
        raise BenchError(load.trouble)
    return load.seconds


def _requests(address: tuple[str, int], token: str, body_bytes: int) -> Iterator[bytes]:
    head = (
        f"POST /api/console/sends HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    )
    number = 0
    while True:
        body = orjson.dumps(_as_json(letter(number, body_bytes)))
        yield f"{head}{len(body)}\r\n\r\n".encode() + body
        number += 1


def _as_json(request: SendRequest) -> dict[str, object]:
    return {
        "from": {"email": request.from_.address, "name": request.from_.name},
        "to": [{"email": recipient.address, "name": recipient.name} for recipient in request.recipients],
        "subject": request.subject,
        "body_html": request.body_html,
        "body_text": request.body_text,
    }


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(LENGTH)
    if not found:
        raise BenchError("An answer came without its length.")
    return int(rest.partition(b"\r\n")[0])
