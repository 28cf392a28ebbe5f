"""STARTTLS, TLS from the first octet, certificates that change, and the PROXY protocol in front of it all."""

import asyncio
import os
import socket
import ssl
import struct
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from relay_project.net import self_signed
from relay_project.net.smtp_server.certificates import Certificates
from relay_project.net.smtp_server.model import Service
from relay_project.net.smtp_server.proxy import V2
from tests.net.smtp_server.conftest import SECRET, insecure, plain

LOOPBACK = (ip_network("127.0.0.0/8"),)


def write_certificate(folder: Path, name: str) -> tuple[str, str]:
    """Files of a certificate for a name and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    from datetime import UTC, datetime

    certificate = self_signed._sign(key, (name,), datetime.now(UTC))
    files = folder / "chain.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    for file in files:
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    return str(files[0]), str(files[1])


def name_shown(context: ssl.SSLContext) -> str:
    """The name in the certificate that a server's context shows, asked for by a handshake in memory."""
    client_in, client_out = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(client_out, client_in, server_side=True)
    client = insecure().wrap_bio(client_in, client_out)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    shown = x509.load_der_x509_certificate(client.getpeercert(binary_form=True))
    return shown.subject.rfc4514_string().removeprefix("CN=")


@pytest.mark.parametrize("service", [Service.MX, Service.SUBMISSION])
async def test_what_is_sent_in_clear_text_behind_starttls_is_forgotten(serve, service) -> None:
    """CVE-2011-0411: command injection. The next thing answered is what came within TLS."""
    async with serve() as served:
        client = await served.connect(service)
        await client.ask(b"EHLO client.test")
        await client.send(b"STARTTLS\r\nMAIL FROM:<evil@x.test>\r\nRCPT TO:<victim@y.test>\r\n")
        assert (await client.reply()).code == 220
        await client.start_tls()
        assert (await client.ask(b"NOOP")).code == 250
        assert (await client.ask(b"RCPT TO:<victim@y.test>")).code == 503
        assert not served.reception.asked


async def test_clear_text_in_the_place_of_a_handshake_ends_the_connection(serve) -> None:
    async with serve() as served:
        client = await served.connect()
        assert (await client.ask(b"STARTTLS")).code == 220
        await client.send(b"MAIL FROM:<evil@x.test>\r\n")
        await client.is_hung_up_on()
        assert not served.reception.asked


async def test_starttls_forgets_who_said_hello_and_what_mail_was_begun(serve) -> None:
    """RFC 3207 §4.2."""
    async with serve() as served:
        client = await served.connect()
        assert (await client.ask(b"MAIL FROM:<a@x.test>")).code == 250
        assert (await client.ask(b"STARTTLS")).code == 220
        await client.start_tls()
        assert (await client.ask(b"MAIL FROM:<a@x.test>")).code == 503
        await client.ask(b"EHLO client.test")
        assert (await client.ask(b"STARTTLS")).code == 503
        await client.begin_mail()
        await client.send(b".\r\n")
        assert (await client.reply()).code == 250
        assert served.reception.mails[0].peer.tls == "TLSv1.3"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_before_1_2_is_refused(serve) -> None:
    """RFC 8996."""
    old, newer = insecure(), insecure()
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    newer.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serve() as served:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", served.port(Service.SUBMISSIONS), ssl=old)
        _, writer = await asyncio.open_connection("127.0.0.1", served.port(Service.SUBMISSIONS), ssl=newer)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
        writer.transport.abort()


