"""`manage.py run_live` as a process: both forms, resuming over a restart, and limits."""

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from projects.api_keys import create_key
from relay_project.bench.streams import Closed, EventStream, Refused, Stream, WebSocket
from tests.test_run_web import free_ports
from tests.webhooks.live.running import Live, happen, running

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.journey]


async def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """In a thread, whose database connection is closed behind it."""

    def run() -> Any:
        try:
            return work(*arguments)
        finally:
            connection.close()

    return await asyncio.to_thread(run)


PINGS = bytes((0x89, 0xFD, 0, 0, 0, 0)) + b"p" * 125
EMPTY_FRAGMENTS = bytes((0x00, 0x80, 0, 0, 0, 0))
ANOTHER_REQUEST = b"GET /api/console/live HTTP/1.1\r\nHost: live.test\r\n\r\n"


async def until_cut(stream: Stream, flood: bytes) -> None:
    """A client that talks without end, which costs the loop of all streams its time, is let go."""
    try:
        async with asyncio.timeout(5):
            while True:
                stream.writer.write(flood * 1000)
                await stream.writer.drain()
    except ConnectionError:
        return


async def take(stream: Stream, count: int) -> list[tuple[str | None, str, Any]]:
    found: list[tuple[str | None, str, Any]] = []
    async with asyncio.timeout(10):
        async for event_id, kind, data in stream:
            if kind == "heartbeat":
                continue
            found.append((event_id, kind, json.loads(data)))
            if len(found) == count:
                break
    return found


def test_both_forms_tell_what_happens_go_on_after_a_restart(project: Any, foreign: Any, tmp_path: Path) -> None:
    """Lesson of the system before: what was told while nobody listened was lost."""
    _, token = create_key(project, "live", ["domains.read"])
    by_key = {"Authorization": f"Bearer {token}"}
    port, probe = free_ports(2)

    async def first(live: Live) -> list[str]:
        sse, socket = await EventStream.open(live.address, "", by_key), await WebSocket.open(live.address, "", by_key)
        hellos = [(await take(sse, 1))[0], (await take(socket, 1))[0]]
        assert [kind for _, kind, _ in hellos] == ["hello", "hello"]
        await apart(happen, foreign, 9)
        ids = await apart(happen, project, 1, 2)
        for stream in (sse, socket):
            told = await take(stream, 2)
            assert [(one, kind, body["event"]) for one, kind, body in told] == [
                (str(event_id), "domain.created", "domain.created") for event_id in ids
            ]
        assert b'relay_live_connections{transport="sse"} 1.0' in live.get("/metrics")
        live.process.send_signal(signal.SIGTERM)
        assert [kind for _, kind, _ in await take(sse, 1)] == ["shutdown"]
        assert [kind for _, kind, _ in await take(socket, 1)] == ["shutdown"]
        with pytest.raises(Closed, match="1012"):
            await take(socket, 1)
        sse.close()
        socket.close()
        await asyncio.sleep(0)
        return [str(event_id) for event_id in ids]

    async def second(live: Live, known: list[str], missed: list[int]) -> None:
        sse = await EventStream.open(live.address, "", {**by_key, "Last-Event-ID": known[0]})
        socket = await WebSocket.open(live.address, f"after={known[1]}", by_key)
        assert [one for one, _, _ in await take(sse, 4)] == [known[0], known[1], *map(str, missed)]
        assert [one for one, _, _ in await take(socket, 3)] == [known[1], *map(str, missed)]
        others = [await EventStream.open(live.address, "kinds=domain.deleted", by_key) for _ in range(2)]
        with pytest.raises(Refused, match="503") as full:
            await EventStream.open(live.address, "", by_key)
        assert b"retry-after: 5" in full.value.head.lower()
        for other in others:
            other.close()
        for flood in (PINGS, EMPTY_FRAGMENTS):
            await until_cut(await WebSocket.open(live.address, "", by_key), flood)
        await until_cut(sse, ANOTHER_REQUEST)
        socket.close()
        await asyncio.sleep(0)

    with running(tmp_path, port, probe) as live:
        known = asyncio.run(first(live))
        assert live.process.wait(10) == 0
    missed = happen(project, 3, 4)
    with running(tmp_path, port, probe) as live:
        asyncio.run(second(live, known, missed))
    log = (tmp_path / "log").read_text()
    assert token not in log
    assert "live.crashed" not in log
    assert "Traceback" not in log
