"""Adding an index to a live partitioned table.

CREATE INDEX on the parent would stop every write until the last day is indexed. So: the parent's index on the parent
alone (invalid, and adopted by partitions made from now on), each partition's CONCURRENTLY, and one attached after the
other; with the last one the parent's becomes valid. Whatever was interrupted is taken up again by the next run.
"""

from typing import Any

from django.db.backends.utils import CursorWrapper
from django.db.migrations.operations import AddIndex

MAX_NAME = 63  # octets of an identifier, PostgreSQL's NAMEDATALEN - 1

_UNINDEXED = """
SELECT c.relname FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
 WHERE h.inhparent = %(table)s::regclass AND NOT EXISTS (
   SELECT FROM pg_index i JOIN pg_inherits ih ON ih.inhrelid = i.indexrelid
    WHERE i.indrelid = c.oid AND ih.inhparent = %(index)s::regclass)
 ORDER BY c.relname
"""


class AddPartitionedIndex(AddIndex):
    """AddIndex for a table of what happened. Its migration says `atomic = False`, since CONCURRENTLY wants no transaction."""

    atomic = False

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """The parent's index, then every partition's."""
        model = to_state.apps.get_model(app_label, self.model_name)
        table, name = model._meta.db_table, self.index.name
        statement = str(self.index.create_sql(model, schema_editor)).replace("%%", "%")
        before, _, definition = statement.partition(f' ON "{table}" ')
        if before != f'CREATE INDEX "{name}"':
            raise NotImplementedError(f"not an ordinary index: {statement}")
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(f'CREATE INDEX IF NOT EXISTS "{name}" ON ONLY "{table}" {definition}')
            cursor.execute(_UNINDEXED, {"table": table, "index": name})
            for (partition,) in cursor.fetchall():
                _index_partition(cursor, name, partition, definition)

    def describe(self) -> str:
        """What `migrate --plan` shows."""
        return f"Build index {self.index.name} on every partition of {self.model_name}"


def _index_partition(cursor: CursorWrapper, parent_index: str, partition: str, definition: str) -> None:
    day = partition.rpartition("_")[2]
    name = f"{parent_index[: MAX_NAME - len(day) - 1]}_{day}"
    cursor.execute("SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass(%s)", [name])
    found = cursor.fetchone()
    if found and not found[0]:  # of a build that was interrupted
        cursor.execute(f'DROP INDEX CONCURRENTLY "{name}"')
    cursor.execute(f'CREATE INDEX CONCURRENTLY IF NOT EXISTS "{name}" ON "{partition}" {definition}')
    cursor.execute(f'ALTER INDEX "{parent_index}" ATTACH PARTITION "{name}"')
