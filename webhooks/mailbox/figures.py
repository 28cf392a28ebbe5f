"""Metrics of mailboxes. Receivers are no labels: their number has no bound, and Prometheus keeps each for ever."""

from django.db import connection
from django.utils import timezone

from relay_project.metrics import Counter, Gauge

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

_LOOK = """
SELECT count(*), coalesce(extract(epoch FROM %(now)s - min(to_timestamp((id >> 12) / 1000.0 + 1577836800))), 0),
       count(DISTINCT sender), count(DISTINCT mailbox_id)
  FROM webhooks_mailboxitem WHERE acked_at IS NULL AND expires_at > %(now)s
"""


def measure() -> None:
    """Set the gauges."""
    with connection.cursor() as cursor:
        cursor.execute(_LOOK, {"now": timezone.now()})
        for gauge, value in zip((QUEUE, OLDEST, SENDERS, RECEIVERS), cursor.fetchone(), strict=True):
            gauge.set(float(value))
