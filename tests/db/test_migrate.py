"""Bringing the database up to date at a process's start."""

import threading
from collections.abc import Iterator

import pytest
from django.db import connection, connections

from relay_project.db import migrate
from relay_project.db.locks import MIGRATIONS
from relay_project.db.migrate import DatabaseUnavailable, migrate_if_needed, missing_migrations, wait_for_database

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def one_missing() -> Iterator[str]:
    """A migration that nothing else depends on, undone."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'sessions'")
        cursor.execute("DROP TABLE django_session")
    yield "sessions.0001_initial"
    migrate_if_needed()


def test_with_nothing_to_apply_nobody_is_waited_for() -> None:
    """A start beside a long migration of another release goes on: it holds the lock, and we lack nothing."""
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATIONS])
        assert migrate_if_needed() == 0
    finally:
        other.close()


def test_what_is_missing_is_applied_once(one_missing: str) -> None:
    assert missing_migrations() == [one_missing]
    assert migrate_if_needed() == 1
    assert missing_migrations() == []
    assert migrate_if_needed() == 0


def test_a_second_process_waits_for_the_first_and_holds_no_snapshot_meanwhile(
    one_missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a concurrent index in the migration that is waited for would wait for the waiter."""
    monkeypatch.setattr(migrate, "ASK_AGAIN_SECONDS", 0.05)
    first = connection.copy()
    applied: list[int] = []

    def second() -> None:
        try:
            applied.append(migrate_if_needed())
        finally:
            connections.close_all()

    with first.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATIONS])
        waiter = threading.Thread(target=second)
        waiter.start()
        waiter.join(0.5)
        assert waiter.is_alive()
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATIONS])
    waiter.join(30)
    first.close()
    assert applied == [1]
    assert missing_migrations() == []


def test_missing_partitions_are_made_at_every_start() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relkind = 'r'"
        )
        last = max(name for (name,) in cursor.fetchall() if name.startswith("sending_send_p"))
        cursor.execute(f'DROP TABLE "{last}"')
    migrate_if_needed()
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [last])
        assert cursor.fetchone() == (True,)


def test_a_database_that_never_answers_is_a_sentence_that_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", 9)
    with pytest.raises(DatabaseUnavailable, match=r"see DATABASE_URL: .*Is the server running"):
        wait_for_database(patience_seconds=0)


def test_a_database_that_comes_up_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    right = connection.settings_dict["PORT"]
    connection.settings_dict["PORT"] = 9
    monkeypatch.setattr(migrate, "sleep", lambda _: connection.settings_dict.update(PORT=right))
    try:
        wait_for_database(patience_seconds=30)
    finally:
        connection.settings_dict["PORT"] = right
    assert connection.is_usable()
