"""Priorities: a queue's transactional mail is never behind bulk, whoever it is of and however much bulk there is."""

import pytest
from django.utils import timezone

from ips.senders import ServedIp
from projects.models import Project
from queues.models import Queue
from relay_project.mail.mime import NamedAddress
from sending.accept.request import Refused
from sending.backlog import orders
from sending.backlog.orders import By, Order
from sending.backlog.stretch import Wanted
from sending.deliver.settle import settle
from sending.models import OperationKind, Priority, Recipient, Send, Waiting
from sending.retry import retry
from tests.sending.scene import LATER, Scene, add_domain, answered, later


@pytest.fixture
def campaign(scene: Scene) -> Project:
    """A project that sends bulk."""
    project = Project.objects.create(name="News", send_type="distributional")
    add_domain(project, scene.domain.domain)
    return project


def priorities(send_id: int) -> tuple[int, list[int]]:
    rows = Waiting.objects.filter(send_id=send_id).values_list("priority", flat=True)
    return Send.objects.get(pk=send_id).priority, list(rows)


def test_what_a_project_sends_decides_unless_the_mail_says_bulk(scene: Scene, campaign: Project) -> None:
    assert priorities(scene.send("ann@one.example").send_id) == (0, [0])
    assert priorities(scene.send("ann@one.example", priority=Priority.BULK).send_id) == (10, [10])
    assert priorities(scene.send("ann@one.example", project=campaign).send_id) == (10, [10])
    system = Project.objects.get(is_system=True)
    from_ = NamedAddress("relay@relay.test")
    assert priorities(scene.send("ann@one.example", project=system, from_=from_).send_id) == (-10, [-10])


def test_nobody_gets_before_others_of_their_kind_by_asking(scene: Scene, campaign: Project) -> None:
    with pytest.raises(Refused, match="is bulk") as refused:
        scene.send("ann@one.example", project=campaign, priority=Priority.TRANSACTIONAL)
    assert (refused.value.status, refused.value.field) == (422, "priority")


def test_transactional_mail_is_never_behind_bulk(scene: Scene) -> None:
    """The bulk is older, of the same project and of others; the very next claim takes the new mail."""
    bulk = [scene.send(f"b{i}@bulk.example", priority=Priority.BULK).send_id for i in range(6)]
    others = scene.other_project()
    bulk += [scene.send(f"c{i}@bulk.example", project=others, priority=Priority.BULK).send_id for i in range(6)]
    assert {row.send_id for row in scene.claim(4)} < set(bulk)
    urgent = [scene.send("ann@one.example").send_id, scene.send("bob@one.example", project=others).send_id]
    assert {row.send_id for row in scene.claim(4)} == set(urgent)
    assert {row.send_id for row in scene.claim(100)} < set(bulk)


def test_retries_keep_their_place_among_fresh_mail(scene: Scene) -> None:
    """A sticky retry of bulk stays behind fresh transactional mail, in whatever lane."""
    bulk = scene.send("ann@one.example", priority=Priority.BULK)
    settle([answered(scene.job(), LATER)], timezone.now())
    Waiting.objects.filter(send_id=bulk.send_id).update(phase=0, due_at=later(seconds=-5))
    urgent = scene.send("bob@one.example")
    assert [row.send_id for row in scene.claim(10)] == [urgent.send_id]
    assert [row.send_id for row in scene.claim(10)] == [bulk.send_id]


def test_where_an_ip_carries_two_queues_the_urgent_one_leaves_first(scene: Scene, campaign: Project) -> None:
    other = Queue.objects.get(name="distributional")
    ip = ServedIp(scene.ip.id, scene.ip.address, scene.ip.address, (other.pk, scene.queue.pk))
    bulk = scene.send("ann@one.example", project=campaign)
    urgent = scene.send("bob@one.example")
    scene.ring.forget()
    assert [row.send_id for row in scene.ring.claim(ip, 10, 300, later())] == [urgent.send_id]
    scene.ring.forget()
    assert [row.send_id for row in scene.ring.claim(ip, 10, 300, later())] == [bulk.send_id]


def test_the_priority_outlives_a_reroute_and_a_retry(scene: Scene) -> None:
    accepted = scene.send("ann@one.example", priority=Priority.BULK)
    target = Queue.objects.get(name="distributional")
    given = orders.give(
        Order(OperationKind.REROUTE, Wanted(scene.queue.pk), "test", target), By(label="sam"), timezone.now()
    )
    orders.run(given, 60)
    assert priorities(accepted.send_id) == (10, [10])
    Recipient.objects.filter(send_id=accepted.send_id).update(status="failed")
    Waiting.objects.all().delete()
    retry(Send.objects.get(pk=accepted.send_id), timezone.now())
    assert priorities(accepted.send_id) == (10, [10])
