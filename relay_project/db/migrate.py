"""Bring the database up to date before a process opens its listeners: migrations, and partitions for the coming days.

Every long-lived command calls `migrate_if_needed` first. The first process applies what is missing under the advisory
lock; the others wait by asking for it again and again. Waiting *inside* pg_advisory_lock would hold a snapshot, for
which a CREATE INDEX CONCURRENTLY in the very migration that is waited for would wait in turn.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep

import structlog
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from relay_project.db.locks import MIGRATIONS, try_lock
from relay_project.db.partitions import make_partitions

DATABASE_PATIENCE_SECONDS = 60  # a database that starts beside us (compose, one machine's boot) is up by then
LOCK_PATIENCE_SECONDS = 1800  # another process migrates; a large table may take its time
ASK_AGAIN_SECONDS = 0.5
WARN_EVERY_SECONDS = 10

log = structlog.get_logger(__name__)


class DatabaseUnavailable(RuntimeError):
    """The database could not be reached, or not be migrated, in time; the message is a sentence for the operator."""


def migrate_if_needed(patience_seconds: float = DATABASE_PATIENCE_SECONDS) -> int:
    """Apply missing migrations and make missing partitions; returns how many migrations were applied.

    Waits for a database that does not answer yet; raises DatabaseUnavailable. Cheap when there is nothing to do.
    """
    wait_for_database(patience_seconds)
    applied = 0
    if missing_migrations():
        with _migration_lock():
            applied = len(missing_migrations())  # another process may have been first
            if applied:
                log.info("migrations_start", count=applied)
                call_command("migrate", interactive=False, verbosity=0)
                log.info("migrations_done", count=applied)
    make_partitions(settings.PARTITION_DAYS_AHEAD)
    return applied


def missing_migrations() -> list[str]:
    """The names (app.name) of migrations that this code has and the database lacks, in order."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def wait_for_database(patience_seconds: float) -> None:
    """Return once the database answers; raises DatabaseUnavailable with its last words."""
    give_up = monotonic() + patience_seconds
    next_warning = 0.0
    while True:
        try:
            connection.ensure_connection()
            return
        except OperationalError as error:
            reason = " ".join(str(error).split())
        if monotonic() >= give_up:
            raise DatabaseUnavailable(f"The database cannot be reached, see DATABASE_URL: {reason}")
        if monotonic() >= next_warning:
            log.warning("database_awaited", reason=reason)
            next_warning = monotonic() + WARN_EVERY_SECONDS
        sleep(ASK_AGAIN_SECONDS)


@contextmanager
def _migration_lock() -> Iterator[None]:
    with connection.cursor() as cursor:
        give_up = monotonic() + LOCK_PATIENCE_SECONDS
        while not try_lock(cursor, MIGRATIONS):
            if monotonic() >= give_up:
                raise DatabaseUnavailable("Another process has been migrating the database for half an hour.")
            sleep(ASK_AGAIN_SECONDS)
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATIONS])
