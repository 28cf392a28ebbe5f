"""Metrics of mailboxes. Receivers are no labels, unless MAILBOX_METRICS_BY_NAME says of how many."""

from django.conf import settings
from django.db import connection
from django.utils import timezone

from relay_project.metrics import Counter, Gauge
from webhooks.mailbox.holding import count_losing

DEPOSITS = Counter("relay_deposits_total", "Items that were stored in mailboxes.")
RECEIVES = Counter("relay_receives_total", "Calls that fetched from mailboxes, empty answers too.")
RECEIVED = Counter("relay_received_items_total", "Items that were handed out, by kind.", ["kind"])
ACKS = Counter("relay_acks_total", "Items that were acknowledged.")
REFUSED = Counter("relay_rate_limit_hits_total", "Calls of mailboxes that were refused, by reason.", ["kind"])
EXPIRED = Counter("relay_envelopes_expired_total", "Items that nobody fetched in their time.")
QUEUE = Gauge("relay_queue_size", "Items in mailboxes that are not acknowledged.")
OLDEST = Gauge("relay_oldest_envelope_seconds", "Age of the oldest of them.")
SENDERS = Gauge("relay_unique_senders", "Depositors of these items.")
RECEIVERS = Gauge("relay_unique_receivers", "Mailboxes with such items.")
LOSING = Gauge("relay_mailboxes_losing_events", "Mailboxes with events that retention takes within a day, unfetched.")
QUEUE_OF = Gauge("relay_mailbox_queue_size", "The same of the fullest mailboxes.", ["mailbox"])
OLDEST_OF = Gauge("relay_mailbox_oldest_envelope_seconds", "Age of the oldest item of each of these.", ["mailbox"])

_LOOK = """
SELECT count(*), coalesce(extract(epoch FROM %(now)s - min(to_timestamp((id >> 12) / 1000.0 + 1577836800))), 0),
       count(DISTINCT sender), count(DISTINCT mailbox_id)
  FROM webhooks_mailboxitem WHERE acked_at IS NULL AND expires_at > %(now)s
"""


_FULLEST = """
SELECT box.name, held.items, extract(epoch FROM %(now)s - to_timestamp((held.first >> 12) / 1000.0 + 1577836800))
  FROM (SELECT mailbox_id, count(*) AS items, min(id) AS first FROM webhooks_mailboxitem
         WHERE acked_at IS NULL AND expires_at > %(now)s
         GROUP BY mailbox_id ORDER BY count(*) DESC, mailbox_id LIMIT %(most)s) held
  JOIN webhooks_mailbox box ON box.id = held.mailbox_id
"""


def measure() -> None:
    """Set the gauges."""
    now = timezone.now()
    LOSING.set(count_losing(now))
    _measure_by_name(settings.MAILBOX_METRICS_BY_NAME)
    with connection.cursor() as cursor:
        cursor.execute(_LOOK, {"now": now})
        for gauge, value in zip((QUEUE, OLDEST, SENDERS, RECEIVERS), cursor.fetchone(), strict=True):
            gauge.set(float(value))


def _measure_by_name(most: int) -> None:
    """Of so many mailboxes; those that were among them before are no longer told of."""
    QUEUE_OF.clear()
    OLDEST_OF.clear()
    if not most:
        return
    with connection.cursor() as cursor:
        cursor.execute(_FULLEST, {"now": timezone.now(), "most": most})
        for name, items, seconds in cursor.fetchall():
            QUEUE_OF.labels(name).set(items)
            OLDEST_OF.labels(name).set(float(seconds))
