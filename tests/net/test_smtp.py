"""net.smtp against the sandbox's SMTP server and the bare sink, over real sockets."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from relay_project.mail.reply import FailureKind, Stage
from relay_project.net.smtp import (
    ConversationFailed,
    Endpoint,
    Envelope,
    SmtpConnection,
    Timeouts,
    TlsRequirement,
    Transaction,
)
from relay_project.net.smtp_message import WireMessage
from relay_project.sandbox.certificate import server_context
from relay_project.sandbox.smtp import CUT, SILENCE, Command, Drip, ReceivedMail, SandboxSmtp, Script

MESSAGE = b"Subject: Hello\r\n\r\nHello Bob,\r\n.a dot\r\n..two\r\n.\r\nend\r\n"
BOB = "bob@bob.test"
TO_BOB = Envelope("b.token@relay.test", (BOB,))
SHORT = Timeouts(connect=2, banner=1, hello=1, starttls=1, mail=1, rcpt=1, data=1, data_close=1, quit=0.2)


class Server(SandboxSmtp):
    """The sandbox with what it received, and a record of the commands in the order they came.

    It offers no CHUNKING unless asked: that way of sending has its own tests, in test_smtp_chunking.py.
    """

    def __init__(self, script: Script | None = None, **options: object) -> None:
        self.mails: list[ReceivedMail] = []
        self.commands: list[str] = []
        options = {"chunking": False, **options}
        super().__init__(received=self._keep, script=self._record, **options)  # type: ignore[arg-type]
        self.answers = script

    async def _keep(self, mail: ReceivedMail) -> None:
        self.mails.append(mail)

    def _record(self, command: Command) -> str | bytes | Drip | None:
        self.commands.append(command.verb)
        return self.answers(command) if self.answers is not None else None

    async def connect(self, tls: TlsRequirement = TlsRequirement.OPPORTUNISTIC, **options: object) -> SmtpConnection:
        endpoint = Endpoint("mx.sandbox.test", self.address, self.port)
        settings: dict[str, object] = {"source": None, "helo_name": "smtp1.relay.test", "timeouts": SHORT, "tls": tls}
        return await SmtpConnection.open(endpoint, **(settings | options))  # type: ignore[arg-type]


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_server(serve: Serve) -> AsyncIterator[Endpoint]:
    """A server that is nothing but the given conversation, over before the test is."""
    served: list[asyncio.Task[None]] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.append(task)
        try:
            await serve(reader, writer)
        finally:
            writer.transport.abort()

    listening = await asyncio.start_server(keep, "127.0.0.1", 0, limit=4096)
    try:
        yield Endpoint("mx", "127.0.0.1", listening.sockets[0].getsockname()[1])
    finally:
        listening.close()
        await asyncio.gather(*served)
        await asyncio.sleep(0)


def answering(replies: dict[str, str | bytes | Drip]) -> Script:
    return lambda command: replies.get(command.verb)


async def deliver(server: Server, envelope: Envelope = TO_BOB, deadline: float | None = None) -> Transaction:
    connection = await server.connect()
    try:
        return await connection.deliver(envelope, MESSAGE, deadline)
    finally:
        await connection.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as running:
        yield running


@pytest.fixture(params=[True, False], ids=["pipelined", "one by one"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    async with Server(pipelining=request.param) as running:
        yield running


# A mail and its transcript


async def test_a_mail_arrives_as_it_was_given(either: Server) -> None:
    transaction = await deliver(either)
    [mail] = either.mails
    assert mail.data == MESSAGE
    assert (mail.reverse_path, mail.recipients, mail.helo_name) == ("b.token@relay.test", (BOB,), "smtp1.relay.test")
    result = transaction.results[BOB]
    assert result.accepted
    assert result.reply is not None
    assert (result.reply.code, result.reply.enhanced) == (250, "2.0.0")
    assert transaction.usable
    assert transaction.failure is None


async def test_the_transcript_has_every_step_as_sent(either: Server) -> None:
    connection = await either.connect()
    transaction = await connection.deliver(TO_BOB, MESSAGE)
    await connection.close()
    assert [(step.name, step.reply_code) for step in connection.opening_steps] == [
        (Stage.DIAL, 220),
        (Stage.HELLO, 250),
    ]
    assert connection.opening_steps[1].command == "EHLO smtp1.relay.test"
    assert [(step.name, step.command, step.reply_code, step.reply_text) for step in transaction.steps] == [
        (Stage.MAIL, f"MAIL FROM:<b.token@relay.test> SIZE={len(MESSAGE)}", 250, "2.1.0 Ok"),
        (Stage.RCPT, "RCPT TO:<bob@bob.test>", 250, "2.1.5 Ok"),
        (Stage.DATA, "DATA", 354, "End data with <CR><LF>.<CR><LF>"),
        (
            Stage.DATA_CLOSE,
            f"[message of {len(MESSAGE)} bytes]",
            250,
            "2.0.0 Ok: accepted by the sandbox",
        ),
    ]
    assert set(transaction.steps[0].as_record()) == {"name", "duration_ms", "command", "reply_code", "reply_text"}
    assert sum(step.duration_ms for step in transaction.steps) <= transaction.duration_ms + 1


async def test_commands_up_to_data_leave_in_one_packet_where_pipelining_is_offered() -> None:
    packets: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        await reader.readline()
        writer.write(b"250-hi\r\n250 PIPELINING\r\n")
        for replies in (b"250 ok\r\n" * 3 + b"354 go\r\n", b"250 ok\r\n"):
            packets.append(await reader.read(65536))
            writer.write(replies)
        await reader.read()

    async with raw_server(serve) as endpoint:
        connection = await SmtpConnection.open(endpoint, source=None, helo_name="a.test", timeouts=SHORT)
        transaction = await connection.deliver(Envelope("a@a.test", (BOB, "charlie@bob.test")), b"x\r\n")
        connection.abort()
    assert packets[0] == b"MAIL FROM:<a@a.test>\r\nRCPT TO:<bob@bob.test>\r\nRCPT TO:<charlie@bob.test>\r\nDATA\r\n"
    assert packets[1] == b"x\r\n.\r\n"
    assert all(result.accepted for result in transaction.results.values())


async def test_a_connection_carries_many_mails(either: Server) -> None:
    connection = await either.connect()
    for _ in range(5):
        assert (await connection.deliver(TO_BOB, MESSAGE)).results[BOB].accepted
    assert connection.deliveries == 5
    await connection.close()
    assert len(either.mails) == 5
    assert either.connections == 1
    assert either.commands[-1] == "QUIT"
    assert "RSET" not in either.commands


async def test_a_message_in_pieces_is_joined_before_its_dots_are_stuffed(server: Server) -> None:
    connection = await server.connect()
    await connection.deliver(TO_BOB, [b"DKIM-Signature: x\r\n", b".dot at the seam\r\n", b"Subject: y\r\n\r\n"])
    await connection.close()
    assert server.mails[0].data == b"DKIM-Signature: x\r\n.dot at the seam\r\nSubject: y\r\n\r\n"


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"", b".\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\n.\r\nQUIT\r\n", b"a\r\n..\r\nQUIT\r\n.\r\n"),
        (b"a\r.\r\nQUIT\r\n", b"a\r\n..\r\nQUIT\r\n.\r\n"),
        (b"a\n.\n", b"a\r\n..\r\n.\r\n"),
    ],
)
def test_no_message_can_end_itself_early(message: bytes, wire: bytes) -> None:
    whole = WireMessage.of(message)
    size, stuffed = whole.size, whole.dot_stuffed()
    assert stuffed == wire
    assert size == len(wire.replace(b"\r\n..", b"\r\n.").removesuffix(b".\r\n")) - wire.startswith(b"..")


async def test_a_large_message_arrives_whole(server: Server) -> None:
    message = b"Subject: large\r\n\r\n" + (b"0123456789" * 7 + b"\r\n") * 30_000
    connection = await server.connect()
    transaction = await connection.deliver(TO_BOB, message)
    await connection.close()
    assert transaction.results[BOB].accepted
    assert server.mails[0].data == message


async def test_the_source_address_is_the_one_asked_for(server: Server) -> None:
    connection = await server.connect(source="127.0.0.2")
    await connection.deliver(TO_BOB, MESSAGE)
    await connection.close()
    assert server.mails[0].peer == "127.0.0.2"


async def test_ipv6_works_where_the_host_has_it() -> None:
    try:
        async with Server(address="::1") as server:
            assert (await deliver(server)).results[BOB].accepted
    except OSError:
        pytest.skip("no IPv6 loopback here")


# Recipients


async def test_each_recipient_has_its_own_result(either: Server) -> None:
    envelope = Envelope("a@a.test", (BOB, "missing@bob.test", "busy@bob.test"))
    transaction = await deliver(either, envelope)
    results = transaction.results
    assert results[BOB].accepted
    assert set(results) == set(envelope.recipients)
    assert results["busy@bob.test"].reply is not None
    assert results["busy@bob.test"].reply.code == 450
    missing = results["missing@bob.test"]
    assert missing.reply is not None
    assert (missing.stage, missing.reply.code, missing.reply.enhanced) == (Stage.RCPT, 550, "5.1.1")
    assert either.mails[0].recipients == (BOB,)


@pytest.mark.parametrize("code", [250, 251, 252, 259])
@pytest.mark.parametrize("pipelining", [True, False])
async def test_every_legal_success_of_rcpt_leads_to_data(code: int, pipelining: bool) -> None:
    """Lesson C5: 251 and 252 count as accepted, and the mail is then really sent."""
    async with Server(answering({"RCPT": f"{code} 2.1.5 will forward"}), pipelining=pipelining) as server:
        transaction = await deliver(server)
    assert transaction.results[BOB].accepted
    assert len(server.mails) == 1


@pytest.mark.parametrize("verb", ["EHLO", "MAIL", "."])
async def test_any_2yz_is_success(verb: str) -> None:
    """Lesson C5: likewise at the other steps."""
    async with Server(answering({verb: "299 fine"})) as server:
        assert (await deliver(server)).results[BOB].accepted


async def test_a_refused_mail_command_decides_for_all(either: Server) -> None:
    either.answers = answering({"MAIL": "550 5.7.1 we know you"})
    envelope = Envelope("a@a.test", (BOB, "charlie@bob.test"))
    connection = await either.connect()
    transaction = await connection.deliver(envelope, MESSAGE)
    assert {(r.stage, r.reply and r.reply.code) for r in transaction.results.values()} == {(Stage.MAIL, 550)}
    assert not either.mails
    assert transaction.usable
    either.answers = None
    assert (await connection.deliver(TO_BOB, MESSAGE)).results[BOB].accepted
    await connection.close()


async def test_when_every_recipient_is_refused_nothing_is_sent_and_the_next_mail_starts_clean(either: Server) -> None:
    connection = await either.connect()
    transaction = await connection.deliver(Envelope("a@a.test", ("missing@bob.test",)), MESSAGE)
    assert transaction.results["missing@bob.test"].stage is Stage.RCPT
    assert transaction.usable
    assert (await connection.deliver(TO_BOB, MESSAGE)).results[BOB].accepted
    await connection.close()
    assert "RSET" in either.commands
    assert [mail.recipients for mail in either.mails] == [(BOB,)]


async def test_a_server_that_goes_ahead_without_recipients_gets_a_lone_dot() -> None:
    """RFC 2920 §3.1: DATA was sent along, and the client cannot take it back."""
    packets: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        await reader.readline()
        writer.write(b"250-hi\r\n250 PIPELINING\r\n")
        for replies in (b"250 ok\r\n550 5.1.1 no\r\n354 go\r\n", b"554 5.5.1 no valid recipients\r\n"):
            packets.append(await reader.read(4096))
            writer.write(replies)
        for replies in (b"250 ok\r\n250 ok\r\n354 go\r\n", b"250 ok\r\n"):
            packets.append(await reader.read(4096))
            writer.write(replies)
        await reader.read()

    async with raw_server(serve) as endpoint:
        connection = await SmtpConnection.open(endpoint, source=None, helo_name="a.test", timeouts=SHORT)
        transaction = await connection.deliver(TO_BOB, MESSAGE)
        assert packets[1] == b".\r\n"
        assert transaction.results[BOB].stage is Stage.RCPT
        assert (transaction.steps[-1].command, transaction.steps[-1].reply_code) == (".", 554)
        assert (await connection.deliver(TO_BOB, MESSAGE)).results[BOB].accepted
        assert packets[2].startswith(b"MAIL")
        connection.abort()


async def test_a_refusal_of_data_is_the_result_of_those_accepted_before(either: Server) -> None:
    either.answers = answering({"DATA": "451 4.3.2 not now"})
    connection = await either.connect()
    transaction = await connection.deliver(Envelope("a@a.test", (BOB, "missing@bob.test")), MESSAGE)
    assert transaction.results[BOB].stage is Stage.DATA
    assert transaction.results["missing@bob.test"].stage is Stage.RCPT
    either.answers = None
    assert (await connection.deliver(TO_BOB, MESSAGE)).results[BOB].accepted
    await connection.close()


async def test_a_refusal_after_the_message_leaves_the_connection_usable(either: Server) -> None:
    connection = await either.connect()
    transaction = await connection.deliver(Envelope("a@a.test", ("spam+atdata@bob.test",)), MESSAGE)
    result = transaction.results["spam+atdata@bob.test"]
    assert result.reply is not None
    assert (result.stage, result.reply.code) == (Stage.DATA_CLOSE, 550)
    assert not result.accepted
    assert (await connection.deliver(TO_BOB, MESSAGE)).results[BOB].accepted
    await connection.close()
    assert "RSET" not in either.commands


async def test_one_address_given_twice_gets_one_rcpt(server: Server) -> None:
    """Lesson C15: in To and Cc, it is still one mailbox."""
    transaction = await deliver(server, Envelope("a@a.test", (BOB, "charlie@bob.test", BOB)))
    assert server.commands.count("RCPT") == 2
    assert list(transaction.results) == [BOB, "charlie@bob.test"]


# Addresses and bodies beyond ASCII


async def test_smtputf8_and_8bitmime_are_asked_for_where_offered(server: Server) -> None:
    connection = await server.connect()
    recipient = "bõb@bob.test"
    transaction = await connection.deliver(
        Envelope("a@a.test", (recipient,), smtputf8=True, eight_bit=True), "Subject: ü\r\n\r\nü\r\n".encode()
    )
    await connection.close()
    assert transaction.results[recipient].accepted
    assert transaction.steps[0].command.endswith("BODY=8BITMIME SMTPUTF8")
    assert server.mails[0].recipients == (recipient,)


async def test_a_mail_that_needs_smtputf8_is_refused_for_good_where_it_is_not_offered() -> None:
    async with Server(answering({"EHLO": "250-mx\r\n250 PIPELINING"})) as server:
        connection = await server.connect()
        transaction = await connection.deliver(Envelope("a@a.test", ("bõb@bob.test",)), MESSAGE)
        result = transaction.results["bõb@bob.test"]
        assert result.reply is not None
        assert (result.reply.code, result.reply.enhanced) == (553, "5.6.7")
        assert "SMTPUTF8" in result.reply.text
        assert transaction.usable
        assert transaction.steps == ()
        await connection.close()


async def test_a_header_of_somebody_elses_leaves_without_smtputf8_where_it_is_not_offered() -> None:
    mail = "Subject: ü\r\n\r\nü\r\n".encode()
    envelope = Envelope("a@a.test", ("bob@bob.test",), smtputf8=True, eight_bit=True, as_it_came=True)
    async with Server(answering({"EHLO": "250-mx\r\n250 PIPELINING"})) as server:
        connection = await server.connect()
        transaction = await connection.deliver(envelope, mail)
        assert transaction.results["bob@bob.test"].accepted
        assert "SMTPUTF8" not in transaction.steps[0].command
        await connection.close()


@pytest.mark.parametrize("address", ["a@a.test>\r\nRCPT TO:<x@x.test", "a\0@a.test", "a\n@a.test"])
def test_an_address_cannot_smuggle_a_command(address: str) -> None:
    with pytest.raises(ValueError, match="line end"):
        Envelope("a@a.test", (address,))
    with pytest.raises(ValueError, match="line end"):
        Envelope(address, (BOB,))


# Hostile replies


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
async def test_a_reply_that_is_not_utf8_and_contains_nul_is_kept_readable(verb: str) -> None:
    """Lesson C3: such a reply must reach the database as text that it can store."""
    async with Server(answering({verb: b"550 5.7.1 n\x00o \xff\xfe th\xe4nks\x07"})) as server:
        transaction = await deliver(server)
    reply = transaction.results[BOB].reply
    assert reply is not None
    assert reply.text == "no \ufffd\ufffd th\ufffdnks"
    assert "\0" not in "".join(step.reply_text for step in transaction.steps)


async def test_a_reply_of_several_lines_is_one_reply(either: Server) -> None:
    either.answers = answering({"MAIL": "250-2.1.0 one\r\n250-2.1.0 two\r\n250 2.1.0 three"})
    transaction = await deliver(either)
    assert transaction.steps[0].reply_text == "2.1.0 one\ntwo\nthree"
    assert transaction.results[BOB].accepted


@pytest.mark.parametrize("junk", ["hello", "25", "999 no such class", "250-one\r\n550 two", "\r\n"])
async def test_what_is_no_reply_ends_the_conversation(junk: str) -> None:
    async with Server(answering({"RCPT": junk})) as server:
        transaction = await deliver(server)
    result = transaction.results[BOB]
    assert result.stage is Stage.RCPT
    assert result.failure is not None
    assert result.failure.kind is FailureKind.PROTOCOL
    assert not transaction.usable


@pytest.mark.parametrize("endless", [b"250 " + b"x" * 70_000, b"250-x\r\n" * 20_000])
async def test_an_endless_reply_is_cut_off(endless: bytes) -> None:
    async with Server(answering({"MAIL": endless})) as server:
        transaction = await deliver(server)
    result = transaction.results[BOB]
    assert result.failure is not None
    assert result.failure.kind is FailureKind.PROTOCOL
    assert "65536" in result.failure.text


async def test_more_replies_than_commands_end_the_conversation() -> None:
    async with Server(answering({".": "250 ok\r\n250 and another"})) as server:
        connection = await server.connect()
        first = await connection.deliver(TO_BOB, MESSAGE)
        assert first.results[BOB].accepted
        second = await connection.deliver(TO_BOB, MESSAGE)
        assert not second.results[BOB].accepted
        assert not connection.usable
        await connection.close()


# Cut, closed, slow


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("pipelining", [True, False])
async def test_a_connection_cut_before_the_message_fails_at_that_step(verb: str, pipelining: bool) -> None:
    async with Server(answering({verb: CUT}), pipelining=pipelining) as server:
        transaction = await deliver(server)
    result = transaction.results[BOB]
    assert result.stage is Stage(verb.lower())
    assert result.failure is not None
    assert result.failure.kind is FailureKind.CUT
    assert not transaction.usable
    assert transaction.steps[-1].reply_code == 0


async def test_a_connection_cut_after_the_final_dot_is_a_failure_of_its_own() -> None:
    """Lesson C4: the server may have the mail, so the caller must not go straight to the next host."""
    async with Server() as server:
        transaction = await deliver(server, Envelope("a@a.test", ("drop@bob.test", "missing@bob.test")))
    result = transaction.results["drop@bob.test"]
    assert result.stage is Stage.DATA_CLOSE
    assert result.failure is not None
    assert result.failure.kind is FailureKind.CUT
    assert transaction.results["missing@bob.test"].stage is Stage.RCPT


async def test_a_connection_cut_while_the_message_is_still_here_cannot_have_been_accepted() -> None:
    """Lesson C4: part of it was never sent, and with it the final dot; another host may be tried at once."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        await reader.readline()
        writer.write(b"250-hi\r\n250 PIPELINING\r\n")
        await reader.read(100)
        writer.write(b"250 ok\r\n250 ok\r\n354 go\r\n")
        await reader.read(1000)

    async with raw_server(serve) as endpoint:
        connection = await SmtpConnection.open(endpoint, source=None, helo_name="a.test", timeouts=SHORT)
        transaction = await connection.deliver(TO_BOB, b"0123456789\r\n" * 2_000_000)
    result = transaction.results[BOB]
    assert result.stage is Stage.DATA
    assert result.failure is not None
    assert result.failure.kind is FailureKind.CUT


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("pipelining", [True, False])
async def test_a_421_is_the_reply_and_ends_the_connection(verb: str, pipelining: bool) -> None:
    async with Server(answering({verb: "421 4.7.0 slow down"}), pipelining=pipelining) as server:
        connection = await server.connect()
        transaction = await connection.deliver(Envelope("a@a.test", (BOB, "charlie@bob.test")), MESSAGE)
        late = await connection.deliver(TO_BOB, MESSAGE)
        await connection.close()
    assert late.results[BOB].failure is not None
    assert late.steps == ()
    for result in transaction.results.values():
        assert result.reply is not None
        assert result.reply.code == 421
    assert not transaction.usable
    assert not connection.usable
    assert not transaction.stale


