"""Clients of the live stream, as small as they can be: server-sent events, and WebSocket (RFC 6455) without extensions."""

import asyncio
import base64
import json
import os
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any

from relay_project.bench.plan import BenchError

Address = tuple[str, int]
CLOSE, PING, PONG, TEXT = 0x8, 0x9, 0xA, 0x1
PATH = "/api/console/live"


class Refused(BenchError):
    """The stream was not opened: an HTTP status, and the body."""

    def __init__(self, status: int, body: bytes, head: bytes) -> None:
        super().__init__(f"The stream was refused with {status}: {body[:300].decode(errors='replace')}")
        self.status, self.body, self.head = status, body, head


class Closed(Exception):
    """The server closed the WebSocket with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


class Stream:
    """One open stream; `async for` gives (id, kind, data) of each event and notice, data as the JSON's text."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def close(self) -> None:
        """Leave."""
        self.writer.transport.abort()


class EventStream(Stream):
    """Server-sent events."""

    @classmethod
    async def open(cls, address: Address, query: str = "", headers: Mapping[str, str] | None = None) -> "EventStream":
        """Raises Refused."""
        reader, writer = await _request(address, query, headers or {}, {})
        status, head = await _head(reader)
        if status != 200:
            body = await reader.read()
            writer.close()
            raise Refused(status, body, head)
        return cls(reader, writer)

    async def __aiter__(self) -> AsyncIterator[tuple[str | None, str, str]]:
        text = b""
        while (size := int((await self.reader.readline()) or b"0", 16)) > 0:
            text += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
            *blocks, text = text.split(b"\n\n")
            for block in blocks:
                fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if not line.startswith(":"))
                if "event" in fields:
                    yield fields.get("id"), fields["event"], fields["data"]


class WebSocket(Stream):
    """A WebSocket; its end raises Closed."""

    @classmethod
    async def open(cls, address: Address, query: str = "", headers: Mapping[str, str] | None = None) -> "WebSocket":
        """Raises Refused when the handshake is."""
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = {
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key
        }  # fmt: skip
        reader, writer = await _request(address, query, headers or {}, upgrade)
        status, head = await _head(reader)
        if status != 101:
            writer.close()
            raise Refused(status, b"", head)
        return cls(reader, writer)

    async def __aiter__(self) -> AsyncIterator[tuple[str | None, str, str]]:
        while True:
            opcode, payload = await self._frame()
            if opcode == CLOSE:
                self.send(CLOSE, payload[:2])
                raise Closed(struct.unpack("!H", payload[:2])[0], payload[2:].decode())
            if opcode == TEXT:
                body = json.loads(payload)
                yield body.get("id"), body["event"], payload.decode()

    def send(self, opcode: int, payload: bytes = b"") -> None:
        """A masked frame, of 125 octets at most."""
        mask = os.urandom(4)
        masked = bytes(octet ^ mask[index % 4] for index, octet in enumerate(payload))
        self.writer.write(bytes((0x80 | opcode, 0x80 | len(payload))) + mask + masked)

    async def _frame(self) -> tuple[int, bytes]:
        first, size = await self.reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(size)


async def _request(
    address: Address, query: str, headers: Mapping[str, str], more: Mapping[str, str]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*address)
    lines = {"Host": f"{address[0]}:{address[1]}", **headers, **more}
    head = f"GET {PATH}{'?' if query else ''}{query} HTTP/1.1\r\n"
    writer.write((head + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n").encode())
    return reader, writer


async def _head(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head: Any = await reader.readuntil(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), head
