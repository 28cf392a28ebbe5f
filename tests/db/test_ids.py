"""Time-ordered ids: unique, ordered, the same arithmetic in Python and in SQL."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.models import Event
from relay_project.db.ids import MAX_ID, by_day, hours_after, id_floor, id_of_uuid, id_time, uuid_of

EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
MOMENTS = st.timedeltas(timedelta(0), timedelta(days=25_000)).map(EPOCH.__add__)  # until 2088
EARLIER = st.timedeltas(timedelta(0), timedelta(days=700_000)).map(EPOCH.__sub__)
IDS = st.integers(1, MAX_ID)


def query(sql: str, *params: object) -> object:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()[0]


@pytest.mark.django_db
def test_ids_of_one_big_statement_are_unique_and_exact_in_json():
    with connection.cursor() as cursor:
        cursor.execute("SELECT new_id() FROM generate_series(1, 20000)")
        ids = [row[0] for row in cursor.fetchall()]
    assert len(set(ids)) == 20_000
    assert 0 < min(ids) <= max(ids) <= MAX_ID
    assert abs(id_time(max(ids)) - datetime.now(UTC)) < timedelta(seconds=10)


@pytest.mark.django_db
@given(moment=MOMENTS)
@settings(max_examples=50)
def test_python_and_the_database_agree_on_the_floor_and_the_time_of_an_id(moment):
    floor = query("SELECT id_floor(%s)", moment)
    assert floor == id_floor(moment)
    assert query("SELECT id_time(%s)", floor) == id_time(floor)
    assert timedelta(0) <= moment - id_time(floor) < timedelta(milliseconds=1)


@given(moment=EARLIER)
def test_the_floor_of_a_moment_before_the_epoch_is_a_floor_too(moment):
    """A page's dates are what people type."""
    assert id_time(id_floor(moment)) <= moment


@given(identifier=st.integers(1, MAX_ID // 2), hours=st.integers(-1, 100))
def test_hours_after_an_id_are_hours_in_time(identifier, hours):
    assert id_time(hours_after(identifier, hours)) - id_time(identifier) == timedelta(hours=hours)


@given(identifier=IDS)
def test_an_id_comes_back_out_of_its_uuid(identifier):
    value = uuid_of(identifier)
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert id_of_uuid(value) == identifier
    assert uuid_of(identifier) != value, "62 bits are random"


@given(value=st.uuids())
def test_another_uuid_gives_no_id_that_a_table_could_not_take(value):
    found = id_of_uuid(value)
    assert found is None or 0 < found <= MAX_ID


@pytest.mark.django_db
def test_bulk_create_on_a_partitioned_model_sets_the_keys():
    made = Event.objects.bulk_create(
        [Event(project_id=1, kind="k", subject_kind="s", subject_id=1, payload={"i": i}) for i in range(100)]
    )
    assert all(isinstance(event.pk, int) for event in made)
    assert {event.pk: event.payload for event in made} == {e.pk: e.payload for e in Event.objects.all()}


@given(ids=st.lists(IDS, max_size=30))
def test_ids_of_a_day_stand_together_and_sorted(ids):
    days = by_day(ids)
    assert [each for same in days for each in same] == sorted(ids)
    dates = [{id_time(each).date() for each in same} for same in days]
    assert all(len(same) == 1 for same in dates)
    assert len({date for same in dates for date in same}) == len(days)
