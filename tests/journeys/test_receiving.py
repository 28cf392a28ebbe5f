# ruff: noqa: F811 — pytest hands fixtures over by name
"""A mail for a project: over a real port 25, the store, the reader and DNS, to its event."""

import smtplib
from email.message import EmailMessage

import pytest

from projects.models import Event
from relay_project.mail.received import attachment_of
from sending.inbound.routing.change import RouteChange, add_domain, add_route
from sending.inbound.routing.find import octets_of_mail
from sending.models import InboundMail, ReceivedMail, RouteAction
from tests.journeys.conftest import World, eventually
from tests.journeys.test_reports import WayBack, way_back  # noqa: F401 — a fixture
from webhooks.readers import Routed, running

pytestmark = pytest.mark.journey

NAME = "in.shop.example"


def letter() -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "Dora <dora@one.example>", f"support+7@{NAME}", "Re: Grüße"
    mail["Message-ID"] = "<a1@one.example>"
    mail.set_content("It came broken.\n")
    mail.add_attachment(bytes(range(256)), "image", "jpeg", filename="broken.jpg")
    return mail


def test_a_mail_over_port_25_ends_as_an_event(world: World, way_back: WayBack) -> None:
    add_domain(world.project, NAME)
    add_route(world.project, RouteChange(f"support+*@{NAME}"))
    add_route(world.project, RouteChange(f"support+no*@{NAME}", priority=0, action=RouteAction.REJECT))
    with running(Routed()), smtplib.SMTP("127.0.0.1", way_back.port, timeout=20) as client:
        refused = client.send_message(
            letter(), "dora@one.example", [f"support+7@{NAME}", f"sales@{NAME}", "a@other.example"]
        )
        assert {address: reply[0] for address, reply in refused.items()} == {
            f"sales@{NAME}": 550, "a@other.example": 550,
        }  # fmt: skip
        event = eventually(lambda: Event.objects.filter(kind="inbound.received").first())
    told = event.payload["inbound"]
    assert (event.project_id, told["envelope"]) == (
        world.project.pk, {"from": "dora@one.example", "to": [f"support+7@{NAME}"]},
    )  # fmt: skip
    assert (told["subject"], told["message"]["text"]) == ("Re: Grüße", "It came broken.\n")
    assert {"spf", "dkim", "dmarc", "arc"} == set(told["authentication"])
    assert InboundMail.objects.get().state == "handed on"
    row = ReceivedMail.objects.get()
    found = attachment_of(octets_of_mail(row) or b"", told["message"]["attachments"][0]["id"])
    assert found is not None
    assert (found[0].name, found[1]) == ("broken.jpg", bytes(range(256)))
