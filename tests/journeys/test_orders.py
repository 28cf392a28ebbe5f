"""Staff at work on waiting mail, through a real sender process."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from queues.models import Queue
from queues.pause import pause, resume
from sending.backlog.why import why
from sending.explain import Kind
from sending.models import Priority, Send
from tests.journeys.conftest import World, eventually

pytestmark = pytest.mark.journey


def test_a_flush_sends_what_would_have_waited_for_an_hour(world: World) -> None:
    world.start_sender(RETRY_SCHEDULE="1h,1h")
    accepted = world.send("greylist@two.example")
    eventually(lambda: world.statuses(accepted) == ["deferred"])
    send = Send.objects.get(pk=accepted.send_id)
    [reason] = why(send, world.recipients(accepted), timezone.now()).values()
    assert reason.kind is Kind.RETRY
    call_command("queue", "flush", "transactional", "--reason", "a test", stdout=StringIO())
    eventually(lambda: world.statuses(accepted) == ["accepted"])
    assert world.ledger().is_good


def test_transactional_mail_leaves_before_the_bulk_that_stood_first(world: World) -> None:
    queue = Queue.objects.get(name="transactional")
    pause(queue, reason="a test", actor=None, now=timezone.now())
    bulk = [world.send(f"b{i}@one.example", priority=Priority.BULK) for i in range(30)]
    urgent = [world.send(f"u{i}@one.example") for i in range(3)]
    world.start_sender(IN_FLIGHT_ROWS="4")
    world.start_sender(IN_FLIGHT_ROWS="4")
    resume(queue, actor=None, now=timezone.now())
    eventually(lambda: all(world.statuses(accepted) == ["accepted"] for accepted in bulk + urgent))
    order = [mail.recipients[0][0] for mail in world.internet.received]
    assert order.count("u") == 3
    assert "u" not in order[8:], "two senders with four in flight each"
    assert world.ledger().is_good
