"""The supervisor: real children that die, hang, and are left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from relay_project import supervise
from relay_project.supervise import Death, Program, Supervisor

REPOSITORY = Path(__file__).parents[1]


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def shell(name: str, script: str, **env: str) -> Program:
    return Program(name, ["/bin/sh", "-c", script], env)


def test_a_child_writes_to_its_log_and_sees_its_environment(tmp_path: Path) -> None:
    with Supervisor([shell("web", 'echo "I am $WHO"; exec sleep 60', WHO="web")], tmp_path, pytest.fail):
        wait_for(lambda: (tmp_path / "web.log").read_text() == "I am web\n")


def test_a_child_that_dies_is_reported_with_its_last_lines_and_started_again(tmp_path: Path) -> None:
    deaths: list[Death] = []
    (tmp_path / "web.log").write_text("from the day before\n")
    with Supervisor([shell("web", "echo cannot bind; exit 3")], tmp_path, deaths.append) as supervisor:
        start = time.monotonic()
        wait_for(lambda: supervisor.tick(start) or deaths)
        assert (deaths[0].name, deaths[0].how, list(deaths[0].last_lines)) == ("web", "exit code 3", ["cannot bind"])
        assert supervisor.pids() == {}
        supervisor.tick(start + supervise.FIRST_PAUSE_SECONDS - 0.01)
        assert supervisor.pids() == {}
        supervisor.tick(start + supervise.FIRST_PAUSE_SECONDS + 0.01)
        assert "web" in supervisor.pids()


def test_the_pause_doubles_up_to_half_a_minute_and_starts_anew_after_a_steady_minute(tmp_path: Path) -> None:
    deaths: list[Death] = []
    with Supervisor([shell("web", "exit 1")], tmp_path, deaths.append) as supervisor:
        now = time.monotonic()
        for count in range(1, 8):
            wait_for(lambda count=count, now=now: supervisor.tick(now) or len(deaths) == count)
            now += deaths[-1].pause_seconds + 0.001
            supervisor.tick(now)
        assert [death.pause_seconds for death in deaths] == [1, 2, 4, 8, 16, 30, 30]
        now += supervise.STEADY_SECONDS
        wait_for(lambda: supervisor.tick(now) or len(deaths) == 8)
        assert deaths[-1].pause_seconds == supervise.FIRST_PAUSE_SECONDS


def test_a_killed_child_is_named_by_its_signal_and_one_that_cannot_start_by_its_reason(tmp_path: Path) -> None:
    deaths: list[Death] = []
    programs = [shell("killed", "kill -9 $$"), Program("absent", ["/nowhere/program"])]
    with Supervisor(programs, tmp_path, deaths.append) as supervisor:
        wait_for(lambda: supervisor.tick() or len(deaths) == 2)
    found = {death.name: (death.how, list(death.last_lines)) for death in deaths}
    assert found["killed"] == ("signal SIGKILL", [])
    assert found["absent"] == ("exit code 127", ["/nowhere/program: No such file or directory"])


def test_what_a_dead_child_started_itself_goes_with_it(tmp_path: Path) -> None:
    deaths: list[Death] = []
    script = f"sleep 60 & echo $! > {tmp_path}/grandchild; exit 0"
    with Supervisor([shell("web", script)], tmp_path, deaths.append) as supervisor:
        wait_for(lambda: supervisor.tick() or deaths)
        grandchild = int((tmp_path / "grandchild").read_text())
        wait_for(lambda: not is_alive(grandchild))


def test_stopping_asks_first_and_kills_who_does_not_listen(tmp_path: Path) -> None:
    polite = "trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.05; done"
    deaf = "trap '' TERM; echo up; while true; do sleep 0.05; done"
    supervisor = Supervisor([shell("polite", polite), shell("deaf", deaf)], tmp_path, pytest.fail, stop_seconds=0.5)
    supervisor.start()
    pids = supervisor.pids()
    wait_for(lambda: all((tmp_path / f"{name}.log").read_text() == "up\n" for name in pids))
    assert supervisor.stop() == ["deaf"]
    assert (tmp_path / "polite.log").read_text() == "up\nbye\n"
    assert not any(is_alive(pid) for pid in pids.values())


SUPERVISING = """
import sys
from pathlib import Path
from relay_project.supervise import Program, Supervisor
logs = Path(sys.argv[1])
supervisor = Supervisor([Program("web", ["/bin/sleep", "60"])], logs, print)
said = []
with supervisor:
    # from inside run(), where the signals are its own
    supervisor.run(lambda: said or said.append(print(supervisor.pids()["web"], flush=True)))
print("stopped", flush=True)
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_its_supervisor(tmp_path: Path, sign: signal.Signals) -> None:
    argv = [sys.executable, "-c", SUPERVISING, tmp_path]
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_for(lambda: "sleep" in Path(f"/proc/{child}/cmdline").read_text())
        os.kill(parent.pid, sign)
        said = parent.stdout.read()
    assert parent.returncode == (-sign if sign == signal.SIGKILL else 0)
    assert said == ("" if sign == signal.SIGKILL else "stopped\n")
    wait_for(lambda: not is_alive(child))
