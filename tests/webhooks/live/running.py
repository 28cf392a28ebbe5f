"""A live process over the test database, and things that happen."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connection

from projects.events import NewEvent, emit, sequence_outbox
from tests.test_run_web import database_url

ROOT = Path(__file__).parents[3]


class Live:
    """A running live process."""

    def __init__(self, folder: Path, port: int, probe: int, **more: str) -> None:
        self.address, self.probe = ("127.0.0.1", port), probe
        log = (folder / "log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "run_live"],
            cwd=folder,
            env=os.environ
            | {
                "DATABASE_URL": database_url(),
                "APP_SECRET": "a-secret-that-only-the-tests-of-this-checkout-know",
                "RELAY_ENV_FILE": os.devnull,
                "DJANGO_SETTINGS_MODULE": "relay_project.settings",
                "LIVE_BIND": f"127.0.0.1:{port}",
                "PROBE_LIVE": f"127.0.0.1:{probe}",
                "LIVE_PROJECT_CONNECTIONS": "4",
                "LIVE_HEARTBEAT_SECONDS": "1",
                "TMPDIR": str(folder),
                "SHUTDOWN_SECONDS": "5",
            }
            | more,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.probe}{path}", timeout=5) as answer:
            return answer.read()

    def is_ready(self) -> bool:
        try:
            return bool(self.get("/ready"))
        except OSError:
            return False


@contextmanager
def running(folder: Path, port: int, probe: int, **more: str) -> Iterator[Live]:
    live = Live(folder, port, probe, **more)
    try:
        give_up = time.monotonic() + 40
        while not live.is_ready():
            assert live.process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < give_up, "run_live did not become ready"
            time.sleep(0.1)
        yield live
    finally:
        live.process.terminate()
        try:
            live.process.wait(15)
        except subprocess.TimeoutExpired:
            live.process.kill()
            live.process.wait()


def happen(project: Any, *numbers: int) -> list[int]:
    ids = emit(*(NewEvent(project.pk, "domain.created", "domain", number, {"n": number}) for number in numbers))
    with connection.cursor() as cursor:
        sequence_outbox(cursor)
    return ids
