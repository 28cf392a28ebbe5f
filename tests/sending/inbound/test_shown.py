"""What came back, as the API, the send's page, its journey and the staff admin show it."""

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry, User
from relay_project.db.ids import id_time
from relay_project.mail.reports.model import Original
from sending.feedback import feedback_of
from sending.journey import StepKind, read_journey
from sending.models import Feedback, Send
from sending.objects import full_send_object
from tests.sending.inbound.reports import bounce, came, complaint, delivered, message_id, read, token
from tests.sending.inbound.reports import failed as failed_for
from tests.sending.scene import Scene

ANN, BEN = "ann@one.example", "ben@one.example"


@pytest.fixture
def staff(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create(login="sam@relay.test", email="sam@relay.test", is_staff=True))
    return client


def test_a_send_shows_its_feedback_and_what_it_means(scene: Scene) -> None:
    accepted, job = delivered(scene, ANN, BEN)
    first = read(bounce(ANN), token(job))
    read(complaint(BEN), token(job))
    send = Send.objects.get(pk=accepted.send_id)
    shown = full_send_object(send, timezone.now())
    row = Feedback.objects.get(type="bounce")
    assert shown["feedback"][0] == {
        "id": row.id,
        "created_at": int(id_time(row.id).timestamp()),
        "type": "bounce",
        "recipient_id": row.recipient_id,
        "debug_incoming_email_id": first.mail_id if first else None,
        "attempt_id": job.attempt_id,
        "class": "hard",
        "status": "5.1.1",
        "text": "no such user",
        "is_proven": True,
    }
    assert [found["type"] for found in shown["feedback"]] == ["bounce", "complaint"]
    assert [found["why"]["text"] for found in shown["recipients"]] == [
        "It was taken, and came back later: “550 5.1.1 no such user”.",
        "The recipient reported the mail as spam.",
    ]


def test_the_journey_ends_with_the_report(scene: Scene) -> None:
    accepted, job = delivered(scene, ANN)
    read(bounce(ANN), token(job))
    step = read_journey(Send.objects.get(pk=accepted.send_id), timezone.now()).milestones[-1]
    assert (step.kind, step.status) == (StepKind.REPORT, "bounced")
    assert step.title == "A report came back: ann@one.example bounced"
    assert step.detail == "550 5.1.1 no such user"


def test_a_report_without_proof_says_so(scene: Scene) -> None:
    accepted, _ = delivered(scene, ANN)
    read(bounce(failed_for(ANN), original=Original(message_id=message_id(accepted))), "fbl@relay.test")
    send = Send.objects.get(pk=accepted.send_id)
    assert read_journey(send, timezone.now()).milestones[-1].detail.endswith("(unsigned: nobody is suppressed by it)")
    assert [row.is_proven for row in feedback_of(send)] == [False]


def test_staff_read_the_source_as_text_and_have_it_read_again(scene: Scene, staff: Client) -> None:
    mail_id = came("fbl@relay.test", octets=b"Subject: <script>alert(1)</script>\r\n\r\n\x00\xff")
    page = staff.get(reverse("admin:sending_inboundmail_source", args=[mail_id]))
    assert "&lt;script&gt;" in page.content.decode()
    assert "<script>alert" not in page.content.decode()
    assert AuditEntry.objects.filter(action="inbound_mail.source_shown").count() == 1
    assert staff.get(reverse("admin:sending_inboundmail_source", args=[7])).status_code == 404
    outcome = read(bounce(ANN), "postmaster@relay.test")
    assert outcome is not None
    shown = staff.get(reverse("admin:sending_inboundmail_change", args=[outcome.mail_id])).content.decode()
    assert "nobody of ours" in shown
    assert "read-it-again" in shown
    assert Client().get(reverse("admin:sending_inboundmail_source", args=[mail_id])).status_code == 302
