"""DMARC aggregate reports, as receivers send them."""

import gzip
import tracemalloc
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.reports.dmarc_report import MAX_ROWS, NoReport, parse_dmarc_report, read_dmarc_report
from relay_project.mail.reports.message import read_message
from relay_project.mail.reports.model import ReportKind
from tests.mail.reports.mails import DMARC_FILE, bomb, dmarc_mail, zipped

CORPUS = Path(__file__).parent / "corpus" / "dmarc"
PLAIN = (CORPUS / "rfc7489.xml").read_bytes()


def read(octets: bytes):
    return read_dmarc_report(read_message(octets))


def test_a_report_says_who_saw_what_of_which_domain():
    report = parse_dmarc_report(PLAIN)

    assert (report.organisation, report.report_id, report.domain) == (
        "receiver.test",
        "9391651994964116463",
        "shop.test",
    )
    assert report.begins_at == datetime(2026, 11, 16, tzinfo=UTC)
    assert report.ends_at == datetime(2026, 11, 16, 23, 59, 59, tzinfo=UTC)
    assert (report.policy, report.subdomain_policy, report.percent) == ("quarantine", "reject", 50)
    assert (report.strict_dkim, report.strict_spf) == (False, True)
    ours, theirs = report.rows
    assert (ours.source_ip, ours.messages, ours.dkim, ours.spf, ours.is_aligned) == ("192.0.2.7", 90, True, False, True)
    assert [one.domain for one in ours.dkim_results] == ["shop.test", "mail.relay.test"]
    assert (theirs.header_from, theirs.disposition, theirs.reasons) == ("news.shop.test", "quarantine", ("forwarded",))


def test_the_newer_schema_in_its_namespace_is_read():
    report = parse_dmarc_report((CORPUS / "rfc9990.xml").read_bytes())

    assert (report.organisation, report.policy, report.is_testing, report.percent) == (
        "Sample Reporter",
        "quarantine",
        True,
        None,
    )
    assert [(row.messages, row.disposition, row.dkim) for row in report.rows] == [(123, "pass", True)]


def test_what_providers_misspell_is_passed_over():
    report = parse_dmarc_report((CORPUS / "quirks.xml").read_bytes())

    assert (report.organisation, report.report_id, report.domain, report.policy) == (
        "Smith & Söhne",
        "id 7",
        "shop.test",
        "none",
    )
    assert report.begins_at == report.ends_at == datetime(2026, 11, 16, tzinfo=UTC)
    (row,) = report.rows
    assert (row.messages, row.header_from, row.dkim, row.spf) == (4, "shop.test", True, False)


@pytest.mark.parametrize(
    ("octets", "kind", "name"),
    [
        (zipped(PLAIN), "application/zip", f"{DMARC_FILE}.zip"),
        (zipped(PLAIN, method=zipfile.ZIP_STORED), "application/x-zip-compressed", "report.zip"),
        (gzip.compress(PLAIN), "application/gzip", f"{DMARC_FILE}.xml.gz"),
        (gzip.compress(PLAIN), "application/octet-stream", "whatever"),
        (zipped(gzip.compress(PLAIN)), "application/zip", "twice.zip"),
        (PLAIN, "application/xml", f"{DMARC_FILE}.xml"),
        (PLAIN, "application/octet-stream", f"{DMARC_FILE}.xml"),
    ],
)
def test_it_is_found_however_it_is_packed_and_called(octets, kind, name):
    report = read(dmarc_mail(octets, kind, name, subject="Hello"))

    assert report.kind is ReportKind.DMARC_REPORT
    assert report.dmarc_report == parse_dmarc_report(PLAIN)


def test_it_may_be_the_mail_itself():
    report = read(b"Subject: x\nContent-Type: application/xml\n\n" + PLAIN)

    assert report.dmarc_report.report_id == "9391651994964116463"


@pytest.mark.parametrize("noise", [b"\xff\xfe", b"\x00", b"&", b"\x0b", b"<a@receiver.test>"])
def test_octets_that_xml_forbids_do_not_lose_a_report(noise):
    report = parse_dmarc_report(PLAIN.replace(b"looks forwarded", b"looks " + noise + b" forwarded"))

    assert sum(row.messages for row in report.rows) == 100


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        (PLAIN[:900], "broken"),
        (PLAIN.replace(b"Shop.test", b"not a domain"), "names no domain"),
        (PLAIN.replace(b"<begin>1794787200", b"<begin>soon"), "which time"),
        (PLAIN.replace(b"1794787200", b"9" * 400), "which time"),
        (PLAIN.replace(b"policy_published", b"policy"), "lacks"),
        (b'<!DOCTYPE f [<!ENTITY a "aa">]>' + PLAIN.partition(b"?>")[2].strip(), "refused"),
        (b"<feedback " + b" ".join(b"a%d='1'" % at for at in range(1000)) + b"/>", "no report's"),
        (b"<feedback>" + b"<a/>" * 200_001 + b"</feedback>", "too many elements"),
        (b"<feedback>" + b"<a>" * 1000 + b"</a>" * 1000 + b"</feedback>", "too many elements"),
    ],
)
def test_what_lacks_something_is_refused_with_the_reason(xml, says):
    with pytest.raises(NoReport, match=says):
        parse_dmarc_report(xml)


@pytest.mark.parametrize(
    "packed",
    [
        bomb(),
        gzip.compress(bomb()),
        zipped(bytes(100 << 20)),
        b"\x1f\x8b\x08nonsense",
        zipped(PLAIN)[:40],
        b"PK\x03\x04",
    ],
    ids=["xml", "gzip", "zip", "no gzip", "cut zip", "no zip"],  # octets with a time in them would name each run anew
)
def test_a_bomb_or_a_broken_archive_is_a_report_with_trouble_and_costs_little(packed):
    octets = dmarc_mail(packed)
    tracemalloc.start()

    report = read(octets)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (report.kind, report.dmarc_report) == (ReportKind.DMARC_REPORT, None)
    assert "attachment" in report.trouble or "archive" in report.trouble
    assert peak < 64 << 20


def test_an_encrypted_archive_says_so():
    archive = bytearray(zipped(PLAIN))
    archive[6] |= 1

    assert read(dmarc_mail(bytes(archive))).trouble == "The archive is encrypted."


def test_rows_beyond_the_limit_are_counted():
    record = PLAIN[PLAIN.index(b"<record>") : PLAIN.index(b"</record>") + 9]

    report = parse_dmarc_report(PLAIN.replace(record, record * (MAX_ROWS + 6)))

    assert (len(report.rows), report.left_out) == (MAX_ROWS, 7)


def test_another_mail_with_an_archive_is_no_report():
    assert read(dmarc_mail(zipped(b"a,b\n1,2\n", "table.csv"), name="table.zip", subject="The table")) is None
    assert read(dmarc_mail(b"<html><body>Hello</body></html>", "text/xml", "page.xml", subject="A page")) is None


@given(st.binary(max_size=300), st.integers(0, len(PLAIN)), st.sampled_from(["plain", "gzip", "zip"]), st.booleans())
def test_whatever_stands_in_it_nothing_is_raised(noise, at, packing, inside):
    xml = PLAIN[:at] + noise + PLAIN[at:] if inside else PLAIN
    packed = {"plain": xml, "gzip": gzip.compress(xml, 1), "zip": zipped(xml)}[packing]
    if not inside:
        packed = packed[: at % len(packed)] + noise + packed[at % len(packed) :]

    report = read(dmarc_mail(packed))

    assert report is None or report.trouble or report.dmarc_report.domain
