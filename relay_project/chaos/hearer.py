"""The receiver of the trial `webhooks`, a process that may be killed: notes what it is told, and answers then.

    python -m relay_project.chaos.hearer --port 8099 --notes notes --secret 0f5b…

A note is a line: the event's id, the SHA-256 of the body, and whether the call was signed. It stands in the file before the
answer leaves, in the system's memory if not on disk, so what was answered is noted, whenever this process dies. Every
HALVEth answer leaves in two pieces, for a death in between.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from relay_project.bench.calls import OK, Called
from relay_project.quickstart.ports import LOOPBACK

HALVE = 8
HALF_SECONDS = 0.02  # between the pieces
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
MAX_AGE_SECONDS = 60  # of a signature
BACKLOG = 1024


class Hearer(Called):
    """One connection; `notes` is a file descriptor that appends."""

    count = 0  # of answers, on all connections

    def __init__(self, notes: int, secret: bytes) -> None:
        super().__init__()
        self._notes, self._secret = notes, secret

    def called(self, path: bytes, fields: Mapping[bytes, bytes], body: bytes) -> None:
        """Note it, then answer."""
        signed = is_signed(fields, body, self._secret, time.time())
        event = fields.get(b"webhook-id", b"-")
        os.write(self._notes, b"%b %b %d\n" % (event, hashlib.sha256(body).hexdigest().encode(), signed))
        self._answer(OK if signed else REFUSED)

    def _answer(self, answer: bytes) -> None:
        Hearer.count += 1
        if Hearer.count % HALVE:
            self.transport.write(answer)
            return
        self.transport.write(answer[:-1])
        asyncio.get_running_loop().call_later(HALF_SECONDS, self.transport.write, answer[-1:])


def is_signed(fields: Mapping[bytes, bytes], body: bytes, secret: bytes, now: float) -> bool:
    """As the page of Standard Webhooks says it, without the product's own code."""
    event, at = fields.get(b"webhook-id", b""), fields.get(b"webhook-timestamp", b"")
    if not at.isdigit() or abs(int(at) - now) > MAX_AGE_SECONDS:
        return False
    wanted = b"v1," + base64.b64encode(hmac.digest(secret, b"%b.%b.%b" % (event, at, body), "sha256"))
    return any(hmac.compare_digest(wanted, each) for each in fields.get(b"webhook-signature", b"").split(b" "))


async def hear(port: int, notes: Path, secret: bytes) -> None:
    """Until killed."""
    descriptor = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, b"\n")  # ends what a death cut, which was not answered
    listening = socket.create_server((LOOPBACK, port), backlog=BACKLOG)
    server = await asyncio.get_running_loop().create_server(lambda: Hearer(descriptor, secret), sock=listening)
    await server.serve_forever()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("--secret", required=True)
    options = parser.parse_args()
    asyncio.run(hear(options.port, options.notes, options.secret.encode()))


if __name__ == "__main__":
    main()
