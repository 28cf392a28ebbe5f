"""Why does it wait? Each reason from real rows, as whoever asks gets it."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from ips.models import HeldSite, SendCount, Sender, SiteLimit, SourceIp
from projects.models import Domain
from queues.models import Queue
from queues.pause import pause
from relay_project.db.ids import uuid_of
from sending.backlog import why as module
from sending.backlog.cancel import cancel_send
from sending.backlog.why import why
from sending.deliver.settle import settle
from sending.explain import Kind, Reason
from sending.journey import recipients_of
from sending.models import Phase, Priority, Send, Waiting
from tests.sending.scene import LATER, MISSING, OK, Scene, answered, insert_waiting, later


def reasons(accepted: Any, now: Any = None) -> list[Reason]:
    """Of each recipient of a send, in the order of its headers."""
    send = Send.objects.get(pk=accepted.send_id)
    people = recipients_of(send.pk)
    found = why(send, people, now or timezone.now())
    return [found[person.pk] for person in people]


def reason(accepted: Any, now: Any = None) -> Reason:
    [found] = reasons(accepted, now)
    return found


def hang(scene: Scene, accepted: Any, **fields: Any) -> HeldSite:
    held = HeldSite.objects.create(
        queue=scene.queue,
        site="slow.example",
        reason="slow.example: 20 a minute",
        next_slot=later(seconds=40),
        **fields,
    )
    Waiting.objects.filter(send_id=accepted.send_id).update(phase=Phase.HELD, held_site_id=held.pk)
    return held


def test_new_mail_waits_for_room(scene: Scene) -> None:
    found = reason(scene.send("ann@one.example"))
    assert (found.kind, found.text) == (Kind.TURN, "Waits for a sender; it leaves as soon as one has room.")


def test_mail_of_the_same_project_is_before_it_and_urgent_mail_of_any(scene: Scene) -> None:
    for i in range(3):
        scene.send(f"a{i}@one.example", priority=Priority.BULK)
    last = scene.send("ann@one.example", "bob@two.example", priority=Priority.BULK)
    assert all("3 mails of the project are before it." in found.text for found in reasons(last))
    scene.send("urgent@one.example", project=scene.other_project())
    assert reasons(last)[0].text.endswith("More urgent mail of the queue leaves first.")


def test_counting_what_is_before_it_has_an_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_AHEAD", 50)
    insert_waiting(scene, 200)
    assert "More than 50 mails" in reason(scene.send("ann@one.example")).text


def test_scheduled_mail_names_its_time(scene: Scene) -> None:
    at = later(days=2)
    found = reason(scene.send("ann@one.example", send_after=at))
    assert (found.kind, found.next_at) == (Kind.SCHEDULED, at)


def test_a_retry_quotes_the_reply_and_names_its_time(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    settle([answered(scene.job(), LATER, responded_host="mx.one.example")], timezone.now())
    found = reason(accepted)
    assert found.kind is Kind.RETRY
    assert found.text.startswith("mx.one.example said “451 4.3.0 try again later”. Try 2 of 7 follows at ")
    assert found.next_at == scene.waiting(accepted)[0].due_at


def test_what_is_in_flight_says_since_when_from_where_and_until_when(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    job = scene.job()
    found = reason(accepted)
    assert found.kind is Kind.IN_FLIGHT
    assert " UTC from 192.0.2.1." in found.text
    assert found.next_at == scene.waiting(accepted)[0].lease_until
    assert found.detail == f"Attempt {job.attempt_id}, by sender {scene.sender.pk} on here.test."


def test_a_site_limit_names_the_slot_and_who_is_before_it(scene: Scene) -> None:
    first, second = scene.send("ann@one.example"), scene.send("bob@one.example")
    held = hang(scene, first)
    Waiting.objects.filter(send_id=second.send_id).update(phase=Phase.HELD, held_site_id=held.pk)
    assert "before it" not in reason(first).text
    found = reason(second)
    assert (found.kind, found.next_at) == (Kind.SITE_LIMIT, held.next_slot)
    assert "slow.example: 20 a minute" in found.text
    assert found.text.endswith("1 mail of the project is before it.")


@pytest.mark.parametrize("of_one_ip", [False, True])
def test_a_site_that_staff_paused_says_so_but_not_why(scene: Scene, of_one_ip: bool) -> None:
    accepted = scene.send("ann@one.example")
    ip = SourceIp.objects.get(pk=scene.ip.id) if of_one_ip else None
    hang(scene, accepted, source_ip=ip)
    SiteLimit.objects.create(site="slow.example", source_ip=ip, paused_at=timezone.now(), pause_reason="they asked")
    found = reason(accepted)
    assert found.kind is Kind.SITE_PAUSED
    assert "they asked" not in found.text
    assert found.detail == "Paused: they asked."


def test_a_paused_queue_says_so_but_not_why(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    pause(scene.queue, reason="blocklisted", actor=None, now=timezone.now())
    found = reason(accepted)
    assert (found.kind, found.next_at) == (Kind.QUEUE_PAUSED, None)
    assert "blocklisted" not in found.text
    assert found.detail.endswith(": blocklisted.")


def test_a_domain_that_may_not_send_is_named(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    Domain.objects.filter(pk=scene.domain.pk).update(status="suspended")
    found = reason(accepted)
    assert found.kind is Kind.DOMAIN_STOPPED
    assert found.text.startswith("The domain shop.example is not allowed to send (suspended)")


@pytest.mark.parametrize(
    ("change", "kind", "detail"),
    [
        ({"is_enabled": False}, Kind.NO_SOURCE_IP, "192.0.2.1 is disabled or gone."),
        ({"gone_at": timezone.now()}, Kind.NO_SOURCE_IP, "192.0.2.1 is disabled or gone."),
        ({"queue": None}, Kind.NO_SOURCE_IP, "The queue transactional has no source IP."),
        ({"served_by": None}, Kind.NO_SENDER, "192.0.2.1 is served by no sender."),
    ],
    ids=["disabled", "gone", "none", "unserved"],
)
def test_no_source_ip_can_carry_it(scene: Scene, change: dict[str, Any], kind: Kind, detail: str) -> None:
    accepted = scene.send("ann@one.example")
    SourceIp.objects.filter(pk=scene.ip.id).update(**change)
    found = reason(accepted)
    assert (found.kind, found.next_at, found.detail) == (kind, None, detail)


def test_a_sender_that_is_silent_serves_nobody(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    Sender.objects.update(heartbeat_at=later(seconds=-30))
    assert reason(accepted).kind is Kind.NO_SENDER


def test_a_queue_that_borrows_an_ip_is_carried(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    SourceIp.objects.update(queue=Queue.objects.get(name="distributional"))
    assert reason(accepted).kind is Kind.TURN


def test_a_retry_whose_ip_is_gone_will_go_by_another(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    settle([answered(scene.job(), LATER)], timezone.now())
    Waiting.objects.update(phase=Phase.DUE, due_at=timezone.now())
    SourceIp.objects.update(is_enabled=False)
    found = reason(accepted)
    assert found.kind is Kind.NO_SOURCE_IP
    assert found.text.endswith("its mail goes by another in a few minutes.")


def test_a_warm_up_ceiling_holds_new_mail_and_no_retries(scene: Scene, settings: Any) -> None:
    settings.WARMUP_PLAN = (50, 100)
    now = timezone.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    SourceIp.objects.update(warmup_started_on=now.date())
    SendCount.objects.create(source_ip_id=scene.ip.id, window="day", window_start=midnight, count=50)
    accepted = scene.send("ann@one.example")
    found = reason(accepted, now)
    assert (found.kind, found.next_at) == (Kind.WARM_UP, midnight + timedelta(days=1))
    Waiting.objects.update(lane=-scene.ip.id, source_ip_id=scene.ip.id)
    assert reason(accepted, now).kind is Kind.TURN


def test_what_ended_says_how(scene: Scene) -> None:
    accepted = scene.send("ann@one.example", "bob@one.example")
    settle([answered(scene.job(), OK, MISSING, responded_host="mx.one.example")], timezone.now())
    took, refused = reasons(accepted)
    assert took.kind is refused.kind is Kind.FINAL
    assert took.text == "mx.one.example took it on: “250 2.0.0 taken”."
    assert refused.text.startswith("Refused for good: mx.one.example said “550 5.1.1 no such user”.")


def test_what_was_cancelled_says_why(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    cancel_send(Send.objects.get(pk=accepted.send_id), "wrong link")
    assert reason(accepted).text == "Cancelled before it left: wrong link."


def test_recipients_of_one_send_have_reasons_of_their_own(scene: Scene) -> None:
    accepted = scene.send("ann@one.example", "bob@two.example")
    settle([answered(scene.jobs()[0], LATER)], timezone.now())
    assert {found.kind for found in reasons(accepted)} == {Kind.RETRY, Kind.IN_FLIGHT}


# --- The command -----------------------------------------------------------------------------------------------------


def asked(*arguments: str) -> str:
    out = StringIO()
    call_command("why", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_takes_a_send_a_recipient_or_an_address(scene: Scene) -> None:
    accepted = scene.send("ann@one.example", "bob@two.example")
    pause(scene.queue, reason="blocklisted", actor=None, now=timezone.now())
    send = Send.objects.get(pk=accepted.send_id)
    told = asked(str(send.uuid))
    assert told.startswith(f"send {send.uuid}  accepted ")
    assert told.count("The queue transactional is paused by the operator.") == 2
    assert "blocklisted" in told
    assert asked(str(send.pk)) == told
    with pytest.raises(CommandError, match="No send and no recipient"):  # the same id in it is not enough
        asked(str(uuid_of(send.pk)))
    [ann, bob] = recipients_of(send.pk)
    assert asked(str(ann.pk)) == asked("Ann@ONE.example".replace("Ann", "ann"))
    assert "bob@two.example" not in asked(str(ann.pk))
    assert "bob@two.example" in asked(str(bob.pk))


def test_an_address_that_waits_nowhere_shows_how_its_last_mail_ended(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    cancel_send(Send.objects.get(pk=accepted.send_id), "wrong link")
    assert "Cancelled before it left: wrong link." in asked("ann@one.example")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nobody@one.example"], "No send and no recipient is known as 'nobody@one.example'."),
        (["123"], "No send and no recipient is known as '123'."),
        (["what"], "'what' is neither a uuid, an id nor an address."),
        (["@"], "'@' is "),
        (["123", "--days", "0"], "--days must be from 1 to 3650."),
    ],
)
def test_the_command_says_what_it_does_not_find(db: None, arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("why", *arguments)
    assert str(refused.value).startswith(sentence)
