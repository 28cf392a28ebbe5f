"""Peers that hold connections to run_smtp and hardly say anything, as a broken network or an enemy does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle, islice

from django.conf import settings

PAUSE_SECONDS = 0.5  # between two octets
AGAIN_SECONDS = 0.1
GREETING = b"EHLO slow.example.net\r\n"
# What each of them says an octet at a time, in turn: a command without end; a command after the other; a message that does
# not end; and a handshake of TLS that does not either.
_KINDS = (
    b"NOOP " + b"x" * 2000,
    b"NOOP\r\n" * 500,
    b"Subject: x\r\n\r\n" + b"y\r\n" * 500,
    b"\x16\x03\x01\x02\x00" * 400,
)


@asynccontextmanager
async def slow_peers(number: int) -> AsyncIterator[None]:
    """So many of them, on the ports of other servers and of customers, until the context ends."""
    tasks = [asyncio.create_task(_dawdle(kind, said)) for kind, said in islice(cycle(enumerate(_KINDS)), number)]
    if tasks:
        await asyncio.sleep(2 * PAUSE_SECONDS)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _dawdle(kind: int, said: bytes) -> None:
    """One of them; it comes again whenever it is sent away."""
    addresses = [settings.SMTP_MX[0], settings.SMTP_MX[0], settings.SMTP_MX[0], settings.SMTP_SUBMISSION[0]]
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(*addresses[kind])
            try:
                await _begin(kind, reader, writer)
                for octet in said:
                    writer.write(bytes([octet]))
                    await asyncio.sleep(PAUSE_SECONDS)
            finally:
                writer.close()
        await asyncio.sleep(AGAIN_SECONDS)


async def _begin(kind: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """To where the slow part is: the message of the third, the handshake of the fourth."""
    await reader.readline()
    begin = {2: b"MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n", 3: b"STARTTLS\r\n"}.get(kind, b"")
    writer.write(GREETING + begin)
    await asyncio.sleep(PAUSE_SECONDS)
