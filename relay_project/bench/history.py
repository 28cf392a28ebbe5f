"""A month of finished mail, kept between runs: what a run is to forget before it begins.

History (bench.build) lies in the days before the one it was made on; a run adds to the days from then on.
"""

from datetime import date, timedelta

from django.apps import apps
from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.db.models import Model

from projects.models import EventOutbox, FeedPosition
from relay_project.bench.plan import BenchError
from relay_project.db.partitions import existing_partitions, partition_name, partitioned_tables

FORGOTTEN_APPS = ("ips", "sending", "webhooks")  # whose tables a run is to find empty
DAYS_LOOKED_AT = 800  # behind the history


def empty_present() -> None:
    """Forget all mail of the days behind the history, and everything that the last run has left in other tables."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('bench_history') IS NOT NULL")
        if not cursor.fetchone()[0]:
            raise BenchError("The history was not finished; remove its folder and try again.")
        cursor.execute("SELECT last_day FROM bench_history")
        tables = [*_days_after(cursor, cursor.fetchone()[0]), *_plain_tables(cursor)]
        cursor.execute(f"TRUNCATE {', '.join(tables)}")
        cursor.execute("DELETE FROM procrastinate_jobs")


def _days_after(cursor: CursorWrapper, last_day: date) -> list[str]:
    """The partitions of all days after that one."""
    there = existing_partitions(cursor)
    names = {
        partition_name(table, last_day + timedelta(days=ahead))
        for table, _ in partitioned_tables(cursor)
        for ahead in range(1, DAYS_LOOKED_AT)
    }
    return sorted(there & names)


def _plain_tables(cursor: CursorWrapper) -> list[str]:
    """Tables of ours that are not partitioned and that a run fills."""
    partitioned = {table for table, _ in partitioned_tables(cursor)}
    models: list[type[Model]] = [EventOutbox, FeedPosition]
    models += [model for label in FORGOTTEN_APPS for model in apps.get_app_config(label).get_models()]
    names = {model._meta.db_table for model in models}
    return sorted(names - partitioned)
