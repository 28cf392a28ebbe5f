"""A customer's own MIME, and mail of a test key, through a real sender process."""

import dkim
import pytest

from projects.models import Event
from relay_project.mail.raw import read_raw
from sending.content import raw_message
from sending.models import HourCount, Send, Suppression
from tests.journeys.conftest import World, eventually
from tests.journeys.test_delivery import published
from tests.sending.rollup import count_up

pytestmark = pytest.mark.journey

RAW = (
    b"From: App <app@shop.example>\r\nTo: ann@one.example\r\nMessage-ID: <own.1@shop.example>\r\n"
    b"Subject: My own\r\nX-Mine: kept as it is\r\n\r\nHello.\r\n"
)


def test_own_mime_arrives_as_it_is_and_mail_of_a_test_key_reaches_nobody(world: World) -> None:
    world.start_sender()
    own = world.send("ann@one.example", raw=read_raw(RAW), subject=None, body_text=None)
    test = world.send("missing@one.example", "dora@two.example", is_test=True)
    eventually(lambda: world.statuses(own) == ["accepted"])
    eventually(lambda: world.statuses(test) == ["bounced", "accepted"])

    assert own.message_id == "own.1@shop.example"
    [mail] = world.internet.received
    assert mail.recipients == ("ann@one.example",), "what a test key sends never leaves"
    assert b"X-Mine: kept as it is\r\n\r\nHello.\r\n" in mail.data
    assert mail.data == raw_message(Send.objects.get(pk=own.send_id))
    assert dkim.DKIM(mail.data).verify(idx=0, dnsfunc=published)

    kinds = Event.objects.filter(subject_id=test.send_id).values_list("kind", flat=True)
    results = {"send.recipient.bounced", "send.recipient.accepted", "send.recipient.simulated"}
    assert set(kinds) == {"send.queued", *results}
    assert not Suppression.objects.exists(), "a test teaches nothing"
    count_up()
    assert (
        sum(HourCount.objects.filter(dimension="project", project_id=world.project.pk).values_list("total", flat=True))
        == 1
    )
    assert not world.waits(own)
    assert not world.waits(test)
    assert world.ledger().is_good
