"""Reports about domains: what is stored, and what their digest says to whom."""

from datetime import datetime, timedelta

import pytest
import time_machine
from django.db import connection

from projects.domain_digest import digest
from projects.domain_reports import MAX_A_DAY, NewReport, known_domains, store
from projects.models import Domain, DomainReport, DomainReportKind
from projects.report_advice import advice_of
from projects.retention import delete_reports
from tests.projects.conftest import NOW

pytestmark = pytest.mark.django_db
NAME = "shop.example.test"


@pytest.fixture
def verified(domain: Domain) -> Domain:
    Domain.objects.update(status="active")
    domain.refresh_from_db()
    return domain


def dmarc(number: int = 1, domain: str = NAME, at: datetime = NOW - timedelta(days=2), **more) -> NewReport:
    source = {"address": "198.51.100.3", "is_ours": False, "messages": 10, "aligned": 0, "dkim": 0, "spf": 0}
    values = {
        "organisation": "receiver.test", "contact": "", "total": 100, "passed": 90, "dkim_passed": 90, "rejected": 4,
        "ours": 90, "ours_passed": 90, "ours_dkim": 90, "policy": {"domain": domain, "p": "none", "sp": "", "pct": 100,
        "adkim": "r", "aspf": "r", "testing": False},
        "details": [{**source, "signers": ["list.test"], "reasons": []}],
    }  # fmt: skip
    return NewReport(
        DomainReportKind.DMARC, domain, report_id=str(number), begins_at=at, ends_at=at, **{**values, **more}
    )


def tls(number: int = 1, at: datetime = NOW - timedelta(days=2), **more) -> NewReport:
    failures = [{"type": "certificate-expired", "mx": "mx.shop.example.test", "sessions": 3, "reason": ""}]
    values = {
        "organisation": "sender.test",
        "contact": "",
        "total": 10,
        "passed": 7,
        "details": failures,
        "policy": {"types": ["sts"]},
    }
    return NewReport(DomainReportKind.TLS, NAME, report_id=str(number), begins_at=at, ends_at=at, **{**values, **more})


def put(*reports: NewReport, now: datetime = NOW):
    with connection.cursor() as cursor:
        return store(cursor, reports, now)


def test_a_report_counts_once_however_often_it_comes(verified):
    first, second = put(dmarc(1), tls(1)), put(dmarc(1), dmarc(1), dmarc(2))

    assert (first.stored, first.duplicate) == (2, 0)
    assert (second.stored, second.duplicate) == (1, 2)
    assert digest(verified, NOW).dmarc.total == 200


def test_a_day_has_room_for_so_many_of_a_domain(verified):
    assert put(*(dmarc(number) for number in range(MAX_A_DAY + 5))).excess == 5
    assert put(dmarc(9999), tls()).excess == 1
    DomainReport.objects.update(received_at=NOW - timedelta(days=2))
    assert put(dmarc(9999)).stored == 1


def test_only_domains_that_may_send_and_the_instance_are_known(domain, settings):
    settings.INSTANCE_DOMAIN = "relay.test"
    with connection.cursor() as cursor:
        assert known_domains(cursor, [NAME, "other.test", "relay.test"]) == {"relay.test"}
        Domain.objects.update(status="warning")
        assert known_domains(cursor, [NAME, "other.test"]) == {NAME}
        Domain.objects.update(status="suspended")
        assert known_domains(cursor, [NAME]) == set()


def test_the_digest_sums_up_who_saw_what(verified):
    put(dmarc(1), dmarc(2, organisation="other.test", total=1, passed=0, dkim_passed=0, rejected=0), tls(1), tls(2))

    said = digest(verified, NOW)

    assert (said.dmarc.reports, said.dmarc.total, said.dmarc.passed, said.dmarc.ours) == (2, 101, 90, 180)
    assert [(row["organisation"], row["total"]) for row in said.receivers] == [
        ("receiver.test", 100),
        ("other.test", 1),
    ]
    assert said.other_sources == [
        {
            "address": "198.51.100.3",
            "messages": 20,
            "aligned": 0,
            "dkim": 0,
            "spf": 0,
            "reporters": 2,
            "signers": ["list.test"],
        }
    ]
    assert said.policy["p"] == "none"
    assert (said.tls.total, said.tls.passed) == (20, 14)
    assert [(row["result_type"], row["sessions"]) for row in said.failures] == [("certificate-expired", 6)]