async def test_peers_that_break_off_in_mid_handshake_leave_nothing(serve, caplog) -> None:
    async with serve() as served:
        for octets in (b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01" + b"\x00" * 200, b"GET / HTTP/1.1\r\n\r\n"):
            client = await served.connect(Service.SUBMISSIONS, greeted=False, first=octets or b"\x16")
            client.hang_up()
        async with asyncio.timeout(5):
            while served.server.open_connections:
                await asyncio.sleep(0.01)
        client = await served.connect(Service.SUBMISSIONS)
        assert (await client.ask(b"EHLO client.test")).code == 250
    assert "Traceback" not in caplog.text


# --- Certificates -----------------------------------------------------------------------------------------------------


def test_until_there_is_a_certificate_one_is_made(tmp_path) -> None:
    certificates = Certificates("mx.test", str(tmp_path / "chain.pem"), str(tmp_path / "key.pem"))
    assert (certificates.is_self_signed, certificates.trouble) == (True, "")
    assert name_shown(certificates.context) == "mx.test"
    write_certificate(tmp_path, "first.test")
    certificates.refresh()
    assert (certificates.is_self_signed, certificates.trouble) == (False, "")
    assert name_shown(certificates.context) == "first.test"


def test_a_changed_certificate_is_used_by_the_next_handshake(tmp_path) -> None:
    certificates = Certificates("mx.test", *write_certificate(tmp_path, "first.test"))
    before = certificates.context
    certificates.refresh()
    assert certificates.context is before
    write_certificate(tmp_path, "second.test")
    certificates.refresh()
    assert name_shown(certificates.context) == "second.test"


@pytest.mark.parametrize("damage", ["garbage", "other_key", "gone", "unreadable"])
def test_a_bad_certificate_changes_nothing_and_is_told_of(tmp_path, damage) -> None:
    files = [Path(name) for name in write_certificate(tmp_path, "first.test")]
    certificates = Certificates("mx.test", *map(str, files))
    if damage == "garbage":
        files[0].write_text("-----BEGIN CERTIFICATE-----\nno\n")
    elif damage == "other_key":
        chain = files[0].read_bytes()
        write_certificate(tmp_path, "second.test")
        files[0].write_bytes(chain)
    elif damage == "gone":
        files[1].unlink()
    else:
        files[0].unlink()
        files[0].mkdir()
    certificates.refresh()
    assert name_shown(certificates.context) == "first.test"
    assert str(tmp_path) in certificates.trouble
    if damage == "unreadable":
        files[0].rmdir()
    write_certificate(tmp_path, "third.test")
    certificates.refresh()
    assert (name_shown(certificates.context), certificates.trouble) == ("third.test", "")


# --- PROXY ------------------------------------------------------------------------------------------------------------


def v2(source: str, target: str) -> bytes:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    octets = socket.inet_pton(family, source) + socket.inet_pton(family, target) + struct.pack("!HH", 4321, 25)
    octets += b"\x03\x00\x04abcd"  # a TLV, read over
    return V2 + struct.pack("!BBH", 0x21, 0x21 if ":" in source else 0x11, len(octets)) + octets


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (b"PROXY TCP4 192.0.2.7 192.0.2.25 4321 25\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::25 4321 25\r\n", "2001:db8::7"),
        (v2("192.0.2.7", "192.0.2.25"), "192.0.2.7"),
        (v2("2001:db8::7", "2001:db8::25"), "2001:db8::7"),
        (v2("::ffff:192.0.2.7", "::ffff:192.0.2.25"), "192.0.2.7"),
    ],
    ids=["v1-4", "v1-6", "v2-4", "v2-6", "v2-mapped"],
)
async def test_a_trusted_proxy_says_who_is_there(serve, header, address) -> None:
    async with serve(proxies=LOOPBACK) as served:
        client = await served.connect(greeted=False, first=header[:9])
        await client.send(header[9:])
        assert (await client.reply()).code == 220
        await client.ask(b"EHLO client.test")
        await client.begin_mail()
        await client.send(b".\r\n")
        assert (await client.reply()).code == 250
        peer = served.reception.mails[0].peer
    assert (peer.address, peer.port, peer.local_port, peer.through_proxy) == (address, 4321, 25, True)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", V2 + b"\x20\x00\x00\x00"])
async def test_a_proxy_that_comes_by_itself_is_itself(serve, header) -> None:
    async with serve(proxies=LOOPBACK) as served:
        client = await served.connect(first=header)
        await client.begin_mail()
        await client.send(b".\r\n")
        await client.reply()
        assert (served.reception.mails[0].peer.address, served.reception.mails[0].peer.through_proxy) == (
            "127.0.0.1",
            False,
        )


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO client.test\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 192.0.2.700 192.0.2.25 4321 25\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.25 4321 99999\r\n",
        b"PROXY TCP4 ::1 ::1 4321 25\r\n",
        b"PROXY " + b"x" * 200,
        V2 + b"\x31\x11\x00\x0c" + b"\x00" * 12,
        V2 + b"\x21\x11\xff\xff",
        V2 + b"\x21\x11\x00\x04abcd",
        b"\r\n\r\n\x00x",
    ],
)
async def test_a_proxy_that_says_nothing_readable_is_not_served(serve, octets) -> None:
    async with serve(proxies=LOOPBACK) as served:
        client = await served.connect(greeted=False, first=octets)
        assert await client.is_hung_up_on()
        assert not served.reception.asked


async def test_nobody_else_is_believed(serve) -> None:
    async with serve(proxies=(ip_network("192.0.2.0/24"),)) as served:
        client = await served.connect(first=b"")
        assert (await client.ask(b"PROXY TCP4 192.0.2.7 192.0.2.25 4321 25")).code == 500
        await client.begin_mail()
        await client.send(b".\r\n")
        await client.reply()
        assert served.reception.mails[0].peer.address == "127.0.0.1"


async def test_tls_from_the_first_octet_may_come_in_one_packet_with_the_proxys_header(serve) -> None:
    """The handshake's beginning is not lost."""

    def talk(port: int) -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = insecure().wrap_bio(incoming, outgoing)
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            sock.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.25 4321 465\r\n" + outgoing.read())
            said = b"EHLO client.test\r\nAUTH PLAIN " + plain("shop", SECRET) + b"\r\nQUIT\r\n"
            heard, shaken = b"", False
            while b"221" not in heard:
                incoming.write(sock.recv(65536))
                try:
                    if not shaken:
                        tls.do_handshake()
                        shaken = True
                        tls.write(said)
                    heard += tls.read(65536)
                except ssl.SSLWantReadError:
                    pass
                sock.sendall(outgoing.read())
            return heard

    async with serve(proxies=LOOPBACK) as served:
        heard = await asyncio.to_thread(talk, served.port(Service.SUBMISSIONS))
        assert b"235 2.7.0" in heard
        assert served.reception.asked[0][1].address == "192.0.2.7"
