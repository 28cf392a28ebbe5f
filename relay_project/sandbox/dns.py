"""A DNS server on loopback that stands in for the internet's: every domain has mail, on this machine.

MX of any name is `10 mx.<zone>`, A is 127.0.0.1, AAAA is empty, TXT comes from a callback. The first label can ask for
trouble: `nxdomain`, `servfail`, `timeout` (no response), `null-mx` (RFC 7505), `no-mx` (an address only), `two-hosts`
(the better one refuses connections), `truncated` (UDP answers say "ask over TCP").
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import structlog

TxtSource = Callable[[str], list[str] | Awaitable[list[str]]]

DEFAULT_ZONE = "sandbox.test"  # RFC 6761: .test never leaves the machine
SERVER_ADDRESS = "127.0.0.1"
DEAD_ADDRESS = "127.0.0.99"  # all of 127/8 is this machine, and nothing listens there
DEAD_LABEL = "dead"  # the host with that address
DEFAULT_TTL = 60  # seconds
MAX_UDP = 512  # octets without EDNS (RFC 1035 §4.2.1)
MAX_MESSAGE = 65_535  # octets over TCP (RFC 1035 §4.2.2)
TCP_IDLE_SECONDS = 10.0  # a client that asks nothing is let go (RFC 7766 §6.2.3)
MAX_TXT_STRING = 255  # octets of one string inside a TXT record (RFC 1035 §3.3)

log = structlog.get_logger(__name__)


class SandboxDns:
    """The server, as an asynchronous context; `port` is the same for UDP and TCP."""

    def __init__(
        self,
        address: str = SERVER_ADDRESS,
        port: int = 0,
        *,
        zone: str = DEFAULT_ZONE,
        ttl: int = DEFAULT_TTL,
        txt: TxtSource | None = None,
        mail_address: str = SERVER_ADDRESS,
    ) -> None:
        self.address = address
        self.port = port
        self.zone = zone
        self.ttl = ttl
        self.questions = 0  # answered or dropped
        self._txt = txt
        self._mail_address = mail_address
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on TCP and UDP; raises OSError when the port is taken."""
        self._tcp = await asyncio.start_server(self._serve_tcp, self.address, self.port)
        self.port = self._tcp.sockets[0].getsockname()[1]
        try:
            self._udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Datagrams(self), local_addr=(self.address, self.port)
            )
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening and drop what is unanswered."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # in this turn of the loop the transports let go of their sockets

    async def __aenter__(self) -> SandboxDns:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def respond(self, wire: bytes, max_size: int) -> bytes | None:
        """The response to one query in at most `max_size` octets; None for what deserves none."""
        self.questions += 1
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        if query.flags & dns.flags.QR or len(query.question) != 1:
            return None
        response = await self._answer(query)
        if response is None:
            return None
        if max_size < MAX_MESSAGE:
            if _first_label(query.question[0].name) == "truncated":
                response.flags |= dns.flags.TC
                response.answer.clear()
            max_size = max(max_size, query.payload)
        return response.to_wire(max_size=max_size, prefer_truncation=True)

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold on to a task until it ends, so that `stop` can cancel it."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        name, rdtype = query.question[0].name, query.question[0].rdtype
        trouble = _first_label(name)
        if trouble == "timeout":
            return None
        response = dns.message.make_response(query, recursion_available=True)
        rcodes = {"nxdomain": dns.rcode.NXDOMAIN, "servfail": dns.rcode.SERVFAIL}
        if trouble in rcodes:
            response.set_rcode(rcodes[trouble])
        else:
            records = await self._records(name, trouble, rdtype)
            if records:
                response.answer.append(dns.rrset.from_text(name, self.ttl, dns.rdataclass.IN, rdtype, *records))
        if not response.answer and trouble != "servfail":
            response.authority.append(self._soa(name))
        return response

    async def _records(self, name: dns.name.Name, trouble: str, rdtype: dns.rdatatype.RdataType) -> list[str]:
        """The records in zone-file form."""
        if rdtype == dns.rdatatype.A:
            return [DEAD_ADDRESS if trouble == DEAD_LABEL else self._mail_address]
        if rdtype == dns.rdatatype.MX:
            return self._mx(trouble)
        if rdtype == dns.rdatatype.TXT and self._txt is not None:
            found = self._txt(name.to_text(omit_final_dot=True).lower())
            texts = await found if inspect.isawaitable(found) else found
            return [_quote(text) for text in texts]
        return []

    def _mx(self, trouble: str) -> list[str]:
        host = f"10 mx.{self.zone}."
        special = {"null-mx": ["0 ."], "no-mx": [], "two-hosts": [f"5 {DEAD_LABEL}.{self.zone}.", host]}
        return special.get(trouble, [host])

    def _soa(self, name: dns.name.Name) -> dns.rrset.RRset:
        """Says how long "there is none" may be kept (RFC 2308 §3); the parent plays the zone."""
        apex = name if name == dns.name.root else name.parent()
        text = f"ns.{self.zone}. hostmaster.{self.zone}. 1 3600 600 86400 {self.ttl}"
        return dns.rrset.from_text(apex, self.ttl, dns.rdataclass.IN, dns.rdatatype.SOA, text)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.keep(cast("asyncio.Task[None]", asyncio.current_task()))
        try:
            while True:
                async with asyncio.timeout(TCP_IDLE_SECONDS):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    wire = await reader.readexactly(size)
                response = await self.respond(wire, MAX_MESSAGE)
                if response is not None:
                    writer.write(len(response).to_bytes(2, "big") + response)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away or fell asleep: nothing is owed to it
        except asyncio.CancelledError:
            writer.transport.abort()  # by stop(); not raised again, since Python 3.11's streams log a cancelled handler
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: SandboxDns) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.keep(asyncio.create_task(self._respond(data, addr)))

    async def _respond(self, data: bytes, addr: tuple[str, int]) -> None:
        response = await self._server.respond(data, MAX_UDP)
        if response is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(response, addr)


def _first_label(name: dns.name.Name) -> str:
    return name.labels[0].decode("ascii", "replace").lower()


def _quote(text: str) -> str:
    """A TXT record in zone-file form, in strings of at most 255 octets."""
    raw = text.encode()
    strings = [raw[at : at + MAX_TXT_STRING] for at in range(0, len(raw), MAX_TXT_STRING)] or [b""]
    return " ".join('"' + "".join(f"\\{octet:03d}" for octet in string) + '"' for string in strings)