async def test_a_connection_that_was_closed_while_idle_is_stale(server: Server) -> None:
    connection = await server.connect()
    await connection.deliver(TO_BOB, MESSAGE)
    await server.stop()
    transaction = await connection.deliver(TO_BOB, MESSAGE)
    assert transaction.stale
    assert transaction.results[BOB].stage is Stage.MAIL
    assert not connection.usable


async def test_a_goodbye_that_nobody_asked_for_makes_the_connection_unusable(server: Server) -> None:
    server.answers = answering({".": "250 ok\r\n421 4.4.2 idle too long"})
    connection = await server.connect()
    await connection.deliver(TO_BOB, MESSAGE)
    transaction = await connection.deliver(TO_BOB, MESSAGE)
    assert transaction.stale
    assert transaction.failure is not None
    assert "idle too long" in transaction.failure.text
    await connection.close()


async def test_an_unanswered_step_times_out(either: Server) -> None:
    either.answers = answering({"RCPT": SILENCE})
    connection = await either.connect(timeouts=Timeouts(rcpt=0.1))
    transaction = await connection.deliver(TO_BOB, MESSAGE)
    result = transaction.results[BOB]
    assert (result.stage, result.failure and result.failure.kind) == (Stage.RCPT, FailureKind.TIMEOUT)
    await connection.close()


