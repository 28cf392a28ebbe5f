"""An index is added to every day of a live table, and an interrupted building is taken up again."""

from collections.abc import Callable

import pytest
from django.db import connection, migrations, models
from django.db.migrations.state import ProjectState

from relay_project.db.indexes import AddPartitionedIndex
from relay_project.db.partitions import existing_partitions, partition_name
from tests.history import ago

INDEX = models.Index(fields=["subject_kind", "id"], name="event_subject_kind")
DAY = partition_name("projects_event", ago(40))


@pytest.fixture
def build(old_days: Callable[..., None]) -> Callable[[], None]:
    """Runs the operation on the event log; the index is dropped at the end with what adopted it."""
    old_days(ago(40))
    from django.db.migrations.loader import MigrationLoader

    before: ProjectState = MigrationLoader(connection).project_state()
    operation = AddPartitionedIndex("event", INDEX)

    def run() -> None:
        after = before.clone()
        operation.state_forwards("projects", after)
        with connection.schema_editor(atomic=False) as editor:
            operation.database_forwards("projects", editor, before, after)

    return run


@pytest.fixture(autouse=True)
def no_index(transactional_db: None):  # type: ignore[no-untyped-def]
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX IF EXISTS event_subject_kind")


def state() -> tuple[int, bool]:
    """(days that have it, whether the parent's is valid)."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT (SELECT count(*) FROM pg_inherits WHERE inhparent = i.indexrelid), i.indisvalid
                 FROM pg_index i WHERE i.indexrelid = 'event_subject_kind'::regclass"""
        )
        row = cursor.fetchone()
        return int(row[0]), bool(row[1])


def days() -> int:
    with connection.cursor() as cursor:
        return sum(name.startswith("projects_event_p") for name in existing_partitions(cursor))


def test_every_day_gets_it_and_the_whole_is_valid(build: Callable[[], None]) -> None:
    build()
    assert state() == (days(), True)
    build()
    assert state() == (days(), True), "again changes nothing"


def test_a_build_that_was_cut_is_finished(build: Callable[[], None]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX event_subject_kind ON ONLY projects_event (subject_kind, id)")
        name = f"event_subject_kind_{DAY.rpartition('_')[2]}"
        cursor.execute(f'CREATE INDEX "{name}" ON "{DAY}" (subject_kind, id)')
        cursor.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass")
    assert state() == (0, False)
    build()
    assert state() == (days(), True)


def test_it_is_the_state_of_an_ordinary_index() -> None:
    assert issubclass(AddPartitionedIndex, migrations.AddIndex)
    assert not AddPartitionedIndex.atomic
