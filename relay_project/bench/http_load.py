"""Requests over a few connections that stay open, one at a time on each: a bare HTTP/1.1 client.

An ordinary client costs more than the server's whole answer, and shares its cores; this one writes prepared bytes and
looks for the end of the answer. With a pace, requests are due at their times whether the ones before are answered or not,
and what is measured begins when one was due: a server that falls behind cannot slow the clock that it is measured by.
"""

import asyncio
import math
import re
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, count, islice
from typing import cast

import orjson
import uvloop

from relay_project.bench.letters import letter, recipient
from relay_project.bench.plan import BenchError
from sending.accept.request import SendRequest

END_OF_HEADER = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"
LIKELY = 1_200  # messages a second, of single ones
REFUSED = re.compile(rb'"refused":[1-9]')  # of a batch


@dataclass(frozen=True, slots=True)
class Target:
    """Whom the load goes to, and what it is. `batch`: messages of a request; `pace`: requests a second, 0: without pause."""

    address: tuple[str, int]
    token: str
    body_bytes: int
    connections: int
    batch: int = 1
    pace: float = 0.0


@dataclass(slots=True)
class Load:
    """What one run of requests gave: seconds of each answered request. Times are time.perf_counter()."""

    requests: Iterator[bytes]
    begins_at: float = 0.0
    ends_at: float = 0.0
    pace: float = 0.0
    status: int = 200  # that every answer has
    answers: list[tuple[int, bytes]] | None = None  # a request's place and its answer's body, where that is wanted
    asked: int = 0
    seconds: list[float] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)  # time.time() of each request's first byte
    trouble: str = ""
    open: int = 0
    done: "asyncio.Future[None] | None" = None

    def next_due(self) -> float | None:
        """When the next request is to be made; None when that is past the end."""
        due = self.begins_at + self.asked / self.pace if self.pace else time.perf_counter()
        self.asked += 1
        return due if due < self.ends_at else None

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
        if not head.startswith(b"HTTP/1.1 %d" % self._load.status) or REFUSED.search(body[:100]):
            self._finish(f"A request was answered {self._answer[:600].decode(errors='replace')!r}.")
            return
        if self._load.answers is not None:
            self._load.answers.append((self._place, body))
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(f"The web process closed a connection before its answer ({exc or 'end of file'}).")

    def _ask(self) -> None:
        due = self._load.next_due()
        if due is None:
            self._finish()
        elif (pause := due - time.perf_counter()) > 0:
            asyncio.get_running_loop().call_later(pause, self._send, due)
        else:
            self._send(due)

    def _send(self, due: float) -> None:
        self._answer = b""
        request = next(self._load.requests, None)
        if request is None:
            self._finish()
            return
        self._place = len(self._load.asked_at)
        self._load.asked_at.append(time.time())
        self._asked_at = due if self._load.pace else time.perf_counter()
        self._transport.write(request)

    def _finish(self, trouble: str = "") -> None:
        if not self._is_finished:
            self._is_finished = True
            self._transport.close()
            self._load.close(trouble)


def run_load(target: Target, seconds: float) -> list[float]:
    """Ask for `seconds`; returns each request's time in seconds. Raises BenchError for an answer but 200."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(target, Load(_prepared(target, seconds), pace=target.pace), seconds)).seconds


def run_through(target: Target, requests: Iterable[bytes]) -> list[float]:
    """Ask for all of these once, in their order; returns time.time() of each one's first byte. Raises as above."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(target, Load(iter(requests), pace=target.pace), math.inf)).asked_at


def run_exchange(target: Target, requests: Iterable[bytes], status: int) -> tuple[list[float], list[tuple[int, bytes]]]:
    """Ask for all of these once; each one's seconds, and the answers as place and body. Raises BenchError as above."""
    load = Load(iter(requests), status=status, answers=[])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(target, load, math.inf))
    return load.seconds, load.answers or []


def batch_of(address: tuple[str, int], token: str, letters: Iterable[SendRequest]) -> bytes:
    """A request for messages that share nothing."""
    body = orjson.dumps({"messages": [_as_json(each) for each in letters]})
    return _head(address, token, "/api/console/sends/batch") + b"%d\r\n\r\n" % len(body) + body


async def _run(target: Target, load: Load, seconds: float) -> Load:
    loop, load.begins_at = asyncio.get_running_loop(), time.perf_counter()
    load.ends_at = load.begins_at + seconds
    load.open, load.done = target.connections, loop.create_future()
    for _ in range(target.connections):
        await loop.create_connection(lambda: Client(load), *target.address)
    assert load.done is not None
    await load.done
    if load.trouble:
        raise BenchError(load.trouble)
    return load


def _prepared(target: Target, seconds: float) -> Iterator[bytes]:
    """The requests, as many as are likely to be asked for written beforehand: that is not what is measured."""
    requests = _requests(target, _batches(target) if target.batch > 1 else _singles(target))
    likely = int(seconds * LIKELY / target.batch)
    return chain(list(islice(requests, likely)), requests)


def _requests(target: Target, bodies: Iterator[bytes]) -> Iterator[bytes]:
    path = "/api/console/sends/batch" if target.batch > 1 else "/api/console/sends"
    head = _head(target.address, target.token, path)
    for body in bodies:
        yield head + b"%d\r\n\r\n" % len(body) + body


def _head(address: tuple[str, int], token: str, path: str) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: "
    ).encode()


def _singles(target: Target) -> Iterator[bytes]:
    for number in count():
        yield orjson.dumps(_as_json(letter(number, target.body_bytes)))


def _batches(target: Target) -> Iterator[bytes]:
    """A body that all share, with each one's name and number in subject, text and HTML."""
    shared = _as_json(letter(0, target.body_bytes))
    shared["subject"] = "Message {{number}} for {{name}}"
    shared["body_text"] = f"Dear {{{{name}}}},\n{shared['body_text']}"
    shared["body_html"] = f"<p>Dear {{{{name}}}},</p>{shared['body_html']}"
    for first in count(0, target.batch):
        messages = [
            {"to": recipient(number, number), "variables": {"name": f"Recipient {number}", "number": number}}
            for number in range(first, first + target.batch)
        ]
        yield orjson.dumps({**shared, "messages": messages})


def _as_json(request: SendRequest) -> dict[str, object]:
    files = [
        {"content": b64encode(file.content).decode(), "name": file.name, "content_type": file.content_type}
        for file in request.attachments
    ]
    return {
        **({"attachments": files} if files else {}),
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
