"""Every hot statement carries a literal range of ids: with forty days of history it looks at one or two of them."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from relay_project.db.partitions import make_partitions
from sending.content import raw_message, stored_message
from sending.deliver.giveback import sweep
from sending.deliver.load import Job
from sending.deliver.settle import settle
from sending.journey import read_journey
from sending.models import Recipient, Send, Waiting
from sending.objects import full_send_object, send_objects
from sending.retry import retry
from sending.search import SendFilter, find_sends
from sending.statistics.newcomers import read_latecomers
from sending.statistics.outcomes import fold_outcomes
from tests.sending import rollup
from tests.sending.scene import LATER, MISSING, OK, Scene, answered, later, nodes, plans, signed

MOST = 2  # the day, and the next one where an hour may cross midnight
PARTITION = re.compile(r"(.+)_p\d{8}\Z")


@pytest.fixture
def history(scene: Scene) -> Scene:
    """Forty days of partitions."""
    make_partitions(40)
    return scene


def touched(work: Callable[[], object]) -> dict[str, int]:
    """Statement → the most partitions of one table that its plan names."""
    found = {}
    for sql, plan in plans(work):
        names = {node["Relation Name"] for node in nodes(plan) if "Relation Name" in node}
        tables = [match[1] for name in names if (match := PARTITION.match(name))]
        if tables:
            found[" ".join(sql.split())] = max(map(tables.count, tables))
    return found


def check(work: Callable[[], object], least: int = 1) -> None:
    found = touched(work)
    assert len(found) >= least, "the statements that were meant were seen"
    assert {sql: count for sql, count in found.items() if count > MOST} == {}


def test_loading_settling_and_sweeping_look_at_their_own_day(history: Scene) -> None:
    for number in range(20):
        history.send(f"u{number}@one.example", "v@two.example")
    loaded: list[Job] = []
    check(lambda: loaded.extend(history.jobs(39)), 2)
    outcomes = [answered(job, (OK, LATER, MISSING)[i % 3], signature=signed(job)) for i, job in enumerate(loaded)]
    check(lambda: settle(outcomes, timezone.now()))
    check(lambda: settle(outcomes, timezone.now()))  # again: late, so what stood there is replaced
    history.job()
    check(lambda: sweep(later(hours=1)))


def test_reading_and_retrying_one_send_looks_at_its_day_and_those_up_to_today(history: Scene) -> None:
    accepted = history.send("ann@one.example", "bob@two.example")
    settle([answered(job, LATER, signature=signed(job)) for job in history.jobs()], timezone.now())
    send = Send.objects.get(pk=accepted.send_id)
    check(lambda: Send.objects.get(pk=accepted.send_id))
    check(lambda: raw_message(send), 3)
    check(lambda: stored_message(send), 2)
    check(lambda: send_objects([send]))
    check(lambda: full_send_object(send, timezone.now()))
    check(lambda: read_journey(send, timezone.now()))
    Waiting.objects.all().delete()
    Recipient.objects.filter(send_id=send.pk, pk__gte=send.pk).update(status="failed")
    check(lambda: retry(send, timezone.now()))


def test_statistics_and_searches_read_the_tail_and_the_days_of_what_was_told(history: Scene) -> None:
    """Neither the reader of what comes in nor that of the event log looks into a day that its batch is not about."""
    accepted = [history.send(f"u{number}@one.example", "v@two.example", tags=("welcome",)) for number in range(20)]
    settle([answered(job, (OK, LATER)[place % 2]) for place, job in enumerate(history.jobs())], timezone.now())
    check(lambda: rollup.take(), 2)
    rollup.sequence()
    check(fold_outcomes, 4)
    check(lambda: read_latecomers())
    found = SendFilter(tag="welcome", date_from=timezone.now() - timedelta(minutes=5), date_to=timezone.now())
    check(lambda: find_sends(history.project.pk, found, 50))
    assert len(find_sends(history.project.pk, found, 50)) == len(accepted)
