"""How long mail is kept: what was tried, what was written, and that it was sent; each may be shorter than the next.

Children before parents. A day stays while mail that waits refers to it, and a scheduled send counts from its time
(`message_date`), not from its accept. Attempts count from themselves.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.backends.utils import CursorWrapper

from relay_project.db.ids import hours_after
from relay_project.db.partitions import Day
from relay_project.retention import Family, delete_in_steps, keep, sweep
from sending.forget import forget_contents, forget_inbox
from sending.sandbox_inbox import trim

# A send's recipients are written within an hour of its id, its content within an hour before.
_WAITS = """
SELECT EXISTS (SELECT FROM sending_waiting WHERE send_id >= %(low)s AND send_id < %(high)s)
    OR EXISTS (SELECT FROM sending_waiting WHERE recipient_id >= %(floor)s AND recipient_id < %(ceiling)s)
"""
_NOT_FINAL = """
SELECT EXISTS (SELECT FROM sending_recipient WHERE id >= %(floor)s AND id < %(ceiling)s
                  AND status IN ('queued', 'deferred'))
"""
# The condition of the index `send_scheduled`, so that a day of a million sends is not read for it.
SCHEDULED = "id_floor(message_date) - id > 14745600000"  # more than an hour of ids
_SCHEDULED_UNTIL = f"""
SELECT max(message_date) FROM sending_send WHERE id >= %(low)s AND id < %(high)s AND {SCHEDULED}
"""  # noqa: S608 — a constant
_UNREAD = """
SELECT EXISTS (SELECT FROM sending_unreadmail WHERE mail_id >= %(floor)s AND mail_id < %(ceiling)s)
    OR EXISTS (SELECT FROM sending_unexaminedmail WHERE received_id >= %(floor)s AND received_id < %(ceiling)s)
"""
_IN_FLIGHT = """
SELECT EXISTS (SELECT FROM sending_waiting WHERE attempt_id >= %(floor)s AND attempt_id < %(ceiling)s)
"""


def _attempts_needed(cursor: CursorWrapper, day: Day, now: datetime) -> str:
    cursor.execute(_IN_FLIGHT, _range(day))
    return "attempts under way" if cursor.fetchone()[0] else ""


def _content_needed(cursor: CursorWrapper, day: Day, now: datetime) -> str:
    return _mail_needed(cursor, day, now - timedelta(days=settings.RETENTION_CONTENT_DAYS))


def _sends_needed(cursor: CursorWrapper, day: Day, now: datetime) -> str:
    reason = _mail_needed(cursor, day, now - timedelta(days=settings.RETENTION_SENDS_DAYS))
    if reason:
        return reason
    cursor.execute(_NOT_FINAL, _range(day))
    return "recipients that are not final and wait nowhere" if cursor.fetchone()[0] else ""


def _mail_needed(cursor: CursorWrapper, day: Day, before: datetime) -> str:
    """Why mail accepted on that day stays; `before`: what was to leave before then may go."""
    cursor.execute(_WAITS, _range(day))
    if cursor.fetchone()[0]:
        return "mail that waits"
    cursor.execute(_SCHEDULED_UNTIL, _range(day))
    latest = cursor.fetchone()[0]
    return f"mail scheduled for {latest:%d %b %Y}" if latest is not None and latest >= before else ""


def _inbound_needed(cursor: CursorWrapper, day: Day, now: datetime) -> str:
    cursor.execute(_UNREAD, _range(day))
    return "mail that nobody has read" if cursor.fetchone()[0] else ""


def _range(day: Day) -> dict[str, int]:
    return {
        "floor": day.floor,
        "ceiling": day.ceiling,
        "low": hours_after(day.floor, -1),
        "high": hours_after(day.ceiling, 1),
    }


keep(
    Family(
        "attempts",
        ("sending_attemptrecipient", "sending_attempt"),
        lambda: settings.RETENTION_ATTEMPTS_DAYS,
        _attempts_needed,
    )
)
keep(
    Family(
        "content",
        ("sending_signature", "sending_content"),
        lambda: settings.RETENTION_CONTENT_DAYS,
        _content_needed,
    )
)
keep(
    Family(
        "sends",
        ("sending_searchtext", "sending_feedback", "sending_recipient", "sending_sendtag", "sending_send"),
        lambda: settings.RETENTION_SENDS_DAYS,
        _sends_needed,
    )
)
keep(
    Family(
        "inbound mail",
        ("sending_receivedmail", "sending_inboundmail"),
        lambda: settings.RETENTION_INBOUND_DAYS,
        _inbound_needed,
    )
)

_IDEMPOTENCY = """
DELETE FROM sending_idempotencyrecord WHERE id = ANY(ARRAY(
  SELECT id FROM sending_idempotencyrecord WHERE created_at < %(before)s ORDER BY created_at LIMIT %(rows)s))
