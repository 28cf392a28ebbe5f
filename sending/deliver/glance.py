"""Glance: whether anything at all is due in some lanes, before the dearer discovery and claim.

A sender that is attentive, or at rest, mostly looks in vain. This is one probe of the index of due rows, planned in a
tenth of a claim's time; rows of a paused queue make it say yes, and the discovery then leaves them out.
"""

from collections.abc import Sequence

from django.db import connection

_GLANCE = """
SELECT EXISTS (SELECT FROM sending_waiting WHERE lane = ANY(%s) AND phase = 0)
"""


def is_anything_due(lanes: Sequence[int]) -> bool:
    """Whether a claim may find rows in these lanes."""
    with connection.cursor() as cursor:
        cursor.execute(_GLANCE, [list(lanes)])
        [found] = cursor.fetchone()
    return bool(found)
