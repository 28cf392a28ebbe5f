"""One key never makes two sends.

The record is inserted in the transaction of the send it stands for: a second call with the same key waits on the unique
index until the first commits (then it replays) or rolls back (then it sends). A crash leaves neither or both.
"""

import json

from django.db import connection
from django.db.backends.utils import CursorWrapper

from sending.accept.request import Accepted, Refused, SendRequest

MAX_KEY = 255  # characters


def find(project_id: int, request: SendRequest) -> Accepted | None:
    """What the key got before, if it was used; raises Refused when the body differs."""
    if request.idempotency_key is None:
        return None
    with connection.cursor() as cursor:
        return _read(cursor, project_id, request)


def begin(cursor: CursorWrapper, project_id: int, request: SendRequest) -> Accepted | None:
    """Claim the key within the accept's transaction, or answer what a call that committed meanwhile got."""
    if request.idempotency_key is None:
        return None
    cursor.execute(
        """INSERT INTO sending_idempotencyrecord (project_id, key, fingerprint, status_code, answer)
           VALUES (%s, %s, %s, 0, 'null') ON CONFLICT (project_id, key) DO NOTHING RETURNING id""",
        [project_id, request.idempotency_key, request.fingerprint],
    )
    return None if cursor.fetchone() else _read(cursor, project_id, request)


def settle(cursor: CursorWrapper, project_id: int, request: SendRequest, accepted: Accepted) -> None:
    """Keep the answer beside the key."""
    if request.idempotency_key is not None:
        cursor.execute(
            "UPDATE sending_idempotencyrecord SET status_code = 200, answer = %s WHERE project_id = %s AND key = %s",
            [
                json.dumps({"id": accepted.send_id, "message_id": accepted.message_id}),
                project_id,
                request.idempotency_key,
            ],
        )


def _read(cursor: CursorWrapper, project_id: int, request: SendRequest) -> Accepted | None:
    cursor.execute(
        "SELECT fingerprint, answer::text FROM sending_idempotencyrecord WHERE project_id = %s AND key = %s",
        [project_id, request.idempotency_key],
    )
    row = cursor.fetchone()
    if row is None:
        return None
    fingerprint, answer = row[0], json.loads(row[1])
    if fingerprint != request.fingerprint or answer is None:
        raise Refused("This idempotency key was used with a different request body.", status=409)
    return Accepted(answer["id"], answer["message_id"], replayed=True)
