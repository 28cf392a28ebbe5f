"""The readers of run_webhooks, for tests that want to see what they count at once."""

from datetime import timedelta
from unittest import mock

from django.db import connection

from projects.events import sequence_outbox
from sending.statistics import newcomers
from sending.statistics.newcomers import read_newcomers
from sending.statistics.outcomes import fold_outcomes


def sequence() -> int:
    """Give events their positions."""
    with connection.cursor() as cursor:
        return sequence_outbox(cursor)


def take(limit: int = newcomers.BATCH) -> int:
    """Read all that came in until now."""
    with mock.patch.object(newcomers, "LAG", timedelta(seconds=-1)):
        taken = read_newcomers(limit)
        return taken + (take(limit) if taken == limit else 0)


def count_up() -> None:
    """Whatever happened until now is in the statistics, and can be found."""
    take()
    while sequence():
        pass
    while fold_outcomes():
        pass
