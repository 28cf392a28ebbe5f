"""sandbox.sink: its counts, and that it finds the end of a message wherever the packets break."""

import asyncio
import json
import signal
import ssl
import sys
from array import array
from pathlib import Path

import pytest

from relay_project.sandbox.certificate import server_context
from relay_project.sandbox.manners import BadManners, Manner, Manners, as_json, is_bounced
from relay_project.sandbox.sink import Sink

GROUP = b"EHLO a\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nRCPT TO:<c@c.test>\r\nDATA\r\n"
BODY = b"Subject: x\r\n\r\n..dot\r\n.not the end\r\nend\n.\n\r\n.\r\n"


async def talk(sink: Sink, data: bytes, chunk: int) -> bytes:
    reader, writer = await asyncio.open_connection(sink.address, sink.port)
    for at in range(0, len(data), chunk):
        writer.write(data[at : at + chunk])
        await writer.drain()
        await asyncio.sleep(0)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 4096])
async def test_messages_are_found_wherever_packets_break(chunk: int) -> None:
    async with Sink(record_arrivals=True) as sink:
        answer = await talk(sink, GROUP + BODY + GROUP[8:] + b".\r\n" + b"QUIT\r\n", chunk)
        assert sink.counts.messages == 2
        assert sink.counts.recipients == 4
        assert sink.counts.octets == len(BODY) - 3
        assert sink.counts.arrivals is not None
        assert len(sink.counts.arrivals) == 4  # one for each recipient
    assert [line[:3] for line in answer.split(b"\r\n") if line and line[3:4] == b" "] == [
        *(b"220", b"250", b"250", b"250", b"250", b"354", b"250"),
        *(b"250", b"250", b"250", b"354", b"250", b"221"),
    ]


async def test_data_without_recipient_is_refused_and_unknown_verbs_too() -> None:
    async with Sink() as sink:
        answer = await talk(
            sink, b"MAIL FROM:<a@a.test>\r\nDATA\r\nVRFY x\r\nRCPT TO:<b@b.test>\r\nRSET\r\nDATA\r\nQUIT\r\n", 99
        )
        assert [line[:3] for line in answer.splitlines()] == [
            b"220",
            b"250",
            b"503",
            b"502",
            b"250",
            b"250",
            b"503",
            b"221",
        ]
        assert sink.counts.messages == 0


async def test_xstat_tells_the_counts_so_far() -> None:
    async with Sink() as sink:
        answer = await talk(sink, GROUP + BODY + b"XSTAT\r\nQUIT\r\n", 4096)
    record = json.loads(answer.splitlines()[-2][4:])
    assert (record["messages"], record["recipients"]) == (1, 2)
    assert record["cpu_us_per_message"] > 0


async def test_the_program_reports_when_it_is_told_to_stop(tmp_path: Path) -> None:
    report, times = tmp_path / "report.json", tmp_path / "times"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay_project.sandbox.sink", "--report", str(report), "--times", str(times)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        port = json.loads(await process.stdout.readline())["port"]
        outside = Sink(port=port)
        await talk(outside, GROUP + BODY + b"QUIT\r\n", 4096)
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0
    record = json.loads(report.read_text())
    assert record["messages"] == 1
    assert record["octets"] == len(BODY) - 3
    assert array("d", times.read_bytes())[0] == record["last_at"]


def codes(answer: bytes) -> list[bytes]:
    return [line[:3] for line in answer.split(b"\r\n") if line and line[3:4] == b" "]


async def test_chunks_are_messages_wherever_packets_break() -> None:
    """RFC 3030: the octets of a chunk are not searched for an end, and the last one may be empty."""
    chunks = b"BDAT 9\r\nA: b\r\n.\r\nBDAT 0 LAST\r\n"
    for chunk in (1, 3, 4096):
        async with Sink(chunking=True, keep_sample=True) as sink:
            answer = await talk(sink, GROUP[:-6] + chunks + b"QUIT\r\n", chunk)
            assert (sink.counts.messages, sink.counts.octets, sink.counts.recipients) == (1, 9, 2)
            assert sink.sample == b"A: b\r\n.\r\n"
        assert b"CHUNKING" in answer
        assert codes(answer)[-3:] == [b"250", b"250", b"221"]


async def test_a_chunk_without_recipient_is_passed_over_and_refused() -> None:
    async with Sink(chunking=True) as sink:
        answer = await talk(sink, b"MAIL FROM:<a@a.test>\r\nBDAT 6 LAST\r\nQUIT\r\nBDAT x\r\nQUIT\r\n", 99)
        assert sink.counts.messages == 0
    assert codes(answer) == [b"220", b"250", b"503", b"501", b"221"]


