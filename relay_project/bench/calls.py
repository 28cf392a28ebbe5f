"""As much of HTTP as a receiver of webhooks needs whose client sends a request after the other on each connection."""

import asyncio
from collections.abc import Mapping
from typing import cast

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Called(asyncio.Protocol):
    """One connection; `called` is told of each request, and answers by `transport`."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._octets = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody came."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Tell of the requests that are whole now."""
        self._octets += data
        while True:
            head, found, rest = self._octets.partition(b"\r\n\r\n")
            if not found:
                return
            first, *lines = head.split(b"\r\n")
            fields = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
            length = int(fields.get(b"content-length", b"0"))
            if len(rest) < length:
                return
            self._octets = rest[length:]
            self.called(first.split(b" ", 2)[1], fields, rest[:length])

    def called(self, path: bytes, fields: Mapping[bytes, bytes], body: bytes) -> None:
        """One request; the names of `fields` are in lower case."""
        raise NotImplementedError
