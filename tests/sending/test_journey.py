"""A send's journey read back from the rows, in order, with its queries kept few and inside ranges of ids."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from relay_project.db.ids import id_floor
from sending.journey import StepKind, read_journey
from sending.models import Attempt, Recipient, Send, Waiting
from sending.recent import recent_counts, what_waits
from sending.search import SendFilter, counted_statuses, find_sends, recipients_by_send
from tests.browser.seed import Seeded, seed

pytestmark = pytest.mark.django_db
PARTITIONED = ("sending_send", "sending_recipient", "sending_attempt", "sending_attemptrecipient", "sending_content")


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def rows(now: datetime) -> Seeded:
    return seed(now, sends=20, days=1)


def test_the_journey_tells_everything_in_order(rows: Seeded, now: datetime) -> None:
    journey = read_journey(rows.send, now)
    kinds = [step.kind for step in journey.milestones if step.kind is not StepKind.RESULT]
    assert kinds == [
        StepKind.ACCEPTED,
        StepKind.QUEUED,  # the suppressed one
        StepKind.QUEUED,
        StepKind.SIGNED,
        StepKind.ATTEMPT,
        StepKind.ATTEMPT,
        StepKind.ATTEMPT,
        StepKind.NEXT,
    ]
    times = [step.at for step in journey.steps]
    assert times == sorted(times)
    assert "by shop.example (selector march) and relay.test (selector default)" in [
        step.detail for step in journey.steps
    ]
    assert not journey.is_final
    assert journey.next_at == now + timedelta(minutes=44, seconds=12)


def test_a_conversation_comes_back_line_by_line(rows: Seeded, now: datetime) -> None:
    accepted = read_journey(rows.send, now).attempts[-1]
    (conversation,) = accepted.conversations
    assert [line.stage for line in conversation.lines] == [
        "dial", "hello", "starttls", "hello", "mail", "rcpt", "data", "data_close"
    ]  # fmt: skip
    elapsed = [line.elapsed_ms for line in conversation.lines]
    assert elapsed == sorted(elapsed)
    assert elapsed[-1] <= conversation.duration_ms
    assert conversation.lines[1].said.startswith("250-mx1.example.net\n250-PIPELINING\n")
    assert conversation.lines[-1].said == "250 2.0.0 Ok: queued as 4bXzT2"
    assert not conversation.is_reused
    assert accepted.tls == "TLSv1.3, TLS_AES_256_GCM_SHA384, certificate not checked"
    assert not accepted.is_clear


def test_what_demanded_tls_is_said_and_clear_text_only_where_mail_was_spoken_of(rows: Seeded, now: datetime) -> None:
    *_, reached = Attempt.objects.filter(send_id=rows.send.pk, domain="example.net").order_by("id")
    reached.tls = {"version": "TLSv1.3", "cipher": "X", "verified": True, "policy": "dane"}
    reached.save()
    assert "TLSv1.3, X, certificate verified, demanded by DANE" in [
        s.tls for s in read_journey(rows.send, now).attempts
    ]
    reached.tls = {"version": None, "cipher": None, "verified": False, "policy": "mta-sts"}
    reached.save()
    (story,) = [one for one in read_journey(rows.send, now).attempts if one.attempt.pk == reached.pk]
    assert (story.tls, story.tls_unmet) == ("", "demanded by MTA-STS")
    stories = read_journey(rows.send, now).attempts
    assert {story.is_clear for story in stories if story.attempt.domain == "university.example"} == {False}
    assert any(story.is_clear for story in stories if story.attempt.domain == "example.net")


def test_a_refusal_of_what_was_only_sent_along_is_not_shown_as_one(rows: Seeded, now: datetime) -> None:
    lines = [
        line for story in read_journey(rows.send, now).attempts for talk in story.conversations for line in talk.lines
    ]
    assert [(line.stage, line.code, line.tone) for line in lines if line.note] == [("data", 554, "mute")]


def test_a_failure_of_the_network_is_nobodys_word(rows: Seeded, now: datetime) -> None:
    """A connection that breaks after the server has answered is not something that the server said."""
    Attempt.objects.filter(send_id=rows.send.pk, domain="university.example").update(
        responded_mx_host="mail-in.university.example", network_error="the server closed the connection"
    )
    sentence = read_journey(rows.send, now).recipients[2].sentence
    assert sentence.startswith("The server closed the connection. Try 2 of 7")


@pytest.mark.parametrize(
    "stored", [{}, {"mx": {}}, {"mx": {"start_time": "yesterday", "steps": [{}], "duration_ms": None}}]
)
def test_a_transcript_of_an_unknown_shape_breaks_no_page(rows: Seeded, now: datetime, stored: dict[str, Any]) -> None:
    Attempt.objects.filter(send_id=rows.send.pk).update(smtp_conversations=stored, tls=None)
    assert read_journey(rows.send, now).attempts


def test_what_is_in_flight_has_no_next_time(rows: Seeded, now: datetime) -> None:
    row = Waiting.objects.get(send_id=rows.send.pk)
    Waiting.objects.filter(pk=row.pk).update(attempt_id=1, sender_id=1, lease_until=now + timedelta(minutes=5))
    journey = read_journey(rows.send, now)
    assert journey.next_at is None
    assert [story.in_flight for story in journey.recipients] == [False, False, True, False]


def test_every_query_on_what_happened_has_a_range_of_ids(rows: Seeded, now: datetime) -> None:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        read_journey(rows.send, now)
        found = find_sends(rows.shop.pk, SendFilter(status="bounced", to_text="a"), 25)
        recipients_by_send(found)
        recent_counts(rows.shop.pk, now)
        what_waits(rows.shop.pk, now)
    for query in queries:
        for table in PARTITIONED:
            if f'FROM "{table}"' in query["sql"] or f"FROM {table}\n" in query["sql"]:
                assert "id >=" in query["sql"].replace('"', ""), query["sql"]
    assert len(queries) <= 15


def test_a_journey_costs_the_same_whatever_was_sent_besides(rows: Seeded, now: datetime) -> None:
    """Lesson P1: what belongs to a send is found by an index, in the partitions of its days only."""
    with connection.cursor() as cursor:
        sql, params = Recipient.objects.filter(
            send_id=rows.send.pk, id__gte=rows.send.pk, id__lt=rows.send.pk + 2**20
        ).query.sql_with_params()
        cursor.execute("EXPLAIN " + sql, params)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert plan.count("sending_recipient_p") <= 4, plan


def test_sends_are_found_by_status_and_address_of_the_same_recipient(rows: Seeded) -> None:
    def subjects(**wanted: Any) -> list[str]:
        return [str(send.subject) for send in find_sends(rows.shop.pk, SendFilter(**wanted), 100)]

    assert "Your receipt for order 4711" in subjects(status="bounced", to_text="no.longer.here")
    assert subjects(status="accepted", to_text="no.longer.here") == []
    assert subjects(from_text="RECEIPTS@", subject_text="ORDER 4711") == ["Your receipt for order 4711"] * 2
    assert find_sends(rows.empty.pk, SendFilter(), 100) == []


def test_pages_follow_each_other_without_gap_or_repetition(rows: Seeded) -> None:
    everything = [send.pk for send in find_sends(rows.shop.pk, SendFilter(), 1000)]
    paged: list[int] = []
    while page := find_sends(rows.shop.pk, SendFilter(), 7, paged[-1] if paged else None):
        paged += [send.pk for send in page]
    assert paged == everything == sorted(everything, reverse=True)


def test_dates_bound_the_list(rows: Seeded, now: datetime) -> None:
    hour = SendFilter(date_from=now - timedelta(hours=1), date_to=now)
    found = find_sends(rows.shop.pk, hour, 100)
    assert found
    assert all(send.pk >= id_floor(now - timedelta(hours=1)) for send in found)
    assert find_sends(rows.shop.pk, SendFilter(date_to=now - timedelta(days=60)), 100) == []


def test_recent_figures_add_up(rows: Seeded, now: datetime) -> None:
    recent = recent_counts(rows.shop.pk, now)
    assert recent.month.total == Recipient.objects.filter(project_id=rows.shop.pk).count()
    assert recent.day.total <= recent.week.total <= recent.month.total
    assert sum(day.counts.total for day in recent.days) == recent.month.total
    assert recent_counts(rows.empty.pk, now).month.total == 0


def test_what_waits_is_grouped_by_why(rows: Seeded, now: datetime) -> None:
    groups, more = what_waits(rows.shop.pk, now)
    assert {group.state: group.number for group in groups} == {"due": 1, "held": 1, "later": 1}
    assert next(group for group in groups if group.state == "held").reason == "at most 20 a minute from 203.0.113.25"
    assert not more


def test_statuses_are_counted_the_most_frequent_first(rows: Seeded) -> None:
    people = recipients_by_send([rows.send])[rows.send.pk]
    assert people[0].address == "anna.lindqvist@example.net"
    assert counted_statuses([*people, people[0]])[0] == ("accepted", 2)
    assert Send.objects.filter(pk=rows.send.pk).exists()
