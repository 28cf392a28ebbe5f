"""Dear figures: read seldom, within a time, and kept with their age for probes."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from sending import health, tasks
from sending.backlog.measure import FRESH, latest, measure
from sending.models import Measurement, Recipient
from tests.sending.scene import Scene, later


@pytest.mark.django_db
def test_the_last_value_is_kept_with_its_age_while_it_is_fresh() -> None:
    now = timezone.now()
    assert measure("figure", lambda: {"n": 1}, now) == {"n": 1}
    found = latest("figure", now + timedelta(seconds=40))
    assert found is not None
    assert (found.value, found.age) == ({"n": 1}, timedelta(seconds=40))
    assert latest("figure", now + FRESH + timedelta(seconds=1)) is None


@pytest.mark.django_db
def test_a_figure_that_took_long_rests() -> None:
    now = timezone.now()
    measure("figure", lambda: 1, now)
    Measurement.objects.update(seconds=3.0)
    assert measure("figure", lambda: 2, now + timedelta(seconds=59)) is None
    assert measure("figure", lambda: 2, now + timedelta(seconds=61)) == 2


@pytest.mark.django_db
def test_a_reading_that_takes_too_long_leaves_the_last_value() -> None:
    def hang() -> Any:
        raise OperationalError("canceling statement due to statement timeout")

    measure("figure", lambda: 1, later(seconds=-60))
    assert measure("figure", hang, timezone.now()) is None
    assert Measurement.objects.get(pk="figure").value == 1


def test_the_probe_tells_what_housekeeping_read(scene: Scene, django_assert_num_queries: Any) -> None:
    scene.send("ann@one.example")
    tasks.measure_ledger(0)
    with django_assert_num_queries(1):
        assert health.ledger().passed
    Recipient.objects.update(status="accepted")
    assert health.ledger().passed, "not read again for the probe"
    Measurement.objects.update(measured_at=later(minutes=-6))
    assert not health.ledger().passed, "too old to be told: read anew"


def test_depths_are_kept(scene: Scene) -> None:
    scene.send("ann@one.example")
    tasks.measure_depth(0)
    kept = {row["queue_name"]: row["due"] for row in Measurement.objects.get(pk="depths").value}
    assert kept == {"transactional": 1, "distributional": 0}
