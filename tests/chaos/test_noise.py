"""Noise in small: the trial `noise` of `make chaos` makes 20,000 inputs, and looks at the process's memory."""

import asyncio
import random

from relay_project.chaos.noise import Port, make_noise, mutated
from relay_project.net.smtp_server.model import Service
from tests.net.smtp_server.conftest import certificates, serve  # noqa: F401 - fixtures


async def test_noise_crashes_and_hangs_nothing(serve, caplog) -> None:  # noqa: F811
    async with serve(connections=200, auth_failures=10_000) as served:
        ports = [Port(served.port(service), service is Service.SUBMISSIONS) for service in Service]
        ends = await make_noise(ports, 300, seed=5321)
        assert sum(ends.values()) == 300
        assert ends["hung"] == 0
        assert ends["closed"] > 100
        async with asyncio.timeout(5):
            while served.server.open_connections:
                await asyncio.sleep(0.01)
        client = await served.connect()
        assert (await client.ask(b"NOOP")).code == 250
        assert served.server.house.budget.used == 0
        assert served.reception.mails
    assert "Traceback" not in caplog.text


def test_inputs_are_the_same_in_every_run() -> None:
    first, second = ([mutated(rng) for _ in range(50)] for rng in (random.Random(1), random.Random(1)))
    assert first == second
