"""Mail of a test key: the simulator's table answers it inside the sender, and it leaves nothing behind but itself."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone

from ips.models import Incident, SendCount
from projects.models import Domain, Event
from sending.accept.request import Refused
from sending.deliver.held import Hold, divert
from sending.deliver.load import Job
from sending.deliver.outcome import AttemptOutcome
from sending.deliver.settle import settle
from sending.deliver.shaper import Shaper
from sending.deliver.talk import Talk
from sending.models import TEST_LANE, Attempt, Recipient, Send, SendTag, SoftBounce, Suppression, Waiting
from sending.retry import retry
from tests.sending.scene import LATER, Scene, answered, check_ledger, later


def talk(scene: Scene, job: Job) -> AttemptOutcome:
    """The attempt with nothing around it that could reach a network: asking for a router or a pool would fail."""
    around: Any = SimpleNamespace(return_path_keys=[b"k" * 32], conversation_seconds=300, stopped_projects=set())
    outcome = asyncio.run(Talk(job, scene.ip, around).run())
    assert isinstance(outcome, AttemptOutcome)
    return outcome


def run_all(scene: Scene, now: Any = None) -> None:
    settle([talk(scene, job) for job in scene.jobs(now=now)], now or timezone.now())


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("bob@gmail.example", "accepted", 250),
        ("missing@gmail.example", "bounced", 550),
        ("spam+atdata@gmail.example", "bounced", 550),
        ("busy@gmail.example", "deferred", 450),
        ("throttle@gmail.example", "deferred", 421),
        ("blocklisted@gmail.example", "bounced", 554),
        ("drop@gmail.example", "deferred", 0),
        ("missing+async@gmail.example", "accepted", 250),
        ("complaint@gmail.example", "accepted", 250),
    ],
)
def test_local_part_decides_what_becomes_of_it(scene: Scene, address: str, status: str, code: int) -> None:
    accepted = scene.send(address, is_test=True)
    run_all(scene)
    assert scene.statuses(accepted) == [status]
    queued, simulated, event = Event.objects.filter(subject_id=accepted.send_id).order_by("id")
    assert (queued.kind, simulated.kind) == ("send.queued", "send.recipient.simulated")
    assert (event.kind, event.payload["smtp_code"]) == (f"send.recipient.{status}", code)
    assert all(each.payload["is_test"] is True for each in (queued, simulated, event))
    attempt = Attempt.objects.get(send_id=accepted.send_id)
    assert (attempt.site, attempt.responded_mx_host) == ("", "simulator.relay.test")
    assert attempt.smtp_conversations["simulator.relay.test"]["steps"][0]["name"] == "dial"
    check_ledger()


def test_recipients_of_one_domain_share_an_attempt_and_have_their_own_replies(scene: Scene) -> None:
    accepted = scene.send("bob@one.example", "missing@one.example", "busy@one.example", is_test=True)
    run_all(scene)
    assert scene.statuses(accepted) == ["accepted", "bounced", "deferred"]
    assert Attempt.objects.get(send_id=accepted.send_id).status == "partial"


def test_greylisting_is_over_at_the_second_try_and_the_row_stays_in_the_lane_of_tests(scene: Scene) -> None:
    accepted = scene.send("greylist@one.example", is_test=True)
    run_all(scene)
    assert scene.statuses(accepted) == ["deferred"]
    assert Waiting.objects.get(send_id=accepted.send_id).lane == TEST_LANE
    Waiting.objects.update(phase=0, due_at=timezone.now())
    run_all(scene, later(seconds=1))
    assert scene.statuses(accepted) == ["accepted"]


def test_nothing_is_learned_from_it(scene: Scene) -> None:
    """No suppression, no count of soft bounces, no incident, nothing for warm-up: the addresses are real, the replies not."""
    scene.send("missing@one.example", "blocklisted@two.example", "disabled@three.example", is_test=True)
    run_all(scene)
    for model in (Suppression, SoftBounce, Incident, SendCount):
        assert not model.objects.exists(), model.__name__


def test_it_does_not_wait_for_a_held_site(scene: Scene) -> None:
    """Its domain's site may be held: that concerns real mail alone."""
    scene.send("bob@one.example", is_test=True)
    scene.send("bob@one.example")
    shaper = Shaper(set())
    shaper.domains["one.example"] = "one.example"
    shaper.hanging = {(scene.queue.pk, None, "one.example")}
    going, held = divert(scene.claim(), shaper, 0.0)
    assert [row.is_test for row in going] == [True]
    assert [(row.is_test, isinstance(hold, Hold)) for row, hold in held] == [(False, True)]


def test_domain_may_be_pending_but_must_be_registered_and_not_stopped(scene: Scene) -> None:
    Domain.objects.filter(pk=scene.domain.pk).update(status="pending")
    with pytest.raises(Refused, match="not allowed"):
        scene.send("bob@one.example")
    accepted = scene.send("bob@one.example", is_test=True)
    run_all(scene)
    assert scene.statuses(accepted) == ["accepted"]
    Domain.objects.filter(pk=scene.domain.pk).update(status="suspended")
    with pytest.raises(Refused, match="suspended"):
        scene.send("bob@one.example", is_test=True)


def test_retry_of_a_test_is_a_test(scene: Scene) -> None:
    accepted = scene.send("bob@one.example", is_test=True)
    Waiting.objects.all().delete()
    Recipient.objects.update(status="failed")
    retry(Send.objects.get(pk=accepted.send_id), timezone.now())
    assert Waiting.objects.get().lane == TEST_LANE


def test_mark_of_the_send_counts_even_in_another_lane(scene: Scene) -> None:
    """Whatever moved the row: what decides about the network is written with the send."""
    accepted = scene.send("bob@one.example", is_test=True)
    Waiting.objects.update(lane=scene.queue.pk)
    assert scene.job().is_test
    assert Send.objects.get(pk=accepted.send_id).is_test


def test_tags_and_metadata_come_back_in_each_event(scene: Scene) -> None:
    accepted = scene.send("bob@one.example", tags=("welcome", "b"), metadata={"order": "17"})
    job = scene.job()
    settle([answered(job, LATER)], timezone.now())
    events = Event.objects.filter(subject_id=accepted.send_id).order_by("id")
    assert [event.kind for event in events] == ["send.queued", "send.recipient.deferred"]
    for event in events:
        assert (event.payload["tags"], event.payload["metadata"]) == (["welcome", "b"], {"order": "17"})
        assert "is_test" not in event.payload
    assert sorted(SendTag.objects.filter(send_id=accepted.send_id).values_list("tag", flat=True)) == ["b", "welcome"]


def test_events_of_mail_without_labels_have_none(scene: Scene) -> None:
    accepted = scene.send("bob@one.example")
    settle([answered(scene.job(), LATER)], timezone.now())
    for event in Event.objects.filter(subject_id=accepted.send_id):
        assert not {"tags", "metadata", "is_test"} & event.payload.keys()
    assert not SendTag.objects.exists()
