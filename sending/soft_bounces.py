"""Soft bounces: mail that ended undelivered for a reason that may pass. Only a row of them suppresses an address.

What counts is days, not messages: ten mails in one afternoon to a full mailbox are one soft bounce. An accepted mail
takes the count back. It costs nothing where there is no count, since the load of a mail tells whether there is one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db.backends.utils import CursorWrapper

from relay_project.mail.address import suppression_key

Key = tuple[int, str]  # project id, normalised address

# The conflicting row is locked in the order of the keys, as suppressions are.
_COUNT = """
INSERT INTO sending_softbounce (project_id, email, days, last_at)
SELECT s.project_id, s.email, ARRAY[%(today)s::date], %(now)s
  FROM unnest(%(projects)s::bigint[], %(emails)s::text[]) AS s(project_id, email)
ON CONFLICT (project_id, email) DO UPDATE SET last_at = EXCLUDED.last_at, days = ARRAY(
  SELECT day FROM unnest(sending_softbounce.days) AS day WHERE day > %(since)s AND day <> %(today)s ORDER BY day
) || EXCLUDED.days
RETURNING project_id, email, cardinality(days)
"""
_TAKE_BACK = """
DELETE FROM sending_softbounce WHERE id = ANY(ARRAY(
  SELECT b.id FROM sending_softbounce b JOIN unnest(%s::bigint[], %s::text[]) AS k(project_id, email)
    ON b.project_id = k.project_id AND b.email = k.email
   ORDER BY b.project_id, b.email FOR UPDATE OF b))
"""


@dataclass(frozen=True, slots=True)
class Reached:
    """An address whose soft bounces fell on `days` days within the window."""

    key: Key
    days: int


def key_of(project_id: int, address: str) -> Key:
    """The row an address counts on."""
    return project_id, suppression_key(address)


def count(cursor: CursorWrapper, keys: Iterable[Key], now: datetime) -> list[Reached]:
    """Note a soft bounce of today for each address; returns those that have reached the limit, with their count gone.

    In the caller's transaction. With SOFT_BOUNCE_LIMIT 0 nothing is counted.
    """
    ordered = sorted(set(keys))
    if not ordered or not settings.SOFT_BOUNCE_LIMIT:
        return []
    today = now.astimezone(UTC).date()
    cursor.execute(
        _COUNT,
        {
            "today": today,
            "since": today - timedelta(days=settings.SOFT_BOUNCE_DAYS),
            "now": now,
            "projects": [project_id for project_id, _ in ordered],
            "emails": [email for _, email in ordered],
        },
    )
    rows = cursor.fetchall()
    reached = [Reached((row[0], row[1]), row[2]) for row in rows if row[2] >= settings.SOFT_BOUNCE_LIMIT]
    take_back(cursor, [one.key for one in reached])
    return reached


def take_back(cursor: CursorWrapper, keys: Sequence[Key]) -> None:
    """Forget what was counted for these addresses: mail was accepted, or the limit is reached."""
    if keys:
        cursor.execute(_TAKE_BACK, [[project_id for project_id, _ in keys], [email for _, email in keys]])
