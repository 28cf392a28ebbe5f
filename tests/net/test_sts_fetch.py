"""net.sts_fetch against an HTTPS server on loopback that answers as it likes."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay_project.mail.mta_sts import MAX_POLICY, Mode
from relay_project.net.resolver import Resolver
from relay_project.net.sts_fetch import FetchFailed, fetch_policy
from relay_project.sandbox.certificate import server_context
from relay_project.sandbox.dns import SandboxDns

DOMAIN = "bank.test"
POLICY = b"version: STSv1\nmode: enforce\nmx: mx.sandbox.test\nmax_age: 86400\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
GOOD = OK + b"Content-Length: %d\r\n\r\n" % len(POLICY) + POLICY


class PolicyHost:
    """The HTTPS server; `answer` is what it sends, and `asked` what it was sent."""

    def __init__(self, *names: str) -> None:
        self.context, self.pem = server_context(*names)
        self.answer = GOOD
        self.closes = True
        self.asked: list[bytes] = []
        self.port = 0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.pem)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        try:
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            if not self.closes:
                await reader.read()
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["PolicyHost"]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0)


@pytest.fixture
async def host() -> AsyncIterator[PolicyHost]:
    async with PolicyHost(f"mta-sts.{DOMAIN}").running() as server:
        yield server


@pytest.fixture
async def resolver() -> AsyncIterator[Resolver]:
    async with SandboxDns() as dns:
        found = Resolver([(dns.address, dns.port)], timeout=0.5)
        yield found
        await found.aclose()


async def test_a_policy_is_fetched_from_its_well_known_place(host: PolicyHost, resolver: Resolver) -> None:
    policy = await fetch_policy(DOMAIN, resolver, port=host.port, allow_private=True, trust=host.trust)
    assert (policy.mode, policy.mx) == (Mode.ENFORCE, ("mx.sandbox.test",))
    [request] = host.asked
    assert request.startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.bank.test:")


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"\r\n" + POLICY,
        OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(POLICY) + POLICY + b"\r\n0\r\n\r\n",
        GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
        GOOD + b"trailing junk",
    ],
)
async def test_every_way_of_ending_an_answer_is_understood(host: PolicyHost, resolver: Resolver, answer: bytes) -> None:
    host.answer = answer
    assert (await fetch_policy(DOMAIN, resolver, port=host.port, allow_private=True, trust=host.trust)).max_age == 86400


async def test_a_server_that_does_not_close_is_not_waited_for(host: PolicyHost, resolver: Resolver) -> None:
    host.closes = False
    async with asyncio.timeout(2):
        await fetch_policy(DOMAIN, resolver, port=host.port, allow_private=True, trust=host.trust)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (GOOD.replace(b"200 OK", b"404 Not Found"), "404 Not Found"),
        (b"HTTP/1.1 301 Moved\r\nLocation: https://elsewhere.test/\r\n\r\n", "301 Moved"),
        (GOOD.replace(b"text/plain", b"text/html"), "type is text/html"),
        (GOOD.replace(b"STSv1", b"STSv9"), "version"),
        (OK + b"\r\n" + b"x" * (MAX_POLICY * 2), "longer"),
        (OK + b"Content-Length: 10\r\n\r\nshort", "not an answer in HTTP"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not an answer in HTTP"),
        (b"", "not an answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "not an answer in HTTP"),
    ],
)
async def test_what_is_no_policy_is_refused_with_its_reason(
    host: PolicyHost, resolver: Resolver, answer: bytes, reason: str
) -> None:
    host.answer = answer
    with pytest.raises(FetchFailed, match=reason):
        await fetch_policy(DOMAIN, resolver, port=host.port, allow_private=True, trust=host.trust)


async def test_a_server_that_says_nothing_costs_its_time_only(host: PolicyHost, resolver: Resolver) -> None:
    host.answer, host.closes = b"", False
    with pytest.raises(FetchFailed, match=r"no answer within 0\.3 s"):
        await fetch_policy(DOMAIN, resolver, port=host.port, allow_private=True, trust=host.trust, seconds=0.3)


async def test_the_certificate_must_be_for_the_policy_host(resolver: Resolver) -> None:
    async with PolicyHost("bank.test").running() as host:
        with pytest.raises(FetchFailed, match="certificate is not valid"):
            await fetch_policy(DOMAIN, resolver, port=host.port, allow_private=True, trust=host.trust)
        with pytest.raises(FetchFailed, match="certificate is not valid: self"):
            await fetch_policy(DOMAIN, resolver, port=host.port, allow_private=True)
        assert host.asked == []


async def test_no_request_goes_to_a_private_address_on_a_strangers_word(host: PolicyHost, resolver: Resolver) -> None:
    with pytest.raises(FetchFailed, match="not an address on the internet"):
        await fetch_policy(DOMAIN, resolver, port=host.port, trust=host.trust)
    assert host.asked == []


async def test_a_policy_host_that_cannot_be_found_or_reached_says_so(resolver: Resolver) -> None:
    with pytest.raises(FetchFailed, match="Connect"):
        await fetch_policy(DOMAIN, resolver, port=1, allow_private=True)
