"""A look-up of one row by fixed SQL, for hot paths: the ORM builds such a statement anew each time, at twice its cost.

The objects are the models' own and behave as if the ORM had read them.
"""

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connection
from django.db.models import Field, ForeignKey, Model

from relay_project.db.bound import bound_cursor
from relay_project.db.gather import Gather

Row = TypeVar("Row", bound=Model)

REMEMBERED_SECONDS = 1.0  # a domain that is suspended sends no later than this
TOGETHER = 50  # look-ups of one statement
MAX_REMEMBERED = 10_000  # rows a process; beyond that all are read again


class Lookup(Generic[Row]):
    """`Lookup(ApiKey, "key_hash = %s", follow="project").first(value)`; columns in `where` are the model's (alias `t`).

    `follow` names a foreign key that is read along. Where several rows may match, any one is given.
    """

    def __init__(self, model: type[Row], where: str, follow: str | None = None) -> None:
        self.model = model
        self.where = where
        self.follow = follow

    def first(self, *values: Any) -> Row | None:
        """The row, or None."""
        with bound_cursor(prepared=True) as cursor:
            cursor.execute(f"{self._sql} LIMIT 1", values)
            found = cursor.fetchone()
        return None if found is None else self._row(found)

    def _row(self, found: tuple[Any, ...]) -> Row:
        own = len(self._names)
        row = self.model.from_db(DEFAULT_DB_ALIAS, self._names, found[:own])
        if self.follow is not None:
            related = self._related.from_db(DEFAULT_DB_ALIAS, self._related_names, found[own:])
            setattr(row, self.follow, related)
        return row

    @cached_property
    def _sql(self) -> str:
        columns = [f't."{field.column}"' for field in _fields(self.model)]
        table = f'"{self.model._meta.db_table}" t'
        if self.follow is not None:
            key = cast("ForeignKey[Any, Any]", self.model._meta.get_field(self.follow))
            columns += [f'f."{field.column}"' for field in _fields(self._related)]
            table += f' JOIN "{self._related._meta.db_table}" f ON f."{key.target_field.column}" = t."{key.column}"'
        return f"SELECT {', '.join(columns)} FROM {table} WHERE {self.where}"  # noqa: S608 — names of models

    @cached_property
    def _related(self) -> type[Model]:
        return cast("type[Model]", self.model._meta.get_field(self.follow or "").related_model)

    @cached_property
    def _names(self) -> list[str]:
        return [field.attname for field in _fields(self.model)]

    @cached_property
    def _related_names(self) -> list[str]:
        return [field.attname for field in _fields(self._related)]


class RequestLookup(Lookup[Row]):
    """A Lookup by one unique column, as a web request's first statement.

    Requests that come while one is being made are looked up together (relay_project.db.gather), each after it has come: a
    row that is changed is seen by the very next request. It is the look at the connection as well, where Django would ask
    `SELECT 1` (CONN_HEALTH_CHECKS): a connection that was lost since the request before is opened anew.
    """

    def __init__(self, model: type[Row], column: str, follow: str | None = None) -> None:
        super().__init__(model, f't."{column}" = ANY(%s)', follow)
        self.column = column
        self._gather: Gather[Any, Row | None] = Gather(self.among, TOGETHER)

    def of_request(self, value: Any) -> Row | None:
        """The row, or None."""
        cast("Any", connection).health_check_done = True
        if connection.in_atomic_block:
            return self.among([value])[0]
        try:
            return self._gather.do(value)
        except (OperationalError, InterfaceError):
            _look_at_connection()
            return self.among([value])[0]

    def of_requests(self, values: Sequence[Any]) -> list[Row | None]:
        """The rows of several requests that are dealt with as one, in their order."""
        cast("Any", connection).health_check_done = True
        try:
            return self.among(values)
        except (OperationalError, InterfaceError):
            if connection.in_atomic_block:
                raise
            _look_at_connection()
            return self.among(values)

    def among(self, values: Sequence[Any]) -> list[Row | None]:
        """The rows of several values, in their order; each an object of its own."""
        with bound_cursor(prepared=True) as cursor:
            cursor.execute(self._sql, [list(set(values))])
            found = {row[self._place]: row for row in cursor.fetchall()}
        return [self._row(found[value]) if value in found else None for value in values]

    @cached_property
    def _place(self) -> int:
        return [field.column for field in _fields(self.model)].index(self.column)


class Remembered(Lookup[Row]):
    """A Lookup that asks the database once in REMEMBERED_SECONDS for the same values, in each process.

    For rows that hardly ever change and whose change may take effect a moment later. What is not found, and what `keep`
    refuses, is not remembered: a row that has just been made, or made fit, serves at once. Callers share the objects and
    do not change them.
    """

    def __init__(self, model: type[Row], where: str, keep: Callable[[Row], bool] = lambda _: True) -> None:
        super().__init__(model, where)
        self.keep = keep
        self._rows: dict[tuple[Any, ...], tuple[float, Row]] = {}
        _remembered.append(self)

    def first(self, *values: Any) -> Row | None:
        """The row as it is, or was a moment ago, or None."""
        clock = time.monotonic()
        read_at, row = self._rows.get(values, (-1e9, None))
        if row is not None and clock - read_at < REMEMBERED_SECONDS:
            return row
        found = super().first(*values)
        if found is None or not self.keep(found):
            self._rows.pop(values, None)
            return found
        if len(self._rows) >= MAX_REMEMBERED:
            self._rows.clear()
        self._rows[values] = (clock, found)
        return found

    def forget(self) -> None:
        """Ask the database again."""
        self._rows.clear()


def _look_at_connection() -> None:
    """Have one that was lost opened anew."""
    if not connection.is_usable():
        connection.close()


def forget_remembered() -> None:
    """Have every Remembered ask again: after a change in this process, and between tests."""
    for lookup in _remembered:
        lookup.forget()


_remembered: "list[Remembered[Any]]" = []


def _fields(model: type[Model]) -> "list[Field[Any, Any]]":
    """The columns; raises TypeError for a model whose values the ORM would convert (encrypted ones)."""
    fields = list(model._meta.concrete_fields)
    if any(hasattr(field, "from_db_value") and field.get_db_converters(connection) for field in fields):
        raise TypeError(f"{model.__name__} has columns that need converting.")
    return fields
