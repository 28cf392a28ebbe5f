"""A site's pace through a real sender: what it says is learned and remembered, and nobody else waits for it."""

import time
from collections import Counter

import pytest
from django.utils import timezone

from ips import sites, warmup
from ips.models import HeldSite, SiteLimit, SourceIp
from queues.models import Queue
from relay_project.mail.rates import Limits
from relay_project.sandbox.smtp import Command
from sending.models import Attempt, Phase, Waiting
from tests.journeys.conftest import World, eventually

pytestmark = pytest.mark.journey

# A domain without MX is a site of its own, which the sandbox's other domains are not.
SITE = "no-mx.picky.example"


def slow_down(command: Command) -> str | None:
    is_ours = command.verb == "RCPT" and SITE in command.argument
    return "421 4.7.28 Unusual rate of mail, slow down" if is_ours else None


def test_a_throttle_is_learned_quoted_and_remembered_and_delays_nobody_else(world: World) -> None:
    world.internet.script(slow_down)
    world.start_sender()
    first = world.send(f"ann@{SITE}")
    eventually(lambda: SiteLimit.objects.filter(site=SITE, learned_at__isnull=False).exists())
    [row] = SiteLimit.objects.all()
    assert row.learned_reply == "421 4.7.28 Unusual rate of mail, slow down"
    assert row.back_off_until > timezone.now()
    eventually(lambda: world.statuses(first) == ["deferred"])

    held = [world.send(f"bob{number}@{SITE}") for number in range(3)]
    other = world.send("carol@one.example")
    eventually(lambda: world.statuses(other) == ["accepted"])
    eventually(lambda: Waiting.objects.filter(phase=Phase.HELD).count() >= 3)
    reasons = set(HeldSite.objects.values_list("reason", flat=True))
    assert all("asked us to slow down: “421 4.7.28 Unusual rate" in reason for reason in reasons)
    assert not Attempt.objects.filter(send_id__in=[send.send_id for send in held]).exists(), "no try was counted"
    assert world.ledger().is_good

    world.stop_senders()
    world.internet.script(None)
    world.start_sender()
    late = world.send(f"dan@{SITE}")
    eventually(lambda: all(row.phase == Phase.HELD for row in world.waits(late)))
    assert world.statuses(late) == ["queued"], "the new process knows what the old one was told"

    sites.forget_learned(SITE, actor=None, now=timezone.now())
    everything = [first, *held, late]
    eventually(lambda: all(world.statuses(send) == ["accepted"] for send in everything))
    assert len(world.internet.received) == 6
    assert world.ledger().is_good


def test_a_paused_site_keeps_its_mail_with_the_reason_and_resumes(world: World) -> None:
    sites.pause_site(SITE, reason="they asked us", actor=None, now=timezone.now())
    sends = [world.send(f"ann{number}@{SITE}") for number in range(5)]
    world.start_sender()
    other = world.send("carol@one.example")
    eventually(lambda: world.statuses(other) == ["accepted"])
    eventually(lambda: Waiting.objects.filter(phase=Phase.HELD).count() == 5)
    held = HeldSite.objects.get()
    assert held.reason == f"{SITE} is paused by staff: they asked us"
    sites.resume_site(SITE, actor=None, now=timezone.now())
    eventually(lambda: all(world.statuses(send) == ["accepted"] for send in sends))
    assert world.ledger().is_good


def test_a_limit_is_kept_whatever_waits(world: World) -> None:
    sites.set_limits(SITE, Limits(per_second=4), actor=None, now=timezone.now())
    sends = [world.send(f"ann{number}@{SITE}") for number in range(14)]
    world.start_sender()
    eventually(lambda: all(world.statuses(send) == ["accepted"] for send in sends))
    at = world.internet.received_at
    assert len(at) == 14
    for first in at:  # what begins evenly may arrive a little closer together
        assert sum(first <= moment < first + 0.8 for moment in at) <= 4
    assert at[-1] - at[0] > 2.5


def test_what_is_over_a_warm_up_ceiling_goes_by_a_warm_ip_or_waits(world: World) -> None:
    world.start_sender(WARMUP_PLAN="3,10", SOURCE_IPS="127.0.0.2")
    eventually(lambda: SourceIp.objects.filter(served_by__isnull=False).exists())
    [cold] = SourceIp.objects.all()
    warmup.start(cold, actor=None, now=timezone.now())
    time.sleep(2.2)  # senders read the tables once a second
    sends = [world.send(f"ann{number}@one.example") for number in range(8)]
    eventually(lambda: len(world.internet.received) == 3)
    time.sleep(1.0)
    assert Counter(status for send in sends for status in world.statuses(send)) == {"accepted": 3, "queued": 5}
    world.stop_senders()
    world.start_sender(WARMUP_PLAN="3,10", SOURCE_IPS="127.0.0.2,127.0.0.3")
    eventually(lambda: SourceIp.objects.count() == 2)
    SourceIp.objects.filter(address="127.0.0.3").update(queue=Queue.objects.get(name="transactional"))
    eventually(lambda: all(world.statuses(send) == ["accepted"] for send in sends))
    by_ip = Counter(Attempt.objects.values_list("source_ip_id", flat=True))
    assert by_ip[cold.pk] == 3, "the restart did not forget them"
