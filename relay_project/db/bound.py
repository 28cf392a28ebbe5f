"""Cursors whose parameters reach PostgreSQL apart from the statement's text, for statements with large ones.

Django's own cursor writes parameters into the text, where psycopg quotes them in Python and PostgreSQL's lexer reads
them letter by letter: for a batch of rows as one JSON parameter that was a tenth of the server's time.

The plans are as good: PQexecParams plans anew each time with the values at hand, so days are left out by ranges of ids
as with literals. What differs: one statement for each `execute`, and an untyped parameter may need a cast.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
from django.conf import settings
from django.db import connection
from django.db.backends.utils import CursorWrapper


class _Bound(psycopg.Cursor[Any]):
    """Says of each statement whether the server keeps it, read and planned, for the next time on this connection."""

    keeps = False

    def execute(self, query: Any, params: Any = None, **how: Any) -> "_Bound":
        return super().execute(query, params, **{**how, "prepare": self.keeps})


class _Prepared(_Bound):
    keeps = True


@contextmanager
def bound_cursor(*, prepared: bool = False) -> Iterator[CursorWrapper]:
    """As connection.cursor(): in the same transaction, with Django's exceptions, and seen by who counts queries.

    `prepared` is for small statements of fixed text that the web process runs for each request, where reading and planning
    cost the server as much as the work; never for one that days are left out of, or that a queue's length decides. With a
    transaction pooler in between (DATABASE_DIRECT_URL) nothing is kept, since connections change hands there.
    """
    connection.ensure_connection()
    inner = cast("psycopg.Connection[Any]", connection.connection)
    keeps = prepared and not (settings.DATABASE_DIRECT_URL or connection.queries_logged)  # the log reads the text
    if keeps:
        inner.prepare_threshold = 0  # Django has it at None; its own cursors never prepare
    with connection.wrap_database_errors:
        raw = cast("Any", _Prepared(inner) if keeps else _Bound(inner))
    with connection.make_debug_cursor(raw) if connection.queries_logged else connection.make_cursor(raw) as cursor:
        yield cursor
