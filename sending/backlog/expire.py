"""Expiry: mail that has waited longer than its lifetime (MAIL_LIFETIME) is given up, with the reason in words.

The retry schedule ends most mail long before. What is left are rows that were never tried often enough: no sender, no
usable IP, a site that is held again and again. The time in which staff had paused the queue, or suspended the project,
does not count, and nothing expires in a paused queue, at a paused site or of a suspended project; what hangs at a site,
or was tried there last, has the time of that site's pauses back. What is in flight is left alone: its settle decides.

Ids are time-ordered, so whatever can have expired is found by the primary key, the oldest first, a stretch at a time.
One transaction a stretch, in the order of all others: waiting rows by id, recipients by id. It leaves what a settle
leaves: an attempt that says why, states, events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from ips.sites import pauses_since as site_pauses_since
from projects.events import EventKind, NewEvent, emit_many
from projects.life import STOPPED, suspensions_since
from queues.pause import Span, paused_for, pauses_since
from relay_project.db.ids import id_floor
from relay_project.mail.text import clean
from relay_project.metrics import Counter
from sending.backlog.stretch import EXAMINED_ROWS
from sending.explain import for_everybody
from sending.models import RecipientStatus

log = structlog.get_logger()

EXPIRED = Counter("relay_recipients_expired_total", "Recipients given up because they had waited for too long.")

ROWS = 500  # a transaction
RULE = "expired"
CATEGORY = "infrastructure"  # the receiving side was not asked often enough: ours to look at
FAR_BACK = timedelta(days=400)  # how long ago a pause may have ended that still matters
MAX_TEXT = 2000  # characters, the column's


@dataclass(frozen=True, slots=True)
class _Old:
    """A locked waiting row that may have expired. `began_at`: when its lifetime began."""

    recipient_id: int
    send_id: int
    project_id: int
    queue_id: int
    domain: str
    tries: int
    source_ip_id: int | None
    began_at: datetime
    held_by: str
    site: str  # where it hangs
    held_ip_id: int | None
    tried_site: str  # where it was tried last, if it hangs nowhere

    def text(self, lifetime: timedelta) -> str:
        """Why it is given up."""
        because = f" Last it waited for {self.site}: {for_everybody(self.held_by)}." if self.site else ""
        return f"Expired: it has waited for more than {in_words(lifetime)}.{because}"


@dataclass(frozen=True, slots=True)
class _Pauses:
    """Pauses by staff: of queues, of (site, source IP or None for all), and of projects, whose mail is nobody else's."""

    queues: Mapping[int, Sequence[Span]]
    sites: Mapping[tuple[str, int | None], Sequence[Span]]
    projects: Mapping[int, Sequence[Span]]

    def of(self, row: _Old, now: datetime) -> timedelta:
        """How much of a row's time was pause."""
        site = row.site or row.tried_site
        ip_id = row.held_ip_id if row.site else row.source_ip_id
        spans = [*self.queues.get(row.queue_id, ()), *self.projects.get(row.project_id, ())]
        spans += self.sites.get((site, None), ())
        if ip_id is not None:
            spans += self.sites.get((site, ip_id), ())
        return paused_for(spans, row.began_at, now)


@dataclass(slots=True)
class Sweep:
    """Where the walk stands, kept between runs: what is old and may stay (a paused queue) costs each run once."""

    after_id: int = 0

    def run(self, now: datetime, seconds: float) -> int:
        """Give up what has expired, for as long; returns how many recipients."""
        lifetime: timedelta = settings.MAIL_LIFETIME
        deadline, expired = monotonic() + seconds, 0
        far = now - FAR_BACK
        pauses = _Pauses(pauses_since(far), site_pauses_since(far), suspensions_since(far))
        while monotonic() < deadline:
            count, end = _step(self.after_id, pauses, lifetime, now)
            expired += count
            self.after_id = end or 0
            if end is None:
                break
        if expired:
            EXPIRED.inc(expired)
            log.warning("expiry.given_up", recipients=expired, lifetime=str(lifetime))
        return expired


def in_words(span: timedelta) -> str:
    """`3 days`, `36 hours`."""
    for unit, name in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        if span >= unit and not span % unit:
            count = span // unit
            return f"{count} {name}" if count == 1 else f"{count} {name}s"
    return f"{int(span.total_seconds())} seconds"