async def test_a_reply_that_drips_does_not_stretch_its_timeout() -> None:
    """Lesson C17: octets that trickle in are no progress."""
    async with Server(answering({"MAIL": Drip(b"250 2.1.0 O" + b"k" * 200 + b"\r\n", 0.02)})) as server:
        connection = await server.connect(timeouts=Timeouts(mail=0.2, quit=0.1))
        begun = time.monotonic()
        transaction = await connection.deliver(TO_BOB, MESSAGE)
        assert time.monotonic() - begun < 1
        assert transaction.results[BOB].failure is not None
        assert transaction.results[BOB].failure.kind is FailureKind.TIMEOUT
        await connection.close()


async def test_a_tar_pit_cannot_hold_a_conversation_past_its_deadline() -> None:
    """Lesson C17: each step is within its timeout, and together they would take for ever."""

    def tar_pit(command: Command) -> Drip | None:
        return Drip(b"250 ok\r\n", 0.02) if command.verb == "RCPT" else None

    recipients = tuple(f"bob{number}@bob.test" for number in range(20))
    async with Server(tar_pit) as server:
        connection = await server.connect()
        begun = time.monotonic()
        transaction = await connection.deliver(Envelope("a@a.test", recipients), MESSAGE, begun + 0.4)
        assert time.monotonic() - begun < 1
        assert transaction.failure is not None
        assert transaction.failure.kind is FailureKind.DEADLINE
        assert all(result.failure == transaction.failure for result in transaction.results.values())
        assert not server.mails
        await connection.close()


