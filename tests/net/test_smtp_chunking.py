"""BDAT (RFC 3030) against the sandbox's SMTP server, over real sockets: what is sent when, and what a loss then means."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from relay_project.mail.reply import FailureKind, Stage
from relay_project.net import smtp
from relay_project.net.smtp import Envelope, SmtpConnection
from relay_project.net.smtp_transaction import ONE_FLIGHT_MAX, SENT_ALONG
from relay_project.sandbox.smtp import CUT, SILENCE, Command
from tests.net.test_smtp import BOB, MESSAGE, SHORT, TO_BOB, Server, answering, deliver, raw_server

MISSING = "missing@bob.test"
LARGE = b"Subject: large\r\n\r\n" + (b"." + b"0123456789" * 7 + b"\r\n") * 5_000


@pytest.fixture(params=[True, False], ids=["pipelined", "one by one"])
async def chunking(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    async with Server(pipelining=request.param, chunking=True) as server:
        yield server


@pytest.mark.parametrize("message", [MESSAGE, LARGE, b"no line end", b"a\nb\rc\r\n.\r\n"])
async def test_a_mail_in_one_chunk_arrives_as_it_was_given(chunking: Server, message: bytes) -> None:
    connection = await chunking.connect()
    transaction = await connection.deliver(TO_BOB, message)
    await connection.close()
    assert transaction.results[BOB].accepted
    [mail] = chunking.mails
    assert mail.data == {b"no line end": b"no line end\r\n", b"a\nb\rc\r\n.\r\n": b"a\r\nb\r\nc\r\n.\r\n"}.get(
        message, message
    )
    assert [step.command for step in transaction.steps] == [
        f"MAIL FROM:<b.token@relay.test> SIZE={len(mail.data)}",
        "RCPT TO:<bob@bob.test>",
        f"BDAT {len(mail.data)} LAST",
    ]
    assert transaction.steps[-1].name is Stage.DATA_CLOSE
    assert "DATA" not in chunking.commands


async def test_a_connection_carries_many_mails_in_chunks(chunking: Server) -> None:
    connection = await chunking.connect()
    for message in (MESSAGE, LARGE, MESSAGE):
        assert (await connection.deliver(TO_BOB, message)).results[BOB].accepted
    await connection.close()
    assert [mail.data for mail in chunking.mails] == [MESSAGE, LARGE, MESSAGE]
    assert "RSET" not in chunking.commands


async def first_packets(*packets: bytes, message: bytes) -> list[bytes]:
    """What a server gets before each of its answers."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        await reader.readline()
        writer.write(b"250-hi\r\n250-CHUNKING\r\n250 PIPELINING\r\n")
        for replies in packets:
            heard.append(await reader.read(65_536))
            writer.write(replies)
        await reader.read()

    async with raw_server(serve) as endpoint:
        connection = await SmtpConnection.open(endpoint, source=None, helo_name="a.test", timeouts=SHORT)
        await connection.deliver(Envelope("a@a.test", (BOB,)), message)
        connection.abort()
    return heard


async def test_a_small_message_leaves_with_its_commands() -> None:
    [heard] = await first_packets(b"250 ok\r\n" * 3, message=b"hello\r\n")
    assert heard == b"MAIL FROM:<a@a.test>\r\nRCPT TO:<bob@bob.test>\r\nBDAT 7 LAST\r\nhello\r\n"


async def test_a_larger_message_waits_for_a_recipient() -> None:
    large = b"x" * ONE_FLIGHT_MAX + b"\r\n"
    heard = await first_packets(b"250 ok\r\n550 no\r\n", b"250 ok\r\n", message=large)
    assert heard[0] == b"MAIL FROM:<a@a.test>\r\nRCPT TO:<bob@bob.test>\r\n"
    assert heard[1:] == [b""], "nothing follows, for nobody wants it"
    heard = await first_packets(b"250 ok\r\n250 ok\r\n", b"250 ok\r\n", message=large)
    assert heard[1].startswith(b"BDAT 12290 LAST\r\nxxx")


async def test_each_recipient_has_its_own_result(chunking: Server) -> None:
    transaction = await deliver(chunking, Envelope("a@a.test", (BOB, MISSING, "busy@bob.test")))
    assert transaction.results[BOB].accepted
    assert {transaction.results[who].stage for who in (MISSING, "busy@bob.test")} == {Stage.RCPT}
    assert chunking.mails[0].recipients == (BOB,)


async def test_when_every_recipient_is_refused_the_chunk_is_forgotten_and_the_next_mail_starts_clean(
    chunking: Server,
) -> None:
    """RFC 3030 §2: after a chunk that was not taken only RSET makes the state known again."""
    connection = await chunking.connect()
    transaction = await connection.deliver(Envelope("a@a.test", (MISSING,)), MESSAGE)
    assert transaction.results[MISSING].stage is Stage.RCPT
    assert transaction.usable
    assert (await connection.deliver(TO_BOB, MESSAGE)).results[BOB].accepted
    await connection.close()
    assert "RSET" in chunking.commands
    assert [mail.recipients for mail in chunking.mails] == [(BOB,)]


async def test_a_refusal_of_what_was_only_sent_along_is_explained() -> None:
    async with Server(chunking=True) as server:
        transaction = await deliver(server, Envelope("a@a.test", (MISSING,)))
        last = transaction.steps[-1]
        assert (last.command, last.reply_code, last.note) == (f"BDAT {len(MESSAGE)} LAST", 503, SENT_ALONG)
        assert last.as_record()["note"] == SENT_ALONG
        assert "note" not in transaction.steps[-2].as_record()
    async with Server() as server:
        transaction = await deliver(server, Envelope("a@a.test", (MISSING,)))
        assert [step.note for step in transaction.steps] == ["", "", SENT_ALONG]
        server.answers = answering({"MAIL": "550 5.7.1 not you"})
        transaction = await deliver(server)
        assert [step.note for step in transaction.steps] == ["", SENT_ALONG, SENT_ALONG]


