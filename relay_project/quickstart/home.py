"""The quickstart's home folder: secrets and settings kept across runs, logs, data, and a lock against a second run.

env        KEY=value lines, 0600: settings.py reads them when nothing else is configured
api-key    the demo project's key, 0600
logs/      one file a process, 0700
postgres/  the data, unless only root can get there (relay_project.db.embedded)
lock       held while a quickstart runs; its content is the pid
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NOTE = "# Written by `manage.py quickstart`. Secrets are kept; the rest is what the last run chose.\n"


class QuickstartError(RuntimeError):
    """The quickstart cannot go on; the message is a sentence for the newcomer."""


@dataclass(frozen=True, slots=True)
class Home:
    """A folder of this user."""

    folder: Path

    @property
    def env_file(self) -> Path:
        """Settings and secrets."""
        return self.folder / "env"

    @property
    def logs(self) -> Path:
        """One file a process."""
        return self.folder / "logs"

    @property
    def data(self) -> Path:
        """Where PostgreSQL's data are wanted."""
        return self.folder / "postgres"

    def make(self) -> None:
        """Make what is missing. The folder can be passed through, for root's PostgreSQL has another account."""
        try:
            for folder, mode in ((self.folder, 0o711), (self.logs, 0o700)):
                if not folder.is_dir():
                    folder.mkdir(parents=True)
                    folder.chmod(mode)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise QuickstartError(
                f"The folder {self.folder} cannot be written ({error.strerror}); mend that, or name another by --home."
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the home for the block; raises QuickstartError with the pid of who has it."""
        with (self.folder / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise QuickstartError(
                    f"A quickstart already runs in {self.folder} (pid {lock.read().strip() or 'unknown'}); "
                    "stop it first, or name another home by --home."
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def read_env(self) -> dict[str, str]:
        """Return the kept settings; none when there are none."""
        try:
            lines = self.env_file.read_text().splitlines()
        except FileNotFoundError:
            return {}
        pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
        return {name.strip(): value.strip() for name, _, value in pairs}

    def write_env(self, values: Mapping[str, str]) -> None:
        """Replace the kept settings in one step."""
        write_private(self.env_file, NOTE + "".join(f"{name}={value}\n" for name, value in values.items()))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads; a crash leaves the old one or the new one."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)
