"""Migrations: complete, applied by one process at a time, and leaving a database that mail can go through."""

import threading
from concurrent.futures import ThreadPoolExecutor
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection, connections

from relay_project.db import migrate
from relay_project.db.locks import MIGRATIONS
from relay_project.db.migrate import DatabaseUnavailable, migrate_if_needed, missing_migrations, wait_for_database


@pytest.mark.django_db
def test_models_and_migrations_say_the_same():
    call_command("makemigrations", check=True, dry_run=True, verbosity=1, stdout=StringIO())


@pytest.mark.django_db
def test_nothing_is_missing_after_a_migration_and_asking_again_is_cheap(django_assert_max_num_queries):
    assert missing_migrations() == []
    with django_assert_max_num_queries(40):
        assert migrate_if_needed() == 0


@pytest.mark.django_db(transaction=True)
def test_processes_that_start_together_wait_for_the_one_that_migrates(monkeypatch):
    """All see that something is missing before one may begin; the others find nothing left to do when they have the lock."""
    applied: list[int] = []
    all_have_seen, asked = threading.Barrier(3, timeout=60), threading.local()

    def missing() -> list[str]:
        found = [] if applied else ["sending.0002_more"]
        if not hasattr(asked, "before"):
            asked.before = True
            all_have_seen.wait()
        return found

    monkeypatch.setattr(migrate, "missing_migrations", missing)
    monkeypatch.setattr(migrate, "call_command", lambda *_, **__: applied.append(1))
    monkeypatch.setattr(migrate, "ASK_AGAIN_SECONDS", 0.01)

    def start(_: int) -> int:
        try:
            return migrate_if_needed()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(3) as pool:
        counts = sorted(pool.map(start, range(3)))
    assert applied == [1]
    assert counts == [0, 0, 1]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s", [MIGRATIONS])
        assert cursor.fetchone()[0] == 0


def test_a_database_that_does_not_answer_is_named_in_a_sentence(monkeypatch):
    def refuse() -> None:
        raise migrate.OperationalError("connection refused\nIs the server running?")

    monkeypatch.setattr(migrate.connection, "ensure_connection", refuse)
    with pytest.raises(DatabaseUnavailable, match=r"DATABASE_URL: .*Is the server running"):
        wait_for_database(0)


@pytest.mark.django_db
def test_queue_statements_get_custom_plans():
    """Django's cursors bind on the client and prepare nothing: a plan made on an empty table cannot stay."""
    with connection.cursor() as cursor:
        for _ in range(10):
            cursor.execute("SELECT count(*) FROM sending_waiting WHERE send_id = %s", [1])
        cursor.execute("SELECT count(*) FROM pg_prepared_statements")
        assert cursor.fetchone()[0] == 0


@pytest.mark.django_db
def test_the_waiting_table_is_kept_small_by_its_own_settings():
    with connection.cursor() as cursor:
        cursor.execute("SELECT reloptions FROM pg_class WHERE relname = 'sending_waiting'")
        options = dict(option.split("=") for option in cursor.fetchone()[0])
    assert options["fillfactor"] == "70"
    assert options["autovacuum_vacuum_threshold"] == "50000"
    assert options["autovacuum_vacuum_cost_delay"] == "0"
