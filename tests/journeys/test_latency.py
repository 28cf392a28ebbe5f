"""How soon a mail leaves: through accept(), PostgreSQL, a real sender process and SMTP on loopback.

The times are those of a busy machine; the benchmarks measure (docs/performance.md). What these tests tell apart is a
wake-up that works from the look once a second that stands in for it.
"""

import time
from dataclasses import replace
from statistics import median

import pytest
from django.utils import timezone

from ips.models import SourceIp
from projects.models import Project
from relay_project import jobs
from relay_project.mail.mime import NamedAddress
from sending.accept.accept import accept, accept_many
from sending.models import Waiting
from tests.journeys.conftest import World, add_domain, eventually

pytestmark = pytest.mark.journey


@pytest.fixture
def serving(world: World) -> World:
    """A sender that is up, has done its first mail, and is heard by wake-ups."""
    jobs.forget_wakes()
    world.start_sender(SOURCE_IPS="127.0.0.2")
    eventually(lambda: SourceIp.objects.exclude(served_by=None).exists())
    world.send("first@one.example")
    eventually(lambda: world.internet.received)
    return world


def latency(world: World, address: str) -> float:
    """Seconds from the call of accept() to the final dot."""
    before, began = len(world.internet.received_at), time.monotonic()
    world.send(address)
    eventually(lambda: len(world.internet.received_at) > before)
    return world.internet.received_at[before] - began


def arrivals(world: World) -> dict[str, float]:
    """recipient → time.monotonic() of the final dot; the lists grow meanwhile."""
    times = list(world.internet.received_at)
    return {mail.recipients[0]: at for mail, at in zip(world.internet.received, times, strict=False)}


def come_to_rest() -> None:
    """Let the sender's attention wear off: what is accepted next needs a wake-up."""
    time.sleep(1.2)


def test_a_mail_wakes_a_sender_that_is_at_rest(serving: World) -> None:
    """Lesson P4: an idle queue adds no poll's time. By the look alone the median would be half a second."""
    seconds = []
    for number in range(5):
        come_to_rest() if number == 0 else time.sleep(0.25 + number / 10)
        seconds.append(latency(serving, f"ann{number}@one.example"))
    assert median(seconds) < 0.25


def test_mails_whose_wake_up_was_left_out_leave_as_soon_as_the_others(
    serving: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[float] = []
    wake = jobs.wake
    monkeypatch.setattr(jobs, "wake", lambda task, queue: (woken.append(time.monotonic()), wake(task, queue)))
    began = []
    for number in range(30):
        began.append(time.monotonic())
        serving.send(f"bob{number}@one.example")
        time.sleep(0.01)
    lasted = time.monotonic() - began[0]
    eventually(lambda: len(serving.internet.received) == 31)
    assert len(woken) <= lasted / jobs.WAKE_EVERY_SECONDS + 1
    arrived = arrivals(serving)
    seconds = [arrived[f"bob{number}@one.example"] - at for number, at in enumerate(began)]
    assert median(seconds) < 0.25
    assert max(seconds) < 0.9, "none waited for the look once a second"


def test_a_mail_whose_wake_up_was_lost_is_found_within_a_second(
    serving: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 2: the job is a hint. Neither it nor its notification ever comes, and the mail leaves all the same."""
    monkeypatch.setattr(jobs, "wake", lambda task, queue: None)
    come_to_rest()
    assert latency(serving, "carol@one.example") < 1.0 + 1.0, "a look a second, and what a busy machine needs"


def test_a_new_mail_leaves_beside_another_projects_backlog(serving: World) -> None:
    """Lesson P11: one project's campaign does not delay everyone's mail."""
    campaign = Project.objects.create(name="Campaign", send_type=serving.project.send_type)
    add_domain(campaign, "campaign.example")
    requests = [serving.request(f"reader{number}@many.example") for number in range(2000)]
    sender = NamedAddress("news@campaign.example")
    for begin in range(0, len(requests), 500):
        accept_many(
            campaign, [replace(request, from_=sender) for request in requests[begin : begin + 500]], timezone.now()
        )
    began = time.monotonic()
    accepted = accept(serving.project, serving.request("dora@one.example"), timezone.now())
    eventually(lambda: serving.statuses(accepted) == ["accepted"])
    assert arrivals(serving)["dora@one.example"] - began < 2.0
    assert Waiting.objects.filter(project_id=campaign.pk).count() > 500, "the campaign was still under way"
