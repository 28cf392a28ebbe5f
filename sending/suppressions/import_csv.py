"""Importing a list of any length in constant memory: read a piece, write it, forget it.

Each piece is COPYed into a table of its transaction and put in place by one statement, so nobody waits long for its locks,
and no transaction is open while the client sends. Doing it again changes nothing, so an import that was cut is repeated.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from django.db import connection, transaction

from accounts import audit
from accounts.models import User
from projects.access import Caller, record_by
from projects.events import EventKind, NewEvent, emit_many
from projects.models import Project
from sending.suppress import Target, upsert
from sending.suppressions.read_csv import BadLine, Defaults, Read, Row, read_rows

PIECE = 10_000  # lines of one transaction, about half a second
SHOWN_ERRORS = 100
NO_LISTS = "What holds for all mail has no list."

_STAGE = """
CREATE TEMP TABLE suppression_stage (email text, reason text, description text, list text, expires_at timestamptz)
"""
# Named twice, an address is suppressed for the longer time.
_STAGED = """
SELECT DISTINCT ON (list, email) %(project)s::bigint AS project_id, list, email, reason, description, expires_at
  FROM suppression_stage WHERE {} ORDER BY list, email, expires_at DESC NULLS FIRST
"""
_COUNTED = "WITH written AS ({}) SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM written"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})  # of COPY's text format


@dataclass(slots=True)
class Report:
    """What an import did. `extended`: were there, and have a later end now, or none; `unchanged`: were there."""

    lines: int = 0
    added: int = 0
    extended: int = 0
    unchanged: int = 0
    invalid: int = 0
    errors: list[BadLine] = field(default_factory=list)  # the first ones

    def counts(self) -> dict[str, int]:
        """The numbers, for the audit log."""
        return {name: getattr(self, name) for name in ("lines", "added", "extended", "unchanged", "invalid")}

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**self.counts(), "errors": [{"line": bad.line, "message": bad.message} for bad in self.errors]}

    def note(self, bad: BadLine) -> None:
        """Count a line that cannot be used."""
        self.invalid += 1
        if len(self.errors) < SHOWN_ERRORS:
            self.errors.append(bad)


def import_for(project: Project, read: Read, defaults: Defaults, now: datetime, caller: Caller) -> Report:
    """Import into a project's list, with one entry in the audit log, also when the stream breaks; otherwise as import_csv."""
    report = Report()
    try:
        import_csv(project.pk, read, defaults, now, report)
    finally:
        if report.lines:
            record_by(caller, "suppressions.imported", project, project, **report.counts())
    return report


def import_everywhere(read: Read, defaults: Defaults, now: datetime, actor: User, address: str | None) -> Report:
    """Staff's import for all projects; otherwise as import_for."""
    report = Report()
    try:
        import_csv(None, read, defaults, now, report)
    finally:
        if report.lines:
            audit.record("suppressions.imported_everywhere", actor=actor, address=address, detail=report.counts())
    return report


def import_csv(project_id: int | None, read: Read, defaults: Defaults, now: datetime, report: Report) -> None:
    """Suppress what the stream names for a project, or (None) for all mail; call it outside any transaction.

    Raises UnreadableFile, and what `read` raises: what was read before is written then, and doing it again adds the rest.
    """
    usable = _usable(read_rows(read, defaults, now), report, may_list=project_id is not None)
    while piece := list(islice(usable, PIECE)):
        _write(project_id, piece, report)


def _usable(found: Iterator[Row | BadLine], report: Report, may_list: bool) -> Iterator[Row]:
    """The rows that can be written; the others are noted."""
    for one in found:
        report.lines += 1
        if isinstance(one, BadLine):
            report.note(one)
        elif one.list_name is not None and not may_list:
            report.note(BadLine(one.line, NO_LISTS))
        else:
            yield one


def _write(project_id: int | None, rows: list[Row], report: Report) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_STAGE)
        with cursor.copy("COPY suppression_stage FROM STDIN") as copy:
            copy.write("".join(map(_line, rows)))
        added = extended = 0
        whole = Target.INSTANCE if project_id is None else Target.PROJECT
        for target, which in ((whole, "list IS NULL"), (Target.LIST, "list IS NOT NULL")):
            if target is not Target.LIST or any(row.list_name is not None for row in rows):
                cursor.execute(_COUNTED.format(upsert(target, _STAGED.format(which))), {"project": project_id})
                new, later = cursor.fetchone()
                added, extended = added + new, extended + later
        cursor.execute("DROP TABLE suppression_stage")
        if project_id is not None and (added or extended):
            payload = {"added": added, "extended": extended}
            emit_many(cursor, [NewEvent(project_id, EventKind.SUPPRESSION_IMPORTED, "project", project_id, payload)])
    report.added += added
    report.extended += extended
    report.unchanged += len(rows) - added - extended


def _line(row: Row) -> str:
    """A line of COPY's text format."""
    description = "\\N" if row.description is None else row.description.translate(_ESCAPES)
    list_name = "\\N" if row.list_name is None else row.list_name.translate(_ESCAPES)
    end = "\\N" if row.expires_at is None else row.expires_at.isoformat()
    return f"{row.email}\t{row.reason}\t{description}\t{list_name}\t{end}\n"
