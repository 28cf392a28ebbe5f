"""What a report does, and what a forged one does not."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from accounts.models import AuditEntry
from ips.models import Incident
from projects.models import Event
from relay_project.db.keyring import ring
from relay_project.mail.reports.facts import FeedbackType as ArfType
from relay_project.mail.reports.model import Action, BounceClass, Original, Report, ReportedRecipient, ReportKind
from relay_project.mail.unsubscribe import Subscription, make_token
from sending.accept.request import Accepted
from sending.deliver.giveback import sweep
from sending.deliver.settle import settle
from sending.inbound.again import read_again
from sending.models import Feedback, InboundMail, Recipient, SoftBounce, Suppression, UnreadMail, Waiting
from tests.sending.inbound.reports import bounce, complaint, delivered, failed, message_id, read, stored, token
from tests.sending.scene import LATER, MISSING, OK, Scene, answered, check_ledger

ANN, BEN, CAT = "ann@one.example", "ben@one.example", "cat@two.example"


def suppressed() -> list[tuple[str, str]]:
    return list(Suppression.objects.order_by("id").values_list("email", "reason"))


def payload(kind: str) -> dict[str, object]:
    found: dict[str, object] = Event.objects.filter(kind=kind).order_by("-id")[0].payload
    return found


def test_a_hard_bounce_moves_the_recipient_and_suppresses_the_address(scene: Scene) -> None:
    """Lesson C6: what comes back later is heard."""
    accepted, job = delivered(scene, ANN)
    outcome = read(bounce(ANN), token(job))
    assert outcome is not None
    assert scene.statuses(accepted) == ["bounced"]
    assert scene.kinds(accepted) == ["accepted", "bounced"]
    assert suppressed() == [(ANN, "bounce")]
    assert Suppression.objects.get().description == "550 5.1.1 no such user"
    row = Feedback.objects.get()
    assert (row.type, row.is_proven, row.attempt_id, row.mail_id) == ("bounce", True, job.attempt_id, outcome.mail_id)
    told = payload("send.recipient.bounced")
    assert told["bounce"] == {"text": "no such user", "status": "5.1.1"}
    assert (told["smtp_code"], told["address"], told["category"]) == (550, ANN, "recipient")
    assert (told["attempt_id"], told["feedback_id"]) == (job.attempt_id, row.id)
    assert payload("suppression.created")["reason"] == "bounce"
    mail = stored(outcome)
    assert (mail.state, mail.kind, mail.correlation, mail.send_id) == ("applied", "bounce", "token", accepted.send_id)
    assert mail.findings[0]["outcome"] == "bounced"
    assert not UnreadMail.objects.exists()
    check_ledger()


def test_a_reply_that_is_quoted_with_its_codes_is_told_once(scene: Scene) -> None:
    _, job = delivered(scene, ANN)
    read(bounce(replace(failed(ANN), reason="550-5.1.1 no\nsuch user")), token(job))
    assert Suppression.objects.get().description == "550 5.1.1 no such user"
    assert payload("send.recipient.bounced")["smtp_message"] == "no such user"


def test_a_complaint_moves_the_recipient_and_suppresses_the_address(scene: Scene) -> None:
    """Lesson C6: every live complaint was dropped."""
    accepted, job = delivered(scene, ANN)
    read(complaint(ANN), token(job))
    assert scene.statuses(accepted) == ["complained"]
    assert suppressed() == [(ANN, "complaint")]
    told = payload("send.recipient.complained")
    assert told["complaint"] == {"text": "Reported as abuse by Yahoo!-Mail-Feedback/2.0", "feedback_type": "abuse"}


def test_a_redacted_complaint_means_the_only_recipient(scene: Scene) -> None:
    accepted, job = delivered(scene, ANN)
    read(complaint(), "fbl@relay.test")
    assert scene.statuses(accepted) == ["accepted"]
    read(complaint(original=Original(tokens=(token(job),))), "fbl@relay.test")
    assert scene.statuses(accepted) == ["complained"]


def test_a_redacted_complaint_about_several_recipients_means_nobody(scene: Scene) -> None:
    accepted, job = delivered(scene, ANN, BEN)
    outcome = read(complaint(), token(job))
    assert outcome is not None
    assert scene.statuses(accepted) == ["accepted", "accepted"]
    assert stored(outcome).state == "unmatched"


@pytest.mark.parametrize("kind", [ArfType.NOT_SPAM, ArfType.AUTH_FAILURE])
def test_feedback_that_is_no_complaint_is_noted(scene: Scene, kind: ArfType) -> None:
    accepted, job = delivered(scene, ANN)
    outcome = read(complaint(ANN, kind=kind), token(job))
    assert outcome is not None
    assert scene.statuses(accepted) == ["accepted"]
    assert (stored(outcome).state, stored(outcome).send_id) == ("noted", accepted.send_id)
    assert not Feedback.objects.exists()


def test_every_recipient_of_a_report_is_dealt_with(scene: Scene) -> None:
    """Lesson C6: only the first recipient of a report was seen, and the first that did not match ended it."""
    accepted, job = delivered(scene, ANN, BEN)
    outcome = read(
        bounce(failed("zoe@one.example"), failed(ANN, action=Action.DELAYED), failed("BEN@ONE.example")), token(job)
    )
    assert outcome is not None
    assert scene.statuses(accepted) == ["accepted", "bounced"]
    assert [found["outcome"] for found in stored(outcome).findings] == ["nobody of ours", "noted", "bounced"]


@pytest.mark.parametrize("action", [Action.DELAYED, Action.RELAYED, Action.DELIVERED, Action.EXPANDED])
def test_what_is_no_failure_changes_nothing(scene: Scene, action: Action) -> None:
    accepted, job = delivered(scene, ANN)
    outcome = read(bounce(failed(ANN, action=action)), token(job))
    assert outcome is not None
    assert scene.statuses(accepted) == ["accepted"]
    assert (stored(outcome).state, stored(outcome).findings[0]["action"]) == ("noted", action.value)
    assert not Feedback.objects.exists()


@pytest.mark.parametrize("kind", [ReportKind.AUTO_REPLY, ReportKind.NONE])
def test_vacation_notes_are_kept_and_do_nothing(scene: Scene, kind: ReportKind) -> None:
    accepted, job = delivered(scene, ANN)
    outcome = read(Report(kind), token(job))
    assert outcome is not None
    assert scene.statuses(accepted) == ["accepted"]
    assert (stored(outcome).state, stored(outcome).send_id) == ("noted", accepted.send_id)


def test_a_forwarded_mailbox_is_the_only_recipient_there_is(scene: Scene) -> None:
    accepted, job = delivered(scene, ANN)
    outcome = read(bounce("someone@elsewhere.example"), token(job))
    assert outcome is not None
    assert scene.statuses(accepted) == ["bounced"]
    assert suppressed() == [(ANN, "bounce")]
    assert stored(outcome).findings[0]["recipient"] == ANN


def test_an_address_that_is_none_of_several_means_nobody(scene: Scene) -> None:
    accepted, job = delivered(scene, ANN, BEN)
    outcome = read(bounce("someone@elsewhere.example"), token(job))
    assert outcome is not None
    assert scene.statuses(accepted) == ["accepted", "accepted"]
    assert stored(outcome).state == "unmatched"


# --- Consequences --------------------------------------------------------------------------------------------------


def test_a_second_bounce_and_a_complaint_after_it_raise_nothing(scene: Scene) -> None:
    """Lesson C7: the second one hit a unique index, and all that followed was lost."""
    first, job = delivered(scene, ANN)
    second, other = delivered(scene, "Ann@one.example")
    read(bounce(ANN), token(job))
    assert read(bounce(ANN), token(job)) is not None
    read(bounce(ANN), token(other))
    read(complaint(ANN), token(other))
    assert suppressed() == [(ANN, "bounce")]
    assert scene.kinds(first) == ["accepted", "bounced"]
    assert scene.kinds(second) == ["accepted", "bounced", "complained"]
    assert Feedback.objects.count() == 3


def test_a_soft_bounce_counts_as_one_that_was_told_in_the_conversation(scene: Scene, settings: object) -> None:
    """Lesson C9: no soft-bounce counting."""
    settings.SOFT_BOUNCE_LIMIT = 1  # type: ignore[attr-defined]
    accepted, job = delivered(scene, ANN)
    read(bounce(failed(ANN, BounceClass.SOFT)), token(job))
    assert scene.statuses(accepted) == ["bounced"]
    assert suppressed() == [(ANN, "bounce")]
    assert Suppression.objects.get().description == "Undeliverable on 1 days within 30: 452 4.2.2 mailbox full"


def test_below_the_limit_a_soft_bounce_is_counted_only(scene: Scene) -> None:
    _, job = delivered(scene, ANN)
    read(bounce(failed(ANN, BounceClass.SOFT)), token(job))
    read(bounce(failed(ANN, BounceClass.SOFT)), token(job))
    assert len(SoftBounce.objects.get().days) == 1
    assert suppressed() == []


def test_what_would_not_suppress_in_a_conversation_is_counted(scene: Scene) -> None:
    """Refused for ever, and nobody said why."""
    _, job = delivered(scene, ANN)
    read(bounce(replace(failed(ANN), suppress=False)), token(job))
    assert (suppressed(), SoftBounce.objects.count()) == ([], 1)


@pytest.mark.parametrize("bounce_class", [BounceClass.CONTENT, BounceClass.UNKNOWN, BounceClass.INFRASTRUCTURE])
def test_what_is_not_about_the_address_never_suppresses(scene: Scene, bounce_class: BounceClass) -> None:
    """Lesson C9: a protocol error suppressed the address."""
    accepted, job = delivered(scene, ANN)
    read(bounce(failed(ANN, bounce_class)), token(job))
    assert scene.statuses(accepted) == ["bounced"]
    assert suppressed() == []
    assert not SoftBounce.objects.exists()


def test_a_bounce_that_is_about_us_opens_an_incident(scene: Scene) -> None:
    accepted, job = delivered(scene, ANN)
    read(bounce(failed(ANN, BounceClass.INFRASTRUCTURE)), token(job))
    incident = Incident.objects.get()
    assert (incident.source_ip_id, incident.site, incident.cause) == (scene.ip.id, "one", "ip-reputation")
    assert (incident.rule, incident.last_send_id) == ("guard-blocklist", accepted.send_id)
    assert incident.last_reply == "554 5.7.1 blocked using zen.spamhaus.org"


def test_the_simulator_opens_no_incident_and_a_test_key_suppresses_nobody(scene: Scene) -> None:
    _, job = delivered(scene, "spam@simulator.relay.test")
    read(bounce(failed("spam@simulator.relay.test", BounceClass.INFRASTRUCTURE)), token(job))
    assert not Incident.objects.exists()
    accepted, job = delivered(scene, ANN, is_test=True)
    read(bounce(ANN), token(job))
    assert scene.statuses(accepted) == ["bounced"]
    assert payload("send.recipient.bounced")["is_test"] is True
    assert suppressed() == []


# --- Proof ---------------------------------------------------------------------------------------------------------


def test_a_forged_token_changes_nothing_and_is_counted(scene: Scene) -> None:
    """Lesson S7: the ids are in every delivered mail."""
    accepted, job = delivered(scene, ANN)
    forged = token(job, keys=[b"x" * 32])
    outcome = read(bounce(ANN, original=Original(tokens=(forged,), return_path=forged)), "postmaster@relay.test")
    assert outcome is not None
    assert scene.statuses(accepted) == ["accepted"]
    assert stored(outcome).state == "forged"
    assert (suppressed(), Feedback.objects.count()) == ([], 0)


def test_a_token_says_nothing_about_the_other_recipients_of_the_send(scene: Scene) -> None:
    """Lesson S7: who got the mail in one domain bounces nobody in another."""
    accepted = scene.send(ANN, CAT)
    jobs = {job.domain: job for job in scene.jobs()}
    settle([answered(job, OK) for job in jobs.values()], timezone.now())
    read(bounce(CAT), token(jobs["one.example"]))
    assert scene.statuses(accepted) == ["bounced", "accepted"], "a forwarded mailbox of Ann's, for all that is known"
    read(complaint(ANN, CAT), token(jobs["two.example"]))
    assert scene.statuses(accepted) == ["bounced", "complained"]


def link(scene: Scene, accepted: Accepted, address: str, keys: list[bytes] | None = None) -> bytes:
    """The List-Unsubscribe field of one recipient's copy, as a report returns it."""
    recipient = Recipient.objects.get(send_id=accepted.send_id, address=address)
    subscription = Subscription(scene.project.pk, accepted.send_id, recipient.pk, address, "shop.example")
    token = make_token(subscription, keys or ring("unsubscribe links"))
    return f"List-Unsubscribe: <https://relay.test/unsubscribe/{token}>\r\n".encode()


