"""Making the history: a few messages are delivered, and what is left of them is copied into each of 30 days."""

import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

from django.db import connection

from relay_project.bench.outgoing import send
from relay_project.bench.plan import Plan, Traffic
from relay_project.bench.specimens import SPECIMENS, Copies, copy_query, pour, rank_specimens
from relay_project.bench.stage import fill, make_stages
from relay_project.db.ids import hours_after, id_floor
from relay_project.db.partitions import Day, existing_partitions, make_partition, partition_name, partitioned_tables

DAYS = 30
RECIPIENTS = 20  # of each message, as many as MAX_RECIPIENTS allows
HOURS_OF_MAIL = 12  # after midnight: when the mail of each day was sent
_MARK = "CREATE TABLE bench_history (recipients bigint NOT NULL, last_day date NOT NULL)"


def build_history(plan: Plan, folder: Path) -> dict[str, Any]:
    """Deliver a few messages and copy what is left of them into each of the days before today; says what that took."""
    began = time.monotonic()
    projects = make_stages(1)
    since = id_floor(datetime.now(UTC))
    few = Plan("drain", Traffic(messages=SPECIMENS, recipients=RECIPIENTS), signatures=plan.signatures)
    fill(projects, few)
    send(few, folder, since)
    today = datetime.now(UTC).date()
    with connection.cursor() as cursor:
        tables = dict(partitioned_tables(cursor))
    octets = sum(copy_day(tables, since, today - timedelta(days=back), plan.history) for back in range(DAYS, 0, -1))
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM (ANALYZE) {', '.join(tables)}")
        cursor.execute(_MARK)
        cursor.execute("INSERT INTO bench_history VALUES (%s, %s)", [plan.history, today - timedelta(days=1)])
        cursor.execute("SELECT pg_database_size(current_database())")
        size = int(cursor.fetchone()[0])
    return {"name": "build_history", "seconds": round(time.monotonic() - began, 1), "bytes": size, "copied": octets}


def copy_day(tables: Mapping[str, str], since: int, day: date, recipients: int) -> int:
    """Fill the partitions (table → key) of one day from what has ids from `since` on; returns the octets copied."""
    copies = ceil(recipients / DAYS / (SPECIMENS * RECIPIENTS))
    of_day = Day.of(day)
    base = hours_after(of_day.floor, HOURS_OF_MAIL)
    octets = 0
    with connection.cursor() as cursor:
        there = existing_partitions(cursor)
        for table, key in tables.items():
            if partition_name(table, day) not in there:
                make_partition(cursor, table, key, of_day)
    with rank_specimens(tables, since) as (reader, specimens):
        for table, key in tables.items():
            query = copy_query(reader, table, key, specimens, Copies(base, 0, copies - 1, own_contents=True))
            octets += pour(query, reader, partition_name(table, day), fresh=True)
    return octets
