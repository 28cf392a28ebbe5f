"""What a customer hung on a send, as its objects and every one of its events show it: tags, metadata, and that it is a test."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
from django.db.backends.utils import CursorWrapper

from relay_project.db.ids import MAX_ID

Labels = Mapping[str, Any]

NONE: Labels = {}  # what nearly every send has
# Nearly all sends have nothing: a batch of them costs one look at their rows, and no parsing.
_LABELS = """
SELECT id, tags, metadata::text, is_test FROM sending_send
 WHERE id = ANY(%(ids)s) AND id BETWEEN %(low)s AND %(high)s AND (tags IS NOT NULL OR metadata IS NOT NULL OR is_test)
"""


def labels(tags: Sequence[str] | None, metadata: Mapping[str, str] | None, is_test: bool) -> Labels:
    """What events say of a send beyond what happened to it; empty where there is nothing to say."""
    if not (tags or metadata or is_test):
        return NONE
    found: dict[str, Any] = {}
    if tags:
        found["tags"] = list(tags)
    if metadata:
        found["metadata"] = dict(metadata)
    if is_test:
        found["is_test"] = True
    return found


def labels_of(cursor: CursorWrapper, send_ids: Collection[int]) -> dict[int, Labels]:
    """The same by send, for those that have any; one statement."""
    ids = sorted({send_id for send_id in send_ids if 0 < send_id <= MAX_ID})
    if not ids:
        return {}
    cursor.execute(_LABELS, {"ids": ids, "low": ids[0], "high": ids[-1]})
    return {
        send_id: labels(tags, None if metadata is None else orjson.loads(metadata), is_test)
        for send_id, tags, metadata, is_test in cursor.fetchall()
    }
