"""Addresses that mail does not go to: look-up and upsert, always by the normalised address (lesson C8).

What suppresses is a row of the whole project, of the list that a mail is for, or of the installation. Rows whose time is
over suppress nothing, whether or not they have been swept.
"""

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.db.backends.utils import CursorWrapper

from projects.events import EventKind, NewEvent
from relay_project.mail.address import suppression_key
from sending.models import MAX_LIST, SuppressionReason

MAX_DESCRIPTION = 512  # characters, the column's
MAX_EMAIL = 254  # characters, the column's; folding may make a key longer than its address
_BETWEEN = "\n"  # a list and an address as one key; neither has a line end
UNEXPIRED = "(expires_at IS NULL OR expires_at > statement_timestamp())"

# The addresses are an InitPlan's result, so PostgreSQL expects few of them. Given two literal arrays of 200 it takes
# workers for the UNION, and starting those takes a hundred times what the index scans do.
_AMONG = "email = ANY((SELECT emails FROM k)::text[])"
_KEYS = "WITH k AS MATERIALIZED (SELECT %(emails)s::text[] AS emails)"
_WHOLE = f"""
SELECT email, 0 FROM sending_suppression WHERE project_id = %(project)s AND {_AMONG} AND {UNEXPIRED}
 UNION ALL
SELECT email, 0 FROM sending_suppression
 WHERE project_id IS NULL AND list_project_id IS NULL AND {_AMONG} AND {UNEXPIRED}
"""  # noqa: S608 — constants only, as below
_LISTED = f"""
 UNION ALL
SELECT list || E'\\n' || email, 0 FROM sending_suppression
 WHERE list_project_id = %(project)s AND list = ANY(%(lists)s) AND {_AMONG} AND {UNEXPIRED}
"""  # noqa: S608
_SOFT = f"""
 UNION ALL
SELECT email, 1 FROM sending_softbounce WHERE project_id = %(project)s AND {_AMONG}
"""  # noqa: S608


class InvalidList(ValueError):
    """Not a name for a list; the text says why."""


@dataclass(frozen=True, slots=True)
class NewSuppression:
    """An address to suppress, as mail named it."""

    project_id: int
    address: str
    reason: SuppressionReason
    description: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What a look-up found of the addresses that it was asked for."""

    suppressed: frozenset[str] = frozenset()  # keys; of one list with its name before
    soft: frozenset[str] = frozenset()  # keys with soft bounces counted

    def suppresses(self, address: str, list_name: str | None = None) -> bool:
        """Whether mail to the address, for that list, is not to be sent."""
        if not self.suppressed:
            return False
        key = suppression_key(address)
        return key in self.suppressed or (list_name is not None and f"{list_name}{_BETWEEN}{key}" in self.suppressed)

    def has_soft_bounces(self, address: str) -> bool:
        """Whether the address was undeliverable lately."""
        return bool(self.soft) and suppression_key(address) in self.soft


NOBODY = Standing()


def list_key(name: str) -> str:
    """The one spelling of a list's name: case, width and composition do not tell lists apart. Raises InvalidList."""
    key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()
    if not key:
        raise InvalidList("This value should not be blank.")
    if len(key) > MAX_LIST or len(name) > 4 * MAX_LIST:
        raise InvalidList(f"This value is too long. It should have {MAX_LIST} characters or less.")
    if any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for char in key):
        raise InvalidList("This value should have no line breaks and no invisible characters.")
    return key


def lookup(lists: Collection[str], with_soft: bool = False) -> str:
    """The statement that finds (key, 0: suppressed, 1: has soft bounces); its parameters are lookup_values()'s."""
    return f"{_KEYS}{_WHOLE}{_LISTED if lists else ''}{_SOFT if with_soft else ''}"


def lookup_values(project_id: int, addresses: Iterable[str], lists: Collection[str]) -> dict[str, Any]:
    """What lookup() asks for."""
    emails = {suppression_key(address) for address in addresses}
    return {"project": project_id, "emails": list(emails), "lists": list(lists)}


def suppressed_among(
    cursor: CursorWrapper, project_id: int, addresses: Collection[str], list_name: str | None = None
) -> set[str]:
    """Those of the addresses that are suppressed in the project (for mail to that list), as they were given."""
    if not addresses:
        return set()
    lists = () if list_name is None else (list_name,)
    cursor.execute(lookup(lists), lookup_values(project_id, addresses, lists))
    standing = Standing(frozenset(row[0] for row in cursor.fetchall()))
    return {address for address in addresses if standing.suppresses(address, list_name)}


