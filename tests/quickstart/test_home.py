"""The quickstart's home folder, its lock, and the ports it chooses."""

import os
import socket
from pathlib import Path

import pytest

from relay_project.quickstart.home import Home, QuickstartError
from relay_project.quickstart.ports import LOOPBACK, USUAL, choose_ports, is_free


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "deep" / ".relay")
    made.make()
    return made


def test_what_is_written_is_read_again_and_nobody_else_reads_it(home: Home) -> None:
    values = {"APP_SECRET": "s=cr-t_", "DATABASE_URL": "postgresql://app:x@/relay?host=/tmp/a"}
    home.write_env({"OLD": "1"})
    home.write_env(values)
    assert home.read_env() == values
    assert home.env_file.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in home.folder.iterdir()) == ["env", "logs"]


def test_its_folders_can_be_passed_through_but_logs_not_read(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        home = Home(tmp_path / ".relay")
        home.make()
    finally:
        os.umask(before)
    assert (home.folder.stat().st_mode & 0o777, home.logs.stat().st_mode & 0o777) == (0o711, 0o700)


def test_a_second_run_in_the_same_home_is_refused_with_the_pid(home: Home) -> None:
    with home.lock(), pytest.raises(QuickstartError, match=rf"already runs in {home.folder} \(pid {os.getpid()}\)"):
        home.lock().__enter__()
    with home.lock():
        pass  # and is free again


def test_a_home_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(QuickstartError, match=r"cannot be written .* name another by --home"):
        Home(tmp_path / "file" / ".relay").make()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_may_not_be_written_is_a_sentence(home: Home) -> None:
    home.folder.chmod(0o500)
    with pytest.raises(QuickstartError, match="cannot be written"):
        home.make()


def test_a_taken_port_gives_way_to_a_free_one_and_no_two_are_the_same() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        chosen = choose_ports({"PROBE_WEB": port, "SANDBOX_DNS": port, "A": 0, "B": 0})
    assert port not in chosen.values()
    assert len(set(chosen.values())) == len(chosen)
    assert all(is_free(number) for number in chosen.values())


def test_the_port_of_dns_is_free_for_udp_too() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((LOOPBACK, 0))
        port = taken.getsockname()[1]
        assert choose_ports({"SANDBOX_DNS": port})["SANDBOX_DNS"] != port
        assert choose_ports({"PROBE_WEB": port}) == {"PROBE_WEB": port}


def test_the_usual_ports_are_all_different() -> None:
    assert len(set(USUAL.values())) == len(USUAL)
