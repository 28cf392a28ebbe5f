"""projects.domain_status against a real DNS server: what is found moves the status, what is not answered moves nothing."""

from datetime import timedelta

import pytest
from django.db import connection

from accounts.models import AuditEntry
from projects.dkim_keys import current_key, dkim_host, dkim_txt_value
from projects.domain_status import (
    DkimResult,
    delete_abandoned,
    next_status,
    recheck,
    recheck_due,
    reinstate,
    suspend,
    verify,
)
from projects.domains import create_domain
from projects.models import Domain, DomainStatus, Event
from projects.setup import ensure_instance
from relay_project.web.errors import ApiError
from tests.projects.conftest import NOW, PEM

pytestmark = pytest.mark.django_db
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def record(domain: Domain) -> tuple[str, str]:
    key = current_key(domain)
    return dkim_host(key), dkim_txt_value(key)


@pytest.fixture
def found(published, domain) -> dict[str, list[str]]:
    """The domain's record is in DNS."""
    host, value = record(domain)
    published[host] = [value]
    return published


def changes() -> list[tuple[str, str]]:
    events = Event.objects.filter(kind="domain.status.changed").order_by("id")
    return [(event.payload["old_status"], event.payload["new_status"]) for event in events]


def test_a_published_record_makes_a_domain_active(api, domain, found):
    status, shown = api.post("/domains/verify", {"id": domain.pk})
    assert (status, shown["status"], shown["dkim_error_message"]) == (200, "active", None)
    assert shown["dkim_checked_at"] is not None
    event = Event.objects.get(kind="domain.status.changed")
    assert event.payload == {
        "domain": shown,
        "old_status": "pending",
        "new_status": "active",
        "dkim_result": {"verified": True, "checked_at": shown["dkim_checked_at"], "error_message": None},
    }


def test_the_record_may_be_split_spaced_and_among_others(domain, published):
    host, value = record(domain)
    published[host] = ["v=spf1 -all", value.replace("; ", " ;\t").replace("p=", "p= ")]
    assert verify(domain, NOW).status == DomainStatus.ACTIVE


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "No TXT records found for DKIM host"),
        (["v=spf1 -all"], "No valid DKIM record found"),
        (["v=DKIM1; k=rsa; p="], "No valid DKIM record found"),
        (["v=DKIM1; k=rsa; p=AAAA"], "No valid DKIM record found"),
    ],
)
def test_a_pending_domain_says_what_is_missing(api, domain, published, records, message):
    published[record(domain)[0]] = records
    status, shown = api.post("/domains/verify", {"domain": domain.domain})
    assert (status, shown["status"], shown["dkim_error_message"]) == (200, "pending", message)
    assert changes() == []


def test_a_name_that_does_not_exist_is_said_so(project, published):
    domain = create_domain(project, "a.test", "nxdomain", PEM)
    assert verify(domain, NOW).dkim_error_message == "DNS query failed with error: Non-existent domain (NXDOMAIN)"


def test_only_pending_domains_are_verified_by_their_owner(api, domain, found):
    api.post("/domains/verify", {"id": domain.pk})
    assert api.post("/domains/verify", {"id": domain.pk}) == (
        400,
        {"message": "You can only verify a domain that is in PENDING status.", "status": 400},
    )


def test_a_failing_resolver_is_told_and_changes_nothing(api, project, published):
    """Lesson C21."""
    domain = create_domain(project, "a.test", "servfail", PEM)
    status, body = api.post("/domains/verify", {"id": domain.pk})
    assert status == 500
    assert body["message"].startswith("DKIM verification failed due an internal error: ")
    domain.refresh_from_db()
    assert (domain.status, domain.failed_checks) == (DomainStatus.PENDING, 0)


@pytest.mark.parametrize("status", [DomainStatus.ACTIVE, DomainStatus.WARNING])
def test_resolver_trouble_never_takes_the_right_to_send(project, published, status):
    """Lesson C21: one SERVFAIL flipped domains to warning, and two weeks later their mail history was gone."""
    domain = create_domain(project, "a.test", "servfail", PEM)
    Domain.objects.update(status=status, dkim_checked_at=NOW - DAY)
    for days in range(3):
        assert recheck_due(NOW + days * DAY) == 1
        domain.refresh_from_db()
        assert (domain.status, domain.failed_checks) == (status, 0)
        assert "resolver failed" in domain.dkim_error_message
    assert changes() == []