def standing_among(
    cursor: CursorWrapper, project_id: int, addresses: Collection[str], lists: Collection[str] = ()
) -> Standing:
    """How the addresses stand in the project and its lists: one statement for all of it."""
    if not addresses:
        return NOBODY
    cursor.execute(lookup(lists, with_soft=True), lookup_values(project_id, addresses, lists))
    found = cursor.fetchall()
    if not found:
        return NOBODY
    return Standing(frozenset(row[0] for row in found if not row[1]), frozenset(row[0] for row in found if row[1]))


class Target(StrEnum):
    """What one row of the table holds for, as the unique index of such rows."""

    PROJECT = "(project_id, email)"
    LIST = "(list_project_id, list, email)"
    INSTANCE = "(email) WHERE project_id IS NULL AND list_project_id IS NULL"


_SCOPE = {
    Target.PROJECT: "n.project_id, NULL, NULL",
    Target.LIST: "NULL, n.project_id, n.list",
    Target.INSTANCE: "NULL, NULL, NULL",
}


def upsert(target: Target, source: str) -> str:
    """The statement that suppresses the rows of `source` (project_id, list, email, reason, description, expires_at).

    Each address may stand there once. What is there keeps its reason, and gets a later end, or none (lesson C7). A row whose
    time is over is as good as none. Returns id, project, list, email and whether it is new: the clock is the statement's,
    so a row that has its time was written by it. In order, so that no two of these can cross.
    """
    over = "s.expires_at <= statement_timestamp()"
    return f"""
INSERT INTO sending_suppression AS s
       (project_id, list_project_id, list, email, reason, description, created_at, expires_at)
SELECT {_SCOPE[target]}, n.email, n.reason, n.description, statement_timestamp(), n.expires_at
  FROM ({source}) n ORDER BY n.project_id, n.list, n.email
ON CONFLICT {target} DO UPDATE SET
  reason = CASE WHEN {over} THEN EXCLUDED.reason ELSE s.reason END,
  description = CASE WHEN {over} THEN EXCLUDED.description ELSE s.description END,
  created_at = CASE WHEN {over} THEN EXCLUDED.created_at ELSE s.created_at END,
  expires_at = EXCLUDED.expires_at
WHERE s.expires_at IS NOT NULL AND (EXCLUDED.expires_at IS NULL OR EXCLUDED.expires_at > s.expires_at)
RETURNING id, coalesce(project_id, list_project_id), list, email, created_at = statement_timestamp() AS is_new
"""  # noqa: S608 — constants of this module and of its callers


_SUPPRESS = upsert(
    Target.PROJECT,
    """SELECT *, NULL::text AS list, NULL::timestamptz AS expires_at
         FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[]) AS r(project_id, email, reason, description)""",
)


def suppress_many(cursor: CursorWrapper, rows: Sequence[NewSuppression]) -> list[tuple[int, int, str]]:
    """Upsert for whole projects, in a fixed order (no deadlocks); a second reason changes and raises nothing (lesson C7).

    Returns (suppression id, project id, address) of the new ones.
    """
    by_key = {(row.project_id, suppression_key(row.address)): row for row in rows}
    ordered = sorted((item for item in by_key.items() if len(item[0][1]) <= MAX_EMAIL), key=lambda item: item[0])
    if not ordered:
        return []
    cursor.execute(
        _SUPPRESS,
        [
            [project_id for (project_id, _), _ in ordered],
            [email for (_, email), _ in ordered],
            [row.reason.value for _, row in ordered],
            [row.description[:MAX_DESCRIPTION] for _, row in ordered],
        ],
    )
    return [(row[0], row[1], row[3]) for row in cursor.fetchall() if row[4]]


def suppress_and_tell(cursor: CursorWrapper, rows: Sequence[NewSuppression]) -> list[NewEvent]:
    """suppress_many, and the events to write: as sending.suppressions.objects has it, for good and all mail of the project."""
    said = {(row.project_id, suppression_key(row.address)): row for row in rows}
    created = suppress_many(cursor, rows) if rows else []
    return [
        NewEvent(
            project_id,
            EventKind.SUPPRESSION_CREATED.value,
            "suppression",
            suppression_id,
            {
                "email": email,
                "reason": said[project_id, email].reason.value,
                "description": said[project_id, email].description[:MAX_DESCRIPTION],
                "list": None,
                "expires_at": None,
            },
        )
        for suppression_id, project_id, email in created
    ]
