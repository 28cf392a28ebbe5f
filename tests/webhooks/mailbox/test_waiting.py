"""Long polls: threads that wait, a bell that listens, and a connection that is lost."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections

from projects.events import NewEvent, emit, sequence_outbox
from projects.models import Project
from webhooks.mailbox import figures, waiting
from webhooks.mailbox.deposit import deposit, new_item
from webhooks.mailbox.holding import holdings_of
from webhooks.mailbox.manage import MailboxChange, create_mailbox
from webhooks.mailbox.receive import Received, receive
from webhooks.mailbox.waiting import Bell, wait_for
from webhooks.models.mailbox import Mailbox

LISTENS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'relay mailboxes'"
CUT = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'relay mailboxes'"


@pytest.fixture
def bell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bell]:
    made = Bell()
    monkeypatch.setattr(waiting, "_bell", made)
    monkeypatch.setattr(waiting, "LISTEN_SECONDS", 0.0)
    monkeypatch.setattr(waiting, "RETRY_SECONDS", 0.1)
    yield made
    if made._thread is not None:
        made._thread.join(10)


class Waiter(threading.Thread):
    """A receiver in a thread of its own, as of the web process."""

    def __init__(self, mailbox: Mailbox, seconds: float) -> None:
        super().__init__()
        self.mailbox, self.seconds = mailbox, seconds
        self.found: Received | None = None
        self.ended_at = 0.0

    def run(self) -> None:
        try:
            self.found = wait_for(
                self.mailbox,
                self.seconds,
                lambda: receive(self.mailbox, 10, 60, datetime.now(UTC)),
                lambda found: bool(found.items),
            )
            self.ended_at = time.monotonic()
        finally:
            connections.close_all()


def waiting_receiver(mailbox: Mailbox) -> Waiter:
    """One who waits and whose process listens."""
    waiter = Waiter(mailbox, 10)
    waiter.start()
    until(lambda: ask(LISTENS) == 1 and Mailbox.objects.filter(pk=mailbox.pk, waited_until__isnull=False).exists())
    time.sleep(0.1)  # LISTEN, and a look after it
    return waiter


def seconds_to_end(waiter: Waiter, act: Callable[[], Any]) -> float:
    act()
    began = time.monotonic()
    waiter.join(10)
    assert waiter.found is not None
    assert len(waiter.found.items) == 1
    return waiter.ended_at - began


def ask(statement: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.fetchone()[0])


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def happened(project: Project) -> None:
    emit(NewEvent(project.pk, "domain.created", "domain", 1, {"domain": {"domain": "a.test"}}))
    with connection.cursor() as cursor:
        sequence_outbox(cursor)


@pytest.mark.django_db(transaction=True)
def test_waiting_receivers_hear_at_once_and_the_listener_ends_and_begins_again(bell: Bell) -> None:
    project = Project.objects.create(name="Shop")
    mailbox = create_mailbox(project, "orders", MailboxChange(events=["domain.created"]))

    def put(what: str) -> None:
        deposit(mailbox.pk, "s", [new_item(what)], datetime.now(UTC))

    assert seconds_to_end(waiting_receiver(mailbox), lambda: put("one")) < 0.2
    until(lambda: bell._thread is None)  # nobody waits, so nobody listens
    assert ask(LISTENS) == 0
    assert seconds_to_end(waiting_receiver(mailbox), lambda: happened(project)) < 0.3
    waiter = waiting_receiver(mailbox)
    ask(CUT)  # the connection is lost while somebody waits, and opened anew
    until(lambda: ask(LISTENS) == 1)
    time.sleep(0.1)
    assert seconds_to_end(waiter, lambda: put("two")) < 0.2


@pytest.mark.django_db(transaction=True)
def test_a_waiting_receiver_gets_what_another_has_leased_and_lost(bell: Bell) -> None:
    mailbox = create_mailbox(Project.objects.create(name="Shop"), "orders", MailboxChange())
    deposit(mailbox.pk, "s", [new_item("one")], datetime.now(UTC))
    assert len(receive(mailbox, 10, 1, datetime.now(UTC)).items) == 1
    waiter = Waiter(mailbox, 10)
    assert seconds_to_end(waiter, waiter.start) < 2, "when the lease of a second ends"


@pytest.mark.django_db(transaction=True)
def test_who_comes_beyond_the_places_is_answered_at_once(bell: Bell, settings: Any) -> None:
    settings.MAILBOX_WAITERS, settings.WEB_THREADS = 4, 2  # of which the other one answers everybody else
    mailbox = create_mailbox(Project.objects.create(name="Shop"), "orders", MailboxChange())
    first = waiting_receiver(mailbox)
    second = Waiter(mailbox, 10)
    began = time.monotonic()
    second.start()
    second.join(10)
    assert second.ended_at - began < 1
    assert second.found is not None
    assert second.found.items == []
    deposit(mailbox.pk, "s", [new_item(1)], datetime.now(UTC))
    first.join(10)
    assert first.found is not None
    assert len(first.found.items) == 1


@pytest.mark.django_db
def test_events_that_retention_takes_soon_are_told_of(settings: Any) -> None:
    project = Project.objects.create(name="Shop")
    mailbox = create_mailbox(project, "orders", MailboxChange(events=["domain.created"]))
    happened(project)
    now = datetime.now(UTC)
    soon = now + timedelta(days=settings.RETENTION_EVENTS_DAYS - 1, hours=1)
    assert [holdings_of([mailbox], when)[mailbox.pk].is_losing for when in (now, soon)] == [False, True]
    assert [figures.count_losing(when) for when in (now, soon)] == [0, 1]
    receive(mailbox, 10, 60, now)
    assert figures.count_losing(soon) == 0


@pytest.mark.django_db
def test_mailboxes_are_labels_only_as_many_as_a_setting_says(
    settings: Any, django_assert_num_queries: Callable[..., Any]
) -> None:
    project = Project.objects.create(name="Shop")
    boxes = [create_mailbox(project, f"box-{number}", MailboxChange()) for number in range(3)]
    for number, box in enumerate(boxes):
        deposit(box.pk, "s", [new_item(n) for n in range(number)], datetime.now(UTC))
    with django_assert_num_queries(3):
        assert [each.load.items for each in holdings_of(boxes, datetime.now(UTC)).values()] == [0, 1, 2]
    figures.measure()
    assert labels() == {}
    settings.MAILBOX_METRICS_BY_NAME = 1
    figures.measure()
    assert labels() == {"box-2": 2.0}
    settings.MAILBOX_METRICS_BY_NAME = 0
    figures.measure()
    assert labels() == {}


def labels() -> dict[str, float]:
    return {
        sample.labels["mailbox"]: sample.value for family in figures.QUEUE_OF.collect() for sample in family.samples
    }
