"""limit.reached: told once for each hour or day in which a limit refused something, not for each refusal.

What a caller in a loop asks for costs a look at this process's memory; one process of all writes the event.
"""

from datetime import UTC, datetime

from django.db import transaction

from projects.events import EventKind, NewEvent, emit
from projects.models import Project
from relay_project.db.rates import SECONDS, Rate, Window, use

PACE_EVERY_SECONDS = 3600  # the limits of a second or a minute are reached again and again by whoever reaches them
KEPT = 10_000  # of what this process has told

_ONCE = {window: Rate("limit.reached", 1, max(SECONDS[window], PACE_EVERY_SECONDS)) for window in Window}
_told: dict[str, int] = {}  # subject → the time after which it is told again


def tell_of_limit(project: Project, limit: str, count: int, window: Window, at: int, resets_at: int) -> None:
    """Write the event, unless the project was told of this window. `at`: the second of the refusal.

    A transaction of its own, after the refusal was counted.
    """
    span = max(SECONDS[window], PACE_EVERY_SECONDS)
    key = f"{project.pk} {limit} {at // span}"
    if _told.get(key, 0) > at:
        return
    payload = {"limit": limit, "count": count, "resets_at": resets_at}
    with transaction.atomic():
        if use(_ONCE[window], key, datetime.fromtimestamp(at, UTC)).allowed:
            emit(NewEvent(project.pk, EventKind.LIMIT_REACHED, "project", project.pk, payload))
    if len(_told) >= KEPT:
        _told.clear()
    _told[key] = at - at % span + span


def forget_told() -> None:
    """Ask the database again: for tests, whose rows are gone."""
    _told.clear()