async def test_abort_ends_a_conversation_that_is_going_on() -> None:
    async with Server(answering({"RCPT": SILENCE})) as server:
        connection = await server.connect()
        delivering = asyncio.create_task(connection.deliver(TO_BOB, MESSAGE))
        while "RCPT" not in server.commands:
            await asyncio.sleep(0.01)
        connection.abort("the lease ended")
        transaction = await delivering
    assert transaction.results[BOB].stage is Stage.RCPT
    assert transaction.failure is not None
    assert transaction.failure.text == "the lease ended"


async def test_a_second_mail_at_the_same_time_is_the_callers_mistake(server: Server) -> None:
    server.answers = answering({"RCPT": SILENCE})
    connection = await server.connect()
    delivering = asyncio.create_task(connection.deliver(TO_BOB, MESSAGE))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another mail"):
        await connection.deliver(TO_BOB, MESSAGE)
    connection.abort()
    await delivering


# Opening


async def refused(
    server: Server, tls: TlsRequirement = TlsRequirement.OPPORTUNISTIC, **options: object
) -> ConversationFailed:
    with pytest.raises(ConversationFailed) as caught:
        await server.connect(tls, **options)
    return caught.value


async def test_a_refused_connection_names_the_address(server: Server) -> None:
    await server.stop()
    failed = await refused(server)
    assert failed.stage is Stage.DIAL
    assert failed.failure is not None
    assert failed.failure.kind is FailureKind.REFUSED
    assert failed.failure.text == f"cannot connect to 127.0.0.1 port {server.port}: Connection refused"
    assert [(step.name, step.reply_code) for step in failed.steps] == [(Stage.DIAL, 0)]


