"""sandbox.sink: its counts, and that it finds the end of a message wherever the packets break."""

import asyncio
import json
import signal
import sys
from array import array
from pathlib import Path

import pytest

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
        assert len(sink.counts.arrivals) == 2
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
