"""The contract's two calls about numbers, and series; all from roll-ups."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sending.statistics.tally import Mail, Tally, Way, hour_of
from tests.sending.api.conftest import Api
from tests.sending.rollup import count_up


def counted(api: Api, ago: timedelta, domain: str = "shop.example.test", site: str = "google", **figures: int) -> None:
    """Have that counted in the hour that was so long ago."""
    tally, hour = Tally(), hour_of(timezone.now() - ago)
    for name, number in figures.items():
        way = None if name in ("total", "suppressed") else Way(7, site)
        tally.add(Mail(api.project.pk, hour, domain, 1, ("may",)), way, name, number)
        if name == "accepted":
            for _ in range(number):
                tally.add_latency(Mail(api.project.pk, hour, domain, 1), way, 3)
    with connection.cursor() as cursor:
        tally.write(cursor, timezone.now())


def read(api: Api, path: str) -> Any:
    response = api.get(f"/analytics/{path}")
    assert response.status_code == 200, response.content
    return response.json()


@pytest.mark.parametrize("path", ["stats", "stats?period=7d"])
def test_an_empty_project_has_zeros(api: Api, path: str) -> None:
    assert read(api, path) == {"sends": 0, "bounce_rate": 0, "complaint_rate": 0}


def test_stats_count_recipients_of_the_period(api: Api) -> None:
    counted(api, timedelta(hours=2), total=100, accepted=95, bounced=4, complained=1)
    counted(api, timedelta(days=3), total=100, accepted=100)
    counted(api, timedelta(days=20), total=200, accepted=200)
    assert read(api, "stats?period=24h") == {"sends": 100, "bounce_rate": 0.04, "complaint_rate": 0.01}
    assert read(api, "stats?period=7d") == {"sends": 200, "bounce_rate": 0.02, "complaint_rate": 0.005}
    assert read(api, "stats") == read(api, "stats?period=30d")
    assert read(api, "stats")["sends"] == 400


@pytest.mark.parametrize("period", ["1d", "30D", "%00", "x" * 300])
def test_another_period_is_refused(api: Api, period: str) -> None:
    response = api.get(f"/analytics/stats?period={period}")
    assert response.status_code in (400, 422)
    if response.status_code == 422:
        assert response.json()["violations"][0]["property"] == "period"


def test_the_chart_has_31_days_and_today_last(api: Api) -> None:
    counted(api, timedelta(), total=10, accepted=4, deferred=2, bounced=1)
    counted(api, timedelta(days=30), total=3, accepted=3)
    rows = read(api, "sends/chart")
    assert len(rows) == 31
    assert [row["date"] for row in rows] == sorted(row["date"] for row in rows)
    assert rows[-1] == {
        "date": datetime.now(UTC).date().isoformat(),
        "total": 10, "bounced": 1, "complained": 0, "accepted": 4, "queued": 5,
    }  # fmt: skip
    assert (rows[0]["total"], rows[1]["total"]) == (3, 0)


def test_what_was_sent_just_now_is_in_the_numbers(api: Api) -> None:
    api.send(to=["a@example.test", "b@example.test"])
    count_up()
    assert read(api, "stats?period=24h")["sends"] == 2
    assert read(api, "sends/chart")[-1]["queued"] == 2


def test_series_by_each_dimension_add_up(api: Api) -> None:
    counted(api, timedelta(hours=1), total=10, accepted=8, bounced=2)
    counted(api, timedelta(hours=1), "news.example.test", "mx.small.example", total=5, accepted=5, deferrals=3)
    counted(api, timedelta(days=2), total=1, accepted=1)
    for by in ("project", "domain", "queue", "ip", "provider", "tag"):
        found = read(api, f"series?interval=hour&by={by}")
        assert (found["interval"], found["by"]) == ("hour", by)
        assert sum(one["sends"] for one in found["series"]) == 15, by
        for one in found["series"]:
            assert sum(point["sends"] for point in one["points"]) == one["sends"]
            assert len(one["points"]) in (24, 25)
    domains = {one["key"]: one for one in read(api, "series?by=domain")["series"]}
    assert domains["shop.example.test"]["sends"] == 11
    assert domains["news.example.test"]["deferrals"] == 3
    assert 0.25 < domains["shop.example.test"]["latency"]["p50"] <= 0.5
    assert {one["key"] for one in read(api, "series?by=provider")["series"]} == {"google", "other"}
    assert [one["name"] for one in read(api, "series?by=ip")["series"]] == ["7"]
    [own] = read(api, "series")["series"]
    assert (own["key"], own["name"]) == ("", api.project.name)


def test_what_is_beyond_the_limit_is_summed_up(api: Api) -> None:
    for number in range(5):
        counted(api, timedelta(hours=1), f"d{number}.example.test", total=number + 1)
    series = read(api, "series?by=domain&limit=2")["series"]
    assert [(one["key"], one["sends"]) for one in series] == [
        ("d4.example.test", 5),
        ("d3.example.test", 4),
        (None, 6),
    ]
    assert series[-1]["name"] == "all others"
    [one] = read(api, "series?by=domain&key=d1.example.test")["series"]
    assert one["sends"] == 2


def test_a_range_of_days_has_each_of_them(api: Api) -> None:
    counted(api, timedelta(days=2), total=7)
    day = (timezone.now() - timedelta(days=2)).date()
    series = read(api, f"series?from={day}&to={day}")
    assert [point["sends"] for point in series["series"][0]["points"]] == [7]
    unix = int((timezone.now() - timedelta(days=3)).timestamp())
    assert read(api, f"series?from={unix}")["series"][0]["sends"] == 7


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("interval=week", "interval"),
        ("by=all", "by"),
        ("by=country", "by"),
        ("from=yesterday", "from"),
        ("to=0001-01-01", "to"),
        ("from=9999-12-31", "from"),
        ("from=99999999999999999999", "from"),
        ("from=9999999999", "from"),
        ("from=2026-11-22&to=2026-11-01", "from"),
        ("from=2021-01-01", "from"),
        ("interval=hour&from=2026-01-01&to=2026-11-01", "from"),
        ("limit=0", "limit"),
        ("limit=1000000", "limit"),
    ],
)
def test_bad_input_names_the_parameter(api: Api, query: str, name: str) -> None:
    response = api.get(f"/analytics/series?{query}")
    assert response.status_code == 422, response.content
    assert response.json()["violations"][0]["property"] == name


@pytest.mark.parametrize("query", ["limit=x", "key=%00", "by=%00", "limit=9" + "9" * 40])
def test_what_cannot_be_read_is_refused(api: Api, query: str) -> None:
    assert api.get(f"/analytics/series?{query}").status_code == 400


def test_a_key_needs_the_scope_and_sees_its_own_project(api: Api, foreign_api: Api) -> None:
    counted(api, timedelta(hours=1), total=3)
    for path in ("stats", "sends/chart", "series?by=domain"):
        assert Api(api.project, ["sends.read"]).get(f"/analytics/{path}").status_code == 403
    assert read(foreign_api, "stats")["sends"] == 0
    assert read(foreign_api, "series?by=domain")["series"] == []
    assert read(foreign_api, f"series?by=project&key={api.project.pk}")["series"] == []


def test_nothing_but_counts_is_read(api: Api) -> None:
    """Lesson P9: no look at numbers aggregates raw rows."""
    counted(api, timedelta(hours=1), total=3)
    for path in ("stats", "sends/chart", "series?by=tag"):
        with CaptureQueriesContext(connection) as queries:
            read(api, path)
        assert not [query for query in queries if "sending_send" in query["sql"] or "projects_event" in query["sql"]]