def test_what_is_older_does_not_count(verified):
    put(dmarc(1, at=NOW - timedelta(days=31)), dmarc(2))

    assert digest(verified, NOW).dmarc.reports == 1
    assert digest(verified, NOW, days=60).dmarc.reports == 2


def test_sums_of_nonsense_fit(verified):
    put(*(dmarc(number, total=5 * 10**12, ours=5 * 10**12) for number in range(MAX_A_DAY)))

    assert digest(verified, NOW).dmarc.total == 10**15


@pytest.mark.parametrize(
    ("report", "level", "says"),
    [
        (dmarc(), "ok", "All of the mail that left from here passed DMARC."),
        (dmarc(ours_passed=50, ours_dkim=50), "warning", "40 of 90 messages that left from here did not pass DMARC"),
        (dmarc(ours_dkim=45, ours_spf=90), "warning", "Only 50.0% of the mail from here passed by DKIM"),
        (dmarc(ours=1000, ours_passed=999, ours_dkim=999), "ok", "99.9% of the mail"),
        (dmarc(), "info", "with a return path of its own"),
        (dmarc(), "info", "10 messages of one source that is not ours did not pass"),
        (dmarc(), "info", "receivers let forged mail pass"),
        (dmarc(passed=99), "info", "can go on to p=quarantine"),
        (dmarc(), "info", "4 messages were rejected"),
        (tls(), "warning", "3 connections: mx.shop.example.test showed a certificate that had expired. Renew it."),
        (tls(), "info", "No receiver has reported yet."),
    ],
)  # fmt: skip
def test_advice_follows_from_what_was_reported(verified, report, level, says):
    put(report)

    found = advice_of(digest(verified, NOW))

    assert any(one.level == level and says in one.text for one in found), found
    assert [one.level for one in found] == sorted((one.level for one in found), key=["warning", "info", "ok"].index)


def test_reports_leave_after_their_time(verified, settings):
    put(dmarc(1), dmarc(2))
    DomainReport.objects.filter(report_id="1").update(received_at=NOW - timedelta(days=91))
    DomainReport.objects.filter(report_id="2").update(received_at=NOW - timedelta(days=89))

    assert delete_reports(NOW) == 1
    assert DomainReport.objects.get().report_id == "2"


# --- Over the API, and to whom ------------------------------------------------------------------------------------


def test_the_api_shows_the_digest(api, verified):
    put(dmarc(), tls())
    with time_machine.travel(NOW, tick=False):
        status, answer = api.get(f"/domains/{NAME}/reports")
        older = api.get(f"/domains/{verified.pk}/reports?days=1")[1]

    assert status == 200
    assert answer["dmarc"]["messages"] == 100
    assert answer["dmarc"]["receivers"][0]["aligned"] == 90
    assert answer["dmarc"]["other_sources"][0]["address"] == "198.51.100.3"
    assert answer["tls"]["failures"][0]["advice"] == "It showed a certificate that had expired. Renew it."
    assert answer["advice"][0]["level"] == "warning"
    assert older["dmarc"]["messages"] == 0


@pytest.mark.parametrize(("days", "status"), [("0", 422), ("91", 422), ("x", 400), ("9" * 40, 400)])
def test_nonsense_days_are_refused(api, verified, days, status):
    assert api.get(f"/domains/{NAME}/reports?days={days}")[0] == status


def test_nobody_sees_reports_of_a_domain_that_is_not_shown_to_be_theirs(foreign, foreign_api, keyed, verified):
    """Two projects may register one name; only DNS says whose it is."""
    put(dmarc())
    path = f"/domains/{NAME}/reports"
    assert foreign_api.get(path)[0] == 404
    assert foreign_api.get(f"/domains/{verified.pk}/reports")[0] == 403
    assert keyed("sends.read").get(path)[0] == 403

    Domain.objects.create(project=foreign, domain=NAME, status="pending")
    status, answer = foreign_api.get(path)

    assert (status, answer["dmarc"]["reports"]) == (200, 0)
    assert answer["advice"] == [{"level": "info", "text": "Reports are shown once the domain is verified."}]
