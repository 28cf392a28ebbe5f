"""Fetching an MTA-STS policy over HTTPS (RFC 8461 §3.3): one GET to a host that a stranger names.

So nothing is followed, nothing is believed and nothing is large: the name is looked up once and the address that was
looked at is the one dialled, private addresses are refused, the certificate must be for the policy host, and time and
octets are bounded.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import re
import socket
import ssl
from typing import cast

from relay_project.mail.mta_sts import MAX_POLICY, POLICY_HOST, POLICY_PATH, InvalidPolicy, Policy, parse_policy
from relay_project.mail.text import clean
from relay_project.net.addresses import AddressKind, kind_of
from relay_project.net.resolver import LookupFailed, Resolver
from relay_project.net.trust import verifying_context

HTTPS_PORT = 443
FETCH_SECONDS = 10.0  # for the whole of it; RFC 8461 §3.3 suggests a minute, while mail waits for it here
MAX_HEADERS = 16_384  # octets
MAX_ADDRESSES = 3  # of the policy host that are tried
_CHUNK = 16_384
_LENGTH = re.compile(rb"\r\nContent-Length:[ \t]*([0-9]{1,9})[ \t]*(?=\r\n|\Z)", re.IGNORECASE)


class FetchFailed(ConnectionError):
    """There is no policy to be had now; the message says why."""


async def fetch_policy(
    domain: str,
    resolver: Resolver,
    *,
    port: int = HTTPS_PORT,
    allow_private: bool = False,
    trust: ssl.SSLContext | None = None,
    seconds: float = FETCH_SECONDS,
) -> Policy:
    """The policy that `domain` publishes; raises FetchFailed. `trust` replaces the system's certificates."""
    host = f"{POLICY_HOST}.{domain}"
    try:
        async with asyncio.timeout(seconds):
            addresses = await _addresses(host, resolver, allow_private)
            answer = await _ask(host, addresses, port, trust or verifying_context())
        return parse_policy(_body(answer))
    except TimeoutError:
        raise FetchFailed(f"{host}: no answer within {seconds:g} s") from None
    except InvalidPolicy as error:
        raise FetchFailed(f"{host}: what it serves is no policy: {error}") from None
    except (http.client.HTTPException, ValueError) as error:
        raise FetchFailed(f"{host}: not an answer in HTTP: {clean(str(error) or type(error).__name__, 100)}") from None


async def _addresses(host: str, resolver: Resolver, allow_private: bool) -> list[str]:
    try:
        found = await resolver.addresses(host)
    except LookupFailed as error:
        raise FetchFailed(str(error)) from None
    usable = [address for address in found if allow_private or kind_of(address) is AddressKind.PUBLIC]
    if not usable:
        reason = "has no address" if not found else f"is at {found[0]}, which is not an address on the internet"
        raise FetchFailed(f"{host} {reason}")
    return usable[:MAX_ADDRESSES]


async def _ask(host: str, addresses: list[str], port: int, context: ssl.SSLContext) -> bytes:
    """The answer of the first address that can be reached."""
    trouble = ""
    for address in addresses:
        try:
            return await _get(host, address, port, context)
        except ssl.SSLCertVerificationError as error:
            trouble = f"its certificate is not valid: {error.verify_message}"
        except OSError as error:
            trouble = f"{address} port {port}: {error.strerror or error}"
    raise FetchFailed(f"{host}: {trouble}")


async def _get(host: str, address: str, port: int, context: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=host)
    try:
        where = host if port == HTTPS_PORT else f"{host}:{port}"
        lines = (f"GET {POLICY_PATH} HTTP/1.1", f"Host: {where}", "User-Agent: relay", "Accept: text/plain")
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode("ascii"))
        return await _read(reader)
    finally:
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """All that is sent, at most what a policy and its headers may take."""
    heard = bytearray()
    while octets := await reader.read(_CHUNK):
        heard += octets
        if len(heard) > MAX_HEADERS + MAX_POLICY:
            raise InvalidPolicy(f"it is longer than {MAX_POLICY} octets")
        if _is_whole(heard):
            break
    return bytes(heard)


def _is_whole(heard: bytearray) -> bool:
    """The answer is there although the server, which was asked to, does not close."""
    head, _, body = heard.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")


class _Heard:
    """What http.client takes for a socket."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._octets)


def _body(answer: bytes) -> bytes:
    """The policy's octets; raises InvalidPolicy, HTTPException or ValueError."""
    response = http.client.HTTPResponse(cast(socket.socket, _Heard(answer)), method="GET")
    response.begin()
    if response.status != http.client.OK:  # redirects among them: RFC 8461 §3.3 forbids to follow
        raise InvalidPolicy(f"the answer is {response.status} {clean(response.reason, 60)}".strip())
    kind = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    if kind != "text/plain":
        raise InvalidPolicy(f"its type is {clean(kind, 60) or 'not given'} and not text/plain")
    return response.read()  # bounded by what was read; raises IncompleteRead for half a policy
