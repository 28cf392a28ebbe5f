"""Very much mail in little time: a few messages go the product's own way, and their rows are copied by COPY.

Whatever columns the tables have are copied as they are; only ids, the send's uuid, and the number in an address differ.
Ids are dense: copy k of the specimens has the ids base + k * n … base + k * n + n - 1, in the order of the originals, so
a million of them lie within a second and keep their order (content before send before recipients).
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import psycopg
from django.db import connection

from projects.models import Project
from relay_project.bench.letters import letter
from relay_project.bench.plan import Traffic
from relay_project.bench.stage import take
from relay_project.db.ids import EPOCH_MS, SEQUENCE_BITS, id_floor

SPECIMENS = 200  # messages; contents are shared by their copies
CONTENT = "sending_content"
WAITING = {"sending_send": "id", "sending_recipient": "id", "sending_waiting": "recipient_id"}  # table → key
ID_COLUMNS = {"id", "send_id", "content_id", "recipient_id", "attempt_id", "subject_id"}
NUMBER = r"-(\d+)@"  # in an address
SORT_MEMORY = "256MB"
# relay_project.db.ids.uuid_of as SQL, the noise being the id's digest
UUID = (
    "(lpad(to_hex(({id} >> {bits}) + {epoch}), 12, '0') || '7' || lpad(to_hex({id} & 4095), 3, '0') || '8' || "
    "left(md5(({id})::text), 15))::uuid"
)
NUMBERED = (
    "regexp_replace(s.address, '{pattern}', '-' || (substring(s.address from '{pattern}')::bigint + k * {step}) || '@')"
)

Reader = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Specimens:
    """Rows that are all there is with ids from `low` to `high`: `ids` of them, of `messages` messages."""

    low: int
    high: int
    ids: int
    messages: int


@dataclass(frozen=True, slots=True)
class Copies:
    """Where the copies go: number `first` … `last` counted from `base`; with contents of their own, once, or without."""

    base: int
    first: int
    last: int
    own_contents: bool = False


def queue_clones(
    project: Project, mails: int, traffic: Traffic, *, sender: int = 0, domain: str = "", first: int = 0
) -> None:
    """Have that many mails of a project (and its sender's domain) wait, numbered from `first` on: some accepted, the
    others copies of them."""
    count = min(SPECIMENS, mails)
    began = id_floor(datetime.now(UTC))
    few = replace(traffic, recipients=1)
    take(project, [letter(first + at, traffic=few, domain=domain, project=sender) for at in range(count)])
    with rank_specimens(WAITING, began) as (reader, specimens):
        # Behind the specimens, whose contents they share: a content is older than its sends.
        copies = Copies(specimens.high, 1, mails // count - 1)
        for table, key in WAITING.items():
            pour(copy_query(reader, table, key, specimens, copies), reader, table)
    _tidy()
    _await_id(copies.base + (copies.last + 1) * specimens.ids)


@contextmanager
def rank_specimens(tables: Mapping[str, str], low: int) -> Iterator[tuple[Reader, Specimens]]:
    """A session that knows every id of the tables (name → key) from `low` on by its rank."""
    high = id_floor(datetime.now(UTC) + timedelta(seconds=1))
    between = f"BETWEEN {low} AND {high}"
    with psycopg.connect(conninfo(), autocommit=True) as reader:
        reader.execute(f"SET work_mem = '{SORT_MEMORY}'")
        reader.execute("CREATE TEMP TABLE ranks (old bigint PRIMARY KEY, rank int NOT NULL)")
        found = " UNION ".join(f"SELECT {key} FROM {table} WHERE {key} {between}" for table, key in tables.items())  # noqa: S608 - our tables
        ranked = f"SELECT id, row_number() OVER (ORDER BY id) - 1 FROM ({found}) AS found (id)"  # noqa: S608 - as above
        reader.execute(f"INSERT INTO ranks {ranked}")
        reader.execute("ANALYZE ranks")
        ids = _count(reader, "SELECT count(*) FROM ranks")
        messages = _count(reader, f"SELECT count(*) FROM sending_send WHERE id {between}")  # noqa: S608 - numbers
        yield reader, Specimens(low, high, ids, messages)


def copy_query(reader: Reader, table: str, key: str, specimens: Specimens, copies: Copies) -> str:
    """The SELECT that makes the copies' rows of one table, all columns in their order, sorted by key."""
    names = [str(name) for (name,) in reader.execute(_COLUMNS, [table]).fetchall()]
    ranked = [name for name in names if name in ID_COLUMNS]
    joins = " ".join(f'LEFT JOIN ranks AS r_{name} ON r_{name}.old = s."{name}"' for name in ranked)
    columns = ", ".join(_expression(table, name, specimens, copies) for name in names)
    last = copies.first if table == CONTENT else copies.last
    source = f"generate_series({copies.first}, {last}) AS k CROSS JOIN {table} AS s {joins}"
    span = f"s.{key} BETWEEN {specimens.low} AND {specimens.high}"
    return f"SELECT {columns} FROM {source} WHERE {span} ORDER BY {names.index(key) + 1}"  # noqa: S608 - our tables


def pour(query: str, reader: Reader, table: str, *, fresh: bool = False) -> int:
    """Copy the query's rows into a table, both sides at work at once; returns the octets.

    A `fresh` table is emptied first, and its rows are frozen: nothing has to look at them again, and with
    wal_level=minimal they are written once.
    """
    octets = 0
    with psycopg.connect(conninfo()) as writer:
        if fresh:
            writer.execute(f'TRUNCATE "{table}"')
        options = "FORMAT binary, FREEZE" if fresh else "FORMAT binary"
        with (
            reader.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT binary)") as source,
            writer.cursor().copy(f'COPY "{table}" FROM STDIN ({options})') as target,
        ):
            for block in source:
                octets += len(block)
                target.write(block)
    return octets


