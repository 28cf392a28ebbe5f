"""Unsubscribing by a link in the mail (RFC 8058): making the link, and doing what a click on it asks for.

The link is a capability: whoever has it may end mail to one address of one project or list, and take that back. It names
everything that is needed, so it works when the mail is no longer kept.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import quote

from django.conf import settings
from django.db import connection, transaction

from projects.events import EventKind, NewEvent, emit_many
from projects.models import Project
from relay_project.db.ids import id_time
from relay_project.db.keyring import ring
from relay_project.mail.address import suppression_key
from relay_project.mail.unsubscribe import NotAToken, Subscription, field_value, make_token, read_token
from relay_project.metrics import Counter
from sending.accept.request import ListUnsubscribe
from sending.labels import NONE, labels_of
from sending.models import Send, SuppressionReason
from sending.suppressions.change import Wanted, find_one, put, take_off

PURPOSE = "unsubscribe links"
PATH = "/unsubscribe/"
DESCRIPTION = "Unsubscribed by the link in a mail."

UNSUBSCRIBED = Counter(
    "relay_unsubscribes_total", "Addresses suppressed by their owner's click on an unsubscribe link."
)


class LinkIsOver(ValueError):
    """The link is none of ours, is too old, or its project is gone: they look alike."""


def header_value(wish: ListUnsubscribe, subscription: Subscription) -> str:
    """List-Unsubscribe for one recipient; raises ValueError when its line would be too long."""
    url = f"{settings.WEB_URL}{PATH}{make_token(subscription, ring(PURPOSE))}"
    mailto = None if wish.mailto is None else f"mailto:{quote(wish.mailto, safe='@')}?subject=unsubscribe"
    return field_value(url, mailto)


def read_link(token: str, now: datetime) -> Subscription:
    """What a link asks to end; raises LinkIsOver."""
    try:
        subscription = read_token(token, ring(PURPOSE))
    except NotAToken as error:
        raise LinkIsOver(str(error)) from None
    days = settings.UNSUBSCRIBE_LINK_DAYS
    if days and id_time(subscription.send_id) < now - timedelta(days=days):
        raise LinkIsOver("older than UNSUBSCRIBE_LINK_DAYS")
    if not Project.objects.filter(pk=subscription.project_id).exists():
        raise LinkIsOver("its project is gone")
    return subscription


class State(StrEnum):
    """How an address stands, as far as its link goes."""

    SUBSCRIBED = "subscribed"
    UNSUBSCRIBED = "unsubscribed"  # by a link; that can take it back
    SUPPRESSED = "suppressed"  # for another reason, which is not the link's to lift


def state_of(subscription: Subscription, now: datetime) -> State:
    """What a click would find."""
    row = find_one(subscription.project_id, suppression_key(subscription.address), subscription.list_name)
    if row is None or (row.expires_at is not None and row.expires_at <= now):
        return State.SUBSCRIBED
    return State.UNSUBSCRIBED if row.reason == SuppressionReason.UNSUBSCRIBE else State.SUPPRESSED


def unsubscribe(subscription: Subscription) -> bool:
    """Suppress the address for the project or the list; False when it was already, or when the mail was a test."""
    if Send.objects.filter(pk=subscription.send_id, is_test=True).exists():
        return False
    wanted = Wanted(
        suppression_key(subscription.address),
        SuppressionReason.UNSUBSCRIBE,
        DESCRIPTION,
        subscription.list_name,
    )
    with transaction.atomic():
        row, is_new = put(subscription.project_id, wanted, **_origin(subscription))
        if is_new:
            _tell(subscription, row.pk)
    UNSUBSCRIBED.inc(is_new)
    return is_new


def resubscribe(subscription: Subscription) -> bool:
    """Take back what the link did; what was suppressed for another reason stays. False when there is nothing to take back."""
    with transaction.atomic():
        row = find_one(subscription.project_id, suppression_key(subscription.address), subscription.list_name)
        if row is None or row.reason != SuppressionReason.UNSUBSCRIBE:
            return False
        return take_off(row, **_origin(subscription))


def _tell(subscription: Subscription, suppression_id: int) -> None:
    with connection.cursor() as cursor:
        known = labels_of(cursor, [subscription.send_id]).get(subscription.send_id, NONE)
        payload = {
            "recipient_id": subscription.recipient_id,
            "address": subscription.address,
            "list": subscription.list_name,
            "suppression_id": suppression_id,
            **known,
        }
        emit_many(
            cursor,
            [NewEvent(subscription.project_id, EventKind.UNSUBSCRIBED, "send", subscription.send_id, payload)],
        )


def _origin(subscription: Subscription) -> dict[str, int]:
    return {"send_id": subscription.send_id, "recipient_id": subscription.recipient_id}
