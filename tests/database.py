"""The PostgreSQL of a test run: one server, started when the first test wants a database, gone at the end.

Its address is known before it runs, so that settings can name it; the pure rings never start it. Workers of
pytest-xdist share their controller's: they find its DATABASE_URL in the environment.
"""

import atexit
import os
import shutil

from django.conf import settings
from django.db import connection, transaction

from relay_project.db.embedded import EmbeddedPostgres, make_temporary_folder
from relay_project.db.partitions import make_partitions

# A test run's data are worth nothing after a crash.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

_server: EmbeddedPostgres | None = None


def announce() -> None:
    """Choose the server's folder and put its URL into the environment; nothing runs yet."""
    global _server
    folder = make_temporary_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _server = EmbeddedPostgres(folder / "data", settings=FAST)
    os.environ["DATABASE_URL"] = _server.url


def ensure_running() -> None:
    """Start the server unless somebody else's is used (DATABASE_URL was given, or the controller started it)."""
    if _server is not None:
        _server.start()


def stop() -> None:
    """Stop the server if this process started it."""
    if _server is not None:
        _server.stop()


LARGE = 512 * 1024  # bytes of a table with its indexes: dead rows are not let grow beyond that
KEPT = {"auth_permission", "django_content_type"}  # as the migrations made them
_USED = """
SELECT t.relname, pg_total_relation_size(t.oid) > %s OR NOT r.rolsuper
  FROM pg_roles r, pg_class t LEFT JOIN pg_inherits h ON h.inhrelid = t.oid LEFT JOIN pg_class p ON p.oid = h.inhparent
 WHERE r.rolname = current_user AND t.relkind = 'r' AND t.relnamespace = current_schema()::regnamespace
   AND coalesce(p.relname, t.relname) = ANY(%s) AND pg_relation_size(t.oid) > 0
 ORDER BY t.relname
"""


def empty() -> None:
    """Leave the database as the migrations did, in 10 ms: Django's flush cuts each table short, and that takes 200.

    Only tables with something in them are touched. Their writers are waited for: what a process that was stopped still
    had under way does not turn up in the next test.
    """
    tables = set(connection.introspection.django_table_names(only_existing=True, include_views=False)) - KEPT
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_USED, [LARGE, list(tables)])
        used = {f'"{name}"': is_large for name, is_large in cursor.fetchall()}
        large = [name for name, is_large in used.items() if is_large]
        if small := used.keys() - large:
            cursor.execute(f"LOCK TABLE {', '.join(sorted(small))} IN SHARE ROW EXCLUSIVE MODE")
            cursor.execute("SET LOCAL session_replication_role = replica")  # no trigger has a say
            cursor.execute("".join(f"DELETE FROM {name};" for name in small))
        if large:
            cursor.execute(f"TRUNCATE {', '.join(large)} CASCADE")
    make_partitions(settings.PARTITION_DAYS_AHEAD)