def conninfo() -> str:
    """Of a session of our own beside Django's, which COPY would keep busy."""
    parameters = connection.get_connection_params()
    known = ("host", "port", "dbname", "user", "password")
    return psycopg.conninfo.make_conninfo(**{name: parameters[name] for name in known if parameters.get(name)})


def _tidy() -> None:
    """Have done what the server would do in the background just now, had the mail come in its own time."""
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM (ANALYZE) {', '.join(WAITING)}")
        cursor.execute("SELECT pg_has_role('pg_checkpoint', 'USAGE')")
        if cursor.fetchone()[0]:
            cursor.execute("CHECKPOINT")


def _await_id(last: int) -> None:
    """Wait until the clock makes greater ids: what comes next is younger than the copies."""
    while id_floor(datetime.now(UTC)) <= last:
        time.sleep(0.05)


def _expression(table: str, name: str, specimens: Specimens, copies: Copies) -> str:
    """A column of a copy."""
    if name in ID_COLUMNS:
        return _moved(table, name, specimens, copies)
    if name == "uuid":
        moved = _moved(table, "id", specimens, copies)
        return UUID.format(id=f"({moved})", bits=SEQUENCE_BITS, epoch=EPOCH_MS)
    if name == "address":
        return NUMBERED.format(pattern=NUMBER, step=specimens.messages)
    return f's."{name}"'


def _moved(table: str, name: str, specimens: Specimens, copies: Copies) -> str:
    """A copy's id: NULL stays, and what is no specimen's."""
    if table == CONTENT or name == "content_id":
        if not copies.own_contents:
            return f's."{name}"'
        return f"{copies.base} + {copies.first} * {specimens.ids} + r_{name}.rank"
    return f'coalesce({copies.base} + k::bigint * {specimens.ids} + r_{name}.rank, s."{name}")'


def _count(reader: Reader, query: str) -> int:
    row = reader.execute(query.encode()).fetchone()
    return int(str(row[0])) if row else 0


_COLUMNS = """
SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
