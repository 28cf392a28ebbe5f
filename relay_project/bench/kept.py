"""The folders of the history and of the archive: where they are, what disk they need.

Each is made once for each state of the tables.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from relay_project.bench.database import BenchDatabase
from relay_project.bench.plan import BenchError
from relay_project.db.embedded import EmbeddedPostgres, EmbeddedPostgresError

# Of the system's folders for passing data this is the one that survives a restart and is no memory disk.
DEFAULT_ROOT = Path(f"/var/tmp/relay-bench-{os.getuid()}")  # noqa: S108 - checked to be ours before it is used
BYTES_OF_A_RUN = 6 * 2**30  # a million waiting, and the write-ahead log
# For COPY into fresh tables, which are then written once and without a log.
BUILD_SETTINGS = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "maintenance_work_mem": "512MB",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What is kept; `bytes_each` with all indexes, measured."""

    name: str
    of: str
    bytes_each: int


HISTORY = Kind("history", "recipients", 1_500)  # 20 recipients to a message and an attempt
ARCHIVE = Kind("archive", "sends", 1_400)


class KeptFolder:
    """One history, or archive: of so many, in the tables of this version."""

    def __init__(self, kind: Kind, root: Path, number: int, code: Path) -> None:
        self.kind = kind
        self.root = root
        self._number = number
        self.path = root / f"{kind.name}-{number}-{_digest_of_migrations(code)}"

    @property
    def is_made(self) -> bool:
        """Whether it is there and finished."""
        return (self.path / "finished").exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs away; raises BenchError when one is at work, or when the folder is somebody else's."""
        self.root.mkdir(mode=0o711, parents=True, exist_ok=True)  # the server's account passes through
        if self.root.lstat().st_uid != os.getuid() or self.root.is_symlink():
            raise BenchError(f"{self.root} belongs to somebody else; name another folder with --history-folder.")
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BenchError(f"Another benchmark uses {self.root}.") from None
            yield

    def begin(self) -> None:
        """Make an empty folder; those of other sizes and older tables go, as they are large.

        Says on stderr what disk it takes, and raises BenchError where that is not free.
        """
        for old in self.root.glob(f"{self.kind.name}-*"):
            sys.stderr.write(f"Removing {old}, which is of another size or version, or not finished.\n")
            shutil.rmtree(old)
        _check_disk(self.root, self.kind, self._number)
        self.path.mkdir(mode=0o711)
        secret = self.path / "secret"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(32), encoding="ascii")

    def finish(self) -> None:
        """Say that it is whole."""
        (self.path / "finished").touch()

    @contextmanager
    def database(self, *, building: bool = False) -> Iterator[BenchDatabase]:
        """Its server, running."""
        try:
            with EmbeddedPostgres(self.path / "data", settings=BUILD_SETTINGS if building else {}) as server:
                secret = (self.path / "secret").read_text(encoding="ascii")
                described = f"a PostgreSQL of its own with the {self.kind.name} of {self._number:,} {self.kind.of}"
                yield BenchDatabase(server.url, described, server.pid, server.data, secret)
        except EmbeddedPostgresError as error:
            raise BenchError(str(error)) from None


def _check_disk(root: Path, kind: Kind, number: int) -> None:
    needed, free = number * kind.bytes_each + BYTES_OF_A_RUN, shutil.disk_usage(root).free
    words = f"The {kind.name} of {number:,} {kind.of} needs {needed / 1e9:,.1f} GB of disk under {root}"
    if free < needed:
        raise BenchError(f"{words}, and {free / 1e9:,.1f} GB are free.")
    sys.stderr.write(f"{words}; {free / 1e9:,.1f} GB are free. It is made once and kept.\n")


def _digest_of_migrations(code: Path) -> str:
    """Changes with the tables."""
    digest = hashlib.sha256()
    for path in sorted(code.glob("*/migrations/*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]
