# ruff: noqa: F811 — pytest hands fixtures over by name
"""A mail comes in on port 25, is passed on to a mailbox, and the report of one that is gone goes back to its sender."""

import smtplib

import dkim
import pytest

from projects.models import DkimKey
from relay_project.mail.dkim import Signer, SigningKey, sign, txt_value
from relay_project.sandbox.smtp import ReceivedMail as AtSandbox
from sending.inbound.routing.change import RouteChange, add_domain, add_route
from sending.models import InboundMail, ReceivedMail, Recipient, RouteAction, Suppression
from tests.journeys.conftest import PEM, World, eventually
from tests.journeys.test_reports import WayBack, way_back  # noqa: F401 — a fixture
from webhooks.readers import Routed, running

pytestmark = pytest.mark.journey

NAME = "in.shop.example"
PLAIN = (
    b"From: Dora <dora@seven.example>\r\nTo: team@in.shop.example\r\nSubject: Order\r\nDate: Sat, 28 Nov 2026 07:00:00 GMT\r\n"
    b"Message-ID: <o1@seven.example>\r\n\r\n.Hello  \t\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
)
MAIL = sign(PLAIN, [Signer("seven.example", "d1", SigningKey.load(PEM))], 1795315000) + PLAIN


def txt(name: bytes, timeout: int = 5) -> bytes:
    """Dora's key and the project's are the same one here."""
    assert name in (b"d1._domainkey.seven.example.", b"rly1._domainkey.shop.example.")
    return txt_value(PEM).encode()


def test_a_mail_is_passed_on_and_its_late_bounce_finds_the_sender(world: World, way_back: WayBack) -> None:
    add_domain(world.project, NAME)
    assert DkimKey.objects.filter(domain=world.domain, selector="rly1").exists()
    addresses = ("bob@two.example", "missing+async@three.example")
    add_route(world.project, RouteChange(f"team@{NAME}", action=RouteAction.FORWARD, forward_to=addresses))
    world.start_sender()

    def at(address: str) -> AtSandbox | None:
        return next((mail for mail in world.internet.received if address in mail.recipients), None)

    with running(Routed()):
        with smtplib.SMTP("127.0.0.1", way_back.port, timeout=20) as client:
            client.sendmail("dora@seven.example", [f"team@{NAME}"], MAIL, ["BODY=8BITMIME"])
        arrived = eventually(lambda: at("bob@two.example"))
        returned = eventually(lambda: at("dora@seven.example"))
        eventually(lambda: not Recipient.objects.filter(status="queued").exists())

    assert arrived.data.endswith(MAIL), "as it came, octet by octet"
    assert arrived.reverse_path.startswith("SRS0=")
    assert "=seven.example=dora@" in arrived.reverse_path
    assert dkim.arc_verify(arrived.data, dnsfunc=txt)[0] == dkim.CV_Pass
    assert dkim.verify(arrived.data, dnsfunc=txt), "Dora's signature holds"
    assert arrived.data.count(b"DKIM-Signature:") == 1

    assert returned.reverse_path == ""
    [report] = InboundMail.objects.filter(kind="bounce")
    assert returned.data.endswith(bytes(report.octets))
    assert b"missing+async@three.example" in returned.data
    forward, back = ReceivedMail.objects.order_by("id")
    assert (back.returns_send_id, back.forward_to, forward.forward_error) == (
        forward.forward_send_id, ["dora@seven.example"], "",
    )  # fmt: skip
    ends = dict(Recipient.objects.filter(send_id=forward.forward_send_id).values_list("address", "status"))
    assert ends == {"bob@two.example": "accepted", "missing+async@three.example": "bounced"}
    assert Suppression.objects.get().email == "missing+async@three.example"
    assert world.ledger().is_good
