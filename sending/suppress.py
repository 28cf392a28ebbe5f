"""Addresses that a project's mail does not go to: look-up and upsert, always by the normalised address (lesson C8)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db.backends.utils import CursorWrapper

from relay_project.mail.address import suppression_key
from sending.models import SuppressionReason

# The addresses are an InitPlan's result, so PostgreSQL expects few of them. Given two literal arrays of 200 it takes
# workers for the UNION, and starting those takes a hundred times what the two index scans do.
_STANDING = """
WITH k AS MATERIALIZED (SELECT %s::text[] AS emails)
SELECT email, true FROM sending_suppression WHERE project_id = %s AND email = ANY((SELECT emails FROM k)::text[])
 UNION ALL
SELECT email, false FROM sending_softbounce WHERE project_id = %s AND email = ANY((SELECT emails FROM k)::text[])
"""

MAX_DESCRIPTION = 512  # characters, the column's


@dataclass(frozen=True, slots=True)
class NewSuppression:
    """An address to suppress, as mail named it."""

    project_id: int
    address: str
    reason: SuppressionReason
    description: str


def suppressed_among(cursor: CursorWrapper, project_id: int, addresses: Iterable[str]) -> set[str]:
    """Those of the addresses that are suppressed in the project, as they were given."""
    keys = {address: suppression_key(address) for address in addresses}
    if not keys:
        return set()
    cursor.execute(
        "SELECT email FROM sending_suppression WHERE project_id = %s AND email = ANY(%s)",
        [project_id, list(set(keys.values()))],
    )
    found = {row[0] for row in cursor.fetchall()}
    return {address for address, key in keys.items() if key in found}


def standing_among(
    cursor: CursorWrapper, project_id: int, addresses: Iterable[str]
) -> tuple[frozenset[str], frozenset[str]]:
    """As `suppressed_among`, and those of the addresses that have soft bounces counted: one statement for both."""
    keys = {address: suppression_key(address) for address in addresses}
    if not keys:
        return frozenset(), frozenset()
    cursor.execute(_STANDING, [list(set(keys.values())), project_id, project_id])
    found = set(cursor.fetchall())
    if not found:
        return frozenset(), frozenset()
    return (
        frozenset(address for address, key in keys.items() if (key, True) in found),
        frozenset(address for address, key in keys.items() if (key, False) in found),
    )


def suppress_many(cursor: CursorWrapper, rows: Sequence[NewSuppression]) -> list[tuple[int, int, str]]:
    """Upsert, in a fixed order (no deadlocks); a second reason changes nothing and raises nothing (lesson C7).

    Returns (suppression id, project id, address) of the new ones.
    """
    ordered = sorted({(row.project_id, suppression_key(row.address)): row for row in rows}.items())
    if not ordered:
        return []
    cursor.execute(
        """INSERT INTO sending_suppression (project_id, email, reason, description)
           SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[])
           ON CONFLICT (project_id, email) DO NOTHING RETURNING id, project_id, email""",
        [
            [project_id for (project_id, _), _ in ordered],
            [key for (_, key), _ in ordered],
            [row.reason.value for _, row in ordered],
            [row.description[:MAX_DESCRIPTION] for _, row in ordered],
        ],
    )
    return [(row[0], row[1], row[2]) for row in cursor.fetchall()]
