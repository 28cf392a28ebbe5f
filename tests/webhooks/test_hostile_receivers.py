"""Receivers and nameservers that mean harm: raw sockets, TLS and DNS on loopback; nothing is dialled beyond it (lesson S2)."""

import asyncio
import gzip
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay_project.net.trust import verifying_context
from tests.mail.test_tlsa import Authority, make
from tests.net.test_resolver import Scripted, response
from webhooks import interim, post
from webhooks.guard import PRIVATE
from webhooks.interim import TOO_MANY
from webhooks.post import Call, Poster
from webhooks.verdict import Answer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
NAME = "hooks.example"

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def opened(settings: Any) -> None:
    """One address of loopback stands for the internet."""
    settings.WEBHOOK_OPEN_NETWORKS = [ip_network("127.0.0.1/32")]
    settings.PRIVATE_WEBHOOKS = False
    settings.DNS_RESOLVERS = [("127.0.0.1", 1)]


@asynccontextmanager
async def receiver(behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server that does that with each request it has read."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behaviour(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def hear(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(2)


def answering(octets: bytes) -> Behaviour:
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)
        writer.write(octets)
        await writer.drain()

    return behaviour


async def call(poster: Poster, port: int, host: str = "127.0.0.1", scheme: str = "http") -> Answer:
    return await poster.post(Call(f"{scheme}://{host}:{port}/", b"{}", {}))


async def called(behaviour: Behaviour) -> Answer:
    async with receiver(behaviour) as port, Poster() as poster:
        return await call(poster, port)


# --- What they answer ------------------------------------------------------------------------------------------------


async def test_interim_answers_without_end_are_cut_at_once() -> None:
    """They cost the loop of all calls its time, and the process 50 MB a second, for as long as a call may take."""

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)
        while True:
            writer.write(HINTS * 1000)
            await writer.drain()

    began = time.monotonic()
    answer = await called(flood)
    assert (answer.code, answer.text) == (0, TOO_MANY)
    assert time.monotonic() - began < 2


async def test_a_few_interim_answers_are_passed_over_in_each_call_of_a_connection() -> None:
    async def polite(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await hear(reader)
            writer.write(HINTS * (interim.MOST_HEADS - 1) + OK)

    async with receiver(polite) as port, Poster() as poster:
        assert [(await call(poster, port)).code for _ in range(3)] == [200] * 3


async def test_the_second_try_of_a_kept_connection_has_what_is_left_of_the_time(monkeypatch: Any) -> None:
    """One call takes no longer than it may, although its connection was closed under it late."""
    monkeypatch.setattr(post, "TOTAL_SECONDS", 0.4)
    connections = 0

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await hear(reader)
        if connections == 1:
            writer.write(OK)
            await hear(reader)
            await asyncio.sleep(0.3)
            return  # and closes
        await asyncio.sleep(5)

    async with receiver(late) as port, Poster() as poster:
        assert (await call(poster, port)).is_success
        answer = await call(poster, port)
    assert (answer.code, connections) == (0, 2)
    assert answer.duration_ms < 650


async def test_octet_by_octet_nobody_gets_beyond_the_whole_time(monkeypatch: Any) -> None:
    monkeypatch.setattr(post, "TOTAL_SECONDS", 0.3)

    def trickle(begin: bytes) -> Behaviour:
        async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await hear(reader)
            writer.write(begin)
            while True:
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(0.02)

        return behaviour

    head = await called(trickle(b"HTTP/1.1 200 OK\r\nX-Slow: "))
    assert (head.code, head.text) == (0, "No answer within 0.3 s.")
    body = await called(trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"))
    assert (body.code, body.is_success) == (200, False)
    assert body.words.startswith("The answer broke off. aaa")
    assert max(head.duration_ms, body.duration_ms) < 1500


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", 0),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 2**20 + b"\r\n\r\n", 0),
        (b"<html>it works</html>\r\n\r\n", 0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\nhello\r\n0\r\n\r\n", 0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc", 0),
        (b"HTTP/1.1 99999 OK\r\nContent-Length: 2\r\n\r\nok", 0),
        (b"HTTP/1.1 999 What\r\nContent-Length: 2\r\n\r\nok", 999),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nok", 101),
        (b"HTTP/1.1 302 Found\r\nLocation: http://a\0b/\xff\r\nContent-Length: 0\r\n\r\n", 0),
        (b"HTTP/1.1 308 Moved\r\nLocation: http://127.0.0.1:1/<script>\xff\r\nContent-Length: 0\r\n\r\n", 308),
    ],
    ids=["headers", "header", "http0.9", "chunks", "length", "99999", "999", "101", "nul", "308"],
)
async def test_what_is_no_good_answer_is_a_failure_that_can_be_stored(octets: bytes, code: int) -> None:
    """Lesson C11."""
    answer = await called(answering(octets))
    assert (answer.code, answer.is_success) == (code, False)
    answer.words.encode()
    assert "\0" not in answer.words
    assert "url=" not in answer.words


