"""`manage.py quickstart` as a newcomer meets it: real processes, a real mail, and nothing left behind."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay_project.db.embedded import make_temporary_folder

REPOSITORY = Path(__file__).parents[2]
ONCE_SECONDS = 40  # promised for a machine of two cores
pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def homes() -> Iterator[Path]:
    folder = make_temporary_folder()
    yield folder
    shutil.rmtree(folder)


def argv(home: Path, *options: str) -> list[str]:
    return [sys.executable, "manage.py", "quickstart", "--home", str(home), *options]


def clean_environment(**more: str) -> dict[str, str]:
    """An environment without the test run's own database and secrets."""
    ours = {"DATABASE_URL", "APP_SECRET", "DJANGO_SETTINGS_MODULE", "RELAY_HOME"}
    wide = {
        "COLUMNS": "100"
    }  # lines are folded at the terminal's width, which a worker of pytest-xdist sets to its own
    return {**{name: value for name, value in os.environ.items() if name not in ours}, **wide, **more}


def run(home: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv(home, *options),
        cwd=REPOSITORY,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def processes_of(home: Path) -> list[str]:
    """The processes that were started for this home, whoever runs them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(home) in words:
            found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


@dataclass(frozen=True)
class LivedIn:
    """A home in which one command has carried a mail all the way, and what that said."""

    home: Path
    first: "subprocess.CompletedProcess[str]"
    took: float


@pytest.fixture(scope="module")
def lived_in(homes: Path) -> LivedIn:
    home = homes / "lived-in"
    began = time.monotonic()
    first = run(home, "--once")
    return LivedIn(home, first, time.monotonic() - began)


def test_one_command_carries_a_mail_all_the_way_and_leaves_nothing_running(lived_in: LivedIn) -> None:
    first = lived_in.first
    assert first.returncode == 0, first.stdout + first.stderr
    assert lived_in.took < ONCE_SECONDS
    assert processes_of(lived_in.home) == []
    for said in (
        "made its data",
        "Answer 200",
        "Accepted and stored",
        "Queued in transactional",
        "RCPT TO",
        "Received",
    ):
        assert said in first.stdout
    assert re.findall(r"DKIM checked by dkimpy +\S+\._domainkey\.(\S+): valid", first.stdout) == [
        "demo.test",
        "relay.test",
    ]
    assert "\x1b[" not in first.stdout


def test_it_stays_until_it_is_interrupted_and_a_second_one_is_refused(homes: Path, lived_in: LivedIn) -> None:
    home = lived_in.home
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = homes / "output"
    with (
        log.open("w") as out,
        subprocess.Popen(
            argv(home, "--port", str(port)), cwd=REPOSITORY, env=clean_environment(), stdout=out, stderr=out
        ) as process,
    ):
        try:
            wait_for(lambda: "Ctrl-C" in log.read_text() or process.poll() is not None, 60)
            said = log.read_text()
            assert f"http://127.0.0.1:{port}/console/" in said
            assert re.search(rf"http://127.0.0.1:{port}/sign-in/\S+  \(once", said)
            assert f"Bearer {(home / 'api-key').read_text().strip()}" in said
            second = run(home, "--once")
            assert (second.returncode, second.stderr.count("\n")) == (1, 1)
            assert f"already runs in {home} (pid {process.pid})" in second.stderr
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(40)
    assert code == 0
    assert processes_of(home) == []


def test_nothing_outlives_a_killed_quickstart_and_the_next_finds_its_data(lived_in: LivedIn) -> None:
    home = lived_in.home
    kept = {name: (home / name).read_text() for name in ("env", "api-key")}
    process = subprocess.Popen(argv(home, "--once"), cwd=REPOSITORY, env=clean_environment(), stdout=subprocess.DEVNULL)
    wait_for(lambda: any("run_senders" in command for command in processes_of(home)), 60)
    process.kill()
    process.wait()
    wait_for(lambda: processes_of(home) == [], 40)
    again = run(home, "--once")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "found its data" in again.stdout
    assert {name: (home / name).read_text() for name in kept} == kept
    assert processes_of(home) == []


def test_a_taken_port_is_a_sentence_before_anything_starts(homes: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run(homes / "port", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == f"CommandError: Port {port} is taken by another program: stop that, or choose one by --port.\n"
    )


def test_an_unwritable_home_is_a_sentence(homes: Path) -> None:
    (homes / "file").write_text("in the way")
    done = run(homes / "file" / "home", "--once")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr


def test_data_of_another_postgresql_are_a_sentence(homes: Path) -> None:
    home = homes / "old"
    (home / "postgres").mkdir(parents=True)
    (home / "postgres" / "PG_VERSION").write_text("9\n")
    done = run(home, "--once")
    assert done.returncode == 1
    assert "made by PostgreSQL 9" in done.stderr.splitlines()[-1]