async def test_a_source_address_that_is_not_ours_is_a_failure_to_connect(server: Server) -> None:
    failed = await refused(server, source="192.0.2.7")
    assert failed.failure is not None
    assert failed.failure.kind is FailureKind.CONNECT
    assert "from 192.0.2.7: Cannot assign requested address" in failed.failure.text


@pytest.mark.parametrize(("verb", "stage"), [("CONNECT", Stage.DIAL), ("EHLO", Stage.HELLO)])
async def test_a_refusal_while_opening_is_told_with_its_reply(server: Server, verb: str, stage: Stage) -> None:
    server.answers = answering({verb: "450 4.7.0 too many connections"})
    failed = await refused(server)
    assert failed.stage is stage
    assert failed.reply is not None
    assert failed.reply.code == 450
    assert "too many connections" in str(failed)
    assert failed.steps[-1].reply_code == 450
    async with asyncio.timeout(2):
        while server.commands[-1] != "QUIT":  # RFC 5321 §3.1: the server waits for it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("verb", "stage"), [("CONNECT", Stage.DIAL), ("EHLO", Stage.HELLO)])
@pytest.mark.parametrize(
    ("answer", "kind"), [(CUT, FailureKind.CUT), (SILENCE, FailureKind.TIMEOUT), (b"junk", FailureKind.PROTOCOL)]
)
async def test_trouble_while_opening_is_told_with_its_failure(
    server: Server, verb: str, stage: Stage, answer: bytes | Drip, kind: FailureKind
) -> None:
    server.answers = answering({verb: answer})
    failed = await refused(server, timeouts=Timeouts(banner=0.2, hello=0.2))
    assert (failed.stage, failed.failure and failed.failure.kind) == (stage, kind)