async def test_packed_answers_stay_packed() -> None:
    """A kilobyte of what came is kept, and nothing is unpacked to a gigabyte."""
    bomb = gzip.compress(b"a" * 2**20)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    answer = await called(answering(head + bomb))
    assert answer.is_success
    assert "aa" not in answer.text


# --- TLS -------------------------------------------------------------------------------------------------------------


def tls_of(authority: Authority, folder: Path) -> ssl.SSLContext:
    key = authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(key + authority.certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


async def test_only_a_valid_certificate_of_the_name_is_called(tmp_path: Path, settings: Any) -> None:
    now, day = datetime.now(UTC), timedelta(days=1)
    root = make(("Root of test",), since=now - 9 * day, until=now + day)
    (tmp_path / "root.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
    settings.WEBHOOK_TRUST_FILE = str(tmp_path / "root.pem")
    verifying_context.cache_clear()
    dates = {"since": now - 3 * day, "until": now + day}
    servers = {
        "good": root.issue(NAME, **dates),
        "another name": root.issue("other.example", **dates),
        "expired": root.issue(NAME, since=now - 3 * day, until=now - day),
        "self-signed": make((NAME,), ca=False, **dates),
    }
    said: dict[str, tuple[int, str]] = {}
    async with Scripted(lambda query: response(query, (f"{NAME}.", "A", "127.0.0.1"))) as dns:
        settings.DNS_RESOLVERS = [("127.0.0.1", dns.port)]
        for what, authority in servers.items():
            async with receiver(answering(OK), tls_of(authority, tmp_path)) as port, Poster() as poster:
                answer = await call(poster, port, NAME, "https")
                said[what] = (answer.code, answer.text)
    assert said.pop("good") == (200, "ok")
    assert {code for code, _ in said.values()} == {0}
    assert all(text.startswith("The certificate is not valid: ") for _, text in said.values()), said


async def test_a_handshake_that_never_comes_counts_as_connecting(monkeypatch: Any) -> None:
    monkeypatch.setattr(post, "CONNECT_SECONDS", 0.2)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    async with receiver(silent) as port, Poster() as poster:
        answer = await call(poster, port, scheme="https")
    assert (answer.code, answer.text) == (0, "No connection within 0.2 s.")


# --- DNS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def dialled(monkeypatch: Any) -> list[str]:
    """Where sockets were made for, by the guard."""
    made: list[str] = []
    real = socket.socket

    def noted(family: int, kind: int, protocol: int) -> socket.socket:
        made.append(str(family))
        return real(family, kind, protocol)

    monkeypatch.setattr("webhooks.guard.socket", type("Sockets", (), {"socket": staticmethod(noted)}))
    return made


PLACES = [
    ("A", "169.254.169.254"), ("A", "127.0.0.2"), ("A", "0.0.0.0"), ("A", "10.0.0.1"), ("A", "168.63.129.16"),
    ("AAAA", "::1"), ("AAAA", "::ffff:127.0.0.2"), ("AAAA", "::ffff:a9fe:a9fe"), ("AAAA", "64:ff9b::7f00:1"),
    ("AAAA", "fd00::1"), ("AAAA", "fec0::2"), ("AAAA", "2002:7f00:1::"), ("AAAA", "::ffff:0:7f00:1"),
]  # fmt: skip


async def test_whatever_a_nameserver_says_at_the_second_look_no_socket_is_made(
    settings: Any, dialled: list[str], monkeypatch: Any
) -> None:
    """Public when it is stored and first called, private from then on; by A, AAAA and a chain of CNAMEs, with a TTL of 0."""
    place = ("A", "127.0.0.1")

    def answers(query: Any) -> Any:
        question = query.question[0]
        chain = [(f"{NAME}.", "CNAME", "a.example."), ("a.example.", "CNAME", "b.example.")]
        kind = "AAAA" if question.rdtype == 28 else "A"
        last = [("b.example.", *place)] if kind == place[0] else []
        return response(query, *chain, *last, ("example.", "SOA", "a. b. 1 1 1 1 0"), ttl=0)

    async with Scripted(answers) as dns, receiver(answering(OK)) as port:
        settings.DNS_RESOLVERS = [("127.0.0.1", dns.port)]
        async with Poster() as poster:
            monkeypatch.setattr(poster._session.connector, "_keepalive_timeout", 0.0)
            first = await call(poster, port, f"{NAME}.")
            assert first.is_success
            assert len(dialled) == 1
            for place in PLACES:
                answer = await call(poster, port, NAME)
                assert (answer.code, answer.text) == (0, PRIVATE), place
    assert len(dialled) == 1


async def test_of_many_addresses_only_the_open_ones_are_dialled(settings: Any, dialled: list[str]) -> None:
    """Happy eyeballs try one after the other, each through the same door."""
    closed = [(f"{NAME}.", "A", f"10.0.0.{n}") for n in range(1, 20)] + [(f"{NAME}.", "A", "169.254.169.254")]

    def answers(query: Any) -> Any:
        return response(query, *([*closed, (f"{NAME}.", "A", "127.0.0.1")] if query.question[0].rdtype == 1 else []))

    async with Scripted(answers) as dns, receiver(answering(OK)) as port:
        settings.DNS_RESOLVERS = [("127.0.0.1", dns.port)]
        async with Poster() as poster:
            answer = await call(poster, port, NAME)
    assert answer.is_success
    assert len(dialled) == 1


async def test_a_nameserver_does_not_have_many_doors_knocked_at(settings: Any, dialled: list[str]) -> None:
    settings.WEBHOOK_OPEN_NETWORKS = [ip_network("127.0.0.0/8")]
    many = [(f"{NAME}.", "A", f"127.0.1.{n}") for n in range(1, 200)]  # nobody listens at any

    def answers(query: Any) -> Any:
        return response(query, *(many if query.question[0].rdtype == 1 else []))

    async with Scripted(answers) as dns, receiver(answering(OK)) as port:
        settings.DNS_RESOLVERS = [("127.0.0.1", dns.port)]
        async with Poster() as poster:
            answer = await call(poster, port, NAME)
    assert answer.text.startswith("No connection: ")
    assert post.MAX_ADDRESSES <= len(dialled) <= 2 * post.MAX_ADDRESSES, "thousands, of a name with so many addresses"


async def test_odd_spellings_of_this_machine_lead_nowhere(settings: Any, dialled: list[str]) -> None:
    """As they may stand in a row of before a rule; the door does not believe what a URL looks like."""
    settings.WEBHOOK_OPEN_NETWORKS = []
    hosts = ("2130706433", "0x7f.1", "127.1", "[::ffff:a9fe:a9fe]", "localhost.", "a@127.0.0.1", "0", "127.0.0.1.")
    async with Scripted(lambda query: response(query, (str(query.question[0].name), "A", "127.0.0.1"))) as dns:
        settings.DNS_RESOLVERS = [("127.0.0.1", dns.port)]
        async with Poster() as poster:
            answers = [await call(poster, 80, host) for host in hosts]
    assert {(answer.code, answer.text) for answer in answers} == {
        (0, PRIVATE),
        (0, "This is no URL that can be called."),
    }
    assert dialled == []
