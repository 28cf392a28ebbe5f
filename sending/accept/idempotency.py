"""One key never makes two sends.

The record is inserted in the transaction of the send it stands for, so a crash leaves neither or both. A transaction locks
a key before it uses it (an advisory lock, free at its end): who finds it taken is told so, and comes again. Nobody waits
in the database, where a transaction of many would wait along. A record's age is looked at when it is read; the sweep only
keeps the table small.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from django.db import connection
from django.db.backends.utils import CursorWrapper

from sending.accept.request import Accepted, Refused, SendRequest

MAX_KEY = 255  # characters
OTHER_BODY = "This idempotency key was used with a different request body."
BUSY = "A request with this idempotency key is being processed."

Key = tuple[int, str]  # project id, key


class InFlight(Refused):
    """Another transaction holds the key just now."""

    def __init__(self) -> None:
        super().__init__(BUSY, status=409, retry_after=1)


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept beside a key."""

    fingerprint: str
    answer: dict[str, Any]

    @classmethod
    def of(cls, request: SendRequest, accepted: Accepted) -> "Record":
        """The record that a request's acceptance leaves."""
        return cls(request.fingerprint, {"id": accepted.send_id, "message_id": accepted.message_id})

    def answer_to(self, request: SendRequest) -> Accepted | Refused:
        """The answer that the key got before, or the refusal of another body."""
        if self.fingerprint != request.fingerprint:
            return Refused(OTHER_BODY, status=409)
        return Accepted(self.answer["id"], self.answer["message_id"], replayed=True)


@dataclass(frozen=True, slots=True)
class Replay:
    """What a call with several messages was answered before."""

    answer: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Whole:
    """The key of a call with several messages, and how their outcomes are written down."""

    key: Key
    fingerprint: str
    results: Callable[[Sequence[Accepted | Refused]], list[dict[str, Any]]]

    def hold(self, cursor: CursorWrapper) -> Replay | None:
        """Keep the key until the transaction's end; what it got before, if it was used. Raises InFlight and Refused."""
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, %s))", [self.key[1], self.key[0]])
        if not cursor.fetchone()[0]:
            raise InFlight
        record = _read(cursor, {self.key}).get(self.key)
        if record is None:
            return None
        if record.fingerprint != self.fingerprint:
            raise Refused(OTHER_BODY, status=409)
        return Replay(record.answer["results"])

    def record(self, cursor: CursorWrapper, outcomes: Sequence[Accepted | Refused]) -> None:
        """Write the answer down, in the transaction that makes it true."""
        begin(cursor, {self.key: Record(self.fingerprint, {"results": self.results(outcomes)})})


def find(project_id: int, keys: Collection[str]) -> dict[str, Record]:
    """Those of a project's keys that were used, and what they got."""
    if not keys:
        return {}
    with connection.cursor() as cursor:
        return {key: record for (_, key), record in _read(cursor, {(project_id, key) for key in keys}).items()}


# A row that has expired is taken over, as if the sweep had come by. In the order of the keys, for the eyes alone: nobody
# waits, since whoever inserts a key holds its lock.
_BEGIN = """
WITH asked AS MATERIALIZED (
  SELECT r.*, pg_try_advisory_xact_lock(hashtextextended(r.key, r.project)) AS is_free
    FROM jsonb_to_recordset(%(records)s::jsonb) AS r (project bigint, key text, fingerprint text, answer jsonb)
), claimed AS (
  INSERT INTO sending_idempotencyrecord AS old (project_id, key, fingerprint, status_code, answer)
  SELECT project, key, fingerprint, 200, answer FROM asked WHERE is_free
  ON CONFLICT (project_id, key) DO UPDATE
     SET fingerprint = excluded.fingerprint, answer = excluded.answer, created_at = excluded.created_at
   WHERE old.created_at <= now() - make_interval(days => %(days)s)
  RETURNING project_id, key
)
SELECT project, key, is_free FROM asked
 WHERE NOT EXISTS (SELECT FROM claimed c WHERE c.project_id = asked.project AND c.key = asked.key)
"""
_READ = """
SELECT i.project_id, i.key, i.fingerprint, i.answer::text
  FROM unnest(%(projects)s::bigint[], %(keys)s::text[]) AS asked (project, key)
  JOIN sending_idempotencyrecord i ON i.project_id = asked.project AND i.key = asked.key
 WHERE i.created_at > now() - make_interval(days => %(days)s)
"""


def begin(cursor: CursorWrapper, records: Mapping[Key, Record]) -> dict[Key, Record | InFlight]:
    """Claim the keys within the accept's transaction, each with the answer that its commit will make true.

    Returns those that may not be used: with the record of a call that has committed, or InFlight.
    """
    if not records:
        return {}
    rows = [
        {"project": project_id, "key": key, "fingerprint": record.fingerprint, "answer": record.answer}
        for (project_id, key), record in records.items()
    ]
    cursor.execute(_BEGIN, {"records": orjson.dumps(rows).decode(), "days": settings.RETENTION_IDEMPOTENCY_DAYS})
    taken = {(project_id, key): is_free for project_id, key, is_free in cursor.fetchall()}
    used = _read(cursor, {key for key, is_free in taken.items() if is_free})
    return {key: used.get(key) or InFlight() for key in taken}  # one that expires this moment is asked for again


def _read(cursor: CursorWrapper, keys: Collection[Key]) -> dict[Key, Record]:
    if not keys:
        return {}
    projects, names = zip(*keys, strict=True)
    days = settings.RETENTION_IDEMPOTENCY_DAYS
    cursor.execute(_READ, {"projects": list(projects), "keys": list(names), "days": days})
    return {(project_id, key): Record(print_, orjson.loads(answer)) for project_id, key, print_, answer in cursor}
