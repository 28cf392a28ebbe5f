"""An archive to search in: a month of sends to one recipient each, with what they are searched by, and nothing else.

Made by the server itself, a day at a time, as tables without indexes that become partitions when they are full: then the
indexes are built by sorting. Texts are drawn from short lists with a long tail, as in real mail: some words are in a
third of all sends, some in one.
"""

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from projects.models import Project
from queues.models import Queue
from relay_project.bench.build import DAYS
from relay_project.bench.plan import Plan
from relay_project.bench.stage import make_stages
from relay_project.db.partitions import Day, attach, existing_partitions, partition_name
from sending.models import ReaderPosition
from sending.statistics.positions import NEWCOMERS

PROJECTS = 10  # the first one has six of ten sends
TABLES = {"sending_send": "id", "sending_recipient": "id", "sending_searchtext": "send_id"}

# A number of its own for each (send, purpose), the same at every run.
_DRAW = "abs(hashint8(%(base)s + g::bigint * {factor})::bigint)"


def _words(text: str) -> list[str]:
    return text.split()


FIRST = _words(
    "ann bob carol dave erin frank grace heidi ivan judy karl laura mike nina oscar peggy quinn rita sam "
    "tina uwe vera walter xenia yuri zoe"
)
LAST = _words(
    "smith jones brown taylor wilson davies evans thomas johnson roberts walker wright robinson hughes "
    "edwards green hall wood harris lewis martin clarke jackson clark turner hill scott cooper ward moore"
)
BIG = _words("gmail.com gmail.com gmail.com yahoo.com outlook.com outlook.com hotmail.com icloud.com web.de gmx.net")
SUBJECTS = (
    *("Your order %s is on its way", "Invoice %s", "Welcome to the club", "Reset your password", "Order %s confirmed"),
    *("Weekly news %s", "Reminder: appointment %s", "Receipt for payment %s", "Your parcel %s was delivered"),
    *("[Support] Ticket %s was answered", "Sign in with code %s", "Statement %s is ready"),
)
_LINES = """
CREATE TEMP TABLE line ON COMMIT DROP AS
SELECT g AS number, %(floor)s + g::bigint * %(step)s AS id, p.project, p.domain_id, p.sender,
       {first} || '.' || {last} || CASE WHEN {draw3} %% 3 = 0 THEN '' ELSE ({draw4} %% 100000)::text END || '@' ||
       CASE WHEN {draw5} %% 4 = 0 THEN 'corp' || {draw6} %% 5000 || '.example' ELSE {big} END AS address,
       replace({subject}, '%%s', (100000 + {draw7} %% 9000000)::text) AS subject,
       CASE WHEN {draw8} %% 1000 < 940 THEN 'accepted' WHEN {draw8} %% 1000 < 975 THEN 'bounced'
            WHEN {draw8} %% 1000 < 998 THEN 'deferred' WHEN {draw8} %% 100000 < 99990 THEN 'suppressed'
            ELSE 'failed' END AS status
  FROM generate_series(1, %(rows)s) AS g
  JOIN project p ON p.place = CASE WHEN {draw9} %% 10 < 6 THEN 0 ELSE 1 + {draw9} %% {others} END
"""
_SENDS = """
INSERT INTO {table} (id, uuid, project_id, queue_id, domain_id, content_id, from_address, from_name, subject, size_bytes,
                     message_date, writer_version, mailer, instance_domain, priority, is_test)
SELECT id, gen_random_uuid(), project, %(queue)s, domain_id, id, sender, NULL, subject, 2500, id_time(id), 1, 'Relay',
       'relay.test', 0, false FROM line ORDER BY id
"""
_RECIPIENTS = """
INSERT INTO {table} (id, send_id, project_id, position, type, address, name, status, try_count)
SELECT id + 1, id, project, 0, 'to', address, '', status, 1 FROM line ORDER BY id
"""
# As sending.statistics.newcomers writes it.
_TEXTS = """
INSERT INTO {table} (send_id, keys, from_text, to_text, subject_text)
SELECT id, ARRAY[search_key(project, 't', address), search_key(project, 'p', ''), search_key(project, 'f', sender)]
           || CASE WHEN subject ~ '^[^[:alnum:]]' THEN ARRAY[search_key(project, 's-', left(subject, 1))] END,
       sender, E'\\n' || address || E'\\n', lower(subject) FROM line ORDER BY id
"""


