"""Notices of rates over the warning line."""

from typing import Any

import pytest
from django.utils import timezone

from projects.models import Notice
from sending.models import Dimension
from sending.models.statistics import INSTANCE, HourCount
from sending.statistics.rate_notices import tell_of_rates
from sending.statistics.tally import hour_of
from tests.sending.scene import Scene


@pytest.mark.parametrize(
    ("figures", "subjects"),
    [
        ({"accepted": 980, "bounced": 20}, []),
        ({"accepted": 970, "bounced": 30}, ["The bounce rate of Shop is 3 %"]),
        ({"accepted": 90, "bounced": 90}, []),
        ({"accepted": 997, "bounced": 1, "complained": 2}, ["The complaint rate of Shop is 0.2 %"]),
    ],
)
def test_people_and_staff_are_told_of_rates_over_the_line(scene: Scene, figures: Any, subjects: list[str]) -> None:
    now = timezone.now()
    HourCount.objects.create(
        project_id=INSTANCE, dimension=Dimension.PROJECT, key=str(scene.project.pk), hour=hour_of(now), **figures
    )
    for _ in range(2):
        tell_of_rates(now)
    told = Notice.objects.order_by("id").values_list("project_id", "subject")
    assert list(told) == [(whose, subject) for subject in subjects for whose in (scene.project.pk, None)]