def test_an_unsubscribe_link_in_the_returned_headers_proves_whose_mail_it_was(scene: Scene) -> None:
    """A complaint that names nobody and has lost its return path."""
    accepted, _ = delivered(scene, ANN, BEN)
    outcome = read(complaint(), "fbl@relay.test", octets=link(scene, accepted, BEN))
    assert outcome is not None
    assert scene.statuses(accepted) == ["accepted", "complained"]
    assert suppressed() == [(BEN, "complaint")]
    assert stored(outcome).correlation == "headers"


def test_a_forged_unsubscribe_link_proves_nothing(scene: Scene) -> None:
    """Lesson S7."""
    accepted, _ = delivered(scene, ANN)
    read(complaint(ANN), "fbl@relay.test", octets=link(scene, accepted, ANN, keys=[b"x" * 32]))
    assert (scene.statuses(accepted), suppressed()) == (["accepted"], [])


@pytest.mark.parametrize("named", ["message_id", "envelope_id"])
def test_ids_that_every_recipient_knows_speak_for_an_only_recipient_and_suppress_nobody(
    scene: Scene, named: str
) -> None:
    """Lesson S7: whoever has the mail has its Message-ID."""
    accepted, _ = delivered(scene, ANN)
    original = Original(**{named: message_id(accepted)})
    assert read(bounce("other@one.example", original=original), "fbl@relay.test") is not None
    assert scene.statuses(accepted) == ["accepted"], "somebody who is no recipient"
    outcome = read(bounce(ANN, original=original), "fbl@relay.test")
    assert outcome is not None
    assert scene.statuses(accepted) == ["bounced"]
    assert suppressed() == []
    assert Feedback.objects.get().is_proven is False
    assert stored(outcome).correlation == named.replace("_", "-")


