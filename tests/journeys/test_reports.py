"""What the sandbox reports later, through the real sender, SMTP back to us, the store, the reader and the log."""

from collections.abc import Iterator

import pytest
from django.utils import timezone

from projects.models import Event
from relay_project.net.smtp_server.model import Mail, Peer, RcptTo, Service
from relay_project.sandbox.smtp import ReceivedMail
from sending.inbound.read import measure
from sending.inbound.reception import InboundReception
from sending.inbound.store import CHANNEL
from sending.models import Feedback, InboundMail, Send, SoftBounce, Suppression
from sending.objects import full_send_object
from sending.statistics.outcomes import fold_outcomes
from tests.journeys.conftest import World, eventually
from webhooks.listen import waking
from webhooks.readers import Inbound, running
from webhooks.sequencer import Sequencer

pytestmark = pytest.mark.journey


class WayBack:
    """Mail that comes back over SMTP goes to our reception, as port 25 would give it; a RCPT that it refuses is kept."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.refused: list[str] = []
        self.replies: list[int] = []
        smtp = world.internet.smtp
        smtp._route = self._route
        smtp._report_seconds = 0.05
        self._take, smtp._received = smtp._received, self._received
        self.reception = InboundReception()

    async def _route(self, domain: str) -> tuple[str, int]:
        return "127.0.0.1", self.world.internet.smtp.port

    async def _received(self, mail: ReceivedMail) -> None:
        if mail.reverse_path:
            assert self._take is not None
            await self._take(mail)
            return
        peer = Peer(mail.peer, 1, "127.0.0.1", 25, Service.MX, helo=mail.helo_name)
        for recipient in mail.recipients:
            if await self.reception.recipient(peer, None, "", recipient) is not None:
                self.refused.append(recipient)
        taken = tuple(RcptTo(recipient) for recipient in mail.recipients if recipient not in self.refused)
        self.replies.append((await self.reception.message(Mail(peer, None, "", taken, mail.data))).code)

    def stop(self) -> None:
        self.world.internet.call(self.reception.close())


@pytest.fixture
def way_back(world: World) -> Iterator[WayBack]:
    """Our side of port 25, and the reader as run_webhooks has it."""
    way = WayBack(world)
    reader = Inbound()
    with running(reader), waking(reader, CHANNEL):
        yield way
    way.stop()


def kinds(send_id: int) -> list[str]:
    return list(Event.objects.filter(subject_id=send_id).order_by("id").values_list("kind", flat=True))


def test_what_comes_back_later_ends_in_the_right_states_without_a_hand_on_it(world: World, way_back: WayBack) -> None:
    """Lesson C6: both were lost in practice."""
    world.start_sender()
    expected = {
        "missing+async@one.example": "bounced",
        "disabled+async@two.example": "bounced",
        "busy+async@three.example": "bounced",
        "spam+async@four.example": "bounced",
        "complaint@five.example": "complained",
        "ann@six.example": "accepted",
    }
    sends = {address: world.send(address) for address in expected}
    eventually(lambda: {a: world.statuses(send)[0] for a, send in sends.items()} == expected)
    assert way_back.refused == []
    assert set(way_back.replies) == {250}
    assert dict(Suppression.objects.values_list("email", "reason")) == {
        "missing+async@one.example": "bounce",
        "disabled+async@two.example": "bounce",
        "complaint@five.example": "complaint",
    }
    assert list(SoftBounce.objects.values_list("email", flat=True)) == ["busy+async@three.example"]
    missing, complaint = sends["missing+async@one.example"], sends["complaint@five.example"]
    assert kinds(missing.send_id) in (
        ["send.recipient.accepted", "send.recipient.bounced"],
        ["send.recipient.bounced"],  # the report was faster than the settling of the 250
    )
    told = Event.objects.get(subject_id=complaint.send_id, kind="send.recipient.complained").payload
    assert told["complaint"]["feedback_type"] == "abuse"
    shown = full_send_object(Send.objects.get(pk=missing.send_id), timezone.now())
    assert shown["feedback"][0]["text"] == "550 5.1.1 No such mailbox here"
    assert {mail.state for mail in InboundMail.objects.all()} == {"applied"}
    assert (Feedback.objects.filter(is_proven=True).count(), measure(timezone.now())[0]) == (5, 0)
    assert world.statuses(world.send("missing+async@one.example")) == ["suppressed"]
    assert world.ledger().is_good
    Sequencer().look()
    assert fold_outcomes() > 0


def test_one_report_for_each_recipient_of_a_transaction(world: World, way_back: WayBack) -> None:
    world.start_sender()
    accepted = world.send("missing+async+1@one.example", "ann@one.example", "complaint+2@one.example")
    eventually(lambda: world.statuses(accepted) == ["bounced", "accepted", "complained"])
    assert len(world.attempts(accepted)) == 1
