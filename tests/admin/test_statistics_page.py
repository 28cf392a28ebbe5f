"""Charts of everybody's mail: the sum of all projects, and the same in parts."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from ips.models import SourceIp
from projects.models import Project
from sending.models import DayCount, HourCount
from sending.models.statistics import INSTANCE
from sending.statistics.tally import hour_of

World = dict[type[Model], Any]
URL = reverse("admin:statistics_changelist")


@pytest.fixture
def counts(world: World) -> None:
    """Two hours of two projects, of which one is gone; of one address; and of a provider with markup in its name."""
    hour = hour_of(timezone.now())
    shop, address = world[Project].pk, world[SourceIp].pk
    for dimension, key, at, total, accepted, bounced in (
        ("project", str(shop), hour, 30, 20, 3),
        ("project", str(shop), hour - timedelta(hours=1), 10, 10, 0),
        ("project", "4711", hour, 5, 5, 0),
        ("ip", str(address), hour, 45, 35, 3),
        ("provider", "<b>google</b>", hour, 45, 35, 3),
    ):
        figures = {"total": total, "accepted": accepted, "bounced": bounced}
        HourCount.objects.create(project_id=INSTANCE, dimension=dimension, key=key, hour=at, **figures)
        DayCount.objects.update_or_create(
            project_id=INSTANCE, dimension=dimension, key=key, day=at.date(), defaults=figures
        )


def test_all_projects_are_summed_up_and_each_has_its_chart(staff_client: Client, world: World, counts: None) -> None:
    answer = staff_client.get(URL)
    assert answer.context["tile"].total == 45
    assert sum(bar.total for bar in answer.context["bars"]) == 45
    assert len(answer.context["bars"]) == 25  # the hour that began, and 24 before it
    rows = {chart.row.name: chart.row.recipients for chart in answer.context["charts"]}
    assert rows == {world[Project].name: 40, "#4711": 5}
    [first, *_] = answer.context["charts"]
    assert reverse("admin:projects_project_change", args=[world[Project].pk]) in first.link
    assert set(first.outlines) == {"accepted", "bounced", "waiting"}
    assert all(outline.startswith("M") for outline in first.outlines.values())


@pytest.mark.parametrize("period", ["24h", "7d", "30d", "1y"])
@pytest.mark.parametrize("by", ["project", "ip", "provider", "queue", "domain"])
def test_every_period_and_part_opens(staff_client: Client, counts: None, period: str, by: str) -> None:
    page = staff_client.get(URL, {"period": period, "by": by})
    assert page.status_code == 200
    assert (page.context["period"], page.context["by"]) == (period, by)
    assert b"<b>google" not in page.content


def test_what_is_not_there_is_the_default(staff_client: Client, counts: None) -> None:
    page = staff_client.get(URL, {"period": "a\0", "by": "status"})
    assert (page.context["period"], page.context["by"]) == ("24h", "project")


def test_only_staff_sees_it(client: Client, counts: None) -> None:
    assert client.get(URL).status_code == 302


def test_the_menu_leads_there(staff_client: Client) -> None:
    assert f'href="{URL}"' in staff_client.get(reverse("admin:index")).content.decode()
