"""Reports about domains, from the mail to the rows."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import connection
from prometheus_client import REGISTRY

from ips.models import SourceIp
from projects.models import Domain, DomainReport
from relay_project.mail.reports.parse import parse_report
from sending.inbound.advice import MAX_SOURCES, keep
from sending.inbound.read import Reader
from sending.inbound.store import Arrived, insert
from sending.models import InboundMail
from tests.mail.reports.mails import dmarc_mail, tls_mail, zipped
from tests.sending.scene import Scene, add_domain

CORPUS = Path(__file__).parents[2] / "mail" / "reports" / "corpus"
PLAIN = (CORPUS / "dmarc" / "rfc7489.xml").read_bytes()
TLS = json.loads((CORPUS / "tls" / "rfc8460.json").read_bytes())
NOW = datetime(2026, 11, 18, tzinfo=UTC)


def counted(kind: str, outcome: str) -> float:
    return REGISTRY.get_sample_value("relay_domain_reports_total", {"kind": kind, "outcome": outcome}) or 0


def take(*mails: bytes, now: datetime = NOW) -> list[bool]:
    with connection.cursor() as cursor:
        return keep(cursor, [parse_report(mail) for mail in mails], now)


def ours(scene: Scene) -> SourceIp:
    """The scene's address, which is in the report."""
    source = SourceIp.objects.first()
    SourceIp.objects.filter(pk=source.pk).update(address="192.0.2.7")
    return source


def test_a_dmarc_report_is_stored_for_the_domain_with_our_sources_apart(scene):
    add_domain(scene.project, "shop.test")
    ours(scene)

    assert take(dmarc_mail(zipped(PLAIN))) == [True]

    row = DomainReport.objects.get()
    assert (row.kind, row.domain, row.organisation) == ("dmarc", "shop.test", "receiver.test")
    assert (row.total, row.passed, row.dkim_passed, row.spf_passed, row.quarantined) == (100, 90, 90, 0, 10)
    assert (row.ours, row.ours_passed, row.ours_dkim, row.ours_spf) == (90, 90, 90, 0)
    assert [(source["address"], source["is_ours"], source["messages"]) for source in row.details] == [
        ("192.0.2.7", True, 90),
        ("198.51.100.3", False, 10),
    ]
    assert row.policy["p"] == "quarantine"


def test_who_sends_from_a_subdomain_sees_its_mail_alone(scene):
    add_domain(scene.project, "news.shop.test")

    assert take(dmarc_mail(zipped(PLAIN))) == [True]

    row = DomainReport.objects.get()
    assert (row.domain, row.total, row.passed) == ("news.shop.test", 10, 0)


def test_a_report_about_nobodys_domain_here_is_counted_and_dropped(scene):
    before = counted("dmarc", "foreign")
    add_domain(scene.project, "shop.test")
    Domain.objects.filter(domain="shop.test").update(status="pending")

    assert take(dmarc_mail(zipped(PLAIN))) == [False]
    assert not DomainReport.objects.exists()
    assert counted("dmarc", "foreign") == before + 1


def test_a_second_time_it_counts_once_and_at_another_time_not_at_all(scene):
    add_domain(scene.project, "shop.test")
    mail = dmarc_mail(zipped(PLAIN))

    assert take(mail, mail) == [True, True]
    assert DomainReport.objects.count() == 1
    assert take(mail.replace(b"9391651994964116463", b"1"), now=NOW + timedelta(days=100)) == [False]
    assert take(mail, now=NOW - timedelta(days=10)) == [False]


def test_the_greatest_sources_are_kept_and_all_are_counted(scene):
    add_domain(scene.project, "shop.test")
    record = PLAIN[PLAIN.index(b"<record>") : PLAIN.index(b"</record>") + 9]
    rows = b"".join(record.replace(b"192.0.2.7", b"10.0.0.%d" % at) for at in range(MAX_SOURCES + 9))

    take(dmarc_mail(zipped(PLAIN.replace(record, rows))))

    row = DomainReport.objects.get()
    assert (row.total, len(row.details), row.left_out) == (90 * (MAX_SOURCES + 9) + 10, MAX_SOURCES, 10)


def test_a_tls_report_is_stored_for_each_of_its_domains_that_is_ours(scene, settings):
    policy = TLS["policies"][0]
    other = {**policy, "policy": {**policy["policy"], "policy-domain": settings.INSTANCE_DOMAIN}}
    said = {**TLS, "policies": [policy, other, other]}

    assert take(tls_mail(gzip.compress(json.dumps(said).encode()))) == [True]

    row = DomainReport.objects.get()
    assert (row.kind, row.domain, row.total, row.passed) == ("tls", settings.INSTANCE_DOMAIN, 11258, 10652)
    assert row.details[0] == {
        "type": "starttls-not-supported",
        "mx": "mx2.mail.company-y.test",
        "sessions": 400,
        "reason": "https://reports.company-x.test/report_info",
    }


def test_addresses_that_are_none_and_texts_that_no_table_takes_are_no_error(scene):
    add_domain(scene.project, "shop.test")
    odd = PLAIN.replace(b"192.0.2.7", b"not an address").replace(b"198.51.100.3", b"::ffff:192.0.2.7")
    ours(scene)

    assert take(dmarc_mail(zipped(odd.replace(b"receiver.test", b"re\x00ceiver \xff")))) == [True]
    assert DomainReport.objects.get().ours == 10


@pytest.mark.parametrize("is_known", [True, False])
def test_the_reader_hands_a_report_on_and_marks_the_mail(scene, is_known):
    if is_known:
        add_domain(scene.project, "shop.test")
    today = int(datetime.now(UTC).timestamp())
    fresh = PLAIN.replace(b"1794787200", b"%d" % (today - 86_400)).replace(b"1794873599", b"%d" % today)
    insert([Arrived("192.0.2.99", "mx.example", "", "", ("dmarc@relay.test",), dmarc_mail(zipped(fresh)))])

    assert Reader().look() == 1

    mail = InboundMail.objects.get()
    assert (mail.kind, mail.state) == ("dmarc-report", "handed on" if is_known else "noted")
    assert DomainReport.objects.count() == is_known