async def test_the_deadline_holds_while_opening_too(server: Server) -> None:
    server.answers = answering({"CONNECT": Drip(b"220 " + b"x" * 500, 0.02)})
    failed = await refused(server, deadline=time.monotonic() + 0.2)
    assert failed.failure is not None
    assert failed.failure.kind is FailureKind.DEADLINE
    failed = await refused(server, deadline=time.monotonic() - 1)
    assert failed.failure is not None
    assert failed.failure.kind is FailureKind.DEADLINE


async def test_helo_is_tried_where_ehlo_is_unknown(server: Server) -> None:
    server.answers = answering({"EHLO": "502 what?"})
    connection = await server.connect()
    assert connection.extensions == {}
    assert (await connection.deliver(TO_BOB, MESSAGE)).results[BOB].accepted
    await connection.close()
    assert [step.command.split()[0] for step in connection.opening_steps] == ["connect", "EHLO", "HELO"]


async def test_a_banner_of_several_lines_is_read_whole(server: Server) -> None:
    server.answers = answering({"CONNECT": "220-wait\r\n220-for\r\n220 it"})
    connection = await server.connect()
    assert connection.opening_steps[0].reply_text == "wait\nfor\nit"
    await connection.close()


# TLS


@pytest.fixture
def certificate() -> tuple[ssl.SSLContext, str]:
    return server_context("mx.sandbox.test", "127.0.0.1")


