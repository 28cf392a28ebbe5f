"""As an enemy would speak: each known trick is one reply, and nothing of it is taken for a mail or a command."""

import pytest

from relay_project.net.smtp_server.model import Service
from tests.net.smtp_server.conftest import SECRET, plain


@pytest.mark.parametrize(
    "command", [b"MAIL FROM:<a@x.test>\0", b"NO\rOP", b"NOOP\r\0", b"RCPT TO:<b@y.test\r>", b"\x7f", b"EHLO a\x1b[2J"]
)
async def test_controls_in_commands_are_refused(serve, command) -> None:
    async with serve() as served:
        client = await served.connect()
        assert (await client.ask(command)).code == 500
        assert (await client.ask(b"NOOP")).code == 250
        assert not served.reception.asked


async def test_an_enormous_line_is_passed_over_without_being_kept(serve) -> None:
    async with serve() as served:
        client = await served.connect()
        for _ in range(100):
            await client.send(b"x" * 100_000)
        assert max(len(wire.held) for wire in served.server._wires) < 200_000
        await client.send(b"\r\nNOOP\r\n")
        assert await client.codes(2) == [500, 250]


@pytest.mark.parametrize(
    "trick",
    [
        b"BDAT 20 LAST",
        b"BDAT 0 LAST",
        b"BDAT -1",
        b"BDAT 99999999999999999999",
        b"XCLIENT ADDR=127.0.0.1",
        b"XFORWARD ADDR=127.0.0.1",
        b"TURN",
        b"ETRN x",
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2",
        b"SAML FROM:<a@x.test>",
    ],
)
async def test_what_is_not_offered_is_no_command(serve, trick) -> None:
    """CHUNKING is not offered, and only peers of SMTP_PROXIES are believed about who they are."""
    async with serve() as served:
        client = await served.connect()
        await client.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n" + trick + b"\r\n")
        assert await client.codes(3) == [250, 250, 500]
        await client.send(b"DATA\r\nx\r\n.\r\n")
        assert await client.codes(2) == [354, 250]
        [mail] = served.reception.mails
        assert mail.peer.address == "127.0.0.1"
        assert not mail.peer.through_proxy


async def test_what_is_said_behind_starttls_in_clear_text_is_forgotten(serve) -> None:
    """CVE-2011-0411: it would be taken for what the client said under TLS."""
    async with serve() as served:
        client = await served.connect(Service.SUBMISSION)
        await client.ask(b"EHLO client.test")
        await client.send(b"STARTTLS\r\nEHLO evil.test\r\nAUTH PLAIN " + plain("shop", SECRET) + b"\r\n")
        assert (await client.reply()).code == 220
        await client.start_tls()
        assert (await client.ask(b"MAIL FROM:<a@x.test>")).code == 503
        assert not served.reception.asked


@pytest.mark.parametrize("service", [Service.SUBMISSION, Service.SUBMISSIONS])
async def test_who_guesses_passwords_is_sent_away_on_all_connections(serve, service) -> None:
    """Lesson S6."""
    async with serve(auth_failures=4, session_auth_failures=3, auth_pause_seconds=60) as served:
        tried = 0
        for _ in range(2):
            client = await served.connect(service)
            await client.ask(b"EHLO client.test")
            if service is Service.SUBMISSION:
                assert (await client.ask(b"STARTTLS")).code == 220
                await client.start_tls()
                await client.ask(b"EHLO client.test")
            while (await client.ask(b"AUTH PLAIN " + plain("shop", "guess"))).code == 535:
                tried += 1
                if tried in (3, 4):
                    assert (await client.reply()).code == 421
                    break
        assert tried == 4
        turned_away = await served.connect(Service.SUBMISSION, greeted=False)
        assert (await turned_away.reply()).code == 421
        mx = await served.connect(Service.MX)
        assert (await mx.ask(b"NOOP")).code == 250, "port 25 knows no passwords"
