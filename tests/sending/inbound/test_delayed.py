"""A report that only says that mail is late, from its octets to the event: Postfix's, as it is written."""

from pathlib import Path

from projects.models import Event
from sending.inbound.read import Reader
from sending.models import Feedback, InboundMail, Suppression
from tests.sending.inbound.reports import came, delivered, token
from tests.sending.scene import Scene

CORPUS = Path(__file__).parents[2] / "mail" / "reports" / "corpus"
ANN = "ann@one.example"


def report(address: str) -> bytes:
    return (CORPUS / "postfix-delayed.eml").read_bytes().replace(b"bob@example.net", address.encode())


def told() -> list[Event]:
    return list(Event.objects.filter(kind="send.recipient.delayed").order_by("id"))


def test_a_report_of_a_delay_tells_that_the_mail_is_late_and_changes_nothing(scene: Scene) -> None:
    accepted, job = delivered(scene, ANN, "ben@one.example", tags=["order"])
    came(token(job), octets=report(ANN))
    assert Reader().look() == 1
    [event] = told()
    assert (event.project_id, event.subject_kind, event.subject_id) == (scene.project.pk, "send", accepted.send_id)
    payload = event.payload
    assert (payload["address"], payload["status"], payload["tags"]) == (ANN, "accepted", ["order"])
    assert (payload["delay"]["source"], payload["delay"]["status"]) == ("report", "4.4.1")
    assert "Connection timed out" in payload["delay"]["text"]
    assert scene.statuses(accepted) == ["accepted", "accepted"]
    mail = InboundMail.objects.get()
    assert (mail.state, mail.send_id, mail.findings[0]["action"]) == ("noted", accepted.send_id, "delayed")
    assert not Feedback.objects.exists()
    assert not Suppression.objects.exists()


def test_nobody_is_told_of_a_delay_that_anybody_could_have_made_up(scene: Scene) -> None:
    """Without our token: to the postmaster, with the address of somebody who was written to."""
    delivered(scene, ANN)
    came("postmaster@relay.test", octets=report(ANN))
    assert Reader().look() == 1
    assert told() == []