def test_a_message_id_speaks_for_nobody_where_there_are_several(scene: Scene) -> None:
    """Lesson S7: any recipient could bounce the others."""
    accepted, _ = delivered(scene, ANN, BEN)
    outcome = read(complaint(BEN, original=Original(message_id=message_id(accepted))), "fbl@relay.test")
    assert outcome is not None
    assert scene.statuses(accepted) == ["accepted", "accepted"]
    assert (stored(outcome).state, stored(outcome).send_id) == ("unmatched", accepted.send_id)


def test_a_message_id_that_only_looks_like_ours_is_nobodys(scene: Scene) -> None:
    accepted, _ = delivered(scene, ANN)
    near = message_id(accepted)
    changed = near[:35] + ("0" if near[35] != "0" else "1") + near[36:]
    outcome = read(bounce(ANN, original=Original(message_id=changed)), "fbl@relay.test")
    assert outcome is not None
    assert scene.statuses(accepted) == ["accepted"]
    assert stored(outcome).send_id is None


def test_tokens_of_former_secrets_are_still_ours(scene: Scene, settings: object) -> None:
    accepted, job = delivered(scene, ANN)
    before = token(job)
    settings.APP_SECRETS = ["n" * 40, *settings.APP_SECRETS]  # type: ignore[attr-defined]
    assert token(job) != before
    read(bounce(ANN), before.upper())
    assert scene.statuses(accepted) == ["bounced"]


