"""A day leaves without stopping anybody, and a removal that was cut is taken up again."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from django.db import OperationalError, connection

from relay_project.db import dropping
from relay_project.db.dropping import Partition, State, finish_detaching, is_lock_timeout, list_partitions, remove
from relay_project.db.partitions import existing_partitions, make_partitions, partition_name
from tests.history import ago, id_on, tables

DAY = ago(40)
EVENTS = partition_name("projects_event", DAY)
Days = Callable[..., None]


@pytest.fixture(autouse=True)
def past(old_days: Days) -> None:
    old_days(DAY, ago(41))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience of 200 ms."""
    monkeypatch.setattr(dropping, "LOCK_TIMEOUT", "200ms")


def the_day(name: str = EVENTS) -> Partition:
    with connection.cursor() as cursor:
        [found] = [partition for partition in list_partitions(cursor) if partition.name == name]
    return found


def take(name: str = EVENTS, still_needed: Callable[[], str] = lambda: "") -> str:
    with connection.cursor() as cursor:
        return remove(cursor, the_day(name), still_needed)


def names() -> set[str]:
    with connection.cursor() as cursor:
        return tables(cursor)


@contextmanager
def reader(statement: str = "SELECT count(*) FROM projects_event") -> Iterator[psycopg.Connection]:
    """Another session in a transaction that has read the table."""
    wanted = {"dbname", "user", "password", "host", "port"}
    parameters = {key: value for key, value in connection.get_connection_params().items() if key in wanted}
    with psycopg.connect(**parameters) as other:
        other.execute(statement)
        yield other


def write_event(event_id: int | None = None) -> None:
    with connection.cursor() as cursor:
        if event_id is None:
            cursor.execute("SELECT new_id()")
            event_id = cursor.fetchone()[0]
        cursor.execute(
            "INSERT INTO projects_event (id, project_id, kind, subject_kind, subject_id, version, payload)"
            " VALUES (%s, 1, 'k', 's', 1, 1, '{}')",
            [event_id],
        )


def test_days_are_listed_with_their_size_and_state() -> None:
    write_event(id_on(DAY))
    found = the_day()
    assert (found.table, found.day.day, found.state) == ("projects_event", DAY, State.ATTACHED)
    assert found.size_bytes > 8192
    with connection.cursor() as cursor:
        days = [partition.day.day for partition in list_partitions(cursor)]
    assert days == sorted(days)


def test_a_day_is_dropped() -> None:
    write_event(id_on(DAY))
    assert take() == ""
    assert EVENTS not in names()


def test_a_day_that_is_needed_after_all_is_attached_again_with_what_it_holds() -> None:
    write_event(id_on(DAY))
    assert take(still_needed=lambda: "mail that waits") == "mail that waits"
    assert the_day().state is State.ATTACHED
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM projects_event WHERE tableoid = '\"{EVENTS}\"'::regclass")
        assert cursor.fetchone()[0] == 1


def test_inserts_go_on_while_a_reader_holds_a_removal_up(short: None) -> None:
    """Plain DROP would wait for the reader, and every insert behind it."""

    def drop() -> BaseException | str:
        try:
            return take()
        except OperationalError as error:
            return error
        finally:
            connection.close()

    with reader(), ThreadPoolExecutor(1) as pool:
        dropping_it = pool.submit(drop)
        longest = 0.0
        while not dropping_it.done():
            begun = time.monotonic()
            write_event()
            longest = max(longest, time.monotonic() - begun)
        result = dropping_it.result()
    assert isinstance(result, OperationalError)
    assert is_lock_timeout(result)
    assert longest < 0.15, "nobody queued behind the removal"


def test_an_interrupted_detachment_is_finished_by_the_next_run(short: None) -> None:
    with reader():
        with pytest.raises(OperationalError):
            take()
        assert the_day().state is State.DETACHING
        with pytest.raises(OperationalError, match="already pending"):
            take(partition_name("projects_event", ago(41)))
    with connection.cursor() as cursor:
        assert finish_detaching(cursor) == [EVENTS]
        assert finish_detaching(cursor) == []
    assert the_day().state is State.DETACHED
    assert take() == ""
    assert EVENTS not in names()


def test_a_detaching_day_is_finished_and_dropped_in_one_go(short: None) -> None:
    with reader(), pytest.raises(OperationalError):
        take()
    assert take() == ""
    assert EVENTS not in names()


def test_a_table_that_a_crash_left_detached_is_found_by_its_name() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER TABLE projects_event DETACH PARTITION "{EVENTS}" CONCURRENTLY')
    assert EVENTS in names()
    assert the_day().state is State.DETACHED
    assert take() == ""
    assert EVENTS not in names()


def test_tables_with_names_alike_that_are_not_ours_are_left_alone() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE somebodys_p20260101 (id int)")
        cursor.execute("CREATE TABLE projects_event_p20269999 (id int)")
        try:
            found = {partition.name for partition in list_partitions(cursor)}
            assert not found & {"somebodys_p20260101", "projects_event_p20269999"}
        finally:
            cursor.execute("DROP TABLE somebodys_p20260101, projects_event_p20269999")


def test_partitions_are_made_beside_a_removal_that_waits(short: None) -> None:
    """Both want the parent's SHARE UPDATE EXCLUSIVE: the maker asks again."""
    with connection.cursor() as cursor:
        tomorrow = partition_name("projects_event", ago(-31))
        started = threading.Event()

        def drop() -> None:
            try:
                started.set()
                with pytest.raises(OperationalError):
                    take()
            finally:
                connection.close()

        with reader(), ThreadPoolExecutor(1) as pool:
            going = pool.submit(drop)
            started.wait()
            make_partitions(31)
            going.result(10)
        assert tomorrow in existing_partitions(cursor)
