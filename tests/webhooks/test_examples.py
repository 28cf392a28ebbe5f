"""The page of events keeps its word: what receivers are told has the keys of the registry's examples."""

from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from ips.incidents import Sighting, close, sight
from ips.models import Incident
from projects.api_keys import create_key, delete_key
from projects.dkim_rotation import add_key
from projects.domain_status import reinstate
from projects.domain_status import suspend as suspend_domain
from projects.domains import create_domain, delete_domain
from projects.event_examples import EXAMPLES
from projects.events import EventKind, emit, sequence_outbox
from projects.key_rotation import rotate_key
from projects.life import archive, restore, resume, suspend
from projects.limit_events import forget_told, tell_of_limit
from projects.models import DkimAlgorithm
from projects.return_path import set_return_path
from relay_project.db.rates import Window
from relay_project.mail.classify import Cause
from relay_project.mail.unsubscribe import Subscription
from sending.backlog.cancel import cancel_send
from sending.backlog.delays import tell_of_delays
from sending.deliver.settle import settle
from sending.models import Send
from sending.suppressions.change import Wanted, put, take_off
from sending.suppressions.import_csv import Report, import_csv
from sending.suppressions.read_csv import Defaults
from sending.unsubscribe import unsubscribe
from tests.sending.conftest import scene  # noqa: F401
from tests.sending.scene import LATER, MISSING, OK, PEM, Scene, answered, later
from webhooks.feed import read_feed
from webhooks.models import DisabledReason, Webhook
from webhooks.payload import bodies, body_of, example_event
from webhooks.switch import disable

UNSEEN = {  # each needs a whole machinery, and is compared where that is tried
    EventKind.COMPLAINED, EventKind.FAILED, EventKind.INBOUND_RECEIVED, EventKind.INBOUND_FORWARDED,
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
    cancel_send(Send.objects.get(pk=scene.send("late@one.example").send_id), "a wrong link")
    import_csv(scene.project.pk, BytesIO(b"email\nold@one.example\n").read, Defaults(), timezone.now(), Report())


def make_events_of_the_house(scene: Scene) -> None:  # noqa: F811
    """Of the domain, the project, a webhook and an incident."""
    now = timezone.now()
    domain = create_domain(scene.project, "new.example", private_key_pem=PEM)
    add_key(domain, now, algorithm=DkimAlgorithm.ED25519)
    set_return_path(domain, "bounces.new.example", now)
    suspend_domain(domain, "", now, None)
    delete_domain(reinstate(domain, now, None))
    suspend(scene.project, "A leaked key", now)
    resume(scene.project, now)
    archive(scene.project, now)
    restore(scene.project, now)
    disable(Webhook.objects.create(project=scene.project, url="https://shop.example", secret="0"), DisabledReason.GONE)
    with transaction.atomic(), connection.cursor() as cursor:
        seen = Sighting(scene.ip.id, "gmail", Cause.RATE, "rate-code", 1, "421 4.7.28 Too much", scene.project.pk, 1)
        emit(*sight(cursor, [seen], now))
    close(Incident.objects.get(), "Sent slower", now, actor=None)


def keys_of(value: Any, depth: int = 2) -> Any:
    """The keys of an object and of the objects in it."""
    return {name: keys_of(item, depth - 1) for name, item in value.items()} if isinstance(value, dict) and depth else ""


@pytest.mark.django_db
def test_what_is_told_has_the_keys_of_the_examples(scene: Scene, settings: Any) -> None:  # noqa: F811
    make_events(scene, settings)
    make_events_of_the_house(scene)
    with connection.cursor() as cursor:
        sequence_outbox(cursor)
        told = bodies(read_feed(cursor, 0).events)
    found = {EventKind(body["event"]): body for body in reversed(told)}
    assert set(EventKind) - set(found) == UNSEEN
    for kind, body in found.items():
        example = example_event(kind, 1, scene.project.pk)
        assert body.keys() == body_of(example, example.payload).keys()
        assert (body["subject"]["kind"], body["version"]) == (example.subject_kind, example.version), kind
        assert keys_of(body["payload"]) == keys_of(EXAMPLES[kind]), kind
