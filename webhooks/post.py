"""One call: a POST to wherever a customer says, which may answer whatever it likes.

Bounds on all of it: 10 s to connect, 30 s overall, a few KB of headers and of the body. Nothing is followed, no proxy and
no cookie is used, every address is looked at when it is dialled (webhooks.guard), and certificates must be valid.
"""

import asyncio
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Any

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from django.conf import settings

from relay_project.mail.text import clean
from relay_project.net.resolver import LookupFailed, NameNotFound, Resolver
from relay_project.net.trust import verifying_context
from webhooks.guard import PRIVATE, guarded_socket, is_open
from webhooks.interim import Connector, TooManyHeads
from webhooks.verdict import Answer

CONNECT_SECONDS = 10.0  # look-up, TCP and TLS
TOTAL_SECONDS = 30.0
MAX_RESPONSE = 1024  # characters kept
MAX_OCTETS = 4 * MAX_RESPONSE  # read; no character takes more
IDLE_SECONDS = 2.0  # that a connection is kept for the next call: many servers close theirs after five
MAX_ADDRESSES = 3  # of a name and a family that one call tries; aiohttp comes back to some of them
MAX_HEADER = 8190  # octets of one; aiohttp refuses more than 128 of them
BUFFER = 2**12  # octets that arrive before anybody reads

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """What is sent."""

    url: str
    body: bytes
    headers: Mapping[str, str]


class Names(AbstractResolver):
    """Our own look-ups: the C library's block a thread each, and a slow nameserver of one customer's would hold them all."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host; raises OSError."""
        if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 §6.3: known without asking
            found = ["127.0.0.1", "::1"]
        else:
            try:
                found = await self._resolver.addresses(host)
            except LookupFailed as error:
                raise OSError(None, _said(error)) from None
        return [_resolved(host, port, address) for address in _dialled(found)]

    async def close(self) -> None:
        """The resolver is its owner's."""


def _dialled(found: Sequence[str]) -> list[str]:
    """Few of each family, or a nameserver would have us knock at hundreds of doors with one call."""
    sixes = [address for address in found if ":" in address]
    fours = [address for address in found if ":" not in address]
    return [address for several in (sixes, fours) for address in sorted(several, key=_is_closed)[:MAX_ADDRESSES]]


def _is_closed(address: str) -> bool:
    return not is_open(address)


def _resolved(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)


class Poster:
    """`async with Poster() as poster: await poster.post(call)`, in one event loop."""

    def __init__(self) -> None:
        self._resolver = Resolver(settings.DNS_RESOLVERS or None)
        connector = Connector(
            limit=0,  # the engine's lanes bound what is open
            resolver=Names(self._resolver),
            use_dns_cache=False,  # the resolver has one that keeps to the TTLs
            socket_factory=guarded_socket,
            ssl=verifying_context(settings.WEBHOOK_TRUST_FILE),
            keepalive_timeout=IDLE_SECONDS,
        )
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"{settings.PRODUCT_NAME}/{settings.VERSION}", "Content-Type": "application/json"},
            skip_auto_headers=("Accept-Encoding",),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=BUFFER,
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            trace_configs=[trace],
        )

    async def __aenter__(self) -> "Poster":
        """Its connections are its own."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close them."""
        await self._session.close()
        await self._resolver.aclose()

    async def post(self, call: Call) -> Answer:
        """The answer, or why there is none; never raises but when it is cancelled."""
        began = time.monotonic()
        context = SimpleNamespace(reused=False)
        try:
            try:
                answer = await self._call(call, context, TOTAL_SECONDS)
            except (aiohttp.ServerDisconnectedError, ConnectionResetError):
                if not context.reused:
                    raise
                # the receiver had closed a connection of before, as it may at any time; it has read nothing of this call
                left = TOTAL_SECONDS - (time.monotonic() - began)
                answer = await self._call(call, SimpleNamespace(reused=False), max(left, 0.001))
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            answer = Answer(0, _reason(error))
        except Exception as error:  # an unknown failure is tried again as any other
            log.exception("webhooks.post_failed")
            answer = Answer(0, clean(f"{type(error).__name__}: {error}", MAX_RESPONSE))
        return _timed(answer, began)

    async def _call(self, call: Call, context: SimpleNamespace, seconds: float) -> Answer:
        async with self._session.post(
            call.url,
            data=call.body,
            headers=call.headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=seconds, connect=CONNECT_SECONDS),
            trace_request_ctx=context,
        ) as response:
            text, is_whole = await _read(response)
            return Answer(
                response.status,
                text,
                is_whole,
                retry_after=response.headers.get("Retry-After"),
                location=clean(response.headers.get("Location", ""), 300) or None,
            )


async def _read(response: aiohttp.ClientResponse) -> tuple[str, bool]:
    """The beginning of the body, and whether it came whole or was cut by us; a longer one's connection is closed."""
    heard, is_whole = bytearray(), True
    try:
        while len(heard) < MAX_OCTETS:
            octets = await response.content.read(MAX_OCTETS - len(heard))
            if not octets:
                break
            heard += octets
    except (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError):
        is_whole = False
    if not is_whole or not response.content.at_eof():
        response.close()
    return clean(bytes(heard), MAX_RESPONSE), is_whole


async def _note_reuse(session: aiohttp.ClientSession, context: SimpleNamespace, params: Any) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.reused = True


def _reason(error: Exception) -> str:
    """Why there is no answer, for whoever owns the endpoint."""
    if PRIVATE in f"{error} {getattr(error, 'os_error', '')}":
        return PRIVATE
    if isinstance(error, TooManyHeads):
        return str(error)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"No connection within {CONNECT_SECONDS:g} s."
    if isinstance(error, TimeoutError):
        return f"No answer within {TOTAL_SECONDS:g} s."
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return clean(f"The certificate is not valid: {error.certificate_error}", MAX_RESPONSE)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return clean(error.os_error.strerror or "The name has no address.", MAX_RESPONSE)
    if isinstance(error, aiohttp.ClientConnectorError):
        return clean(f"No connection: {error.os_error.strerror or error.os_error}", MAX_RESPONSE)
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError):
        return "The connection was closed before an answer came."
    if isinstance(error, aiohttp.InvalidURL):
        return "This is no URL that can be called."
    said = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return clean(f"No answer in HTTP: {said or type(error).__name__}", MAX_RESPONSE)


def _said(error: LookupFailed) -> str:
    return (
        f"{error.name} does not exist." if isinstance(error, NameNotFound) else f"{error.name} was not found: {error}"
    )


def _timed(answer: Answer, began: float) -> Answer:
    took = int((time.monotonic() - began) * 1000)
    return Answer(answer.code, answer.text, answer.is_whole, answer.retry_after, answer.location, took)
