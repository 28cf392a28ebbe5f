"""`manage.py retention`: what is kept, since when, how much it is, and what is due; without --dry-run it removes that."""

from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from relay_project import retention


class Command(BaseCommand):
    """One run of what housekeeping does every hour, with a report before it."""

    help = "Show how long what happened is kept, and remove what is due."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """--dry-run."""
        parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print, then remove."""
        now = retention.by_both_clocks(timezone.now())
        self._show_kept()
        self._show_due(now)
        if options["dry_run"]:
            return
        run = retention.run(now)
        if run is None:
            raise CommandError("Another process is removing what is due right now.")
        size = filesizeformat(run.size_bytes)
        self.stdout.write(f"Dropped {run.partitions} tables' days ({size}), deleted {run.rows} rows.")

    def _show_kept(self) -> None:
        with connection.cursor() as cursor:
            kept = retention.what_is_kept(cursor)
        rows: list[Sequence[object]] = [("KEPT", "FOR", "SINCE", "DAYS", "SIZE", "ROWS (ABOUT)")]
        for one in kept:
            size = filesizeformat(one.size_bytes)
            rows.append((one.family.name, _days(one.family.days()), one.since or "–", one.days, size, one.rows))
        rows += [(one.name, _days(one.days()), "", "", "", "") for one in retention.sweeps()]
        self._table(rows)

    def _show_due(self, now: datetime) -> None:
        with connection.cursor() as cursor:
            due = list(retention.what_is_due(cursor, now))
            stranded = retention.stranded(cursor, now)
        self.stdout.write("")
        if not due:
            self.stdout.write("No day is due.")
        for one in due:
            state = "" if one.partition.state == "attached" else f", {one.partition.state} already"
            what = f"stays: {one.reason}" if one.reason else "goes"
            self.stdout.write(f"{one.partition.name} ({filesizeformat(one.partition.size_bytes)}{state}) {what}")
        for partition in stranded:
            self.stdout.write(f"{partition.name} is detached and not due: attach it again, or drop it.")

    def _table(self, rows: Sequence[Sequence[object]]) -> None:
        cells = [[str(cell) for cell in row] for row in rows]
        widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
        for row in cells:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write(line.replace("\xa0", " ").rstrip())


def _days(days: int) -> str:
    return "for ever" if not days else "1 day" if days == 1 else f"{days} days"
