"""Events of a mail beside its outcomes: queued, late, simulated, unsubscribed. Each is written with what it reports."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from projects.models import Event
from relay_project.mail.reply import Reply
from relay_project.mail.unsubscribe import Subscription
from sending.accept.accept import accept, accept_many
from sending.backlog.delays import tell_of_delays
from sending.deliver.settle import settle
from sending.models import SuppressionReason
from sending.suppressions.change import Wanted, put
from sending.unsubscribe import unsubscribe
from tests.sending.scene import Scene, answered, later

OK = Reply(250, "2.0.0", "OK")


def told(kind: str) -> list[tuple[int, dict[str, Any]]]:
    """(subject, payload) of the events of a kind, the oldest first."""
    return [(event.subject_id, event.payload) for event in Event.objects.filter(kind=kind).order_by("id")]


# --- Queued --------------------------------------------------------------------------------------------------------


def test_a_mail_is_told_of_once_when_it_is_accepted(scene: Scene) -> None:
    then = later(hours=2).replace(microsecond=0)
    plain = scene.send("ann@one.example", "bob@two.example")
    late = scene.send("ann@one.example", send_after=then, tags=("order",), metadata={"order": "1001"})
    (first, payload), (second, labelled) = told("send.queued")
    assert (first, second) == (plain.send_id, late.send_id)
    assert set(payload) == {"send_after"}
    assert labelled == {"send_after": int(then.timestamp()), "tags": ["order"], "metadata": {"order": "1001"}}


def test_each_of_a_batch_is_told_of_and_what_is_refused_is_not(scene: Scene) -> None:
    requests = [scene.request(f"ann{n}@one.example") for n in range(3)]
    accept_many(scene.project, [*requests, scene.request("no address")], timezone.now())
    assert len(told("send.queued")) == 3


def test_a_mail_that_nobody_is_left_to_get_is_not_queued(scene: Scene) -> None:
    with transaction.atomic():
        put(scene.project.pk, Wanted("ann@one.example", SuppressionReason.MANUAL))
    scene.send("ann@one.example")
    assert told("send.queued") == []
    scene.send("ann@one.example", "bob@one.example")
    assert len(told("send.queued")) == 1


def test_a_repeated_key_is_told_of_once(scene: Scene) -> None:
    request = scene.request("ann@one.example", idempotency_key="k")
    accept(scene.project, request, timezone.now())
    accept(scene.project, request, timezone.now())
    assert len(told("send.queued")) == 1


# --- Late ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def _after_four_hours(settings: Any) -> None:
    settings.DELAY_WARNING = timedelta(hours=4)


def look(hours: float) -> int:
    """The look that would be taken so many hours from now."""
    return tell_of_delays(later(hours=hours), 60)


@pytest.mark.usefixtures("_after_four_hours")
def test_mail_that_waits_for_hours_is_told_of_once(scene: Scene) -> None:
    assert look(0) == 0, "the reader begins here"
    accepted = scene.send("ann@one.example", "bob@two.example")
    assert [look(3.9), look(4.1), look(4.2), look(9)] == [0, 2, 0, 0]
    (subject, payload), _ = told("send.recipient.delayed")
    assert (subject, payload["address"], payload["status"]) == (accepted.send_id, "ann@one.example", "queued")
    text = "It has waited for more than 4 hours."
    assert payload["delay"] == {"source": "waiting", "text": text, "status": None}
    assert scene.statuses(accepted) == ["queued", "queued"]


@pytest.mark.usefixtures("_after_four_hours")
def test_mail_for_later_is_late_only_after_its_time(scene: Scene) -> None:
    look(0)
    scene.send("ann@one.example", "bob@one.example", send_after=later(hours=10))
    assert [look(13.9), look(14.1), look(20)] == [0, 2, 0]


@pytest.mark.usefixtures("_after_four_hours")
def test_mail_that_left_is_not_late(scene: Scene) -> None:
    look(0)
    scene.send("ann@one.example")
    settle([answered(scene.job(), OK)], timezone.now())
    assert look(5) == 0


def test_nobody_is_told_of_late_mail_where_the_setting_is_0(scene: Scene, settings: Any) -> None:
    settings.DELAY_WARNING = timedelta(0)
    look(0)
    scene.send("ann@one.example")
    assert look(500) == 0


# --- Simulated -----------------------------------------------------------------------------------------------------


def test_what_the_simulator_answered_is_told_of_beside_the_outcome(scene: Scene, settings: Any) -> None:
    accepted = scene.send(f"accept@{settings.SIMULATOR_DOMAIN}")
    real = scene.send("ann@one.example")
    settle([answered(job, OK) for job in scene.jobs()], timezone.now())
    assert scene.kinds(accepted) == ["simulated", "accepted"]
    assert scene.kinds(real) == ["accepted"]


# --- Unsubscribed --------------------------------------------------------------------------------------------------


def test_a_click_on_the_unsubscribe_link_is_told_of_once(scene: Scene) -> None:
    accepted = scene.send("ann@one.example", tags=("news",))
    subscription = Subscription(
        scene.project.pk, accepted.send_id, accepted.send_id + 1, "ann@one.example", "shop.example", "news"
    )
    assert [unsubscribe(subscription), unsubscribe(subscription)] == [True, False]
    ((subject, payload),) = told("send.recipient.unsubscribed")
    assert (subject, payload["address"], payload["list"], payload["tags"]) == (
        accepted.send_id,
        "ann@one.example",
        "news",
        ["news"],
    )
