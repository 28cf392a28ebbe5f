"""Which source IPs may carry a queue's mail, and what keeps each of them from it. Reads tables only; for explaining."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection

from ips.senders import HEARTBEAT_STALE_SECONDS
from ips.warmup import ceiling


@dataclass(frozen=True, slots=True)
class Carrier:
    """A source IP. `trouble`: why nothing leaves from it, empty when something may; `is_cold`: for today, by its warm-up."""

    address: str
    is_usable: bool  # in use and there
    is_served: bool  # by a sender that gave a sign of life
    is_cold: bool

    @property
    def may_send(self) -> bool:
        """New mail may leave from it."""
        return self.is_usable and self.is_served and not self.is_cold

    @property
    def trouble(self) -> str:
        """`192.0.2.7 is served by no sender`; empty when there is none."""
        if not self.is_usable:
            return f"{self.address} is disabled or gone"
        if not self.is_served:
            return f"{self.address} is served by no sender"
        return f"{self.address} has reached today's warm-up ceiling" if self.is_cold else ""


_SELECT = """
SELECT host(i.address), i.is_enabled AND i.gone_at IS NULL AND i.queue_id IS NOT NULL,
       coalesce(s.heartbeat_at > %(alive)s, false), i.warmup_started_on,
       (SELECT c.count FROM ips_sendcount c WHERE c.source_ip_id = i.id AND c."window" = 'day' AND c.site = ''
           AND c.window_start = %(today)s)
  FROM ips_sourceip i LEFT JOIN ips_sender s ON s.id = i.served_by_id
"""
# A default queue without a usable IP borrows those of the other default queues (ips.senders).
_OF_QUEUE = f"""{_SELECT}
 WHERE i.queue_id = %(queue)s
    OR EXISTS (SELECT FROM queues_queue q WHERE q.id = %(queue)s AND q.is_default)
       AND EXISTS (SELECT FROM queues_queue l WHERE l.id = i.queue_id AND l.is_default)
       AND NOT EXISTS (SELECT FROM ips_sourceip o WHERE o.queue_id = %(queue)s AND o.is_enabled AND o.gone_at IS NULL)
 ORDER BY i.id
"""  # noqa: S608 — constants only
_ONE = f"{_SELECT} WHERE i.id = %(ip)s"


def carriers_of(queue_id: int, now: datetime) -> tuple[Carrier, ...]:
    """The source IPs of a queue, those that it borrows included; empty when it has none."""
    return _read(_OF_QUEUE, {"queue": queue_id}, now)


def carrier(source_ip_id: int, now: datetime) -> tuple[Carrier, ...]:
    """The one source IP that a retry stays on; its warm-up does not hold retries back. Empty when it is not there."""
    return tuple(Carrier(c.address, c.is_usable, c.is_served, False) for c in _read(_ONE, {"ip": source_ip_id}, now))


def _read(sql: str, values: dict[str, int], now: datetime) -> tuple[Carrier, ...]:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    alive = now - timedelta(seconds=HEARTBEAT_STALE_SECONDS)
    with connection.cursor() as cursor:
        cursor.execute(sql, {**values, "alive": alive, "today": today})
        rows = cursor.fetchall()
    found = []
    for address, is_usable, is_served, began, count in rows:
        most = ceiling(began, now.date(), settings.WARMUP_PLAN)
        found.append(Carrier(address, is_usable, is_served, most is not None and (count or 0) >= most))
    return tuple(found)