def test_a_record_that_goes_away_is_warned_of_a_day_before_it_matters(domain, found):
    now = NOW
    verify(domain, now)
    found.clear()
    steps = []
    for _ in range(3):
        now += DAY
        recheck_due(now)
        domain.refresh_from_db()
        steps.append(domain.status)
    assert steps == ["warning", "pending", "pending"]
    found[record(domain)[0]] = [record(domain)[1]]
    recheck_due(now + DAY)
    assert changes() == [
        ("pending", "active"),
        ("active", "warning"),
        ("warning", "pending"),
        ("pending", "active"),
    ]


def test_a_record_that_comes_back_ends_the_warning(domain, found):
    Domain.objects.update(status="warning", failed_checks=1)
    assert recheck(domain, NOW).status == DomainStatus.ACTIVE
    domain.refresh_from_db()
    assert domain.failed_checks == 0


def test_looking_by_hand_does_not_end_a_warning_badly(domain, published):
    Domain.objects.update(status="warning")
    for _ in range(3):
        assert recheck(domain, NOW).status == DomainStatus.WARNING


def test_pending_domains_are_due_every_five_minutes_and_others_daily(domain, published):
    assert recheck_due(NOW) == 1
    assert recheck_due(NOW + timedelta(minutes=4)) == 0
    assert recheck_due(NOW + timedelta(minutes=5)) == 1
    Domain.objects.update(status="active", dkim_checked_at=NOW, dkim_error_message=None)
    assert recheck_due(NOW + 23 * HOUR) == 0
    assert recheck_due(NOW + DAY) == 1


def test_an_active_domain_whose_check_was_inconclusive_is_soon_checked_again(domain, found):
    Domain.objects.update(status="active", dkim_checked_at=NOW, dkim_error_message="The DNS resolver failed: x")
    assert recheck_due(NOW + timedelta(minutes=5)) == 1
    assert recheck_due(NOW + timedelta(minutes=10)) == 0


def test_a_resolver_that_is_ill_is_left_alone_after_ten_failures(project, published):
    for number in range(12):
        create_domain(project, f"a{number}.test", "servfail", PEM)
    assert recheck_due(NOW) == 10
    assert recheck_due(NOW) == 2, "those that were not asked about come first"


def test_suspended_and_instance_domains_are_not_checked(domain, published):
    ensure_instance()
    Domain.objects.filter(pk=domain.pk).update(status="suspended")
    assert recheck_due(NOW) == 0


def test_staff_suspend_with_a_reason_and_reinstate(domain, found, sam):
    suspended = suspend(domain, "Phishing\0 reports", NOW, sam)
    assert (suspended.status, suspended.dkim_error_message) == ("suspended", "Suspended: Phishing reports")
    assert recheck(domain, NOW).status == DomainStatus.SUSPENDED
    assert AuditEntry.objects.get(action="domain.suspended").detail == {"reason": "Phishing reports"}
    assert reinstate(domain, NOW, sam).status == DomainStatus.PENDING
    assert recheck_due(NOW) == 1
    assert changes() == [("pending", "suspended"), ("suspended", "pending"), ("pending", "active")]
    with pytest.raises(ApiError, match="Only a suspended domain"):
        reinstate(domain, NOW, sam)


def test_no_transaction_is_open_while_dns_is_asked(domain, found, monkeypatch):
    """Rule 1 of the road; pytest's own transaction is the only one there is."""
    from projects import domain_status

    depth = len(connection.savepoint_ids)
    seen = []

    def watched(*args):
        seen.append(len(connection.savepoint_ids))
        return []

    monkeypatch.setattr(domain_status, "txt_records", watched)
    verify(domain, NOW)
    assert seen == [depth]


def test_domains_that_stay_pending_for_two_weeks_are_forgotten(domain, project):
    suspended = create_domain(project, "b.test", "s", PEM)
    Domain.objects.filter(pk=suspended.pk).update(status="suspended")
    Domain.objects.update(status_changed_at=NOW)
    assert delete_abandoned(NOW + 13 * DAY) == 0
    assert delete_abandoned(NOW + 14 * DAY) == 1
    assert list(Domain.objects.all()) == [suspended]
    assert Event.objects.latest("id").kind == "domain.deleted"


@pytest.mark.parametrize(
    ("status", "verified", "scheduled", "expected"),
    [
        ("pending", True, True, "active"),
        ("pending", False, True, "pending"),
        ("active", True, True, "active"),
        ("active", False, False, "warning"),
        ("warning", True, False, "active"),
        ("warning", False, False, "warning"),
        ("warning", False, True, "pending"),
        ("suspended", True, True, "suspended"),
        ("suspended", False, True, "suspended"),
    ],
)
def test_the_status_machine(status, verified, scheduled, expected):
    assert next_status(status, DkimResult(verified, NOW), scheduled) == expected
    assert next_status(status, DkimResult(verified, NOW, conclusive=False), scheduled) == status
