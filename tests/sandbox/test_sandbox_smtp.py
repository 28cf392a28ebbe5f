"""sandbox.smtp and sandbox.reports, spoken to with other people's SMTP clients."""

import asyncio
import email
import smtplib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email import policy

import aiosmtplib
import pytest

from relay_project.mail.reply import Reply
from relay_project.sandbox import reports
from relay_project.sandbox.certificate import server_context
from relay_project.sandbox.smtp import ReceivedMail, SandboxSmtp

MESSAGE = b"From: alice@relay.test\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nHello\r\n..dots\r\n.\r\n"
ALICE = "b.token@relay.test"


class Inbox(list[ReceivedMail]):
    """What was received; `arrived` waits for the nth mail."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Condition()

    async def put(self, mail: ReceivedMail) -> None:
        async with self._more:
            self.append(mail)
            self._more.notify_all()

    async def arrived(self, count: int) -> ReceivedMail:
        async with asyncio.timeout(5), self._more:
            await self._more.wait_for(lambda: len(self) >= count)
        return self[count - 1]


@pytest.fixture
async def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
async def server(inbox: Inbox) -> AsyncIterator[SandboxSmtp]:
    async def route(domain: str) -> tuple[str, int] | None:
        return ("127.0.0.1", running.port) if domain == "relay.test" else None

    async with SandboxSmtp(received=inbox.put, route=route, report_seconds=0.01, slow_seconds=0.05) as running:
        yield running


async def send(
    server: SandboxSmtp, *recipients: str, reverse_path: str = ALICE, **options: object
) -> dict[str, tuple[int, str]]:
    """Returns the refused recipients; raises as aiosmtplib does when nobody was accepted."""
    client = aiosmtplib.SMTP(hostname=server.address, port=server.port, timeout=5, **options)  # type: ignore[arg-type]
    async with client:
        refused, _ = await client.sendmail(reverse_path, list(recipients), MESSAGE)
    return {address: (response.code, response.message) for address, response in refused.items()}


async def test_mail_for_any_domain_is_taken_as_it_is(server: SandboxSmtp, inbox: Inbox) -> None:
    assert await send(server, "bob@anything.example", "charlie@else.example", start_tls=False) == {}
    [mail] = inbox
    assert mail.recipients == ("bob@anything.example", "charlie@else.example")
    assert mail.data == MESSAGE
    assert mail.reverse_path == ALICE
    assert mail.peer == "127.0.0.1"
    assert not mail.tls
    assert mail.received_at.tzinfo is not None


@pytest.mark.parametrize(
    ("local_part", "code", "enhanced"),
    [
        ("busy", 450, "4.2.1"),
        ("tempfail", 451, "4.3.0"),
        ("missing", 550, "5.1.1"),
        ("disabled", 550, "5.2.1"),
        ("spam", 550, "5.7.1"),
        ("MISSING+tag", 550, "5.1.1"),
    ],
)
async def test_the_local_part_chooses_the_refusal(
    server: SandboxSmtp, inbox: Inbox, local_part: str, code: int, enhanced: str
) -> None:
    refused = await send(server, "bob@b.test", f"{local_part}@b.test")
    assert refused[f"{local_part}@b.test"][0] == code
    assert refused[f"{local_part}@b.test"][1].startswith(enhanced)
    assert inbox[0].recipients == ("bob@b.test",)


async def test_a_refusal_can_come_after_the_message(server: SandboxSmtp, inbox: Inbox) -> None:
    with pytest.raises(aiosmtplib.SMTPDataError, match=r"5\.7\.1"):
        await send(server, "spam+atdata@b.test")
    assert not inbox


async def test_greylisting_refuses_the_first_try_only(server: SandboxSmtp, inbox: Inbox) -> None:
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
        await send(server, "greylist@b.test", reverse_path="b.attempt1@relay.test")
    assert await send(server, "greylist@b.test", reverse_path="b.attempt2@relay.test") == {}
    assert len(inbox) == 1


async def test_greylisting_tells_source_addresses_apart(server: SandboxSmtp, inbox: Inbox) -> None:
    for source in ("127.0.0.2", "127.0.0.3"):
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
            await send(server, "greylist@b.test", source_address=(source, 0))
    assert await send(server, "greylist@b.test", source_address=("127.0.0.2", 0)) == {}


async def test_drop_cuts_the_connection_after_the_message(server: SandboxSmtp, inbox: Inbox) -> None:
    with pytest.raises((aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPReadTimeoutError)):
        await send(server, "drop@b.test")
    assert not inbox


async def test_slow_takes_its_time_and_accepts(server: SandboxSmtp, inbox: Inbox) -> None:
    begun = asyncio.get_running_loop().time()
    assert await send(server, "slow@b.test") == {}
    assert asyncio.get_running_loop().time() - begun >= 2 * server.slow_seconds
    assert len(inbox) == 1


async def test_a_mail_that_cannot_be_stored_stays_with_its_sender() -> None:
    async def full(mail: ReceivedMail) -> None:
        raise RuntimeError("disk full")

    async with SandboxSmtp(received=full) as server:
        with pytest.raises(aiosmtplib.SMTPDataError, match=r"4\.3\.0") as caught:
            await send(server, "bob@b.test")
        assert caught.value.code == 451


async def test_what_is_advertised_is_true(server: SandboxSmtp) -> None:
    async with aiosmtplib.SMTP(hostname=server.address, port=server.port) as client:
        await client.ehlo()
        offered = {"pipelining", "8bitmime", "smtputf8", "size", "chunking", "enhancedstatuscodes"}
        assert set(client.esmtp_extensions) == offered


async def test_commands_out_of_order_are_refused(server: SandboxSmtp) -> None:
    async with aiosmtplib.SMTP(hostname=server.address, port=server.port, start_tls=False) as client:
        assert (await client.execute_command(b"MAIL FROM:<a@a.test>")).code == 503
        await client.ehlo()
        assert (await client.execute_command(b"RCPT TO:<b@b.test>")).code == 503
        assert (await client.execute_command(b"DATA")).code == 503
        assert (await client.execute_command(b"MAIL nonsense")).code == 501
        assert (await client.execute_command(b"WHAT is this")).code == 500
        assert (await client.execute_command(b"NOOP")).code == 250
        assert (await client.execute_command(b"MAIL FROM:<a@a.test>")).code == 250
        assert (await client.execute_command(b"MAIL FROM:<a@a.test>")).code == 503
        assert (await client.execute_command(b"RSET")).code == 250
        assert (await client.execute_command(b"MAIL FROM:<> SIZE=99999999999")).code == 552


async def test_a_message_that_is_too_big_is_refused_and_the_connection_lives(inbox: Inbox) -> None:
    async with (
        SandboxSmtp(received=inbox.put, max_message=1000) as server,
        aiosmtplib.SMTP(hostname=server.address, port=server.port) as client,
    ):
        await client.ehlo()
        await client.execute_command(b"MAIL FROM:<a@a.test>")
        await client.execute_command(b"RCPT TO:<b@b.test>")
        with pytest.raises(aiosmtplib.SMTPDataError) as caught:
            await client.data(b"x" * 70 + b"\r\n" + b"y" * 2000)
        assert caught.value.code == 552
        await client.sendmail("a@a.test", ["b@b.test"], b"Subject: small\r\n\r\n")
    assert len(inbox) == 1


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n"])
async def test_only_a_dot_between_crlfs_ends_the_message(server: SandboxSmtp, inbox: Inbox, end: bytes) -> None:
    reader, writer = await asyncio.open_connection(server.address, server.port)
    writer.write(b"EHLO a\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n")
    writer.write(b"one" + end + b"MAIL FROM:<evil@a.test>\r\n.\r\nQUIT\r\n")
    await reader.read()
    writer.close()
    await writer.wait_closed()
    assert len(inbox) == 1
    assert b"evil" in inbox[0].data


async def test_starttls_is_offered_with_a_certificate(inbox: Inbox) -> None:
    context, pem = server_context("mx.sandbox.test", "127.0.0.1")
    async with SandboxSmtp(received=inbox.put, tls=context) as server:

        def deliver() -> None:
            with smtplib.SMTP(server.address, server.port, timeout=5) as client:
                client.starttls(context=ssl.create_default_context(cadata=pem))
                assert not client.has_extn("starttls") or client.ehlo()
                client.sendmail(ALICE, ["bob@b.test"], MESSAGE)

        await asyncio.to_thread(deliver)
    assert inbox[0].tls


async def test_stop_cuts_open_conversations(server: SandboxSmtp) -> None:
    reader, writer = await asyncio.open_connection(server.address, server.port)
    await reader.readline()
    await server.stop()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


# Reports


async def test_an_asynchronous_refusal_is_accepted_and_bounces_later(server: SandboxSmtp, inbox: Inbox) -> None:
    assert await send(server, "missing+async@b.test") == {}
    assert (await inbox.arrived(1)).recipients == ("missing+async@b.test",)
    report = await inbox.arrived(2)
    assert report.reverse_path == ""
    assert report.recipients == (ALICE,)
    parsed = email.message_from_bytes(report.data, policy=policy.default)
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    people, machines, headers = parsed.get_payload()
    assert "missing+async@b.test" in people.get_content()
    assert machines.get_content_type() == "message/delivery-status"
    per_message, per_recipient = machines.get_payload()
    assert per_message["Reporting-MTA"] == "dns; mx.sandbox.test"
    assert per_recipient["Final-Recipient"] == "rfc822; missing+async@b.test"
    assert per_recipient["Action"] == "failed"
    assert per_recipient["Status"] == "5.1.1"
    assert per_recipient["Diagnostic-Code"] == "smtp; 550 5.1.1 No such mailbox here"
    assert "Subject: =?utf-8?q?Gr" in headers.get_content()


async def test_a_complaint_is_accepted_and_reported_as_abuse(server: SandboxSmtp, inbox: Inbox) -> None:
    await send(server, "complaint@b.test")
    report = await inbox.arrived(2)
    parsed = email.message_from_bytes(report.data, policy=policy.default)
    assert parsed.get_param("report-type") == "feedback-report"
    _, machines, _ = parsed.get_payload()
    fields = (
        dict(line.split(": ", 1) for line in machines.get_payload()[0].as_string().splitlines() if ": " in line)
        if machines.is_multipart()
        else dict(line.split(": ", 1) for line in machines.get_payload(decode=False).splitlines() if ": " in line)
    )
    assert fields["Feedback-Type"] == "abuse"
    assert fields["Version"] == "1"
    assert fields["Original-Rcpt-To"] == "<complaint@b.test>"
    assert fields["Original-Mail-From"] == f"<{ALICE}>"
    assert fields["Source-IP"] == "127.0.0.1"


async def test_a_report_is_never_sent_about_a_report(server: SandboxSmtp, inbox: Inbox) -> None:
    """RFC 5321 §4.5.5: mail with the null reverse path causes none, or two machines would talk for ever."""
    await send(server, "missing+async@b.test", reverse_path="")
    await send(server, "complaint@b.test")
    report = await inbox.arrived(3)
    assert b"complaint@b.test" in report.data


ABOUT = reports.Reported(
    "b.tökén@relay.test",
    "bõb@b.test",
    b"Subject: caf\xe9 \x00\r\nX-Long: " + b"x" * 3000 + b"\r\n\r\nbody",
    "192.0.2.7",
    "smtp1.relay.test",
    datetime(2026, 5, 4, 12, 0, tzinfo=UTC),
)


def test_a_report_about_hostile_mail_is_still_a_report() -> None:
    now = datetime(2026, 5, 4, 12, 1, tzinfo=UTC)
    for raw in (
        reports.bounce(ABOUT, Reply(550, None, "no\nway"), "mx.b.test", now),
        reports.complaint(ABOUT, "mx.b.test", now),
    ):
        parsed = email.message_from_bytes(raw, policy=policy.default)
        assert parsed.is_multipart()
        assert len(parsed.get_payload()) == 3
        assert b"\x00" not in raw
        assert b"\n" not in raw.replace(b"\r\n", b"")
        assert "utf-8; bõb@b.test".encode() in raw or b"Original-Rcpt-To" in raw
        assert parsed["Message-ID"].endswith("@mx.b.test>")
        assert parsed["Date"] == "Mon, 04 May 2026 12:01:00 +0000"


def test_a_reply_without_enhanced_status_gets_that_of_its_class() -> None:
    raw = reports.bounce(ABOUT, Reply(450, None, "later"), "mx.b.test", ABOUT.received_at)
    assert b"Status: 4.0.0\r\n" in raw