_END = """
SELECT max(recipient_id), min(send_id) FROM (
  SELECT recipient_id, send_id FROM sending_waiting WHERE recipient_id > %s AND recipient_id < %s
   ORDER BY recipient_id LIMIT %s) s
"""
_OLD = f"""
SELECT w.recipient_id, w.send_id, w.project_id, w.queue_id, w.domain, w.tries, w.source_ip_id,
       coalesce(w.since, id_time(w.recipient_id)), coalesce(h.reason, ''), coalesce(h.site, ''),
       h.source_ip_id, coalesce(a.site, '')
  FROM sending_waiting w LEFT JOIN ips_heldsite h ON h.id = w.held_site_id LEFT JOIN LATERAL (
    SELECT site FROM sending_attempt
     WHERE w.tries > 0 AND w.held_site_id IS NULL AND send_id = w.send_id AND domain = w.domain AND id >= %(floor)s
     ORDER BY id DESC LIMIT 1) a ON true
 WHERE w.recipient_id > %(after)s AND w.recipient_id <= %(end)s AND w.attempt_id IS NULL
   AND coalesce(w.since, id_time(w.recipient_id)) < %(before)s
   AND w.queue_id NOT IN (SELECT id FROM queues_queue WHERE paused_at IS NOT NULL) AND w.project_id NOT IN ({STOPPED})
   AND NOT EXISTS (SELECT FROM ips_sitelimit l WHERE l.site = coalesce(h.site, a.site) AND l.paused_at IS NOT NULL
                      AND (l.source_ip_id IS NULL
                           OR l.source_ip_id = CASE WHEN h.id IS NULL THEN w.source_ip_id ELSE h.source_ip_id END))
 ORDER BY w.recipient_id LIMIT %(rows)s FOR UPDATE OF w
"""  # noqa: S608 — a constant


def _step(after_id: int, pauses: _Pauses, lifetime: timedelta, now: datetime) -> tuple[int, int | None]:
    """One stretch; how many expired, and where to go on (None: nothing older is left)."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_END, [after_id, id_floor(now - lifetime), EXAMINED_ROWS])
        end, first_send = cursor.fetchone()
        if end is None:
            return 0, None
        values = {"after": after_id, "end": end, "before": now - lifetime, "rows": ROWS, "floor": first_send}
        cursor.execute(_OLD, values)
        rows = [_Old(*row) for row in cursor.fetchall()]
        over = [row for row in rows if row.began_at + lifetime + pauses.of(row, now) <= now]
        if over:
            _give_up(cursor, over, lifetime)
        return len(over), rows[-1].recipient_id if len(rows) == ROWS else end


def _give_up(cursor: CursorWrapper, rows: Sequence[_Old], lifetime: timedelta) -> None:
    ids = [row.recipient_id for row in rows]
    attempts = _write_attempts(cursor, rows, lifetime)
    cursor.execute(
        """UPDATE sending_recipient SET status = 'failed'
            WHERE id = ANY(%s) AND id BETWEEN %s AND %s AND status IN ('queued', 'deferred') RETURNING id, address""",
        [ids, ids[0], ids[-1]],
    )
    addresses = dict(cursor.fetchall())
    cursor.execute("DELETE FROM sending_waiting WHERE recipient_id = ANY(%s)", [ids])
    emit_many(
        cursor,
        [
            _event(row, attempts[row.send_id, row.domain], addresses[row.recipient_id], row.text(lifetime))
            for row in rows
            if row.recipient_id in addresses
        ],
    )


def _write_attempts(cursor: CursorWrapper, rows: Sequence[_Old], lifetime: timedelta) -> dict[tuple[int, str], int]:
    """An attempt for each (send, domain) and a line for each recipient; nothing was dialled, so no conversation."""
    firsts = {(row.send_id, row.domain): row for row in reversed(rows)}
    cursor.execute("SELECT new_id() FROM generate_series(1, %s)", [len(firsts)])
    attempts = dict(zip(firsts, sorted(row[0] for row in cursor.fetchall()), strict=True))
    columns = [
        (attempts[key], row.send_id, row.project_id, row.queue_id, row.source_ip_id, row.tries, row.domain, row.site)
        for key, row in firsts.items()
    ]
    texts = [clean(row.text(lifetime), MAX_TEXT) for row in firsts.values()]
    cursor.execute(
        """INSERT INTO sending_attempt (id, send_id, project_id, queue_id, source_ip_id, status, try_count, domain, site,
                  resolved_mx_hosts, smtp_conversations, network_error, is_lost, duration_ms)
           SELECT a.id, a.send, a.project, a.queue, a.ip, 'failed', a.tries, a.domain, a.site, '[]', '{}', a.error,
                  false, 0
             FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::smallint[],
                         %s::text[], %s::text[], %s::text[])
               AS a(id, send, project, queue, ip, tries, domain, site, error)""",
        [*map(list, zip(*columns, strict=True)), texts],
    )
    cursor.execute(
        """INSERT INTO sending_attemptrecipient (attempt_id, send_id, recipient_id, recipient_status, smtp_code,
                  smtp_message, category, rule, is_suppressed)
           SELECT a.attempt, a.send, a.recipient, 'failed', 0, a.message, %s, %s, false
             FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[]) AS a(attempt, send, recipient, message)""",
        [
            CATEGORY,
            RULE,
            [attempts[row.send_id, row.domain] for row in rows],
            [row.send_id for row in rows],
            [row.recipient_id for row in rows],
            [clean(row.text(lifetime), MAX_TEXT) for row in rows],
        ],
    )
    return attempts


def _event(row: _Old, attempt_id: int, address: str, text: str) -> NewEvent:
    payload = {
        "recipient_id": row.recipient_id,
        "attempt_id": attempt_id,
        "address": address,
        "status": RecipientStatus.FAILED.value,
        "try_count": row.tries,
        "smtp_code": 0,
        "smtp_enhanced_code": None,
        "smtp_message": clean(text, MAX_TEXT),
        "category": CATEGORY,
    }
    return NewEvent(row.project_id, EventKind.FAILED, "send", row.send_id, payload)
