"""An SMTP server on loopback that takes mail for any domain and behaves as the local part asks (mail.simulator).

    async with SandboxSmtp("127.0.0.1", received=store) as server:
        ... server.port ...

What it advertises it does: PIPELINING (input is buffered and answered in order), 8BITMIME, SMTPUTF8, SIZE, CHUNKING,
ENHANCEDSTATUSCODES, and STARTTLS where it has a TLS context. Nothing is stored here; `received` gets each mail before
the 250, so that an exception there is a 451 and no mail is lost. A `script` may answer in the server's place.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import TracebackType

import aiosmtplib
import structlog

from relay_project.mail.simulator import Behaviour, behaviour
from relay_project.sandbox import reports
from relay_project.sandbox.dns import DEFAULT_ZONE, SERVER_ADDRESS
from relay_project.sandbox.smtp_session import CUT, SILENCE, Command, Drip, ReceivedMail, Session, local_part

__all__ = ["CUT", "SILENCE", "Command", "Drip", "ReceivedMail", "SandboxSmtp"]

MAX_MESSAGE = 26_214_400  # octets, 25 MiB as large providers allow; advertised as SIZE
MAX_LINE = 65_536  # octets; RFC 5321 §4.5.3.1.6 allows 1,000, and tests send longer ones
MAX_GREYLISTED = 10_000  # triplets remembered
DEFAULT_SLOW_SECONDS = 2.0
REPORT_TRIES = 3

log = structlog.get_logger(__name__)


Received = Callable[[ReceivedMail], Awaitable[None]]
Script = Callable[[Command], str | bytes | Drip | None]
Route = Callable[[str], Awaitable[tuple[str, int] | None]]


class SandboxSmtp:
    """The server, as an asynchronous context.

    `route` gives address and port of a domain's MX for the reports, None for those it does not know; without it none
    are sent. `slow_seconds` is what `slow` mailboxes take for each reply; `report_seconds` passes before a report.
    """

    def __init__(
        self,
        address: str = SERVER_ADDRESS,
        port: int = 0,
        *,
        received: Received | None = None,
        route: Route | None = None,
        script: Script | None = None,
        tls: ssl.SSLContext | None = None,
        helo_name: str = f"mx.{DEFAULT_ZONE}",
        slow_seconds: float = DEFAULT_SLOW_SECONDS,
        report_seconds: float = 0.5,
        pipelining: bool = True,
        chunking: bool = True,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        self.address = address
        self.port = port
        self.helo_name = helo_name
        self.tls = tls
        self.slow_seconds = slow_seconds
        self.max_message = max_message
        self.pipelining = pipelining
        self.chunking = chunking
        self.connections = 0  # taken since the start
        self._received = received
        self._route = route
        self.script = script
        self._report_seconds = report_seconds
        self._greylisted: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._serve, self.address, self.port, limit=MAX_LINE)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, cut the conversations and forget the reports that have not left."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # in this turn of the loop the transports let go of their sockets

    async def __aenter__(self) -> SandboxSmtp:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def is_greylisted(self, peer: str, reverse_path: str, recipient: str) -> bool:
        """The first try of a peer, sender's domain and recipient is refused, the next ones are not.

        The domain and not the whole reverse path, since ours differs with each attempt.
        """
        triplet = (peer, reverse_path.rpartition("@")[2].lower(), recipient.lower())
        if triplet in self._greylisted:
            return False
        self._greylisted[triplet] = None
        if len(self._greylisted) > MAX_GREYLISTED:
            self._greylisted.popitem(last=False)
        return True

    async def accept(self, mail: ReceivedMail) -> None:
        """Hand the mail to its receiver, then see to the reports that its recipients ask for."""
        if self._received is not None:
            await self._received(mail)
        for recipient in mail.recipients:
            asked = behaviour(local_part(recipient))
            if asked.async_ and mail.reverse_path and self._route is not None:
                self._start(self._report(mail, recipient, asked))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await Session(self, reader, writer).run()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the peer went away, fell silent or sent a line without end: nothing is owed to it
        except asyncio.CancelledError:
            writer.transport.abort()  # by stop(); not raised again, since Python 3.11's streams log a cancelled handler
        finally:
            self._tasks.discard(task)
            writer.close()

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _report(self, mail: ReceivedMail, recipient: str, asked: Behaviour) -> None:
        for _ in range(REPORT_TRIES):
            await asyncio.sleep(self._report_seconds)
            try:
                await self._send_report(mail, recipient, asked)
            except (OSError, aiosmtplib.SMTPException) as error:
                log.warning("report not sent", recipient=recipient, error=str(error))
            else:
                return

    async def _send_report(self, mail: ReceivedMail, recipient: str, asked: Behaviour) -> None:
        assert self._route is not None
        where = await self._route(mail.reverse_path.rpartition("@")[2])
        if where is None:
            log.warning("report has no way back", recipient=recipient)
            return
        about = reports.Reported(mail.reverse_path, recipient, mail.data, mail.peer, mail.helo_name, mail.received_at)
        now = datetime.now(UTC)
        raw = (
            reports.bounce(about, asked.reply, self.helo_name, now)
            if asked.reply
            else reports.complaint(about, self.helo_name, now)
        )
        client = aiosmtplib.SMTP(hostname=where[0], port=where[1], local_hostname=self.helo_name, start_tls=False)
        async with client:
            # the null reverse path: nobody answers a report (RFC 5321 §4.5.5)
            await client.sendmail("", [mail.reverse_path], raw)