def build_archive(plan: Plan, folder: Path) -> dict[str, Any]:
    """Make the archive in the days before today; says what that took."""
    began = time.monotonic()
    projects = make_stages(PROJECTS)
    today = datetime.now(UTC).date()
    with connection.cursor() as cursor:
        cursor.execute("SET maintenance_work_mem = '1GB'")
        for back in range(DAYS, 0, -1):
            _make_day(cursor, projects, today - timedelta(days=back), plan.archive // DAYS)
        position = Day.of(today).floor
        ReaderPosition.objects.update_or_create(name=NEWCOMERS, defaults={"position": position})
        cursor.execute(f"VACUUM (ANALYZE) {', '.join(TABLES)}")
        cursor.execute("SELECT pg_database_size(current_database())")
        size = int(cursor.fetchone()[0])
    return {"name": "build_archive", "seconds": round(time.monotonic() - began, 1), "bytes": size}


def _make_day(cursor: CursorWrapper, projects: list[Project], day: date, rows: int) -> None:
    of_day = Day.of(day)
    there = existing_partitions(cursor)
    names = {table: partition_name(table, day) for table in TABLES}
    if names["sending_searchtext"] in there:
        return
    values = {
        "floor": of_day.floor,
        "step": (of_day.ceiling - of_day.floor) // (rows + 1),
        "rows": rows,
        "base": of_day.day.toordinal() * 1_000_003,
        "queue": Queue.objects.get(name="transactional").pk,
    }
    with transaction.atomic():
        _projects(cursor, projects)
        cursor.execute(_lines(), values)
        for (table, key), statement in zip(TABLES.items(), (_SENDS, _RECIPIENTS, _TEXTS), strict=True):
            name = names[table]
            cursor.execute(
                f'CREATE TABLE "{name}" (LIKE "{table}" INCLUDING DEFAULTS, '
                f'CONSTRAINT day CHECK ("{key}" >= {of_day.floor} AND "{key}" < {of_day.ceiling}))'
            )
            cursor.execute(statement.format(table=f'"{name}"'), values)
            attach(cursor, table, name, of_day)
            cursor.execute(f'ALTER TABLE "{name}" DROP CONSTRAINT day')


def _projects(cursor: CursorWrapper, projects: list[Project]) -> None:
    """The senders: three From addresses a project, of which one has nearly all mail."""
    cursor.execute(
        """CREATE TEMP TABLE project ON COMMIT DROP AS
           SELECT row_number() OVER (ORDER BY p.id) - 1 AS place, p.id AS project, d.id AS domain_id,
                  'hello@' || d.domain AS sender
             FROM projects_project p JOIN projects_domain d ON d.project_id = p.id WHERE p.id = ANY(%s)""",
        [[project.pk for project in projects]],
    )


def _lines() -> str:
    draws = {f"draw{number}": _DRAW.format(factor=1_000_003 * number + 7) for number in range(1, 13)}
    return _LINES.format(
        **draws,
        first=_one_of(FIRST, draws["draw1"]),
        last=_one_of(LAST, draws["draw2"]),
        big=_one_of(BIG, draws["draw10"]),
        subject=_one_of([subject.replace("%", "%%") for subject in SUBJECTS], draws["draw11"]),
        others=PROJECTS - 1,
    )


def _one_of(words: "list[str] | tuple[str, ...]", draw: str) -> str:
    quoted = ", ".join(f"'{word}'" for word in words)
    return f"(ARRAY[{quoted}])[1 + ({draw} %% {len(words)})::int]"
