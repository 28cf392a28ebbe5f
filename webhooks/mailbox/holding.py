"""What lies in a mailbox, for whoever looks at it."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import connection

from relay_project.db.ids import id_time
from webhooks.models.mailbox import Mailbox

MOST = 10_000  # counted events that nobody has fetched; beyond it is "many"

_ITEMS = """
SELECT count(*), min(id) FROM webhooks_mailboxitem WHERE mailbox_id = %s AND acked_at IS NULL AND expires_at > %s
"""
_IN_HAND = "SELECT count(*), min(event_id) FROM webhooks_mailboxevent WHERE mailbox_id = %s"
_BEHIND = """
SELECT count(*), min(event_id) FROM (
  SELECT event_id FROM projects_feedposition WHERE project_id = %s AND position > %s ORDER BY position LIMIT %s) behind
"""


@dataclass(frozen=True, slots=True)
class Holding:
    """Deposits, events in hand, and positions of the feed (of all kinds) that nobody has fetched yet, at most MOST."""

    items: int
    in_hand: int
    behind: int
    oldest: datetime | None

    @property
    def is_full(self) -> bool:
        """Whether deposits are refused."""
        return self.items >= settings.MAILBOX_MAX_ITEMS


def holding_of(mailbox: Mailbox, now: datetime) -> Holding:
    """Counted now."""
    with connection.cursor() as cursor:
        cursor.execute(_ITEMS, [mailbox.pk, now])
        items, first = cursor.fetchone()
        cursor.execute(_IN_HAND, [mailbox.pk])
        in_hand, first_event = cursor.fetchone()
        behind, first_behind = 0, None
        if mailbox.events:
            cursor.execute(_BEHIND, [mailbox.project_id, mailbox.position, MOST])
            behind, first_behind = cursor.fetchone()
    known = [number for number in (first, first_event, first_behind) if number is not None]
    return Holding(items, in_hand, behind, id_time(min(known)) if known else None)
