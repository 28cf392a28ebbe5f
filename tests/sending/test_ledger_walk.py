"""No silent mail, whatever happens in whatever order: a seeded walk over the real tables."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from ips.models import SourceIp
from queues.models import Queue
from queues.pause import pause, resume
from sending.backlog import orders
from sending.backlog.expire import Sweep
from sending.backlog.ledger import read_ledger
from sending.backlog.orders import By, Order
from sending.backlog.stretch import Wanted
from sending.backlog.upkeep import drop_free_held_sites, unstick
from sending.deliver.giveback import give_back, promote, sweep
from sending.deliver.load import Job, KeyCache, load
from sending.deliver.outcome import GiveBack
from sending.deliver.settle import settle
from sending.models import OperationKind, Recipient, RecipientStatus, Send, Waiting
from sending.retry import RetryRefused, retry
from tests.sending.scene import LATER, MISSING, OK, Scene, answered

STEPS = 130
FINAL = {"accepted", "bounced", "suppressed", "failed", "cancelled"}
BY = By(label="walk")


@dataclass
class Walk:
    """A world in which time only moves by our own hand."""

    scene: Scene
    chance: random.Random
    now: datetime = field(default_factory=timezone.now)
    in_flight: list[Job] = field(default_factory=list)  # as the senders believe; some have lost their lease
    late: int = 0
    delivered: set[int] = field(default_factory=set)  # recipients whose next hop said 250, and we settled that

    def accept(self) -> None:
        domains = ("one", "two", "three")
        names = [
            f"u{self.chance.randrange(40)}@{self.chance.choice(domains)}.example"
            for _ in range(self.chance.randint(1, 4))
        ]
        delay = timedelta(minutes=self.chance.choice((0, 0, 0, 30)))
        self.scene.send(*names, send_after=self.now + delay)

    def claim(self) -> None:
        self.scene.ring.start_over()
        rows = self.scene.claim(self.chance.randint(1, 12), self.now)
        self.in_flight += load(rows, KeyCache(), 0.0)

    def some(self) -> list[Job]:
        self.chance.shuffle(self.in_flight)
        count = min(len(self.in_flight), self.chance.randint(1, 5))
        taken, self.in_flight = self.in_flight[:count], self.in_flight[count:]
        return taken

    def settle(self) -> None:
        outcomes = []
        for job in self.some():
            replies = [self.chance.choice((OK, OK, LATER, MISSING, None)) for _ in job.targets]
            self.delivered |= {
                target.row.recipient_id for target, reply in zip(job.targets, replies, strict=True) if reply is OK
            }
            outcomes.append(answered(job, *replies))
        held = dict(Waiting.objects.values_list("recipient_id", "attempt_id"))
        self.late += sum(held.get(o.job.targets[0].row.recipient_id) != o.job.attempt_id for o in outcomes)
        if outcomes:
            settle(outcomes, self.now)
            if self.chance.random() < 0.2:
                settle(outcomes, self.now)  # the commit's answer was lost

    def give_back(self) -> None:
        site = self.chance.choice((None, None, "one", "two"))
        give_back([GiveBack(job, self.chance.choice((0, 5, 60)), site, "busy") for job in self.some()], self.now)

    def look(self) -> None:
        sweep(self.now)
        promote(self.now)

    def pass_time(self) -> None:
        self.now += timedelta(seconds=self.chance.choice((1, 20, 400, 4000)))

    def keep_up(self) -> None:
        unstick(self.now)
        drop_free_held_sites(self.now)

    def disturb(self) -> None:
        action = self.chance.choice(("pause", "resume", "resume", "disable", "enable", "retry", "retry"))
        if action == "pause":
            pause(self.scene.queue, reason="", actor=None, now=self.now)
        elif action == "resume":
            resume(self.scene.queue, actor=None, now=self.now)
        elif action == "retry":
            self.retry()
        else:
            SourceIp.objects.filter(pk=self.scene.ip.id).update(is_enabled=action == "enable")

    def order(self) -> None:
        """Staff at work: everything is due, one domain goes by the other queue and back, or is not wanted any more."""
        kind = self.chance.choice(list(OperationKind))
        there, here = Queue.objects.get(name="distributional"), self.scene.queue
        wanted = Wanted(here.pk, domain=self.chance.choice(("", "one.example", "two.example", "three.example")))
        if kind is OperationKind.PURGE:
            wanted = Wanted(here.pk, domain="three.example")
        orders.give(Order(kind, wanted, "walk", there if kind is OperationKind.REROUTE else None), BY, self.now)
        orders.give(Order(OperationKind.REROUTE, Wanted(there.pk), "walk", here), BY, self.now)
        orders.carry_on(60)

    def expire(self) -> None:
        Sweep().run(self.now, 60)

    def retry(self) -> None:
        send = self.chance.choice(list(Send.objects.all()) or [None])
        if send is not None:
            try:
                retry(send, self.now)
            except RetryRefused:
                pass

    def step(self) -> None:
        steps: dict[Callable[[], None], int] = {
            self.accept: 4, self.claim: 6, self.settle: 4, self.give_back: 1, self.look: 4, self.pass_time: 3,
            self.keep_up: 1, self.disturb: 1, self.order: 1, self.expire: 1,
        }  # fmt: skip
        self.chance.choices(list(steps), list(steps.values()))[0]()


def check(walk: Walk) -> None:
    """Every recipient is waiting, in flight with a lease, or final; what arrived stays arrived."""
    ledger = read_ledger()
    assert ledger.is_good, ledger
    assert not Recipient.objects.filter(pk__in=walk.delivered).exclude(status=RecipientStatus.ACCEPTED).exists()
    assert not Waiting.objects.filter(tries__lt=0).exists()


@pytest.mark.parametrize("seed", [300, 328])  # with many results that come late, and with every end
def test_the_ledger_is_good_at_every_step_of_a_random_walk(scene: Scene, seed: int) -> None:
    walk = Walk(scene, random.Random(seed))
    for _ in range(STEPS):
        walk.step()
        check(walk)
    finish(walk)
    assert set(Recipient.objects.values_list("status", flat=True)) <= FINAL
    assert not Waiting.objects.exists()
    assert walk.late, "some conversations outlived their lease"


def finish(walk: Walk) -> None:
    """Left alone, everything ends: nothing loops for ever and nothing is forgotten."""
    resume(Queue.objects.get(pk=walk.scene.queue.pk), actor=None, now=walk.now)
    SourceIp.objects.filter(pk=walk.scene.ip.id).update(is_enabled=True, served_at=later_than(walk.now))
    walk.in_flight.clear()
    for _ in range(3 * settings.RETRY_SCHEDULE.max_tries):
        if not Waiting.objects.exists():
            return
        walk.now += timedelta(hours=17)
        walk.look()
        for _ in range(40):
            walk.claim()
            if not walk.in_flight:
                break
            settle([answered(job, LATER) for job in walk.in_flight], walk.now)
            walk.in_flight.clear()
        check(walk)


def later_than(now: datetime) -> datetime:
    return now + timedelta(days=365)
