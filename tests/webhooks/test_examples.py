"""The page of events keeps its word: what receivers are told has the keys of the registry's examples."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from projects.api_keys import create_key, delete_key
from projects.domains import create_domain, delete_domain
from projects.event_examples import EXAMPLES
from projects.event_registry import example_body
from projects.events import EventKind, sequence_outbox
from projects.key_rotation import rotate_key
from projects.limit_events import forget_told, tell_of_limit
from relay_project.db.rates import Window
from relay_project.mail.unsubscribe import Subscription
from sending.backlog.delays import tell_of_delays
from sending.deliver.settle import settle
from sending.suppressions.change import Wanted, put, take_off
from sending.unsubscribe import unsubscribe
from tests.sending.conftest import scene  # noqa: F401
from tests.sending.scene import LATER, MISSING, OK, PEM, Scene, answered, later
from webhooks.feed import read_feed
from webhooks.payload import bodies

UNSEEN = {  # each is compared where it is made, or needs a whole machinery
    EventKind.COMPLAINED, EventKind.CANCELLED, EventKind.DOMAIN_STATUS_CHANGED, EventKind.DOMAIN_DKIM_KEY_CHANGED,
    EventKind.DOMAIN_RETURN_PATH_CHANGED, EventKind.SUPPRESSION_IMPORTED, EventKind.INBOUND_RECEIVED,
    EventKind.INBOUND_FORWARDED,
    EventKind.PROJECT_SUSPENDED, EventKind.PROJECT_RESUMED, EventKind.PROJECT_ARCHIVED, EventKind.PROJECT_RESTORED,
    EventKind.INBOUND_FORWARDED, EventKind.WEBHOOK_DISABLED, EventKind.INCIDENT_OPENED, EventKind.INCIDENT_CLOSED,
    EventKind.FAILED,
}  # fmt: skip


def make_events(scene: Scene, settings: Any) -> None:  # noqa: F811
    """A day in the life of a project."""
    settings.DELAY_WARNING = timedelta(hours=4)
    tell_of_delays(timezone.now(), 9)
    with transaction.atomic():
        put(scene.project.pk, Wanted("gone@one.example"))
        back, _ = put(scene.project.pk, Wanted("back@one.example"))
        take_off(back)
    accepted = scene.send("ann@one.example", "bob@one.example", "carol@one.example", "gone@one.example")
    settle([answered(scene.job(), OK, MISSING, LATER)], timezone.now())
    tell_of_delays(later(hours=5), 9)
    scene.send(f"accept@{settings.SIMULATOR_DOMAIN}")
    settle([answered(job, OK) for job in scene.jobs()], timezone.now())
    recipient = scene.waiting(accepted)[0].recipient_id
    unsubscribe(Subscription(scene.project.pk, accepted.send_id, recipient, "dora@one.example", "shop.example", None))
    key, _ = create_key(scene.project, "CI", ["project.read"])
    rotate_key(key, 0, timezone.now())
    delete_key(key)
    forget_told()
    tell_of_limit(scene.project, "sends_per_hour", 10, Window.HOUR, int(timezone.now().timestamp()), 0)
    delete_domain(create_domain(scene.project, "new.example", private_key_pem=PEM))


def keys_of(value: Any, depth: int = 2) -> Any:
    """The keys of an object and of the objects in it."""
    return {name: keys_of(item, depth - 1) for name, item in value.items()} if isinstance(value, dict) and depth else ""


@pytest.mark.django_db
def test_what_is_told_has_the_keys_of_the_examples(scene: Scene, settings: Any) -> None:  # noqa: F811
    make_events(scene, settings)
    with connection.cursor() as cursor:
        sequence_outbox(cursor)
        told = bodies(cursor, read_feed(cursor, 0).events)
    found = {EventKind(body["event"]): body for body in reversed(told)}
    assert set(EventKind) - set(found) == UNSEEN
    for kind, body in found.items():
        assert body.keys() == example_body(kind, 1, 1).keys()
        assert keys_of(body["payload"]) == keys_of(EXAMPLES[kind]), kind
