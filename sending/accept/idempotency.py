"""One key never makes two sends.

The record is inserted in the transaction of the send it stands for: a second call with the same key waits on the unique
index until the first commits (then it replays) or rolls back (then it sends). A crash leaves neither or both.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from django.db import connection
from django.db.backends.utils import CursorWrapper

from sending.accept.request import Accepted, Refused, SendRequest

MAX_KEY = 255  # characters


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept beside a key."""

    fingerprint: str
    answer: dict[str, Any]

    @classmethod
    def of(cls, request: SendRequest, accepted: Accepted) -> "Record":
        """The record that a request's acceptance leaves."""
        return cls(request.fingerprint, {"id": accepted.send_id, "message_id": accepted.message_id})

    def replay(self, request: SendRequest) -> Accepted:
        """The answer the key got before; raises Refused when the body differs."""
        if self.fingerprint != request.fingerprint:
            raise Refused("This idempotency key was used with a different request body.", status=409)
        return Accepted(self.answer["id"], self.answer["message_id"], replayed=True)


def find(project_id: int, keys: Collection[str]) -> dict[str, Record]:
    """Those of the keys that were used."""
    if not keys:
        return {}
    with connection.cursor() as cursor:
        return _read(cursor, project_id, keys)


def begin(
    cursor: CursorWrapper, project_id: int, answers: Mapping[str, tuple[SendRequest, Accepted]]
) -> dict[str, Record]:
    """Claim the keys within the accept's transaction, each with the answer that its commit will make true.

    Returns those that a call which committed meanwhile has used. One statement, in order of the keys, so that two batches
    with the same ones wait for each other instead of crossing.
    """
    if not answers:
        return {}
    rows = [{"key": key, **asdict(Record.of(*answer))} for key, answer in sorted(answers.items())]
    cursor.execute(
        """INSERT INTO sending_idempotencyrecord (project_id, key, fingerprint, status_code, answer)
           SELECT %s, r.key, r.fingerprint, 200, r.answer
             FROM ROWS FROM (jsonb_to_recordset(%s::jsonb) AS (key text, fingerprint text, answer jsonb))
                  WITH ORDINALITY AS r (key, fingerprint, answer, place)
            ORDER BY r.place
           ON CONFLICT (project_id, key) DO NOTHING RETURNING key""",
        [project_id, orjson.dumps(rows).decode()],
    )
    claimed = {row[0] for row in cursor.fetchall()}
    used = answers.keys() - claimed
    return _read(cursor, project_id, used) if used else {}


def _read(cursor: CursorWrapper, project_id: int, keys: Collection[str]) -> dict[str, Record]:
    cursor.execute(
        "SELECT key, fingerprint, answer::text FROM sending_idempotencyrecord WHERE project_id = %s AND key = ANY(%s)",
        [project_id, list(keys)],
    )
    return {key: Record(fingerprint, orjson.loads(answer)) for key, fingerprint, answer in cursor.fetchall()}