# --- Races ---------------------------------------------------------------------------------------------------------


def test_a_report_that_is_faster_than_settle_wins(scene: Scene) -> None:
    accepted = scene.send(ANN)
    job = scene.job()
    read(bounce(ANN), token(job))
    assert scene.statuses(accepted) == ["bounced"]
    settle([answered(job, OK)], timezone.now())
    assert scene.statuses(accepted) == ["bounced"]
    assert scene.kinds(accepted) == ["bounced"]
    assert scene.waiting(accepted) == []
    check_ledger()


def test_the_last_of_several_in_flight_is_not_taken_for_the_others(scene: Scene) -> None:
    accepted = scene.send(ANN, BEN)
    job = scene.job()
    read(bounce(ANN), token(job))
    read(bounce("ann.alias@one.example"), token(job))
    assert scene.statuses(accepted) == ["bounced", "queued"]
    settle([answered(job, OK)], timezone.now())
    assert scene.statuses(accepted) == ["bounced", "accepted"]


def test_a_token_whose_attempt_nobody_knows_yet_is_looked_at_again(scene: Scene) -> None:
    accepted = scene.send(ANN, BEN)
    job = scene.job()
    Waiting.objects.update(attempt_id=None, lease_until=None, sender_id=None)
    assert read(bounce(ANN), token(job)) is None
    row = UnreadMail.objects.get()
    assert (row.tries, row.due_at > timezone.now()) == (0, True)
    assert InboundMail.objects.get().state == "waiting"
    assert scene.statuses(accepted) == ["queued", "queued"]


