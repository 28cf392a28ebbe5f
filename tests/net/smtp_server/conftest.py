"""A server with a reception that remembers, and a client that says exactly what it is told to."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from relay_project.mail.reply import Reply, parse_reply
from relay_project.net.smtp_server.certificates import Certificates
from relay_project.net.smtp_server.limits import Limits
from relay_project.net.smtp_server.listener import Listener
from relay_project.net.smtp_server.model import Mail, Peer, Service, SmtpReply
from relay_project.net.smtp_server.server import SmtpServer

PATIENCE = 5.0  # seconds; nothing takes as long unless it hangs
SECRET = "0123456789abcdef"
TAKEN = SmtpReply(250, "2.0.0", "taken")


@dataclass
class Recorder:
    """Takes everything; what a test sets decides otherwise."""

    mails: list[Mail] = field(default_factory=list)
    asked: list[tuple] = field(default_factory=list)
    refusals: dict[str, SmtpReply] = field(default_factory=dict)  # by address
    answer: SmtpReply = TAKEN
    wait: asyncio.Event | None = None  # a mail is answered when it is set
    login_answer: object = None
    error: Exception | None = None

    async def login(self, peer: Peer, name: str, secret: str) -> object | SmtpReply:
        self.asked.append(("login", peer, name, secret))
        if self.login_answer is not None:
            return self.login_answer
        return f"login of {name}" if secret == SECRET else SmtpReply(535, "5.7.8", "Wrong key")

    async def sender(self, peer: Peer, login: object, address: str, size: int | None) -> SmtpReply | None:
        self.asked.append(("sender", peer, login, address, size))
        return self.refusals.get(address)

    async def recipient(self, peer: Peer, login: object, mail_from: str, address: str) -> SmtpReply | None:
        self.asked.append(("recipient", peer, login, mail_from, address))
        return self.refusals.get(address)

    async def message(self, mail: Mail) -> SmtpReply:
        if self.wait is not None:
            await self.wait.wait()
        if self.error is not None:
            raise self.error
        self.mails.append(mail)
        return self.answer


class Client:
    """One connection, octet by octet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def reply(self) -> Reply:
        """The next whole reply."""
        lines = []
        async with asyncio.timeout(PATIENCE):
            while not lines or lines[-1][3:4] == b"-":
                line = await self._reader.readline()
                if not line:
                    raise EOFError("the server has hung up")
                lines.append(line)
        return parse_reply(lines)

    async def ask(self, command: bytes) -> Reply:
        await self.send(command + b"\r\n")
        return await self.reply()

    async def codes(self, count: int) -> list[int]:
        return [(await self.reply()).code for _ in range(count)]

    async def begin_mail(self, sender: bytes = b"a@x.test", recipient: bytes = b"b@y.test") -> None:
        """Up to the 354."""
        await self.send(b"MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n" % (sender, recipient))
        assert await self.codes(3) == [250, 250, 354]

    async def start_tls(self) -> None:
        """After STARTTLS's 220."""
        async with asyncio.timeout(PATIENCE):
            await self._writer.start_tls(insecure())

    async def log_in(self) -> None:
        """EHLO, STARTTLS and AUTH."""
        await self.ask(b"EHLO client.test")
        assert (await self.ask(b"STARTTLS")).code == 220
        await self.start_tls()
        await self.ask(b"EHLO client.test")
        assert (await self.ask(b"AUTH PLAIN " + plain("shop", SECRET))).code == 235

    async def is_hung_up_on(self) -> bool:
        """Whether nothing more comes but the end."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self._reader.read() == b""
            except ConnectionError:
                return True

    def hang_up(self) -> None:
        self._writer.transport.abort()


def plain(name: str, secret: str) -> bytes:
    import base64

    return base64.b64encode(f"\0{name}\0{secret}".encode())


def insecure() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass
class Served:
    """A running server and its reception."""

    server: SmtpServer
    reception: Recorder
    clients: list[Client] = field(default_factory=list)

    def port(self, service: Service) -> int:
        return next(listener.port for listener in self.server.listeners if listener.service is service)

    async def connect(
        self, service: Service = Service.MX, *, greeted: bool = True, first: bytes = b"", source: str = "127.0.0.1"
    ) -> Client:
        tls = insecure() if service is Service.SUBMISSIONS and not first else None
        async with asyncio.timeout(PATIENCE):
            streams = await asyncio.open_connection("127.0.0.1", self.port(service), ssl=tls, local_addr=(source, 0))
        client = Client(*streams)
        self.clients.append(client)
        if first:
            await client.send(first)
        if greeted:
            assert (await client.reply()).code == 220
            if service is Service.MX:
                assert (await client.ask(b"EHLO client.test")).code == 250
        return client


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    return Certificates("mx.test")


@pytest.fixture
def serve(certificates) -> Serve:
    """`async with serve(limit=…) as served:`"""

    @asynccontextmanager
    async def run(drain_seconds: float = 0.0, **limits) -> AsyncIterator[Served]:
        reception = Recorder()
        server = SmtpServer(
            dict.fromkeys(Service, reception),
            [Listener(service, "127.0.0.1", 0) for service in Service],
            Limits(**limits),
            certificates,
            hostname="mx.test",
            domain="instance.test",
        )
        await server.start()
        served = Served(server, reception)
        try:
            yield served
        finally:
            for client in served.clients:
                client.hang_up()
            await server.stop(drain_seconds)

    return run
