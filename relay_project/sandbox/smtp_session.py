"""One conversation of the sandbox's SMTP server: commands in, replies out, and what a script may say instead."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from relay_project.mail.simulator import Behaviour, Kind, behaviour
from relay_project.mail.text import clean

if TYPE_CHECKING:
    from relay_project.sandbox.smtp import SandboxSmtp

MAX_RECIPIENTS = 1_000  # of one mail; RFC 5321 §4.5.3.1.8 asks for at least 100
IDLE_SECONDS = 300.0  # RFC 5321 §4.5.3.2.7

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """A mail that the server is about to accept for `recipients`, without dot-stuffing."""

    reverse_path: str
    recipients: tuple[str, ...]
    data: bytes
    peer: str
    helo_name: str
    received_at: datetime
    tls: bool


@dataclass(frozen=True, slots=True)
class Command:
    """What a script sees: CONNECT before the banner, "." after a message, else the verb in upper case."""

    verb: str
    argument: str
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Drip:
    """A reply that arrives octet by octet."""

    reply: bytes
    pause_seconds: float


CUT = b""  # a script's answer: close the connection without a word
SILENCE = Drip(b"", 0.0)  # a script's answer: never reply


class Hangup(OSError):
    """The conversation ends here."""


class Session:
    """One conversation; each verb has its method, which says the reply."""

    def __init__(self, server: SandboxSmtp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._peer = str(writer.get_extra_info("peername")[0])
        self._tls = False
        self._helo_name = ""
        self._reverse_path: str | None = None
        self._recipients: list[str] = []
        self._chunks = bytearray()

    async def run(self) -> None:
        await self._answer(Command("CONNECT", self._peer), f"220 {self._server.helo_name} ESMTP sandbox")
        while True:
            async with asyncio.timeout(IDLE_SECONDS):
                line = await self._reader.readuntil(b"\r\n")
            verb, _, argument = line[:-2].decode("utf-8", "replace").partition(" ")
            await self._obey(Command(verb.upper(), argument.strip(), self._tls))

    async def _obey(self, command: Command) -> None:
        verbs = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "BDAT": self._bdat,
            "STARTTLS": self._starttls,
            "RSET": self._rset,
        }
        if command.verb in verbs:
            await verbs[command.verb](command)
        elif command.verb == "QUIT":
            await self._answer(command, "221 2.0.0 Bye")
            raise Hangup
        else:
            known = {"NOOP": "250 2.0.0 Ok", "VRFY": "252 2.1.5 Send some mail and see"}
            await self._answer(command, known.get(command.verb, "500 5.5.2 Command not recognised"))

    async def _ehlo(self, command: Command) -> None:
        self._forget()
        self._helo_name = command.argument
        offers = ["PIPELINING"] if self._server.pipelining else []
        offers += ["8BITMIME", "SMTPUTF8", f"SIZE {self._server.max_message}", "ENHANCEDSTATUSCODES"]
        offers += ["CHUNKING"] if self._server.chunking else []
        offers += ["STARTTLS"] if self._server.tls is not None and not self._tls else []
        lines = [self._server.helo_name, *offers]
        await self._answer(command, "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}")

    async def _helo(self, command: Command) -> None:
        self._forget()
        self._helo_name = command.argument
        await self._answer(command, f"250 {self._server.helo_name}")

    async def _rset(self, command: Command) -> None:
        self._forget()
        await self._answer(command, "250 2.0.0 Ok")

    async def _starttls(self, command: Command) -> None:
        if self._server.tls is None or self._tls:
            await self._answer(command, "502 5.5.1 TLS is not available")
        elif await self._answer(command, "220 2.0.0 Go ahead") == 220:
            await self._writer.start_tls(self._server.tls)
            self._tls = True
            self._forget()

    async def _mail(self, command: Command) -> None:
        address, parameters = _path(command.argument, "FROM")
        size = re.search(r"\bSIZE=(\d+)", parameters, re.IGNORECASE)
        if not self._helo_name:
            refusal = "503 5.5.1 Say EHLO first"
        elif self._reverse_path is not None:
            refusal = "503 5.5.1 One mail at a time"
        elif address is None:
            refusal = "501 5.5.4 Syntax: MAIL FROM:<address>"
        elif size and int(size[1]) > self._server.max_message:
            refusal = "552 5.3.4 The message is too big"
        else:
            if _is_success(await self._answer(command, "250 2.1.0 Ok")):
                self._reverse_path = address
            return
        await self._answer(command, refusal)

    async def _rcpt(self, command: Command) -> None:
        address, _ = _path(command.argument, "TO")
        if self._reverse_path is None:
            await self._answer(command, "503 5.5.1 Say MAIL first")
        elif not address:
            await self._answer(command, "501 5.1.3 Syntax: RCPT TO:<address>")
        elif len(self._recipients) >= MAX_RECIPIENTS:
            await self._answer(command, "452 4.5.3 Too many recipients")
        elif _is_success(await self._answer(command, await self._reply_to_recipient(address, self._reverse_path))):
            self._recipients.append(address)

    async def _reply_to_recipient(self, address: str, reverse_path: str) -> str:
        asked = behaviour(local_part(address))
        await self._take_time(asked)
        if asked.reply is None or asked.async_ or asked.at_data:
            return "250 2.1.5 Ok"
        if asked.kind is Kind.GREYLIST and not self._server.is_greylisted(self._peer, reverse_path, address):
            return "250 2.1.5 Ok"
        return str(asked.reply)

    async def _data(self, command: Command) -> None:
        if not self._recipients:
            await self._answer(command, "503 5.5.1 Say RCPT first")
            return
        code = await self._answer(command, "354 End data with <CR><LF>.<CR><LF>")
        if not 300 <= code <= 399:
            return
        data = await self._read_message()
        await self._end_message(data)
        self._forget()

    async def _bdat(self, command: Command) -> None:
        """One chunk (RFC 3030 §2); its octets are read whatever the reply, or they would be taken for commands."""
        size, _, rest = command.argument.partition(" ")
        if not self._server.chunking or not (size.isascii() and size.isdigit()) or rest.upper() not in ("", "LAST"):
            await self._answer(command, "501 5.5.4 Syntax: BDAT size [LAST]")
            raise Hangup  # where the next command begins is unknown
        chunk = await self._read_chunk(int(size))
        if not self._recipients:
            await self._answer(command, "503 5.5.1 Say RCPT first")
            return
        self._chunks += chunk
        scripted = self._server.script(command) if self._server.script is not None else None
        if scripted is not None:
            await self._say(scripted)
        elif not rest:
            await self._say(f"250 2.0.0 {len(chunk)} octets")
        else:
            await self._end_message(bytes(self._chunks))
            self._forget()

    async def _read_chunk(self, size: int) -> bytes:
        """So many octets; of what exceeds the limit by far, only the count is kept."""
        kept = bytearray()
        async with asyncio.timeout(IDLE_SECONDS):
            while size:
                octets = await self._reader.readexactly(min(size, 65_536))
                size -= len(octets)
                if len(self._chunks) + len(kept) <= self._server.max_message:
                    kept += octets
        return bytes(kept)

    async def _end_message(self, data: bytes) -> None:
        end = Command(".", str(len(data)), self._tls)
        behaviours = [behaviour(local_part(recipient)) for recipient in self._recipients]
        for asked in behaviours:
            await self._take_time(asked)
        if any(asked.kind is Kind.DROP for asked in behaviours):
            raise Hangup
        refusal = self._refusal_at_data(data, behaviours)
        if refusal is not None:
            await self._answer(end, refusal)
        elif self._server.script is None or (scripted := self._server.script(end)) is None:
            await self._say(await self._accept(data))
        else:
            await self._say(scripted)  # the script decides, so the mail goes nowhere

    def _refusal_at_data(self, data: bytes, behaviours: list[Behaviour]) -> str | None:
        if len(data) > self._server.max_message:
            return "552 5.3.4 The message is too big"
        replies = [
            asked.reply
            for asked, recipient in zip(behaviours, self._recipients, strict=True)
            if asked.at_data and not asked.async_ and not self._may_pass(asked, recipient)
        ]
        return str(replies[0]) if replies else None

    def _may_pass(self, asked: Behaviour, recipient: str) -> bool:
        assert self._reverse_path is not None
        return asked.kind is Kind.GREYLIST and not self._server.is_greylisted(self._peer, self._reverse_path, recipient)

    async def _accept(self, data: bytes) -> str:
        assert self._reverse_path is not None
        mail = ReceivedMail(
            self._reverse_path,
            tuple(self._recipients),
            data,
            self._peer,
            self._helo_name,
            datetime.now(UTC),
            self._tls,
        )
        try:
            await self._server.accept(mail)
        except Exception as error:  # whatever the receiver's trouble is, the mail stays with its sender
            log.exception("sandbox mail not stored", reverse_path=mail.reverse_path)
            return f"451 4.3.0 Not stored: {clean(type(error).__name__)}"
        return "250 2.0.0 Ok: accepted by the sandbox"

    async def _read_message(self) -> bytes:
        """The message with its dots restored; only CRLF.CRLF ends it (no SMTP smuggling)."""
        lines = bytearray()
        while True:
            async with asyncio.timeout(IDLE_SECONDS):
                line = await self._reader.readuntil(b"\r\n")
            if line == b".\r\n":
                return bytes(lines)
            if len(lines) <= self._server.max_message:  # what exceeds it is read and forgotten
                lines += line[1:] if line.startswith(b".") else line

    async def _answer(self, command: Command, reply: str) -> int:
        """Write the script's answer or `reply`; returns the code."""
        scripted = self._server.script(command) if self._server.script is not None else None
        return await self._say(reply if scripted is None else scripted)

    async def _say(self, reply: str | bytes | Drip) -> int:
        if isinstance(reply, Drip):
            await self._drip(reply)
            reply = reply.reply
        else:
            reply = reply.encode() if isinstance(reply, str) else reply
            if not reply:
                raise Hangup
            self._writer.write(reply if reply.endswith(b"\n") else reply + b"\r\n")
            await self._writer.drain()
        code = reply[:3]
        return int(code) if code.isdigit() else 0

    async def _drip(self, drip: Drip) -> None:
        if not drip.reply:
            await self._reader.read()  # until the peer gives up
            raise Hangup
        for octet in drip.reply:
            self._writer.write(bytes([octet]))
            await self._writer.drain()
            await asyncio.sleep(drip.pause_seconds)

    async def _take_time(self, asked: Behaviour) -> None:
        if asked.kind is Kind.SLOW:
            await asyncio.sleep(self._server.slow_seconds)

    def _forget(self) -> None:
        self._reverse_path = None
        self._recipients = []
        self._chunks = bytearray()


def _path(argument: str, keyword: str) -> tuple[str | None, str]:
    """The address in `FROM:<…>` and the parameters after it; None for what is no path."""
    match = re.fullmatch(rf"{keyword}:\s*<([^<>]*)>\s*(.*)", argument, re.IGNORECASE)
    return (match[1], match[2]) if match else (None, "")


def local_part(address: str) -> str:
    return address.rpartition("@")[0]


def _is_success(code: int) -> bool:
    return 200 <= code <= 299
