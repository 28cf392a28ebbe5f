"""TLS reports (RFC 8460), as senders send them."""

import gzip
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.reports.message import read_message
from relay_project.mail.reports.model import ReportKind
from relay_project.mail.reports.tls_report import MAX_FAILURES, NoReport, parse_tls_report, read_tls_report
from tests.mail.reports.mails import bomb, dmarc_mail, tls_mail, zipped

PLAIN = (Path(__file__).parent / "corpus" / "tls" / "rfc8460.json").read_bytes()


def read(octets: bytes):
    return read_tls_report(read_message(octets))


def test_a_report_says_who_met_what_of_which_domain():
    report = parse_tls_report(PLAIN)

    assert (report.organisation, report.contact) == ("Company-X", "sts-reporting@company-x.test")
    assert report.report_id == "5065427c-23d3-47ca-b6e0-946ea0e8c4be"
    assert report.begins_at == datetime(2026, 11, 16, tzinfo=UTC)
    (policy,) = report.policies
    assert (policy.domain, policy.type, policy.succeeded, policy.failed) == ("company-y.test", "sts", 5326, 303)
    assert [(one.result_type, one.sessions) for one in policy.failures] == [
        ("certificate-expired", 100),
        ("starttls-not-supported", 200),
        ("validation-failure", 3),
    ]
    assert policy.failures[2].reason == "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"


@pytest.mark.parametrize(
    "octets",
    [
        tls_mail(gzip.compress(PLAIN)),
        tls_mail(PLAIN, "tlsrpt+json"),
        tls_mail(gzip.compress(PLAIN), report=False),
        tls_mail(gzip.compress(PLAIN), "gzip", report=False),
        tls_mail(zipped(PLAIN, "report.json"), "octet-stream"),
        dmarc_mail(gzip.compress(b"\xef\xbb\xbf" + PLAIN), "application/gzip", "x.gz", subject="Hello"),
        b"Content-Type: application/tlsrpt+json\nSubject: x\n\n" + PLAIN,
    ],
)
def test_it_is_found_however_it_is_packed_and_called(octets):
    report = read(octets)

    assert report.kind is ReportKind.TLS_REPORT
    assert report.tls_report == parse_tls_report(PLAIN)


def test_what_senders_misspell_is_passed_over():
    said = json.loads(PLAIN)
    said["policies"] = {
        "policy": {"policy-type": "NO-POLICY-FOUND", "policy-domain": "shop.test"},
        "summary": {"total-successful-session-count": "7", "total-failure-session-count": -1},
        "failure-details": {"failed-session-count": 1e400, "receiving-mx-helo": "mx", "result-type": None},
    }
    said["date-range"]["end-datetime"] = "Mon, 16 Nov 2026 10:00:00 +0000"
    del said["organization-name"]

    report = parse_tls_report(json.dumps(said).encode())

    assert report.organisation == "sts-reporting@company-x.test"
    assert report.ends_at == datetime(2026, 11, 16, 10, tzinfo=UTC)
    (policy,) = report.policies
    assert (policy.type, policy.succeeded, policy.failed) == ("no-policy-found", 7, 0)
    assert [(one.result_type, one.receiving_mx) for one in policy.failures] == [("unknown", "mx")]


@pytest.mark.parametrize(
    ("octets", "says"),
    [
        (PLAIN[:200], "broken"),
        (b"[" * 100_000, "broken"),
        (b'{"policies": ' + b"9" * 5000 + b"}", "broken"),
        (b"[]", "no TLS report"),
        (b'{"policies": []}', "which time"),
        (PLAIN.replace(b"Company-Y.test", b"no domain"), "names no domain"),
        (PLAIN.replace(b"2026-11-16T00:00:00Z", b"yesterday"), "which time"),
    ],
)
def test_what_lacks_something_is_refused_with_the_reason(octets, says):
    with pytest.raises(NoReport, match=says):
        parse_tls_report(octets)


@pytest.mark.parametrize(
    "octets", [bomb(50 << 20), b"\x1f\x8bnonsense", gzip.compress(b"hello")], ids=["bomb", "no gzip", "text"]
)
def test_a_bomb_or_a_broken_file_is_a_report_with_trouble(octets):
    report = read(tls_mail(octets))

    assert (report.kind, report.tls_report) == (ReportKind.TLS_REPORT, None)
    assert report.trouble


def test_an_announced_report_without_a_file_says_so():
    octets = b"TLS-Report-Domain: shop.test\nContent-Type: text/plain\n\nHello"

    assert read(octets).trouble == "There is no report in it."


def test_another_mail_with_json_is_no_report():
    assert read(dmarc_mail(b'{"a": 1}', "application/json", "a.json", subject="Data")) is None


def test_failures_beyond_the_limit_are_counted():
    said = json.loads(PLAIN)
    said["policies"][0]["failure-details"] *= MAX_FAILURES

    report = parse_tls_report(json.dumps(said).encode())

    assert (len(report.policies[0].failures), report.left_out) == (MAX_FAILURES, 2 * MAX_FAILURES)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(sorted(
        {"policies", "policy", "summary", "failure-details", "date-range", "start-datetime", "policy-domain", "result-type",
         "total-successful-session-count", "failed-session-count"})), inner, max_size=6),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_whatever_json_says_nothing_else_is_raised(said):
    whole = {"date-range": {"start-datetime": "2026-11-16T00:00:00Z"}, "policies": said}
    for one in (said, whole):
        with suppress(NoReport):
            parse_tls_report(json.dumps(one).encode())


@given(st.binary(max_size=300), st.integers(0, 400))
def test_whatever_octets_are_sent_nothing_is_raised(noise, at):
    packed = gzip.compress(PLAIN)

    report = read(tls_mail(packed[:at] + noise + packed[at:]))

    assert report.kind is ReportKind.TLS_REPORT
