"""The receiving server of a trial: remembers every copy it took, and may be asked to hold a conversation at a step.

Its word is what a trial is judged by: it runs in the process that does the killing, and is never killed itself.
"""

import asyncio
import contextlib
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from relay_project.quickstart.ports import LOOPBACK

STEPS = ("connect", "mail", "rcpt", "data", "dot", "reply")  # `dot`: all has come, no reply yet; `reply`: 250 is out
EHLO = b"250-witness.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 52428800\r\n"
NUMBER = re.compile(rb"(\d{1,18})@")
END_OF_DATA = b"\r\n.\r\n"
HELD_SECONDS = 120.0  # a conversation that nobody lets go goes on after this
LIMIT = 4 * 1024 * 1024  # octets of a message


@dataclass(slots=True)
class Trap:
    """Holds the next conversation that comes to `step`; `sprung` says so, `peer` whose it is."""

    step: str
    sprung: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    peer: str = ""


class Witness:
    """An SMTP server in a thread of its own, as a context. `slow` seconds at most pass before the 250 of a message."""

    def __init__(self, slow: float = 0.2, cut_share: float = 0.0) -> None:
        self.copies: Counter[int] = Counter()  # number → messages whose final dot came
        self.unanswered: Counter[int] = Counter()  # number → those whose 250 could not be written
        self.port = 0
        self._slow, self._cut_share = slow, cut_share
        self._trap: Trap | None = None
        self._random = random.Random(7)  # noqa: S311 - the same misfortunes in every run
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()), name="witness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def set_trap(self, step: str) -> Trap:
        """Hold the next conversation that comes to the step, one of STEPS."""
        self._trap = Trap(step)
        return self._trap

    async def _listen(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, LOOPBACK, 0, limit=LIMIT)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()  # asyncio.run ends what is still being said

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")[0]
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await self._at("connect", peer)
            writer.write(b"220 witness.test ESMTP\r\n")
            numbers: list[int] = []
            while line := await reader.readline():
                if not await self._answer(line, numbers, peer, reader, writer):
                    break
        writer.close()

    async def _answer(
        self,
        line: bytes,
        numbers: list[int],
        peer: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """One command; False ends the conversation."""
        verb = line[:4].upper()
        if verb == b"DATA":
            await self._at("data", peer)
            writer.write(b"354 go on\r\n")
            return await self._take(numbers, peer, reader, writer)
        if verb == b"MAIL":
            numbers.clear()
            await self._at("mail", peer)
        if verb == b"RCPT":
            found = NUMBER.search(line)
            numbers.append(int(found[1]) if found else -1)
            await self._at("rcpt", peer)
        writer.write({b"EHLO": EHLO, b"QUIT": b"221 bye\r\n"}.get(verb, b"250 OK\r\n"))
        return verb != b"QUIT"

    async def _take(
        self, numbers: list[int], peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        await reader.readuntil(END_OF_DATA)
        self.copies.update(numbers)
        await self._at("dot", peer)
        await asyncio.sleep(self._random.random() * self._slow)
        if self._random.random() < self._cut_share:
            self.unanswered.update(numbers)
            return False
        try:
            writer.write(b"250 2.0.0 taken\r\n")
            await writer.drain()
        except ConnectionError:
            self.unanswered.update(numbers)
            return False
        await self._at("reply", peer)
        return True

    async def _at(self, step: str, peer: str) -> None:
        trap = self._trap
        if trap is None or trap.step != step:
            return
        self._trap = None
        trap.peer = peer
        trap.sprung.set()
        await _wait(trap.released.is_set)


async def _wait(is_true: Callable[[], bool]) -> None:
    """Until it is, or HELD_SECONDS are over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HELD_SECONDS):
            while not is_true():
                await asyncio.sleep(0.01)
