"""relay_project.db.bound: parameters apart from the text, everything else as with Django's cursor."""

import pytest
from django.db import DataError, connection, transaction
from django.test.utils import CaptureQueriesContext

from relay_project.db.bound import bound_cursor

pytestmark = pytest.mark.django_db


def test_a_large_parameter_does_not_stand_in_the_statement() -> None:
    with bound_cursor() as cursor:
        cursor.execute("SELECT length(%s::text), current_query()", ["x" * 10_000])
        length, text = cursor.fetchone()
    assert (length, len(text) < 100) == (10_000, True)


def test_it_is_part_of_the_transaction() -> None:
    with transaction.atomic():
        with bound_cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE bound_trial (n int) ON COMMIT DROP")
            cursor.execute("INSERT INTO bound_trial SELECT unnest(%s::int[])", [[1, 2, 3]])
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM bound_trial")
            assert cursor.fetchone() == (3,)


def test_errors_are_djangos() -> None:
    with pytest.raises(DataError), transaction.atomic(), bound_cursor() as cursor:
        cursor.execute("SELECT %s::int", ["no number"])


def test_statements_are_seen_by_who_counts_them() -> None:
    with CaptureQueriesContext(connection) as seen, bound_cursor() as cursor:
        cursor.execute("SELECT %s::int", [1])
    assert len(seen) == 1


def test_an_empty_list_is_an_array() -> None:
    with bound_cursor() as cursor:
        cursor.execute("SELECT 1 = ANY(%s::bigint[])", [[]])
        assert cursor.fetchone() == (False,)


@pytest.mark.parametrize("direct_url", ["", "postgresql://past-a-pooler/relay"])
def test_only_what_asks_for_it_is_kept_prepared_and_nothing_behind_a_pooler(settings, direct_url):
    """A queue's statements want plans for the values at hand; a pooler's connections change hands."""
    settings.DATABASE_DIRECT_URL = direct_url
    for number in range(7):
        with bound_cursor(prepared=True) as cursor:
            cursor.execute("SELECT %s::int + 1001", [number])
        with bound_cursor() as cursor:
            cursor.execute("SELECT %s::int + 1002", [number])
    with bound_cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements WHERE statement LIKE '%%+ 100_'")
        assert [row[0] for row in cursor.fetchall()] == ([] if direct_url else ["SELECT $1::int + 1001"])
        cursor.execute("DEALLOCATE ALL")
    cursor.db.connection._prepared.clear()
