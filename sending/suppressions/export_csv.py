"""Exporting a list of any length in constant memory: page by page, each a statement of its own.

What an export writes an import reads: the same columns, and apostrophes before what a spreadsheet would run.
"""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO

from sending.models import Suppression
from sending.suppressions.find import SuppressionFilter, matching
from sending.suppressions.read_csv import COLUMNS, guard

PAGE = 5_000  # rows


def export_csv(project_id: int | None, wanted: SuppressionFilter, now: datetime) -> Iterator[str]:
    """The matching rows as CSV with a heading, the oldest first; a piece for each page."""
    yield _written([(*COLUMNS, "created_at")])
    after = 0
    while True:
        rows = list(matching(project_id, wanted, now).filter(pk__gt=after).order_by("pk")[:PAGE])
        if not rows:
            return
        yield _written([_cells(row) for row in rows])
        after = rows[-1].pk


def _cells(row: Suppression) -> tuple[str, ...]:
    return (
        guard(row.email),
        row.reason,
        guard(row.description or ""),
        guard(row.list or ""),
        _time(row.expires_at),
        _time(row.created_at),
    )


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _written(rows: list[tuple[str, ...]]) -> str:
    text = StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
