"""Pausing a queue: idempotent, audited, and remembered, since the time does not count towards the lifetime of its mail."""

from datetime import UTC, datetime, timedelta

import pytest

from accounts.models import AuditEntry
from queues.models import Pause, Queue
from queues.pause import pause, paused_for, pauses_since, resume

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def queue(db: None) -> Queue:
    return Queue.objects.create(name="transactional", is_default=True)


def test_the_first_reason_stays_and_each_change_is_audited_once(queue: Queue) -> None:
    assert pause(queue, reason="a bad campaign", actor=None, now=NOW, actor_label="command line")
    assert not pause(queue, reason="another", actor=None, now=NOW + HOUR)
    assert (queue.paused_at, queue.pause_reason) == (NOW, "a bad campaign")
    assert resume(queue, actor=None, now=NOW + HOUR)
    assert not resume(queue, actor=None, now=NOW + HOUR)
    assert queue.paused_at is None
    actions = AuditEntry.objects.order_by("id").values_list("action", "actor_label")
    assert list(actions) == [("queue.paused", "command line"), ("queue.resumed", "")]


def test_a_pause_is_remembered_with_both_its_ends(queue: Queue) -> None:
    pause(queue, reason="", actor=None, now=NOW)
    assert pauses_since(NOW) == {queue.pk: [(NOW, None)]}
    resume(queue, actor=None, now=NOW + HOUR)
    pause(queue, reason="again", actor=None, now=NOW + 3 * HOUR)
    assert pauses_since(NOW + 2 * HOUR) == {queue.pk: [(NOW + 3 * HOUR, None)]}
    assert Pause.objects.count() == 2


def test_only_the_time_since_a_mail_began_to_wait_is_counted(queue: Queue) -> None:
    pause(queue, reason="", actor=None, now=NOW)
    resume(queue, actor=None, now=NOW + 2 * HOUR)
    pause(queue, reason="", actor=None, now=NOW + 5 * HOUR)
    pauses = pauses_since(NOW)[queue.pk]
    assert paused_for(pauses, NOW - HOUR, NOW + 6 * HOUR) == 3 * HOUR
    assert paused_for(pauses, NOW + HOUR, NOW + 6 * HOUR) == 2 * HOUR
    assert paused_for(pauses, NOW + 3 * HOUR, NOW + 4 * HOUR) == timedelta()