def trusting(pem: str) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=pem)


async def test_a_bad_certificate_still_gets_the_mail(certificate: tuple[ssl.SSLContext, str]) -> None:
    """Lesson C1: opportunistic TLS refuses no certificate."""
    async with Server(tls=server_context("somebody-else.example")[0]) as server:
        connection = await server.connect()
        transaction = await connection.deliver(TO_BOB, MESSAGE)
        await connection.close()
        assert transaction.results[BOB].accepted
        assert server.mails[0].tls
        assert connection.tls is not None
        assert connection.tls.version == "TLSv1.3"
        assert not connection.tls.verified
        assert [step.name for step in connection.opening_steps] == [
            Stage.DIAL,
            Stage.HELLO,
            Stage.STARTTLS,
            Stage.HELLO,
        ]


async def test_verified_tls_wants_the_right_name(certificate: tuple[ssl.SSLContext, str]) -> None:
    context, pem = certificate
    async with Server(tls=context) as server:
        connection = await server.connect(TlsRequirement.VERIFIED, trust=trusting(pem))
        assert connection.tls is not None
        assert connection.tls.verified
        assert (await connection.deliver(TO_BOB, MESSAGE)).results[BOB].accepted
        await connection.close()
        failed = await refused(server, TlsRequirement.VERIFIED)
        assert (failed.stage, failed.failure and failed.failure.kind) == (Stage.STARTTLS, FailureKind.TLS)
        assert failed.failure is not None
        assert "self" in failed.failure.text


async def test_verified_tls_refuses_another_hosts_certificate() -> None:
    context, pem = server_context("somebody-else.example")
    async with Server(tls=context) as server:
        failed = await refused(server, TlsRequirement.VERIFIED, trust=trusting(pem))
        assert failed.failure is not None
        assert "mx.sandbox.test" in failed.failure.text


async def test_required_tls_refuses_a_server_without_it(server: Server) -> None:
    failed = await refused(server, TlsRequirement.ENCRYPTED)
    assert failed.failure is not None
    assert (failed.stage, failed.failure.kind) == (Stage.STARTTLS, FailureKind.TLS)
    assert failed.failure.text == "the server does not offer STARTTLS"