"""
_SOFT_BOUNCES = """
DELETE FROM sending_softbounce WHERE id = ANY(ARRAY(
  SELECT id FROM sending_softbounce WHERE last_at < %(before)s ORDER BY last_at LIMIT %(rows)s))
"""
# Asked twice: somebody may have suppressed the address anew meanwhile.
_SUPPRESSIONS = """
DELETE FROM sending_suppression WHERE expires_at < %(before)s AND id = ANY(ARRAY(
  SELECT id FROM sending_suppression WHERE expires_at < %(before)s ORDER BY expires_at LIMIT %(rows)s))
"""
EXPIRED_DAYS = 1  # after its end a suppression does nothing; it stays for a moment, for who wonders
_SANDBOX = """
DELETE FROM sending_sandboxmessage WHERE id = ANY(ARRAY(
  SELECT id FROM sending_sandboxmessage WHERE received_at < %(before)s ORDER BY id LIMIT %(rows)s))
"""


@sweep("idempotency", lambda: settings.RETENTION_IDEMPOTENCY_DAYS)
def delete_idempotency(now: datetime) -> int:
    """Idempotency keys."""
    return delete_in_steps(_IDEMPOTENCY, {"before": now - timedelta(days=settings.RETENTION_IDEMPOTENCY_DAYS)})


@sweep("soft bounces", lambda: settings.SOFT_BOUNCE_DAYS)
def delete_soft_bounces(now: datetime) -> int:
    """Counts of addresses whose days have all left the window."""
    return delete_in_steps(_SOFT_BOUNCES, {"before": now - timedelta(days=settings.SOFT_BOUNCE_DAYS + 1)})


@sweep("expired suppressions", lambda: EXPIRED_DAYS)
def delete_suppressions(now: datetime) -> int:
    """Suppressions that had an end, the day after it."""
    return delete_in_steps(_SUPPRESSIONS, {"before": now - timedelta(days=EXPIRED_DAYS)})


@sweep("sandbox", lambda: settings.RETENTION_SANDBOX_DAYS)
def delete_sandbox(now: datetime) -> int:
    """The sandbox's inbox, by age and by number."""
    before = now - timedelta(days=settings.RETENTION_SANDBOX_DAYS)
    return delete_in_steps(_SANDBOX, {"before": before}, rows=200) + trim()


_HOURS = """
DELETE FROM sending_hourcount WHERE id = ANY(ARRAY(
  SELECT id FROM sending_hourcount WHERE hour < %(before)s ORDER BY hour LIMIT %(rows)s))
"""
_DAYS = """
DELETE FROM sending_daycount WHERE id = ANY(ARRAY(
  SELECT id FROM sending_daycount WHERE day < %(before)s ORDER BY day LIMIT %(rows)s))
"""


@sweep("statistics by hour", lambda: settings.RETENTION_STATISTICS_HOURS_DAYS)
def delete_hours(now: datetime) -> int:
    """Roll-ups of hours."""
    return delete_in_steps(_HOURS, {"before": now - timedelta(days=settings.RETENTION_STATISTICS_HOURS_DAYS)})


@sweep("statistics by day", lambda: settings.RETENTION_STATISTICS_DAYS)
def delete_days(now: datetime) -> int:
    """Roll-ups of days."""
    return delete_in_steps(_DAYS, {"before": (now - timedelta(days=settings.RETENTION_STATISTICS_DAYS)).date()})


@sweep("content of projects", lambda: settings.RETENTION_CONTENT_DAYS)
def delete_contents(now: datetime) -> int:
    """Bodies of projects that keep theirs for a shorter time."""
    return forget_contents(now) + forget_inbox(now)
