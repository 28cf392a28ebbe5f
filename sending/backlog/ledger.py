"""No silent mail, as one query: every recipient that is not final has exactly one waiting row, and no other has one.

A waiting row in turn is due, or in flight with a lease, or held with a next slot (the table's own constraints say so), so
what is left to find are rows that are missing, left over, or whose time came long ago without anybody looking.
"""

from dataclasses import dataclass

from django.db import connection

OVERDUE_SECONDS = 120  # a lease or a retry whose time came this long ago should have been seen by some sender


@dataclass(frozen=True, slots=True)
class Ledger:
    """What does not add up; all zero when the ledger is good."""

    silent: int  # recipients that are not final and wait nowhere, or on a held site that is gone
    stray: int  # waiting rows of recipients that are final, or gone
    overdue: int  # leases, retries and held sites whose time came long ago: no sender looks

    @property
    def is_good(self) -> bool:
        """Nothing is silent or stray; overdue rows say that no sender runs, not that mail is lost."""
        return not (self.silent or self.stray)


_LEDGER = """
SELECT (SELECT count(*) FROM sending_recipient r WHERE r.status IN ('queued', 'deferred')
          AND NOT EXISTS (SELECT FROM sending_waiting w WHERE w.recipient_id = r.id))
       + (SELECT count(*) FROM sending_waiting w WHERE w.phase = 2
          AND NOT EXISTS (SELECT FROM ips_heldsite h WHERE h.id = w.held_site_id)),
       (SELECT count(*) FROM sending_waiting w WHERE NOT EXISTS (
          SELECT FROM sending_recipient r WHERE r.id = w.recipient_id AND r.status IN ('queued', 'deferred'))),
       (SELECT count(*) FROM sending_waiting w WHERE w.phase = 1
          AND w.due_at < clock_timestamp() - make_interval(secs => %(late)s))
       + (SELECT count(*) FROM sending_waiting w JOIN ips_heldsite h ON h.id = w.held_site_id WHERE w.phase = 2
          AND h.next_slot < clock_timestamp() - make_interval(secs => %(late)s))
"""


def read_ledger() -> Ledger:
    """Read it in one statement, so in one snapshot. Costs an index probe per waiting recipient."""
    with connection.cursor() as cursor:
        cursor.execute(_LEDGER, {"late": OVERDUE_SECONDS})
        return Ledger(*cursor.fetchone())