async def test_no_tls_is_used_where_none_is_wanted(certificate: tuple[ssl.SSLContext, str]) -> None:
    async with Server(tls=certificate[0]) as server:
        connection = await server.connect(TlsRequirement.NONE)
        assert connection.tls is None
        await connection.close()
        assert "STARTTLS" not in server.commands


async def test_a_refused_starttls_goes_on_in_clear_unless_tls_is_required(
    certificate: tuple[ssl.SSLContext, str],
) -> None:
    async with Server(answering({"STARTTLS": "454 4.7.0 no TLS today"}), tls=certificate[0]) as server:
        connection = await server.connect()
        assert connection.tls is None
        assert (await connection.deliver(TO_BOB, MESSAGE)).results[BOB].accepted
        await connection.close()
        failed = await refused(server, TlsRequirement.ENCRYPTED)
        assert failed.reply is not None
        assert (failed.stage, failed.reply.code) == (Stage.STARTTLS, 454)


async def test_a_broken_handshake_tells_the_caller_enough_to_come_back_in_clear(server: Server) -> None:
    server.answers = lambda command: (
        {"EHLO": "250-mx\r\n250 STARTTLS", "STARTTLS": "220 go ahead, but I shall speak no TLS"}.get(command.verb)
        if command.verb != "\x16"
        else None
    )
    failed = await refused(server, timeouts=Timeouts(starttls=0.3))
    assert failed.stage is Stage.STARTTLS
    assert failed.reply is None
    assert failed.failure is not None
    assert failed.failure.kind in (FailureKind.TLS, FailureKind.TIMEOUT)
    server.answers = None
    connection = await server.connect(TlsRequirement.NONE)
    assert (await connection.deliver(TO_BOB, MESSAGE)).results[BOB].accepted
    await connection.close()


async def test_text_injected_before_the_handshake_is_refused(certificate: tuple[ssl.SSLContext, str]) -> None:
    """RFC 3207 §6: replies that were sent in clear must not be taken for protected ones."""
    async with Server(answering({"STARTTLS": "220 go\r\n250 injected"}), tls=certificate[0]) as server:
        failed = await refused(server)
        assert failed.failure is not None
        assert failed.failure.kind in (FailureKind.TLS, FailureKind.PROTOCOL)


async def test_large_mail_goes_through_tls(certificate: tuple[ssl.SSLContext, str]) -> None:
    message = b"Subject: large\r\n\r\n" + (b"0123456789" * 7 + b"\r\n") * 15_000
    async with Server(tls=certificate[0]) as server:
        connection = await server.connect(TlsRequirement.ENCRYPTED)
        assert (await connection.deliver(TO_BOB, message)).results[BOB].accepted
        await connection.close()
        assert server.mails[0].data == message


def test_requirements_are_ordered() -> None:
    none, opportunistic, encrypted, verified = TlsRequirement
    assert none < opportunistic < encrypted < verified
    assert verified >= encrypted
    assert max(TlsRequirement) is verified
    assert not none > none
    assert none <= none


# Under uvloop, as the senders run it


async def test_everything_works_under_uvloop(certificate: tuple[ssl.SSLContext, str]) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def one_mail_each() -> list[bool]:
        accepted = []
        for tls in (None, certificate[0]):
            for pipelining in (True, False):
                async with Server(tls=tls, pipelining=pipelining) as server:
                    accepted.append((await deliver(server)).results[BOB].accepted)
                    dropped = await deliver(server, Envelope("a@a.test", ("drop@bob.test",)))
                    accepted.append(dropped.results["drop@bob.test"].stage is Stage.DATA_CLOSE)
        return accepted

    def run() -> list[bool]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(one_mail_each())

    assert await asyncio.to_thread(run) == [True] * 8


async def test_a_failed_handshake_is_told_under_uvloop_too(certificate: tuple[ssl.SSLContext, str]) -> None:
    """It closes the transport; there is nothing left to say QUIT on."""
    uvloop = pytest.importorskip("uvloop")

    async def unverified() -> ConversationFailed:
        async with Server(tls=certificate[0]) as server:
            return await refused(server, TlsRequirement.VERIFIED)

    def run() -> ConversationFailed:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(unverified())

    failed = await asyncio.to_thread(run)
    assert failed.stage is Stage.STARTTLS
    assert "self-signed certificate" in str(failed)