def test_a_bounce_ends_the_wait_of_a_recipient_that_was_to_be_tried_again(scene: Scene) -> None:
    """The 250 got lost, so another try was to follow."""
    accepted = scene.send(ANN)
    job = scene.job()
    settle([answered(job, None)], timezone.now())
    assert scene.statuses(accepted) == ["deferred"]
    read(bounce(ANN), token(job))
    assert (scene.statuses(accepted), scene.waiting(accepted)) == (["bounced"], [])
    check_ledger()


def test_a_bounce_ends_a_later_attempt_that_is_under_way(scene: Scene) -> None:
    accepted = scene.send(ANN)
    first = scene.job()
    settle([answered(first, None)], timezone.now())
    Waiting.objects.update(phase=0, due_at=timezone.now())
    second = scene.job()
    read(bounce(ANN), token(first))
    settle([answered(second, OK)], timezone.now())
    assert (scene.statuses(accepted), scene.waiting(accepted)) == (["bounced"], [])
    assert sweep(timezone.now() + timedelta(hours=1)) == 0


def test_a_late_250_overrides_what_a_reply_said_and_not_what_a_report_did(scene: Scene) -> None:
    """Engine: never a report's bounce."""
    accepted = scene.send(ANN, BEN)
    job = scene.job()
    settle([answered(job, MISSING)], timezone.now())
    assert scene.statuses(accepted) == ["bounced", "bounced"]
    read(bounce(ANN), token(job))
    settle([answered(job, OK)], timezone.now())
    assert scene.statuses(accepted) == ["bounced", "accepted"]


def test_a_bounce_after_a_reply_that_bounced_is_kept_and_not_told_again(scene: Scene) -> None:
    accepted = scene.send(ANN)
    job = scene.job()
    settle([answered(job, MISSING)], timezone.now())
    outcome = read(bounce(ANN), token(job))
    assert outcome is not None
    assert scene.kinds(accepted) == ["bounced"]
    assert (Feedback.objects.count(), stored(outcome).findings[0]["outcome"]) == (1, "noted: it was bounced")


def test_settle_of_another_deferral_leaves_a_bounced_recipient_alone(scene: Scene) -> None:
    accepted = scene.send(ANN)
    job = scene.job()
    read(bounce(ANN), token(job))
    settle([answered(job, LATER)], timezone.now())
    assert (scene.statuses(accepted), scene.waiting(accepted)) == (["bounced"], [])


# --- Again ---------------------------------------------------------------------------------------------------------


def test_reading_again_changes_nothing_twice_and_stands_in_the_audit_log(scene: Scene) -> None:
    accepted, job = delivered(scene, ANN)
    outcome = read(bounce(ANN), token(job))
    assert outcome is not None
    Suppression.objects.all().delete()
    assert read_again(stored(outcome), actor=None)
    assert not read_again(stored(outcome), actor=None), "it waits"
    assert UnreadMail.objects.get().mail_id == outcome.mail_id
    assert AuditEntry.objects.filter(action="inbound_mail.read_again").count() == 1
    read(bounce(ANN), token(job))
    assert suppressed() == [], "staff lifted it, and nothing new was said"
    assert scene.kinds(accepted) == ["accepted", "bounced"]


TEXTS = st.text(max_size=40) | st.sampled_from([ANN, "", "\0", "<>", "a@" + "b" * 300])


@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(ReportKind),
    told=st.lists(
        st.builds(
            ReportedRecipient,
            TEXTS,
            status=TEXTS,
            code=TEXTS,
            bounce_class=st.sampled_from(BounceClass),
            reason=TEXTS,
            action=st.sampled_from(Action),
            rule=TEXTS,
        ),
        max_size=4,
    ),
    original=st.builds(Original, TEXTS, TEXTS, TEXTS, tokens=st.lists(TEXTS, max_size=3).map(tuple)),
)
def test_whatever_a_report_says_it_is_applied_and_never_without_proof(
    scene: Scene, kind: ReportKind, told: list[ReportedRecipient], original: Original
) -> None:
    before = Suppression.objects.count()
    outcome = read(Report(kind, tuple(told), original), "fbl@relay.test")
    assert outcome is not None
    assert Suppression.objects.count() == before
