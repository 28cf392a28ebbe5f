"""What the sandbox reports later, through the real sender, SMTP back to us, the store, the reader and the log."""

import shutil
import smtplib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from projects.domain_digest import digest
from projects.models import Event
from relay_project.bench.peers.postfix import Postfix, why_not
from relay_project.net.smtp_server.certificates import Certificates
from relay_project.net.smtp_server.limits import Limits
from relay_project.net.smtp_server.listener import Listener
from relay_project.net.smtp_server.model import Service
from relay_project.net.smtp_server.server import SmtpServer
from relay_project.quickstart.ports import choose_ports
from sending.inbound.read import measure
from sending.inbound.reception import InboundReception
from sending.inbound.store import CHANNEL
from sending.models import Feedback, InboundMail, Send, SoftBounce, Suppression
from sending.objects import full_send_object
from sending.statistics.outcomes import fold_outcomes
from tests.journeys.conftest import World, eventually
from tests.mail.reports.mails import dmarc_mail, zipped
from webhooks.listen import waking
from webhooks.readers import Inbound, running
from webhooks.sequencer import Sequencer

pytestmark = pytest.mark.journey
DMARC = Path(__file__).parents[1] / "mail" / "reports" / "corpus" / "dmarc" / "rfc7489.xml"


class WayBack:
    """Our port 25, in the loop of the internet, and the sandbox's and Postfix's way to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.port = choose_ports({"mx": 0})["mx"]
        smtp = world.internet.smtp
        smtp._route = self._route
        smtp._report_seconds = 0.05
        world.internet.call(self._start())

    async def _route(self, domain: str) -> tuple[str, int]:
        return "127.0.0.1", self.port

    async def _start(self) -> None:
        self.reception = InboundReception()
        self.server = SmtpServer(
            {Service.MX: self.reception},
            [Listener(Service.MX, "127.0.0.1", self.port)],
            Limits(),
            Certificates("mx.relay.test"),
            hostname="mx.relay.test",
            domain="relay.test",
        )
        await self.server.start()

    def stop(self) -> None:
        self.world.internet.call(self.server.stop(5))
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
    assert dict(Suppression.objects.values_list("email", "reason")) == {
        "missing+async@one.example": "bounce",
        "disabled+async@two.example": "bounce",
        "complaint@five.example": "complaint",
    }
    assert list(SoftBounce.objects.values_list("email", flat=True)) == ["busy+async@three.example"]
    missing, complaint = sends["missing+async@one.example"], sends["complaint@five.example"]
    assert kinds(missing.send_id) in (
        ["send.queued", "send.recipient.accepted", "send.recipient.bounced"],
        ["send.queued", "send.recipient.bounced"],  # the report was faster than the settling of the 250
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


@pytest.fixture
def postfix(world: World, way_back: WayBack) -> Iterator[Postfix]:
    """A real Postfix that takes everything and hands it on to the sandbox, which is where it learns what bounces."""
    if reason := why_not():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="relay-postfix-"))
    folder.chmod(0o755)
    settings = {
        "default_transport": f"smtp:[127.0.0.1]:{world.internet.smtp.port}",
        "transport_maps": f"inline:{{{{relay.test = smtp:[127.0.0.1]:{way_back.port}}}}}",
    }
    with Postfix(folder / "instance", settings) as running_postfix:
        yield running_postfix
    shutil.rmtree(folder)


@pytest.mark.postfix
def test_a_real_postfix_bounces_a_mail_and_its_recipient_turns_bounced(world: World, postfix: Postfix) -> None:
    world.start_sender(OUTGOING_SMTP_PORT=str(postfix.port))
    accepted = world.send("ann@one.example", "missing@one.example", "disabled@one.example")
    eventually(lambda: world.statuses(accepted) == ["accepted", "bounced", "bounced"])
    assert sorted(Suppression.objects.values_list("email", flat=True)) == [
        "disabled@one.example",
        "missing@one.example",
    ]
    row = Feedback.objects.get(recipient_id=world.recipients(accepted)[1].pk)
    assert (row.is_proven, row.bounce_class, row.status, row.code) == (True, "hard", "5.1.1", 550)
    assert "No such mailbox here" in row.reason


def test_a_report_about_a_domain_is_taken_and_summed_up(world: World, way_back: WayBack) -> None:
    now = timezone.now()
    xml = DMARC.read_bytes().replace(b"Shop.test", world.domain.domain.encode())
    xml = xml.replace(b"1794787200", b"%d" % (now.timestamp() - 86_400)).replace(b"1794873599", b"%d" % now.timestamp())
    for _ in range(2):
        with smtplib.SMTP("127.0.0.1", way_back.port) as smtp:
            smtp.sendmail("noreply@receiver.test", f"dmarc@{settings.INSTANCE_DOMAIN}", dmarc_mail(zipped(xml)))
    eventually(lambda: InboundMail.objects.filter(state="handed on").count() == 2)
    said = digest(world.domain, timezone.now())
    assert (said.dmarc.reports, said.dmarc.total, said.receivers[0]["organisation"]) == (1, 100, "receiver.test")
