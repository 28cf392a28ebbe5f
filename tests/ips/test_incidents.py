"""How open incidents reach health and metrics, and how long they are kept."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from ips import health
from ips.incident_figures import OPEN, read_open, show
from ips.models import Incident, IncidentCause, Server, SourceIp
from ips.retention import delete_closed_incidents

HOUR = timedelta(hours=1)


def incident(host: Server, cause: str = "ip-reputation", **fields: Any) -> Incident:
    now = timezone.now()
    values: dict[str, Any] = {
        "source_ip": SourceIp.objects.filter(server=host)[0], "site": "example.net", "cause": cause, "rule": "guard-blocklist",
        "attempt_count": 1, "opened_at": now - 2 * HOUR, "last_seen_at": now, "last_project_id": 1, "last_send_id": 1,
    }  # fmt: skip
    return Incident.objects.create(**{**values, **fields})


def test_open_incidents_are_counted_by_cause(host: Server) -> None:
    incident(host)
    incident(host, site="other.net")
    incident(host, "rate")
    incident(host, "dns", closed_at=timezone.now())
    found = read_open(timezone.now())
    assert (found.by_cause, found.total) == ({"ip-reputation": 2, "rate": 1}, 3)
    show(found)
    assert {cause: OPEN.labels(cause)._value.get() for cause in IncidentCause.values} == {
        "ip-reputation": 2, "authentication": 0, "dns": 0, "rate": 1, "protocol": 0,
    }  # fmt: skip


def test_health_fails_when_nobody_looks_after_a_refusal_for_an_hour(host: Server) -> None:
    incident(host)
    result = health.incidents()
    assert not result.passed
    assert "nobody has acknowledged" in result.detail
    Incident.objects.update(acknowledged_at=timezone.now())
    result = health.incidents()
    assert (result.passed, result.detail) == (True, "open incidents: 1 (ip-reputation: 1)")


@pytest.mark.parametrize(
    ("cause", "opened", "seen"),
    [
        ("rate", 2 * HOUR, 0 * HOUR),
        ("protocol", 2 * HOUR, 0 * HOUR),
        ("dns", HOUR / 2, 0 * HOUR),
        ("dns", 99 * HOUR, 25 * HOUR),
    ],
)
def test_what_mends_itself_or_is_new_or_is_over_raises_no_alarm(
    host: Server, cause: str, opened: timedelta, seen: timedelta
) -> None:
    now = timezone.now()
    incident(host, cause, opened_at=now - opened, last_seen_at=now - seen)
    assert health.incidents().passed


def test_closed_incidents_are_kept_as_long_as_the_audit_log(host: Server, settings: Any) -> None:
    now: datetime = timezone.now()
    old = now - timedelta(days=settings.RETENTION_AUDIT_DAYS + 1)
    incident(host, opened_at=old, last_seen_at=old)
    incident(host, site="b.net", opened_at=old, last_seen_at=old, closed_at=old)
    incident(host, site="c.net", opened_at=old, last_seen_at=old, closed_at=now)
    assert delete_closed_incidents(now) == 1
    assert not Incident.objects.filter(site="b.net").exists()
