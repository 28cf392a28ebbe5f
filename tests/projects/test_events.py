"""projects.events: the one writer of the log, and positions in commit order."""

import threading

import psycopg
import pytest
from django.db import connection, transaction

from projects.events import NewEvent, emit_many, sequence_outbox
from projects.models import Event, EventOutbox, FeedPosition
from relay_project.db.locks import SEQUENCER


def event(subject_id: int, **payload: object) -> NewEvent:
    return NewEvent(1, "domain.created", "domain", subject_id, payload)


def emit(*rows: NewEvent) -> list[int]:
    with connection.cursor() as cursor:
        return emit_many(cursor, rows)


def sequence(limit: int = 1000) -> int:
    with connection.cursor() as cursor:
        return sequence_outbox(cursor, limit)


def feed() -> list[int]:
    """The subjects of the feed, in the order of their positions."""
    ids = FeedPosition.objects.order_by("position").values_list("event_id", flat=True)
    subjects = dict(Event.objects.values_list("id", "subject_id"))
    return [subjects[event_id] for event_id in ids]


@pytest.mark.django_db
def test_events_are_written_in_order_with_their_ids():
    ids = emit(*(event(number, n=number) for number in range(300)))
    stored = {row.pk: row for row in Event.objects.all()}
    assert [stored[event_id].subject_id for event_id in ids] == list(range(300))
    assert stored[ids[7]].payload == {"n": 7}
    assert (stored[ids[7]].kind, stored[ids[7]].subject_kind, stored[ids[7]].version) == ("domain.created", "domain", 1)
    assert EventOutbox.objects.count() == 300
    assert max(ids) < 2**53


@pytest.mark.django_db
def test_no_events_are_no_statement(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert emit() == []


@pytest.mark.django_db
def test_many_events_are_one_statement(django_assert_num_queries):
    with django_assert_num_queries(1):
        emit(*(event(number) for number in range(100)))


@pytest.mark.django_db
def test_hostile_text_does_not_stop_the_events_beside_it():
    """Lesson C3: NUL and lone surrogates are what jsonb refuses; everything else stays as it is."""
    text = 'a\0b \ud800 "\\u0000" ü'
    good, bad = emit(event(1, text="x"), event(2, text=text, deep=[{"k\0": text}]))
    assert Event.objects.get(pk=good).payload == {"text": "x"}
    clean = 'ab ? "\\u0000" ü'
    assert Event.objects.get(pk=bad).payload == {"text": clean, "deep": [{"k": clean}]}


@pytest.mark.django_db
def test_the_sequencer_moves_a_limited_number_and_each_event_once():
    emit(*(event(number) for number in range(5)))
    assert [sequence(2), sequence(2), sequence(2), sequence(2)] == [2, 2, 1, 0]
    assert sorted(feed()) == [0, 1, 2, 3, 4]
    assert not EventOutbox.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_event_that_commits_late_is_not_lost():
    """Two interleaved transactions: the one with the lower id commits last, and a reader of `id > last` loses it."""
    began, may_commit = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            slow_ids.extend(emit(event(1)))
            began.set()
            assert may_commit.wait(10)
        connection.close()

    slow_ids: list[int] = []
    thread = threading.Thread(target=slow)
    thread.start()
    assert began.wait(10)
    (fast_id,) = emit(event(2))
    assert slow_ids[0] < fast_id

    assert sequence() == 1
    naive_last = Event.objects.latest("id").pk
    last_position = FeedPosition.objects.latest("position").position
    may_commit.set()
    thread.join()

    assert sequence() == 1
    assert not Event.objects.filter(pk__gt=naive_last).exists(), "id > last loses the late event"
    late = FeedPosition.objects.get(position__gt=last_position)
    assert late.event_id == slow_ids[0]
    assert feed() == [2, 1]


@pytest.mark.django_db(transaction=True)
def test_one_sequencer_at_a_time():
    emit(event(1))
    parameters = {key: value for key, value in connection.get_connection_params().items() if key != "cursor_factory"}
    parameters.pop("context", None)
    with psycopg.connect(**parameters) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [SEQUENCER])
        assert sequence() == 0
    assert sequence() == 1


@pytest.mark.django_db(transaction=True)
def test_an_event_leaves_with_its_transaction():
    with transaction.atomic():
        emit(event(1))
        transaction.set_rollback(True)
    assert sequence() == 0
    assert not Event.objects.exists()
