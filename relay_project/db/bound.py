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
from django.db import connection
from django.db.backends.utils import CursorWrapper


@contextmanager
def bound_cursor() -> Iterator[CursorWrapper]:
    """As connection.cursor(): in the same transaction, with Django's exceptions, and seen by who counts queries."""
    connection.ensure_connection()
    with connection.wrap_database_errors:
        raw = cast("Any", psycopg.Cursor(cast("psycopg.Connection[Any]", connection.connection)))
    with connection.make_debug_cursor(raw) if connection.queries_logged else connection.make_cursor(raw) as cursor:
        yield cursor
