"""The embedded PostgreSQL: real servers, killed, moved and refused."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import environ
import psycopg
import pytest

from relay_project.db import embedded, postgres_binaries
from relay_project.db.child import LOG_BYTES, last_lines, open_log, tethered
from relay_project.db.embedded import EmbeddedPostgres, EmbeddedPostgresError, make_temporary_folder, temporary_postgres

FAST = {"fsync": "off"}
AS_ROOT = os.geteuid() == 0
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A data folder that was started and stopped once; tests copy it, which is faster than initdb."""
    folder = make_temporary_folder()
    with EmbeddedPostgres(folder / "data", settings=FAST):
        pass
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = make_temporary_folder()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def data(folder: Path, template: Path) -> Path:
    """A stopped data folder of this test's own, with owner and modes as PostgreSQL wants them."""
    subprocess.run(["cp", "-a", template, folder / "data"], check=True)
    return folder / "data"


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_alive(pid: int) -> bool:
    """Whether the process runs: one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def count_rows(server: EmbeddedPostgres) -> int:
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def test_data_are_there_again_after_a_stop_and_a_start(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data")
    with server, psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 200)")
    again = EmbeddedPostgres(folder / "data")
    with again:
        assert count_rows(again) == 200
    assert not again.is_running


def test_it_is_set_up_as_the_engine_wants_it(data: Path) -> None:
    with EmbeddedPostgres(data, settings=FAST) as server, psycopg.connect(server.url) as connection:
        names = (
            "data_checksums",
            "listen_addresses",
            "autovacuum_naptime",
            "max_connections",
            "server_encoding",
            "fsync",
        )
        row = connection.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in names)).fetchone()
    assert row == ("on", "", "10s", "200", "UTF8", "off")


def test_nobody_signs_in_without_the_password(data: Path) -> None:
    with EmbeddedPostgres(data, settings=FAST) as server:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url.replace(server.password, "guessed"))
        assert server.password not in Path(f"/proc/{server.pid}/cmdline").read_text()
    assert data.stat().st_mode & 0o077 == 0


def test_its_url_is_what_django_environ_reads(data: Path) -> None:
    server = EmbeddedPostgres(data)
    read = environ.Env.db_url_config(server.url)
    assert (read["NAME"], read["USER"], read["PASSWORD"]) == ("relay", "app", server.password)
    assert read["OPTIONS"] == {"host": str(server.socket_folder)}


def test_a_tcp_port_is_opened_only_on_request(data: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with EmbeddedPostgres(data, tcp_port=port, settings=FAST) as server:
        assert f":{port}/relay" in server.url
        psycopg.connect(server.url).close()
        psycopg.connect(f"postgresql://app:{server.password}@127.0.0.1:{port}/relay").close()


def test_a_killed_server_starts_again_with_what_was_committed(data: Path) -> None:
    server = EmbeddedPostgres(data)
    server.start()
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 200)")
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    assert wait_for(lambda: not server.is_running)
    assert (data / "postmaster.pid").exists()
    server.start()
    assert count_rows(server) == 200
    server.stop()


def test_a_pid_that_another_program_has_got_since_does_not_keep_it_from_starting(data: Path) -> None:
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n1\n5432\n\n\n  1234567         0\nready   \n")
    with EmbeddedPostgres(data, settings=FAST) as server:
        assert server.pid != os.getpid()


def test_a_second_server_on_the_same_data_is_refused_by_pid(data: Path) -> None:
    with EmbeddedPostgres(data, settings=FAST) as server:
        with pytest.raises(EmbeddedPostgresError, match=rf"Another PostgreSQL \(pid {server.pid}\) already runs on"):
            EmbeddedPostgres(data).start()
        assert server.is_running


def test_data_of_another_major_are_refused_with_both_numbers(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_PG_BIN", str(postgres_binaries._candidate_folders()[0]))
    ours = (data / "PG_VERSION").read_text().strip()
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(
        EmbeddedPostgresError, match=rf"made by PostgreSQL 9, and the binaries at hand are PostgreSQL {ours}:"
    ):
        EmbeddedPostgres(data).start()


def test_a_full_folder_that_is_no_data_folder_is_left_alone(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "thesis.txt").write_text("chapter one")
    with pytest.raises(EmbeddedPostgresError, match="is not empty and not a PostgreSQL data folder"):
        EmbeddedPostgres(folder / "data").start()
    assert [path.name for path in (folder / "data").iterdir()] == ["thesis.txt"]


def test_an_unwritable_folder_is_named(folder: Path) -> None:
    (folder / "file").write_text("in the way")
    with pytest.raises(EmbeddedPostgresError, match=rf"The folder {folder}/file cannot be written"):
        EmbeddedPostgres(folder / "file" / "data").start()


def test_a_lost_password_is_named(data: Path) -> None:
    (data / "password").unlink()
    with pytest.raises(EmbeddedPostgresError, match="password is missing"):
        EmbeddedPostgres(data).start()


def test_what_the_server_wrote_is_quoted_when_it_gives_up(data: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"unrecognized configuration parameter .*nonsense"):
        EmbeddedPostgres(data, settings={"nonsense": "1"}).start()


def test_an_interrupted_initdb_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "BUILTIN_LOCALE_SINCE", 0)
    monkeypatch.setattr(embedded, "ROLE", "pg_reserved")  # initdb refuses the prefix
    with pytest.raises(EmbeddedPostgresError, match="initdb could not make the data folder"):
        EmbeddedPostgres(folder / "data").start()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (
            None,
            r"There are no PostgreSQL binaries to run: .* does not run on this machine \(No such file or directory\)",
        ),
        ("\x7fELF nonsense", "does not run on this machine"),
        ("#!/bin/sh\necho \"version 'GLIBC_2.28' not found\" >&2; exit 1", "needs a newer C library"),
    ],
)
def test_binaries_that_do_not_run_are_explained(
    folder: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, sentence: str
) -> None:
    if script is not None:
        (folder / "initdb").write_text(script)
        (folder / "initdb").chmod(0o755)
    monkeypatch.setenv("RELAY_PG_BIN", str(folder))
    with pytest.raises(EmbeddedPostgresError, match=sentence):
        EmbeddedPostgres(folder / "data").start()


def test_no_binaries_for_this_platform_is_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_binaries, "_candidate_folders", list)
    with pytest.raises(EmbeddedPostgresError, match=r"none are made for this platform .*; give DATABASE_URL"):
        EmbeddedPostgres(folder / "data").start()


def test_a_deep_folder_gets_a_short_socket_path(folder: Path, template: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    subprocess.run(["cp", "-a", template, deep / "data"], check=True)
    with EmbeddedPostgres(deep / "data", settings=FAST) as server:
        assert deep not in server.socket_folder.parents
        assert server.socket_folder.stat().st_mode & 0o077 == 0
        psycopg.connect(server.url).close()
    server.socket_folder.rmdir()


def test_a_socket_folder_that_somebody_else_could_enter_is_refused(data: Path) -> None:
    server = EmbeddedPostgres(data)
    shutil.rmtree(server.socket_folder)
    server.socket_folder.mkdir(mode=0o755)
    server.socket_folder.chmod(0o755)
    with pytest.raises(EmbeddedPostgresError, match=r"must be a folder of .* alone"):
        server.start()


def test_the_server_stops_when_its_parent_is_killed(folder: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from relay_project.db.embedded import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(Path(sys.argv[1])); server.start(); print(server.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, folder / "data"], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_for(lambda: not is_alive(pid))
    with EmbeddedPostgres(folder / "data") as server:  # at once, and it starts
        psycopg.connect(server.url).close()


def test_a_child_whose_parent_is_already_gone_does_not_start(tmp_path: Path) -> None:
    argv = tethered(["/bin/sh", "-c", f"touch {tmp_path}/ran"], sign=signal.SIGTERM)
    done = subprocess.run(["/bin/sh", "-c", '"$@"; true', "sh", *argv], check=False)  # the shell is not our process
    assert done.returncode == 0
    assert not (tmp_path / "ran").exists()


def test_a_temporary_server_leaves_no_folder() -> None:
    with temporary_postgres(fsync=False) as server:
        assert server.data.exists()
    assert not server.data.parent.exists()


def test_the_folders_of_dead_test_runs_are_removed(folder: Path) -> None:
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    stale = folder.with_name(f"relay-pg-{ended.pid}-stale")
    stale.mkdir()
    shutil.rmtree(make_temporary_folder())
    assert not stale.exists()
    assert folder.exists()


def test_a_log_that_has_grown_long_is_set_aside(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.write_bytes(b"x" * LOG_BYTES + b"\nlast\n")
    with open_log(log) as fresh:
        fresh.write(b"\nnew \xff line\n")
    assert last_lines(log, 5) == ["new � line"]
    assert last_lines(tmp_path / "web.log.1", 1) == ["last"]
    assert last_lines(tmp_path / "absent.log", 1) == []


@pytest.mark.skipif(not AS_ROOT, reason="an ordinary user's server runs as that user")
class TestAsRoot:
    """Root's clone in a folder that only root may enter, and other people's data."""

    @pytest.fixture
    def state(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        for module in (embedded, postgres_binaries):
            monkeypatch.setattr(module, "STATE_FOLDER", folder / "state")
        return folder / "state"

    @pytest.fixture
    def closed(self, folder: Path) -> Path:
        (folder / "closed" / "clone").mkdir(parents=True)
        (folder / "closed").chmod(0o700)
        return folder / "closed"

    def test_the_server_runs_as_an_unprivileged_account(self, data: Path) -> None:
        with EmbeddedPostgres(data, settings=FAST) as server:
            status = Path(f"/proc/{server.pid}/status").read_text()
        assert server.account.ids is not None
        assert f"Uid:\t{server.account.ids[0]}" in status
        assert "Groups:\t \n" in status

    def test_data_of_a_closed_clone_live_elsewhere_and_no_mode_changes(self, closed: Path, state: Path) -> None:
        wanted = closed / "clone" / ".relay" / "postgres"
        for _ in range(2):
            with EmbeddedPostgres(wanted, settings=FAST) as server:
                psycopg.connect(server.url).close()
        assert server.data.is_relative_to(state)
        assert server.data.parent.name.startswith("clone-")
        assert server.data.stat().st_mode & 0o777 == 0o700
        assert closed.stat().st_mode & 0o777 == 0o700
        assert not wanted.exists()

    def test_binaries_of_a_closed_clone_are_copied_once(
        self, closed: Path, state: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        origin = postgres_binaries._candidate_folders()[0].parent
        inside = closed / "site-packages" / origin.parent.name / origin.name
        shutil.copytree(origin, inside, ignore=shutil.ignore_patterns("include"))
        libraries = origin.parent.name + ".libs"
        shutil.copytree(origin.parent.with_name(libraries), closed / "site-packages" / libraries)
        monkeypatch.setenv("RELAY_PG_BIN", str(inside / "bin"))
        old = os.umask(0o077)
        try:
            with EmbeddedPostgres(folder / "data", settings=FAST) as server:
                running = Path(f"/proc/{server.pid}/exe").readlink()
        finally:
            os.umask(old)
        assert running.is_relative_to(state)
        (copy,) = state.iterdir()
        made = copy.stat().st_mtime_ns
        with EmbeddedPostgres(folder / "data", settings=FAST):
            pass
        assert [(path, path.stat().st_mtime_ns) for path in state.iterdir()] == [(copy, made)]

    def test_an_ordinary_users_data_are_served_as_that_user(self, data: Path) -> None:
        subprocess.run(["chown", "-R", "daemon:daemon", data], check=True)
        with EmbeddedPostgres(data, settings=FAST) as server:
            assert server.account.name == "daemon"
            psycopg.connect(server.url).close()
