"""Partitions by day: made ahead, by anybody, without stopping anyone."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.conf import settings
from django.db import OperationalError, connection, transaction

from projects.models import Event
from relay_project.db import partitions
from relay_project.db.ids import id_floor
from relay_project.db.partitions import (
    Day,
    days_ready,
    existing_partitions,
    make_partitions,
    partition_name,
    partitioned_tables,
)

READY = settings.PARTITION_DAYS_AHEAD + 1  # today and the days ahead
TABLES = [
    "projects_event",
    "sending_attempt",
    "sending_attemptrecipient",
    "sending_content",
    "sending_feedback",
    "sending_inboundmail",
    "sending_receivedmail",
    "sending_recipient",
    "sending_searchtext",
    "sending_send",
    "sending_sendtag",
    "sending_signature",
    "webhooks_webhookdelivery",
]


def today() -> Day:
    return Day.of(datetime.now(UTC).date())


@pytest.fixture
def extra(transactional_db):
    """Partitions beyond those of the test database, removed afterwards."""
    with connection.cursor() as cursor:
        before = existing_partitions(cursor)
        yield
        for name in existing_partitions(cursor) - before:
            cursor.execute(f'DROP TABLE "{name}"')


@pytest.mark.django_db
def test_a_migrated_database_is_ready_for_the_coming_days():
    with connection.cursor() as cursor:
        tables = [table for table, _ in partitioned_tables(cursor)]
        assert days_ready(cursor) == READY
    assert tables == TABLES
    assert make_partitions(settings.PARTITION_DAYS_AHEAD) == 0, "again changes nothing"


@pytest.mark.django_db
def test_partitions_are_made_for_more_days_and_adopt_every_index_of_their_table():
    assert make_partitions(READY) == len(TABLES)
    day = (datetime.now(UTC) + timedelta(days=READY)).date()
    with connection.cursor() as cursor:
        assert days_ready(cursor) == READY + 1
        for table, _ in partitioned_tables(cursor):
            cursor.execute("SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass", [table])
            wanted = cursor.fetchone()[0]
            cursor.execute(
                """SELECT count(*), count(h.inhrelid), bool_and(i.indisvalid) FROM pg_index i
                     LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid WHERE i.indrelid = %s::regclass""",
                [partition_name(table, day)],
            )
            assert cursor.fetchone() == (wanted, wanted, True)
            cursor.execute(
                "SELECT count(*) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'",
                [partition_name(table, day)],
            )
            assert cursor.fetchone()[0] == 0, "the helper constraint is gone"


@pytest.mark.django_db
def test_days_ready_counts_from_today_and_stops_at_the_first_gap():
    with connection.cursor() as cursor:
        day = (datetime.now(UTC) + timedelta(days=3)).date()
        cursor.execute(f'DROP TABLE "{partition_name("projects_event", day)}"')
        assert days_ready(cursor) == 3
        cursor.execute(f'DROP TABLE "{partition_name("sending_send", datetime.now(UTC).date())}"')
        assert days_ready(cursor) == 0
    assert make_partitions(settings.PARTITION_DAYS_AHEAD) == 2


@pytest.mark.django_db
def test_a_partition_holds_the_ids_of_its_utc_day_and_there_is_no_default_one():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_partitioned_table WHERE partdefid <> 0")
        assert cursor.fetchone()[0] == 0, "a DEFAULT partition forbids DETACH CONCURRENTLY"
        cursor.execute("SELECT new_id()")
        identifier = cursor.fetchone()[0]
        day = today()
        assert day.floor <= identifier < day.ceiling
        assert day.ceiling == id_floor(datetime.combine(day.day + timedelta(days=1), datetime.min.time(), UTC))
        Event.objects.create(pk=day.ceiling - 1, project_id=1, kind="k", subject_kind="s", subject_id=1, payload={})
        Event.objects.create(pk=day.ceiling, project_id=1, kind="k", subject_kind="s", subject_id=1, payload={})
        cursor.execute("SELECT tableoid::regclass::text FROM projects_event ORDER BY id")
        assert [name for (name,) in cursor.fetchall()] == [
            partition_name("projects_event", day.day),
            partition_name("projects_event", day.day + timedelta(days=1)),
        ]


def test_several_processes_may_make_them_at_once(extra):
    def one(_: int) -> int:
        try:
            return make_partitions(READY + 1)
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(one, range(3)))
    assert sorted(made) == [0, 0, 2 * len(TABLES)]


def test_inserts_go_on_while_partitions_are_made_beside_an_open_reader(extra):
    """CREATE … PARTITION OF would wait for the reader, and every insert behind it."""

    def make() -> None:
        try:
            make_partitions(READY)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        list(Event.objects.all())  # the reader: its lock stays until the transaction ends
        started = time.monotonic()
        making = pool.submit(make)
        with ThreadPoolExecutor(1) as writer:
            while not making.done():
                writer.submit(_insert).result(10)
        making.result(10)
        assert time.monotonic() - started < 4, "nobody waited for the reader"


def test_a_start_goes_on_without_the_last_days_when_somebody_is_in_the_way(
    extra: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A VACUUM of the parent or an index being built may take minutes; the coming week is there, so nobody waits for it."""
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "100ms")
    with _vacuuming("projects_event"):
        assert make_partitions(READY, patience_seconds=0.3) == 0
    assert make_partitions(READY) == len(TABLES)


def test_a_start_stops_when_the_coming_days_are_missing(extra: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "100ms")
    name = partition_name("projects_event", (datetime.now(UTC) + timedelta(days=2)).date())
    with connection.cursor() as cursor:
        cursor.execute(f'DROP TABLE "{name}"')
    with _vacuuming("projects_event"), pytest.raises(OperationalError, match="lock timeout"):
        make_partitions(settings.PARTITION_DAYS_AHEAD, patience_seconds=0.3)
    assert make_partitions(settings.PARTITION_DAYS_AHEAD) == 1


def test_somebody_who_leaves_in_time_is_waited_for(extra: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "50ms")
    with _vacuuming("projects_event") as other, ThreadPoolExecutor(1) as pool:
        making = pool.submit(_make_more)
        with pytest.raises(TimeoutError):
            making.result(0.3)
        other.rollback()
        assert making.result(10) == len(TABLES)


def _make_more() -> int:
    try:
        return make_partitions(READY)
    finally:
        connection.close()


@contextmanager
def _vacuuming(table: str) -> Iterator[psycopg.Connection]:
    """Another session holds the lock that VACUUM and CREATE INDEX CONCURRENTLY take."""
    wanted = {"dbname", "user", "password", "host", "port"}
    parameters = {key: value for key, value in connection.get_connection_params().items() if key in wanted}
    with psycopg.connect(**parameters) as other:
        other.execute(f'LOCK TABLE "{table}" IN SHARE UPDATE EXCLUSIVE MODE')
        yield other


def _insert() -> None:
    try:
        Event.objects.create(project_id=1, kind="k", subject_kind="s", subject_id=1, payload={})
    finally:
        connection.close()
