"""run_smtp on the admin's first page: whether it runs, listens, and how long its certificate lasts (lesson C18)."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from relay_project.health import run_all
from sending.health import inbound_routes, smtp_servers
from sending.smtp_servers import SmtpServerReport, forget, heard_of, tell

pytestmark = pytest.mark.django_db
REPORT = SmtpServerReport("mx-1", ["mx 0.0.0.0:25", "submission 0.0.0.0:587"], connections=3)


def test_a_server_that_is_well_is_named_with_its_ports() -> None:
    assert "no run_smtp has run" in smtp_servers().detail
    tell(REPORT, timezone.now())
    found = smtp_servers()
    assert found.passed
    assert found.detail == "mx-1: mx 0.0.0.0:25, submission 0.0.0.0:587; certificate self-signed; 3 connections"
    assert "smtp_servers" in {result.name for result in run_all()}


@pytest.mark.parametrize(
    ("changes", "age", "says"),
    [
        ({"troubles": ["0.0.0.0:25 cannot be listened on: Address in use\0"]}, 0, "mx-1: 0.0.0.0:25 cannot be"),
        ({}, 90, "mx-1: run_smtp has not been heard of for 90 s"),
    ],
)
def test_a_busy_port_and_a_silent_server_fail(changes: dict[str, Any], age: int, says: str) -> None:
    tell(replace(REPORT, **changes), timezone.now() - timedelta(seconds=age))
    assert not smtp_servers().passed
    assert smtp_servers().detail.startswith(says)


def test_a_certificate_is_told_of_before_it_expires() -> None:
    tell(replace(REPORT, expires_at=(timezone.now() + timedelta(days=60)).isoformat()), timezone.now())
    assert smtp_servers().passed
    tell(replace(REPORT, expires_at=(timezone.now() + timedelta(days=3, hours=1)).isoformat()), timezone.now())
    assert smtp_servers().detail == "mx-1: The certificate expires in 3 days."


def test_one_that_stopped_in_order_and_one_that_went_long_ago_are_no_news() -> None:
    tell(REPORT, timezone.now())
    tell(replace(REPORT, server="a-name-that-is-longer-than-the-column-holds.example"), timezone.now())
    assert len(heard_of(timezone.now())) == 2
    for server in ("mx-1", "a-name-that-is-longer-than-the-column-holds.example"):
        forget(server)
    tell(REPORT, timezone.now() - timedelta(days=2))
    assert heard_of(timezone.now()) == []


def test_mail_of_routes_that_nobody_examines_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert inbound_routes().passed
    monkeypatch.setattr("sending.inbound.routing.examine.measure", lambda now: (7, 400.0))
    assert inbound_routes().detail == "Mail for projects has waited 400 s to be examined: is run_webhooks up?"
