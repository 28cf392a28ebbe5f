"""webhooks.feed: reading the log in the order of commits, of all projects or one, and resuming."""

import threading

import psycopg
import pytest
from django.db import connection, transaction

from projects.events import FEED_CHANNEL, NewEvent, emit, sequence_outbox
from projects.models import Event, FeedPosition
from relay_project.db.session import direct_parameters
from webhooks.feed import Reading, last_position, position_of_event, read_feed


def event(project_id: int, subject_id: int, kind: str = "domain.created") -> NewEvent:
    return NewEvent(project_id, kind, "domain", subject_id, {"n": subject_id})


def sequence() -> int:
    with connection.cursor() as cursor:
        return sequence_outbox(cursor)


def read(after: int, limit: int = 100, **which: object) -> Reading:
    with connection.cursor() as cursor:
        return read_feed(cursor, after, limit, **which)  # type: ignore[arg-type]


def subjects(reading: Reading) -> list[int]:
    return [each.subject_id for each in reading.events]


@pytest.mark.django_db
def test_a_reader_gets_all_or_a_projects_or_some_kinds_and_its_place_moves_past_the_rest():
    ids = emit(event(1, 10), event(2, 20), event(1, 11, "domain.deleted"), event(2, 21))
    assert sequence() == 4
    first = FeedPosition.objects.earliest("position").position
    everything = read(0)
    assert [(each.id, each.project_id, each.payload["n"]) for each in everything.events] == [
        (ids[0], 1, 10), (ids[1], 2, 20), (ids[2], 1, 11), (ids[3], 2, 21)
    ]  # fmt: skip
    assert (everything.last, everything.is_full) == (first + 3, False)
    assert everything.events[0].created_at.year >= 2026
    assert (subjects(read(0, project_id=1)), subjects(read(0, project_id=3))) == ([10, 11], [])
    some = read(0, limit=2, kinds=["domain.deleted"])
    assert (subjects(some), some.last, some.is_full) == ([], first + 1, True), "what does not match is looked at once"
    assert subjects(read(some.last, kinds=["domain.deleted"])) == [11]
    assert read(first + 3) == Reading([], first + 3, False)


@pytest.mark.django_db
def test_a_reader_begins_at_the_end_or_goes_on_from_an_event():
    with connection.cursor() as cursor:
        assert last_position(cursor) == 0
        (known,) = emit(event(1, 1))
        assert position_of_event(cursor, known, 1) is None, "it has no position yet"
        sequence()
        assert position_of_event(cursor, known, 1) == last_position(cursor) > 0
        assert position_of_event(cursor, known, 2) is None, "it is another project's"
        Event.objects.all().delete()
        gone = read_feed(cursor, 0)
    assert (gone.events, gone.last > 0) == ([], True), "what retention took is passed over"


@pytest.mark.django_db(transaction=True)
def test_a_batch_is_one_notification_with_its_last_position():
    with psycopg.connect(**direct_parameters("test"), autocommit=True) as listener:
        listener.execute(f"LISTEN {FEED_CHANNEL}")
        emit(event(1, 1), event(1, 2))
        assert (sequence(), sequence()) == (2, 0)
        heard = list(listener.notifies(timeout=0.2))
    assert [each.payload for each in heard] == [str(FeedPosition.objects.latest("position").position)]


@pytest.mark.django_db
def test_events_that_the_version_before_wrote_get_their_project_from_the_sequencer():
    (old,) = emit(event(7, 1))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE projects_eventoutbox SET project_id = NULL")
    emit(event(8, 2))
    sequence()
    assert sorted(FeedPosition.objects.values_list("project_id", flat=True)) == [7, 8]
    assert [each.id for each in read(0, project_id=7).events] == [old]


@pytest.mark.django_db(transaction=True)
def test_no_reader_misses_an_event_that_commits_out_of_the_order_of_ids():
    """Two transactions: the one with the lower id commits last. Readers of all and of one project get both, once."""
    began, may_commit = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            emit(event(1, 1))
            began.set()
            assert may_commit.wait(10)
        connection.close()

    thread = threading.Thread(target=slow)
    thread.start()
    assert began.wait(10)
    emit(event(1, 2))
    sequence()
    one, all_of_them = read(0, project_id=1), read(0)
    may_commit.set()
    thread.join()
    sequence()
    assert subjects(one) + subjects(read(one.last, project_id=1)) == [2, 1]
    assert subjects(all_of_them) + subjects(read(all_of_them.last)) == [2, 1]
    late = Event.objects.get(subject_id=1).pk
    with connection.cursor() as cursor:
        assert position_of_event(cursor, late, 1) == last_position(cursor)
