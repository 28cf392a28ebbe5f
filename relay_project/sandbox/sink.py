"""A bare SMTP sink for benchmarks: takes mail as its manners say, keeps none, and says what taking it cost.

    python -m relay_project.sandbox.sink --address 127.0.0.1 --port 2525 --report counts.json

prints `{"port": …}` when it listens and one JSON line of counts on SIGTERM. `--address` may be given several times, so
that one process stands in for several sites. The command XSTAT answers with the counts so far, so that a benchmark can
wait for its last mail.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import signal
import ssl
import sys
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import uvloop

from relay_project.sandbox.certificate import server_context
from relay_project.sandbox.manners import Manners
from relay_project.sandbox.sink_session import SinkProtocol, ehlo_reply

NUMBER = re.compile(rb"(\d{1,18})@")  # 18 digits fit 64 bits
BACKLOG = 1024  # connections that wait to be taken
NO_COUNTS = ("arrivals", "numbers", "cpu_at_start")  # fields of Counts that are not reported


@dataclass(slots=True)
class Counts:
    """What has been taken.

    Where that is asked for, `arrivals` holds `time.time()` of each recipient's message, and `numbers` the digits that
    its local part ends with (-1 without any), so that a benchmark knows which mail arrived when.
    """

    connections: int = 0
    handshakes: int = 0
    messages: int = 0
    recipients: int = 0
    refused: int = 0  # RCPTs that were deferred, bounced or dropped
    octets: int = 0  # of message data, as sent
    first_at: float = 0.0
    last_at: float = 0.0
    by_address: Counter[str] = field(default_factory=Counter)  # recipients taken at each listening address
    arrivals: array[float] | None = None
    numbers: array[int] | None = None
    cpu_at_start: float = field(default_factory=lambda: _cpu_seconds())

    def take(self, recipients: Sequence[bytes], address: str) -> None:
        """Count one message with the RCPT lines it had, at the address that took it."""
        self.last_at = now = time.time()
        if not self.messages:
            self.first_at = now
        self.messages += 1
        self.recipients += len(recipients)
        self.by_address[address] += len(recipients)
        if self.arrivals is not None and self.numbers is not None:
            for line in recipients:
                digits = NUMBER.search(line)
                self.arrivals.append(now)
                self.numbers.append(int(digits[1]) if digits else -1)

    def as_record(self) -> dict[str, Any]:
        """The counts, with the CPU time of this process since they began."""
        record = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in NO_COUNTS}
        cpu = _cpu_seconds() - self.cpu_at_start
        record["cpu_seconds"] = round(cpu, 6)
        record["cpu_us_per_message"] = round(cpu * 1e6 / self.messages, 2) if self.messages else 0.0
        return record


class Sink:
    """The sink inside this process, as an asynchronous context; for tests, and for whoever brings their own loop.

    With `tls` it offers STARTTLS. `sample` is the first message that was taken, as it came over the wire, where
    `keep_sample` asks for it.
    """

    def __init__(
        self,
        *addresses: str,
        port: int = 0,
        record_arrivals: bool = False,
        manners: Manners | None = None,
        tls: ssl.SSLContext | None = None,
        chunking: bool = False,
        keep_sample: bool = False,
    ) -> None:
        self.addresses = addresses or ("127.0.0.1",)
        self.port = port
        self.counts = Counts()
        if record_arrivals:
            self.counts.arrivals, self.counts.numbers = array("d"), array("q")
        self.manners = manners or Manners()
        self.tls = tls
        self.ehlo = ehlo_reply(tls=tls is not None, chunking=chunking)
        self.ehlo_secured = ehlo_reply(tls=False, chunking=chunking)
        self.sample = b""
        self.sample_wanted = keep_sample
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Future[None]] = set()

    @property
    def address(self) -> str:
        """The first of its addresses."""
        return self.addresses[0]

    def keep(self, task: asyncio.Future[None]) -> None:
        """Hold on to a handshake until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def __aenter__(self) -> Sink:
        loop = asyncio.get_running_loop()
        for address in self.addresses:
            server = await loop.create_server(
                lambda: SinkProtocol(self), address, self.port, backlog=BACKLOG, reuse_port=False
            )
            self._servers.append(server)
            self.port = server.sockets[0].getsockname()[1]  # the first one's choice is the others' too
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def run(sink: Sink, *, times: Path | None, numbers: Path | None, sample: Path | None) -> dict[str, Any]:
    """Take mail until SIGTERM or SIGINT; returns the counts.

    `times` gets the arrivals as native doubles, `numbers` their numbers as native 64-bit integers.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with sink:
        print(json.dumps({"port": sink.port}), flush=True)
        await stopping.wait()
    if times is not None and sink.counts.arrivals is not None:
        times.write_bytes(sink.counts.arrivals.tobytes())
    if numbers is not None and sink.counts.numbers is not None:
        numbers.write_bytes(sink.counts.numbers.tobytes())
    if sample is not None:
        sample.write_bytes(sink.sample)
    return sink.counts.as_record()


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    options = _parser().parse_args(arguments)
    sink = Sink(
        *options.address,
        port=options.port,
        record_arrivals=bool(options.times or options.numbers),
        manners=Manners.of(options.manners),
        tls=server_context("sink.sandbox.test")[0] if options.starttls else None,
        chunking=options.chunking,
        keep_sample=options.sample is not None,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        counts = runner.run(run(sink, times=options.times, numbers=options.numbers, sample=options.sample))
    _report(json.dumps(counts) + "\n", options.report)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A bare SMTP sink that counts.")
    parser.add_argument("--address", action="append", default=[], help="may be given several times")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--manners", default="{}", help='JSON: {"*": {"defer": 0.1, "bounce": 0.02}}')
    parser.add_argument("--starttls", action="store_true", help="offer STARTTLS with a certificate of its own")
    parser.add_argument("--chunking", action="store_true", help="offer CHUNKING (RFC 3030)")
    parser.add_argument("--report", default="", help="a file, or the number of an open file descriptor; else stdout")
    parser.add_argument("--times", type=Path, help="a file for the arrival times, as native doubles")
    parser.add_argument("--numbers", type=Path, help="a file for the recipients' numbers, as native 64-bit integers")
    parser.add_argument("--sample", type=Path, help="a file for the first message")
    return parser


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
