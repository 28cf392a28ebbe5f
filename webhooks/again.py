"""What people have delivered: a test, one delivery again, or all that happened or failed in a range of time.

A replay is a row that the fan-out works off in steps, so that asking for a day of a million events takes no longer than
asking for one. Everything keeps the id of its event, by which receivers know what they have had already.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from projects.access import Caller, record_by
from projects.events import PAYLOAD_VERSION, EventKind
from projects.objects import timestamp
from relay_project.db.ids import id_floor, id_time
from relay_project.web.errors import ApiError, violation
from webhooks.feed import FeedEvent
from webhooks.models import DeliveryKind, Webhook, WebhookDelivery, WebhookReplay
from webhooks.payload import body_of, example_event
from webhooks.write import NewDelivery, text_of, write_deliveries

TEST_EVENT = "test"
GREETING = {"message": "This is a test of your webhook."}
A_MOMENT = timedelta(seconds=1)  # the database's clock may be ahead of ours
MAX_REPLAYS = 5  # of a webhook that are not worked off yet

DISABLED = "The webhook is disabled. Enable it first."
TOO_MANY = "This webhook has {} replays that are not finished yet."
BACKWARDS = "The end must be after the beginning."


def send_test(webhook: Webhook, caller: Caller | None = None, kind: EventKind | None = None) -> WebhookDelivery:
    """A call with the example of a kind, made once and before whatever waits, also while the webhook is disabled.

    The body's `test` is true, so that nobody takes an example for something that happened.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT new_id()")
        event_id = int(cursor.fetchone()[0])
        event = (
            FeedEvent(0, event_id, webhook.project_id, TEST_EVENT, "webhook", webhook.pk, PAYLOAD_VERSION, GREETING)
            if kind is None
            else example_event(kind, event_id, webhook.project_id)
        )
        body = text_of({**body_of(event, event.payload), "test": True})
        made = _deliver(cursor, webhook, event_id, event_id, event.kind, body, DeliveryKind.TEST)
        record_by(caller, "webhook.tested", webhook, webhook.project, event=event.kind)
    return made


def send_again(delivery: WebhookDelivery, caller: Caller | None = None) -> WebhookDelivery:
    """The same body in a new delivery, to where the webhook leads now; raises ApiError 400 or 404."""
    webhook = Webhook.objects.select_related("project").filter(pk=delivery.webhook_id).first()
    if webhook is None or webhook.project_id != delivery.project_id:
        raise ApiError(404, "Entity not found")
    _check_enabled(webhook)
    with transaction.atomic(), connection.cursor() as cursor:
        kind = DeliveryKind.TEST if delivery.kind == DeliveryKind.TEST else DeliveryKind.REPLAY
        made = _deliver(
            cursor, webhook, delivery.event_id, delivery.event_id, delivery.event, delivery.request_body, kind
        )
        record_by(caller, "webhook.sent_again", webhook, webhook.project, delivery_id=delivery.pk)
    return made


def replay(
    webhook: Webhook,
    begin: datetime | None = None,
    end: datetime | None = None,
    *,
    only_failed: bool = False,
    caller: Caller | None = None,
) -> WebhookReplay:
    """Have the events between two moments told again, or the failed deliveries that were made between them.

    Without a beginning, as far back as the log is kept; without an end, until now. What the webhook asks for now counts.
    Raises Violations at `end` and ApiError 400.
    """
    _check_enabled(webhook)
    now = timezone.now()
    days = settings.RETENTION_DELIVERIES_DAYS if only_failed else settings.RETENTION_EVENTS_DAYS
    begins = max(id_floor(begin) if begin else 0, id_floor(now) - _ids_of_days(days + 1), 0)
    latest = id_floor(now + A_MOMENT)  # not what comes later: that is told anyway, and what this makes may fail again
    ends = min(id_floor(end), latest) if end else latest
    if begin is not None and end is not None and end <= begin:
        raise violation("end", BACKWARDS)
    with transaction.atomic():
        # the webhook's row is locked, or two requests at once would both find the last free place
        Webhook.objects.select_for_update(no_key=True, of=("self",)).filter(pk=webhook.pk).first()
        if WebhookReplay.objects.filter(webhook_id=webhook.pk, finished_at=None).count() >= MAX_REPLAYS:
            raise ApiError(400, TOO_MANY.format(MAX_REPLAYS))
        made = WebhookReplay.objects.create(
            webhook_id=webhook.pk, begins_id=begins, ends_id=max(ends, begins), only_failed=only_failed, next_id=begins
        )
        said = {
            "begin": timestamp(id_time(begins)),
            "end": timestamp(id_time(made.ends_id)),
            "only_failed": only_failed,
        }
        record_by(caller, "webhook.replayed", webhook, webhook.project, **said)
    return made


def stop_replay(order: WebhookReplay, caller: Caller | None = None) -> WebhookReplay:
    """Have it make no more deliveries; those it made are told. Nothing where it has finished."""
    with transaction.atomic():
        row = WebhookReplay.objects.select_for_update(of=("self",)).select_related("webhook__project").get(pk=order.pk)
        if row.finished_at is None:
            row.finished_at = timezone.now()
            row.save(update_fields=["finished_at"])
            record_by(caller, "webhook.replay_stopped", row.webhook, row.webhook.project, deliveries=row.made)
    return row


def _check_enabled(webhook: Webhook) -> None:
    if not webhook.is_enabled:
        raise ApiError(400, DISABLED)


def _deliver(
    cursor: CursorWrapper, webhook: Webhook, event_id: int, subject_id: int, event: str, body: str, kind: DeliveryKind
) -> WebhookDelivery:
    row = NewDelivery(webhook.project_id, webhook.pk, event_id, subject_id, event, webhook.url, body, kind)
    [delivery_id] = write_deliveries(cursor, [row])
    return WebhookDelivery.objects.get(pk=delivery_id)


def _ids_of_days(days: int) -> int:
    return days * 86_400_000 << 12
