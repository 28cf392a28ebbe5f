"""From an endpoint to a connection that can carry mail: dial, banner, EHLO, STARTTLS, EHLO again."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from _ssl import ENCODING_DER
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import cast

from relay_project.mail.reply import FailureKind, NetworkFailure, Reply, Stage
from relay_project.net.conversation import (
    ConversationFailed,
    Endpoint,
    Step,
    Timeouts,
    TlsInfo,
    TlsRequirement,
)
from relay_project.net.smtp_wire import Wire
from relay_project.net.trust import encrypting_context, opportunistic_context, verifying_context

# linux/in.h; lets the kernel choose the port at connect, when it knows the peer. Without it each source address has
# 28,000 ports for all peers together, and those of closed connections stay taken for a minute.
IP_BIND_ADDRESS_NO_PORT = 24

REFUSALS = (ConnectionRefusedError, ConnectionResetError)

Vouch = Callable[[Sequence[bytes]], str | None]  # of certificates in DER: why they are not the host's, or None

OK = range(200, 300)  # every 2yz is success (RFC 5321 §4.2.1); lesson C5


@dataclass(slots=True)
class Opening:
    """The attempt to open one connection; `run` raises ConversationFailed and leaves nothing open then."""

    endpoint: Endpoint
    source: str | None
    helo_name: str
    requirement: TlsRequirement
    timeouts: Timeouts
    deadline: float | None
    trust: ssl.SSLContext | None
    vouch: Vouch | None = None
    steps: list[Step] = field(default_factory=list)
    extensions: Mapping[str, str] = field(default_factory=dict)
    tls: TlsInfo | None = None
    wire: Wire | None = None

    async def run(self) -> Wire:
        """All steps; the wire is ready for MAIL afterwards."""
        try:
            self.wire = await self._dial()
            await self._greet()
            await self._secure()
        except BaseException:
            if self.wire is not None:
                self.wire.leave()
            raise
        return self.wire

    # dial

    async def _dial(self) -> Wire:
        begun = time.monotonic()
        command = f"connect {self.endpoint.address} port {self.endpoint.port}"
        command += f" from {self.source}" if self.source else ""
        try:
            async with asyncio.timeout(self._allowed(self.timeouts.connect)):
                self.wire = await self._connect()
        except OSError as error:  # TimeoutError is one
            self._note(Stage.DIAL, command, begun, None)
            raise self._failed(Stage.DIAL, failure=self._connect_failure(error)) from error
        replies = await self.wire.collect()
        reply = replies[0].reply if replies else None
        self._note(Stage.DIAL, command, begun, reply)
        self._check(Stage.DIAL, reply)
        return self.wire

    async def _connect(self) -> Wire:
        loop, wire = asyncio.get_running_loop(), Wire()
        sock = socket.socket(socket.AF_INET6 if ":" in self.endpoint.address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a group of commands is not to wait for an ACK
            if self.source:
                _choose_port_late(sock)
                sock.bind((self.source, 0))
            await loop.sock_connect(sock, (self.endpoint.address, self.endpoint.port))
            wire.expect((self.timeouts.banner,), self.deadline)
            await loop.create_connection(lambda: wire, sock=sock)
        except BaseException:
            wire.abort()
            sock.close()
            raise
        return wire

    def _connect_failure(self, error: OSError) -> NetworkFailure:
        where = f"{self.endpoint.address} port {self.endpoint.port}"
        if isinstance(error, TimeoutError) and error.errno is None:
            if self._is_late():
                return NetworkFailure(FailureKind.DEADLINE, f"no time left to connect to {where}")
            return NetworkFailure(FailureKind.TIMEOUT, f"no connection to {where} within {self.timeouts.connect:g} s")
        reason = os.strerror(error.errno) if error.errno else str(error)
        origin = f" from {self.source}" if self.source else ""
        kind = FailureKind.REFUSED if isinstance(error, REFUSALS) else FailureKind.CONNECT
        return NetworkFailure(kind, f"cannot connect to {where}{origin}: {reason}")

    # hello

    async def _greet(self) -> None:
        reply = await self._ask(Stage.HELLO, f"EHLO {self.helo_name}", self.timeouts.hello)
        if reply is not None and 500 <= reply.code <= 599:  # RFC 5321 §3.2: an older server
            reply = await self._ask(Stage.HELLO, f"HELO {self.helo_name}", self.timeouts.hello)
            self._check(Stage.HELLO, reply)
            self.extensions = {}
            return
        self.extensions = read_extensions(self._check(Stage.HELLO, reply))

    # starttls

    async def _secure(self) -> None:
        if self.requirement is TlsRequirement.NONE:
            return
        must = self.requirement >= TlsRequirement.ENCRYPTED
        if "STARTTLS" not in self.extensions:
            if must:
                raise self._tls_failed("the server does not offer STARTTLS")
            return
        reply = await self._ask(Stage.STARTTLS, "STARTTLS", self.timeouts.starttls)
        if reply is None or must or reply.code == 421:
            self._check(Stage.STARTTLS, reply)
        elif reply.code not in OK:
            return  # RFC 3207 §4: the client may go on in clear
        if self._wire.has_leftovers():
            raise self._tls_failed("the server sent something between its STARTTLS reply and the handshake")
        await self._handshake()
        await self._greet()  # what was said in clear is forgotten (RFC 3207 §4.2)

    async def _handshake(self) -> None:
        loop, begun = asyncio.get_running_loop(), time.monotonic()
        context = self._context()
        try:
            async with asyncio.timeout(self._allowed(self.timeouts.starttls)):
                transport = await loop.start_tls(
                    cast(asyncio.Transport, self._wire.transport),
                    self._wire,
                    context,
                    server_hostname=self._server_name(),
                )
        except TimeoutError as error:
            kind = FailureKind.DEADLINE if self._is_late() else FailureKind.TIMEOUT
            raise self._failed(
                Stage.STARTTLS, failure=NetworkFailure(kind, "the TLS handshake took too long")
            ) from error
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; ValueError: a name unfit for SNI
            raise self._tls_failed(f"TLS handshake: {_describe_tls(error)}") from error
        if transport is None:  # the peer was gone before the handshake began
            raise self._tls_failed("TLS handshake: the server closed the connection")
        self._wire.use_transport(transport)
        self._lengthen_last_step(time.monotonic() - begun)
        session = transport.get_extra_info("ssl_object")
        cipher = session.cipher()
        if self.vouch is not None and (reason := self.vouch(_certificates(session))):
            raise self._tls_failed(reason)
        verified = self.vouch is not None or context.verify_mode is ssl.CERT_REQUIRED
        self.tls = TlsInfo(session.version() or "", cipher[0] if cipher else "", verified)

    def _context(self) -> ssl.SSLContext:
        if self.requirement < TlsRequirement.ENCRYPTED:
            return opportunistic_context()
        if self.requirement is TlsRequirement.ENCRYPTED or self.vouch is not None:
            return encrypting_context()  # where TLSA records vouch, authorities do not count (RFC 7672 §3.1)
        return self.trust or verifying_context()

    def _server_name(self) -> str | None:
        """SNI takes names only; a certificate check against an address is left to OpenSSL."""
        host = self.endpoint.host.rstrip(".")
        if self.requirement is TlsRequirement.VERIFIED:
            return host
        return host if host and not _is_address(host) else None

    # what all steps use

    @property
    def _wire(self) -> Wire:
        assert self.wire is not None, "dial comes first"
        return self.wire

    async def _ask(self, stage: Stage, command: str, wait: float) -> Reply | None:
        begun = time.monotonic()
        replies = await self._wire.exchange(f"{command}\r\n".encode(), (wait,), self.deadline)
        reply = replies[0].reply if replies else None
        self._note(stage, command, begun, reply)
        return reply

    def _check(self, stage: Stage, reply: Reply | None) -> Reply:
        if reply is None:
            raise self._failed(stage, failure=self._wire.failure)
        if reply.code not in OK:
            raise self._failed(stage, reply=reply)
        return reply

    def _note(self, stage: Stage, command: str, begun: float, reply: Reply | None) -> None:
        self.steps.append(step_of(stage, command, time.monotonic() - begun, reply))

    def _lengthen_last_step(self, seconds: float) -> None:
        self.steps[-1] = self.steps[-1]._replace(duration_ms=self.steps[-1].duration_ms + seconds * 1000)

    def _failed(
        self, stage: Stage, reply: Reply | None = None, failure: NetworkFailure | None = None
    ) -> ConversationFailed:
        return ConversationFailed(stage, reply, failure, self.steps)

    def _tls_failed(self, text: str) -> ConversationFailed:
        return self._failed(Stage.STARTTLS, failure=NetworkFailure(FailureKind.TLS, text))

    def _allowed(self, seconds: float) -> float:
        return seconds if self.deadline is None else min(seconds, self.deadline - time.monotonic())

    def _is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline - 0.001


def step_of(stage: Stage, command: str, seconds: float, reply: Reply | None) -> Step:
    """One line of the transcript, with the enhanced status back in front of the text as the server had it."""
    if reply is None:
        return Step(stage, seconds * 1000, command, 0, "")
    text = f"{reply.enhanced} {reply.text}" if reply.enhanced else reply.text
    return Step(stage, seconds * 1000, command, reply.code, text)


def read_extensions(reply: Reply) -> dict[str, str]:
    """EHLO keywords in upper case with their parameters; the first line is a greeting (RFC 5321 §4.1.1.1)."""
    extensions = {}
    for line in reply.text.split("\n")[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        # "AUTH=LOGIN" and "SIZE=1000" are how servers of the nineties wrote it; only the first form is a keyword
        if keyword:
            extensions[keyword.upper()] = parameters.strip()
    return extensions


def _choose_port_late(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    except OSError:
        pass  # not Linux, or before 4.2: fewer ports, nothing else


def _certificates(session: ssl.SSLObject) -> list[bytes]:
    """What the server sent, in DER, its own certificate first."""
    # Public since Python 3.13; before, the object below has the same method and returns certificates.
    inner = session if hasattr(session, "get_unverified_chain") else session._sslobj  # type: ignore[attr-defined]
    chain = inner.get_unverified_chain() or ()
    return [one if isinstance(one, bytes) else one.public_bytes(ENCODING_DER) for one in chain]


def _describe_tls(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return str(error) or type(error).__name__


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
