"""`manage.py rotate_secrets`: re-encrypts every stored secret under the current APP_SECRET, so that old ones can go.

Short transactions of a batch each, and every write only replaces the very token that was read, so it runs beside a live
system; killed half-way, the next run skips what is done.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction

from relay_project.db import keyring
from relay_project.db.fields import EncryptedTextField

BATCH_ROWS = 200  # rows a transaction: tens of milliseconds of locks
MAX_PASSES = 5  # a pass finds rows that were edited during the one before; edits under an old secret never end


@dataclass(frozen=True, slots=True)
class Column:
    """One encrypted column of one table."""

    label: str  # app.Model.field, for people
    table: str
    key: str
    name: str


@dataclass(slots=True)
class Counts:
    """What happened to the tokens of one column in one pass."""

    rotated: int = 0
    current: int = 0
    edited: int = 0  # changed by somebody else between our look and our write
    lost: int = 0  # no secret of the ring reads them


def encrypted_columns() -> list[Column]:
    """Every EncryptedTextField of every installed model, found by looking; an inherited one where it is stored."""
    return [
        Column(f"{model._meta.label}.{field.name}", model._meta.db_table, str(model._meta.pk.column), str(field.column))
        for model in apps.get_models(include_auto_created=True)
        for field in model._meta.local_concrete_fields
        if isinstance(field, EncryptedTextField)
    ]


def rotate_column(column: Column) -> Counts:
    """One pass over a column."""
    counts = Counts()
    for rows in _batches(column):
        due = [(key, token) for key, token in rows if not keyring.is_current(token)]
        counts.current += len(rows) - len(due)
        updates = []
        for key, token in due:
            try:
                updates.append((keyring.rotate([token])[0], key, token))
            except keyring.UndecryptableSecret:
                counts.lost += 1
        changed = _write(column, updates)
        counts.rotated += changed
        counts.edited += len(updates) - changed
    return counts


def _batches(column: Column) -> Iterator[list[tuple[Any, str]]]:
    """(primary key, token) in key order; raw, since the field itself would decrypt."""
    quote = connection.ops.quote_name
    key, name, table = quote(column.key), quote(column.name), quote(column.table)
    select = f"SELECT {key}, {name} FROM {table} WHERE {name} IS NOT NULL"  # noqa: S608 — names of our own models
    after: list[Any] = []
    while True:
        with connection.cursor() as cursor:
            cursor.execute(f"{select} {f'AND {key} > %s' if after else ''} ORDER BY {key} LIMIT {BATCH_ROWS}", after)
            rows = cursor.fetchall()
        if not rows:
            return
        yield rows
        after = [rows[-1][0]]


def _write(column: Column, updates: Sequence[tuple[str, Any, str]]) -> int:
    """Replace old tokens by new ones where they still stand (compare and set); returns how many."""
    if not updates:
        return 0
    quote = connection.ops.quote_name
    key, name, table = quote(column.key), quote(column.name), quote(column.table)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {table} SET {name} = %s WHERE {key} = %s AND {name} = %s",  # noqa: S608 — names of our own models
            updates,
        )
        return int(cursor.rowcount)


class Command(BaseCommand):
    help = "Re-encrypt every stored secret under the current APP_SECRET; afterwards APP_SECRETS_OLD can be emptied."

    def handle(self, *args: Any, **options: Any) -> None:
        """Go over every column, say counts, never a secret."""
        results = {column: self._rotate(column) for column in encrypted_columns()}
        rotated = sum(counts.rotated for counts in results.values())
        lost = sum(counts.lost for counts in results.values())
        if lost:
            raise CommandError(
                f"{lost} secrets were written with a secret that is not in APP_SECRETS_OLD; they are as they were."
            )
        if any(counts.edited for counts in results.values()):
            raise CommandError(
                "Secrets are still being written with an old APP_SECRET: restart every process, then run this again."
            )
        self.stdout.write(
            f"{rotated} secrets re-encrypted; all are under the current APP_SECRET. The old ones can leave "
            "APP_SECRETS_OLD once every process runs with the new one. What they signed ends with them: open sessions, "
            "and the return paths of mail already sent."
        )

    def _rotate(self, column: Column) -> Counts:
        """Passes over one column until one has nothing left to do."""
        total = Counts()
        for number in range(MAX_PASSES):
            counts = rotate_column(column)
            total.rotated += counts.rotated
            total.edited, total.lost = counts.edited, counts.lost
            if number == 0:
                total.current = counts.current  # later passes count what the first one rotated
            if not counts.rotated and not counts.edited:
                break
        self.stdout.write(
            f"{column.label}: {total.rotated} re-encrypted, {total.current} were current, {total.lost} unreadable"
        )
        return total
