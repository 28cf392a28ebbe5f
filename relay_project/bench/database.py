"""The database of a run: made empty for it, with fsync and synchronous_commit on, and removed at the end."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from relay_project.bench.plan import BenchError
from relay_project.db.embedded import EmbeddedPostgres, EmbeddedPostgresError, make_temporary_folder
from relay_project.quickstart.home import Home


@dataclass(frozen=True, slots=True)
class BenchDatabase:
    """A database; `server_pid` and `folder` are known only of a server of our own, `secret` of one that is kept."""

    url: str
    description: str
    server_pid: int | None = None
    folder: Path | None = None
    secret: str = ""


def given_url(home: Path) -> str | None:
    """DATABASE_URL, unless it is the quickstart's own, which settings.py reads when nothing else is configured."""
    url = os.environ.get("DATABASE_URL")
    return None if url == Home(home).read_env().get("DATABASE_URL") else url


@contextmanager
def bench_database(url: str | None, keep: bool) -> Iterator[BenchDatabase]:
    """A database beside the one that `url` names, or a server of our own in a temporary folder."""
    with _beside(url, keep) if url else _own_server(keep) as database:
        yield database


@contextmanager
def _own_server(keep: bool) -> Iterator[BenchDatabase]:
    folder = Path(tempfile.mkdtemp(prefix="relay-bench-")) if keep else make_temporary_folder()
    folder.chmod(0o711)  # the server's account passes through
    try:
        with EmbeddedPostgres(folder / "data") as server:
            described = (
                f"a PostgreSQL of its own, its data kept in {server.data}" if keep else "a PostgreSQL of its own"
            )
            yield BenchDatabase(server.url, described, server.pid, server.data)
    except EmbeddedPostgresError as error:
        raise BenchError(str(error)) from None
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _beside(url: str, keep: bool) -> Iterator[BenchDatabase]:
    name = f"relay_bench_{secrets.token_hex(4)}"
    _administer(url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        own = urlsplit(url)._replace(path=f"/{name}").geturl()
        yield BenchDatabase(own, f"the database {name} beside the one that DATABASE_URL names")
    finally:
        if not keep:
            _administer(url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _administer(url: str, statement: sql.Composed) -> None:
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            connection.execute(statement)
    except psycopg.Error as error:
        raise BenchError(f"DATABASE_URL does not serve for a benchmark: {error}".strip()) from None
