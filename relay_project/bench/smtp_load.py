"""A client of SMTP for benchmarks: it says MAIL, RCPT and DATA in one go (RFC 2920), and leaves the rest to its peer."""

import asyncio
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Sequence
from typing import Self

from relay_project.bench.plan import START_SECONDS, BenchError
from relay_project.bench.process import Process
from relay_project.bench.stage import wait_until

Address = tuple[str, int]


class SmtpClient:
    """A connection, as a context. Raises BenchError for a reply that is none of those that are wanted."""

    def __init__(self, address: Address, name: str) -> None:
        self._address, self._name = address, name

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(*self._address)
        await self._hear(220)
        await self._say(f"EHLO {self._name}", 250)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def sign_in(self, secret: str) -> None:
        """STARTTLS and AUTH."""
        await self._say("STARTTLS", 220)
        await self._writer.start_tls(_CONTEXT)
        await self._say(f"EHLO {self._name}", 250)
        await self._say(f"AUTH PLAIN {b64encode(f'{chr(0)}bench{chr(0)}{secret}'.encode()).decode()}", 235)

    async def hand_over(self, sender: str, recipients: Sequence[str], octets: bytes) -> float:
        """One mail, whose dots are stuffed; returns the seconds from the end of its data to the 250."""
        begin = "".join([f"MAIL FROM:<{sender}>\r\n", *(f"RCPT TO:<{path}>\r\n" for path in recipients), "DATA"])
        await self._say(begin, 250, *[250] * len(recipients), 354)
        self._writer.write(octets + b".\r\n")
        ended = time.perf_counter()
        await self._hear(250)
        return time.perf_counter() - ended

    async def quit(self) -> None:
        """As clients do that make a connection for each mail."""
        await self._say("QUIT", 221)

    async def _say(self, text: str, *codes: int) -> None:
        self._writer.write(text.encode() + b"\r\n")
        for code in codes:
            await self._hear(code)

    async def _hear(self, code: int) -> None:
        while True:
            line = await self._reader.readline()
            if line[3:4] != b"-":
                break
        if not line.startswith(str(code).encode()):
            raise BenchError(f"The answer was {line.decode(errors='replace').strip() or 'hanging up'}.")


def _context() -> ssl.SSLContext:
    """Whose certificate that is, is no matter here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_CONTEXT = _context()


def await_smtp(smtp: Process, address: Address) -> None:
    """Until run_smtp listens there; raises BenchError."""

    def listens() -> bool:
        smtp.check_alive()
        try:
            socket.create_connection(address, 1.0).close()
        except OSError:
            return False
        return True

    if not wait_until(listens, START_SECONDS):
        raise BenchError("run_smtp does not listen.")