async def test_a_refused_mail_command_decides_for_all(chunking: Server) -> None:
    chunking.answers = answering({"MAIL": "550 5.7.1 we know you"})
    connection = await chunking.connect()
    transaction = await connection.deliver(Envelope("a@a.test", (BOB, "charlie@bob.test")), MESSAGE)
    assert {(r.stage, r.reply and r.reply.code) for r in transaction.results.values()} == {(Stage.MAIL, 550)}
    chunking.answers = None
    assert (await connection.deliver(TO_BOB, MESSAGE)).results[BOB].accepted
    await connection.close()


@pytest.mark.parametrize("message", [MESSAGE, LARGE])
async def test_a_refusal_after_the_message_leaves_the_connection_usable(chunking: Server, message: bytes) -> None:
    connection = await chunking.connect()
    transaction = await connection.deliver(Envelope("a@a.test", ("spam+atdata@bob.test",)), message)
    result = transaction.results["spam+atdata@bob.test"]
    assert result.reply is not None
    assert (result.stage, result.reply.code) == (Stage.DATA_CLOSE, 550)
    assert (await connection.deliver(TO_BOB, message)).results[BOB].accepted
    await connection.close()
    assert chunking.commands.count("RSET") == 1


async def test_a_server_that_does_not_understand_bdat_after_all_is_told_so_and_left() -> None:
    """A firewall that knows no CHUNKING and lets the keyword through: the mail itself is not at fault."""
    async with Server(answering({"BDAT": "502 5.5.1 what?"}), chunking=True) as server:
        connection = await server.connect()
        transaction = await connection.deliver(TO_BOB, MESSAGE)
        result = transaction.results[BOB]
        assert result.reply is None
        assert (result.stage, result.failure and result.failure.kind) == (Stage.DATA, FailureKind.PROTOCOL)
        assert connection.refuses_chunks
        assert not connection.usable
        plain = await server.connect(chunking=False)
        assert (await plain.deliver(TO_BOB, MESSAGE)).results[BOB].accepted
        await plain.close()


# What a loss means (RFC 1047)


async def test_a_connection_cut_after_the_chunk_may_have_delivered(chunking: Server) -> None:
    """Lesson C4: as after the final dot, nobody knows, so no other host is tried at once."""
    transaction = await deliver(chunking, Envelope("a@a.test", ("drop@bob.test", MISSING)))
    result = transaction.results["drop@bob.test"]
    assert (result.stage, result.failure and result.failure.kind) == (Stage.DATA_CLOSE, FailureKind.CUT)
    assert transaction.results[MISSING].stage is Stage.RCPT


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
@pytest.mark.parametrize(("message", "sent"), [(MESSAGE, True), (LARGE, False)])
async def test_a_cut_before_the_replies_counts_as_after_the_message_where_it_was_sent_along(
    verb: str, message: bytes, sent: bool
) -> None:
    """Lesson C4: the server may have taken the message and only its replies were lost."""
    async with Server(answering({verb: CUT}), chunking=True) as server:
        connection = await server.connect()
        transaction = await connection.deliver(TO_BOB, message)
        await connection.close()
    result = transaction.results[BOB]
    assert result.failure is not None
    assert result.failure.kind is FailureKind.CUT
    assert result.stage is (Stage.DATA_CLOSE if sent else Stage(verb.lower()))
    assert not transaction.stale


async def test_a_421_says_that_the_message_was_not_taken() -> None:
    for verb, message in (("MAIL", MESSAGE), ("RCPT", MESSAGE), ("RCPT", LARGE), ("BDAT", MESSAGE)):
        async with Server(answering({verb: "421 4.7.0 slow down"}), chunking=True) as server:
            connection = await server.connect()
            transaction = await connection.deliver(Envelope("a@a.test", (BOB, "charlie@bob.test")), message)
            await connection.close()
        assert {r.reply and r.reply.code for r in transaction.results.values()} == {421}, verb


async def test_a_421_to_the_last_recipient_ends_it_for_those_before() -> None:
    def answer(command: Command) -> str | None:
        return "421 4.7.0 enough" if "charlie" in command.argument else None

    async with Server(answer, chunking=True) as server:
        connection = await server.connect()
        transaction = await connection.deliver(Envelope("a@a.test", (BOB, "charlie@bob.test")), LARGE)
        await connection.close()
    assert {(r.stage, r.reply and r.reply.code) for r in transaction.results.values()} == {(Stage.RCPT, 421)}


async def test_a_connection_that_rested_is_asked_first_and_found_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle connections are closed all the time: that must not count as a mail that was perhaps delivered."""
    monkeypatch.setattr(smtp, "RESTED_SECONDS", 0.0)
    async with Server(chunking=True) as server:
        connection = await server.connect()
        await connection.deliver(TO_BOB, MESSAGE)
        server.answers = answering({"MAIL": CUT})
        transaction = await connection.deliver(TO_BOB, MESSAGE)
        assert transaction.stale
        assert transaction.results[BOB].stage is Stage.MAIL


async def test_a_chunk_that_is_not_answered_times_out_after_its_wait() -> None:
    async with Server(answering({"BDAT": SILENCE}), chunking=True) as server:
        connection = await server.connect(timeouts=SHORT)
        begun = time.monotonic()
        transaction = await connection.deliver(TO_BOB, MESSAGE)
        result = transaction.results[BOB]
        assert (result.stage, result.failure and result.failure.kind) == (Stage.DATA_CLOSE, FailureKind.TIMEOUT)
        assert time.monotonic() - begun < 3
        await connection.close()
