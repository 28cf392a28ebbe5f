"""A bare SMTP sink for benchmarks: takes every mail, keeps none, and says what taking them cost.

    python -m relay_project.sandbox.sink --address 127.0.0.1 --port 2525 --report counts.json

prints `{"port": …}` when it listens and one JSON line of counts on SIGTERM. The command XSTAT answers with the counts
so far, so that a benchmark can wait for its last mail.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import signal
import sys
import time
from array import array
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import cast

import uvloop

END_OF_DATA = b"\r\n.\r\n"
EHLO_REPLY = b"250-sink.sandbox.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n"
REPLIES = {
    b"HELO": b"250 sink.sandbox.test\r\n",
    b"EHLO": EHLO_REPLY,
    b"MAIL": b"250 2.1.0 Ok\r\n",
    b"RCPT": b"250 2.1.5 Ok\r\n",
    b"DATA": b"354 End data with <CR><LF>.<CR><LF>\r\n",
    b"RSET": b"250 2.0.0 Ok\r\n",
    b"NOOP": b"250 2.0.0 Ok\r\n",
    b"QUIT": b"221 2.0.0 Bye\r\n",
}
ACCEPTED = b"250 2.0.0 Ok: taken and forgotten\r\n"
UNKNOWN = b"502 5.5.1 Not implemented\r\n"
NO_RECIPIENT = b"503 5.5.1 No recipient yet\r\n"
NUMBER = re.compile(rb"(\d{1,18})@")  # 18 digits fit 64 bits
NO_COUNTS = ("arrivals", "numbers", "cpu_at_start")  # fields of Counts that are not reported


@dataclass(slots=True)
class Counts:
    """What has been taken.

    Where that is asked for, `arrivals` holds `time.time()` of each message, and `numbers` the digits that its last
    recipient's local part ends with (-1 without any), so that a benchmark knows which mail arrived when.
    """

    connections: int = 0
    messages: int = 0
    recipients: int = 0
    octets: int = 0  # of message data, as sent
    first_at: float = 0.0
    last_at: float = 0.0
    arrivals: array[float] | None = None
    numbers: array[int] | None = None
    cpu_at_start: float = field(default_factory=lambda: _cpu_seconds())

    def take(self, recipients: int, last_recipient: bytes) -> None:
        """Count one message; `last_recipient` is its RCPT line."""
        self.last_at = now = time.time()
        if not self.messages:
            self.first_at = now
        self.messages += 1
        self.recipients += recipients
        if self.arrivals is not None:
            self.arrivals.append(now)
        if self.numbers is not None:
            digits = NUMBER.search(last_recipient)
            self.numbers.append(int(digits[1]) if digits else -1)

    def as_record(self) -> dict[str, float]:
        """The counts, with the CPU time of this process since they began."""
        record = {key: value for key, value in asdict(self).items() if key not in NO_COUNTS}
        cpu = _cpu_seconds() - self.cpu_at_start
        record["cpu_seconds"] = round(cpu, 6)
        record["cpu_us_per_message"] = round(cpu * 1e6 / self.messages, 2) if self.messages else 0.0
        return record


class SinkProtocol(asyncio.Protocol):
    """One connection; finds the end of the message across packets, and answers a group of commands in one write."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._partial = b""  # of a command line, or the last octets of a message
        self._in_data = False
        self._recipients = 0
        self._last_recipient = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._counts.connections += 1
        self._transport.write(b"220 sink.sandbox.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        replies: list[bytes] = []
        while data:
            data = self._data(data, replies) if self._in_data else self._commands(data, replies)
        if replies:
            self._transport.write(b"".join(replies))

    def _data(self, data: bytes, replies: list[bytes]) -> bytes:
        """Pass over message data; returns what follows its end."""
        seen = self._partial + data
        end = seen.find(END_OF_DATA)
        if end < 0:
            self._counts.octets += len(data)
            self._partial = seen[-4:]
            return b""
        rest = seen[end + 5 :]
        self._counts.octets += len(data) - len(rest) - 3
        self._counts.take(self._recipients, self._last_recipient)
        self._in_data, self._recipients, self._partial = False, 0, b""
        replies.append(ACCEPTED)
        return rest

    def _commands(self, data: bytes, replies: list[bytes]) -> bytes:
        """Answer command lines up to DATA; returns what follows it."""
        data = self._partial + data
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            begin, at = at, end + 1
            verb = data[begin : begin + 4].upper()
            if verb == b"RCPT":
                self._recipients += 1
                self._last_recipient = data[begin:end]
            elif verb == b"DATA":
                if self._recipients:
                    replies.append(REPLIES[verb])
                    self._in_data, self._partial = True, b"\r\n"  # the end may follow at once
                    return data[at:]
                replies.append(NO_RECIPIENT)
                continue
            elif verb in (b"RSET", b"EHLO", b"HELO"):
                self._recipients = 0
            replies.append(REPLIES.get(verb) or self._rare(verb))
            if verb == b"QUIT":
                asyncio.get_running_loop().call_soon(self._transport.close)
        self._partial = data[at:]
        return b""

    def _rare(self, verb: bytes) -> bytes:
        return f"250 {json.dumps(self._counts.as_record())}\r\n".encode() if verb == b"XSTA" else UNKNOWN


class Sink:
    """The sink inside this process, as an asynchronous context; for tests, and for whoever brings their own loop."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0, *, record_arrivals: bool = False) -> None:
        self.address = address
        self.port = port
        self.counts = Counts()
        if record_arrivals:
            self.counts.arrivals, self.counts.numbers = array("d"), array("q")
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Sink:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SinkProtocol(self.counts), self.address, self.port, backlog=1024, reuse_port=False
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()


async def run(address: str, port: int, *, times: Path | None = None, numbers: Path | None = None) -> dict[str, float]:
    """Take mail until SIGTERM or SIGINT; returns the counts.

    `times` gets the arrivals as native doubles, `numbers` their numbers as native 64-bit integers.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with Sink(address, port, record_arrivals=bool(times or numbers)) as sink:
        print(json.dumps({"port": sink.port}), flush=True)
        await stopping.wait()
    if times is not None and sink.counts.arrivals is not None:
        times.write_bytes(sink.counts.arrivals.tobytes())
    if numbers is not None and sink.counts.numbers is not None:
        numbers.write_bytes(sink.counts.numbers.tobytes())
    return sink.counts.as_record()


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="A bare SMTP sink that counts.")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--report", default="", help="a file, or the number of an open file descriptor; else stdout")
    parser.add_argument("--times", type=Path, help="a file for the arrival times, as native doubles")
    parser.add_argument("--numbers", type=Path, help="a file for the recipients' numbers, as native 64-bit integers")
    options = parser.parse_args(arguments)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        counts = runner.run(run(options.address, options.port, times=options.times, numbers=options.numbers))
    _report(json.dumps(counts) + "\n", options.report)


def _report(line: str, target: str) -> None:
    if not target:
        sys.stdout.write(line)
        sys.stdout.flush()
        return
    with open(int(target) if target.isdigit() else target, "w", encoding="utf-8") as file:
        file.write(line)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
