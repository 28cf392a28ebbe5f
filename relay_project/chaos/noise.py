"""Noise on the ports of the SMTP server: conversations with octets changed, moved, doubled and left out, and plain nonsense.

What is asked for: no crash, no hang, memory flat. `make_noise` says what came of each input; whoever runs it looks at the
server's process.
"""

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

AT_ONCE = 40
PATIENCE = 10.0  # seconds for a connection to end once the client has said all it says
WHOLE = (
    b"EHLO a.test\r\nMAIL FROM:<a@x.test> SIZE=200 BODY=8BITMIME\r\nRCPT TO:<postmaster>\r\nDATA\r\n"
    b"Subject: x\r\n\r\n..text\r\n.\r\nQUIT\r\n",
    b"HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nRCPT TO:<b.x@relay.test>\r\nDATA\r\n\r\n.\r\n"
    b"MAIL FROM:<>\r\nRSET\r\nVRFY a\r\nNOOP\r\nHELP\r\nEXPN b\r\nQUIT\r\n",
    b"EHLO a\r\nSTARTTLS\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<postmaster>\r\nDATA\r\nx\n.\nx\r.\rx\r\n.\nQUIT\r\n",
    b"EHLO a\r\nAUTH PLAIN AGEAYg==\r\nAUTH LOGIN\r\nYQ==\r\nYg==\r\nAUTH PLAIN\r\n*\r\nQUIT\r\n",
    b"EHLO \xc3\xa4.test\r\nMAIL FROM:<\xc3\xa4@x.test> SMTPUTF8 RET=FULL ENVID=a+2B\r\n"
    b"RCPT TO:<postmaster> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@b\r\nDATA\r\n\xff\xfe\x00\r\n.\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.25 4321 25\r\nEHLO a\r\nQUIT\r\n",
    b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x10\xe1\x00\x19EHLO a\r\n",
    b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(128)),
    b"GET / HTTP/1.1\r\nHost: mx\r\n\r\n",
)
PIECES = (
    b"\r\n",
    b"\n",
    b"\r",
    b".",
    b"\r\n.\r\n",
    b"\x00",
    b"<",
    b">",
    b":",
    b" ",
    b"\xff",
    b'"',
    b"=",
    b"\\",
    b"A" * 3000,
)


@dataclass(frozen=True, slots=True)
class Port:
    """Where noise is made, and whether it speaks TLS from the first octet."""

    number: int
    implicit_tls: bool = False


def mutated(rng: random.Random) -> bytes:
    """One input: a conversation with a few changes, or nonsense."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(1, 2000))
    data = bytearray(rng.choice(WHOLE))
    for _ in range(rng.randrange(6)):
        at, change = rng.randrange(len(data) + 1), rng.randrange(5)
        span = slice(at, at + rng.randrange(1, 30))
        if change == 0:
            del data[span]
        elif change == 1:
            data[at:at] = data[span]
        elif change == 2:
            data[at:at] = rng.choice(PIECES)
        elif change == 3:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        else:
            data[span] = data[span][::-1]
    return bytes(data)


async def make_noise(ports: Sequence[Port], inputs: int, seed: int) -> Counter[str]:
    """Send so many inputs, AT_ONCE at a time; returns how many of their connections were `closed`, `reset`, `left`, `hung`."""
    rng, ends = random.Random(seed), Counter[str]()  # noqa: S311
    left = iter(range(inputs))

    async def worker() -> None:
        for _ in left:
            ends[await _one(rng, rng.choice(ports))] += 1

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return ends


async def _one(rng: random.Random, port: Port) -> str:
    data, tls, leaves = mutated(rng), port.implicit_tls and rng.random() < 0.5, rng.random() < 0.4
    source = f"127.{rng.randrange(1, 255)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port.number, ssl=_anything() if tls else None, local_addr=(source, 0)
            )
    except (OSError, ssl.SSLError):
        return "reset"
    try:
        return await _shout(rng, reader, writer, data, leaves)
    finally:
        writer.transport.abort()


async def _shout(
    rng: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes, leaves: bool
) -> str:
    """Say it in one to three pieces, then leave, or say no more and wait for the end."""
    try:
        async with asyncio.timeout(PATIENCE):
            for cut in sorted({rng.randrange(len(data) + 1), len(data)}):
                writer.write(data[:cut])
                data = data[cut:]
                await writer.drain()
            if leaves:
                return "left"
            if writer.can_write_eof():
                writer.write_eof()
            else:
                return "left"  # TLS cannot say that no more comes without hanging up
            await reader.read(-1)
            return "closed"
    except TimeoutError:
        return "hung"
    except (OSError, ssl.SSLError):
        return "reset"


@lru_cache(maxsize=1)
def _anything() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