async def test_starttls_is_offered_once_and_mail_comes_over_it() -> None:
    context, _ = server_context("sink.sandbox.test")
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with Sink(tls=context) as sink:
        reader, writer = await asyncio.open_connection(sink.address, sink.port)
        writer.write(b"EHLO a\r\nSTARTTLS\r\n")
        assert b"STARTTLS" in await reader.readuntil(b"220 2.0.0 Go ahead\r\n")
        await writer.start_tls(trusting)
        writer.write(GROUP + BODY + b"QUIT\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert b"STARTTLS" not in answer
        assert (sink.counts.messages, sink.counts.handshakes) == (1, 1)


async def test_one_sink_is_several_sites_with_manners_of_their_own() -> None:
    manners = Manners({"127.0.9.2": Manner(bounce=1.0), "late.test": Manner(defer=1.0)})
    async with Sink("127.0.9.1", "127.0.9.2", manners=manners) as sink:
        taken = await talk(sink, GROUP + BODY + b"QUIT\r\n", 4096)
        late = await talk(sink, GROUP[:-6].replace(b"c.test", b"late.test") + b"DATA\r\n" + BODY + b"QUIT\r\n", 4096)
        sink.addresses = ("127.0.9.2",)
        bounced = await talk(sink, GROUP[:-6] + b"QUIT\r\n", 4096)
        assert sink.counts.by_address == {"127.0.9.1": 3}
        assert (sink.counts.messages, sink.counts.refused) == (2, 3)
    assert codes(taken)[3:5] == [b"250", b"250"]
    assert codes(late)[3:5] == [b"250", b"451"]
    assert codes(bounced)[3:5] == [b"550", b"550"]


async def test_a_dropped_recipient_and_a_cut_message_end_the_connection() -> None:
    async with Sink(manners=Manners({"*": Manner(drop=1.0)})) as sink:
        assert codes(await talk(sink, GROUP, 4096)) == [b"220", b"250", b"250"]
        assert sink.counts.messages == 0
    async with Sink(manners=Manners({"*": Manner(cut=1.0)})) as sink:
        answer = await _cut(sink)
        assert codes(answer)[-1] == b"354"
        assert sink.counts.messages == 1  # RFC 1047: it was taken, and the sender cannot know


async def _cut(sink: Sink) -> bytes:
    reader, writer = await asyncio.open_connection(sink.address, sink.port)
    writer.write(GROUP)
    greeted = await reader.readuntil(b"354 End data with <CR><LF>.<CR><LF>\r\n")
    writer.write(BODY)
    rest = await reader.read()
    writer.close()
    await writer.wait_closed()
    return greeted + rest


async def test_a_tarpit_answers_late_and_in_order() -> None:
    async with Sink(manners=Manners({"*": Manner(tarpit_seconds=0.05)})) as sink:
        began = asyncio.get_running_loop().time()
        answer = await talk(sink, GROUP + BODY + b"QUIT\r\n", 4096)
        assert asyncio.get_running_loop().time() - began >= 0.05
    assert codes(answer) == [b"220", b"250", b"250", b"250", b"250", b"354", b"250", b"221"]


def test_shares_are_what_they_say_and_a_mailbox_bounces_every_time() -> None:
    manners, manner = Manners(), Manner(defer=0.3, bounce=0.2)
    lines = [b"RCPT TO:<u-%d@r.test>" % number for number in range(3000)]
    refused = [manners.refusal(line, manner) for line in lines]
    assert 0.17 < sum(reply is not None and reply.startswith(b"5") for reply in refused) / 3000 < 0.23
    assert 0.2 < sum(reply is not None and reply.startswith(b"4") for reply in refused) / 3000 < 0.28
    for line, reply in zip(lines, refused, strict=True):
        assert is_bounced(line, 0.2) == (reply is not None and reply.startswith(b"5"))


def test_a_table_of_manners_survives_its_way_and_nonsense_is_one_sentence() -> None:
    table = {"*": Manner(defer=0.5), "127.0.0.9": Manner(tarpit_seconds=2.0)}
    read = Manners.of(as_json(table))
    assert read.at("127.0.0.9") == table["127.0.0.9"]
    assert read.at("127.0.0.1") == table["*"]
    assert not read.knows_domains
    for nonsense in ("[]", "{", '{"*": {"defer": 2}}', '{"*": {"politeness": 1}}'):
        with pytest.raises(BadManners):
            Manners.of(nonsense)
