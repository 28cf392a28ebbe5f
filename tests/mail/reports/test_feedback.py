"""Complaints, as providers send them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.reports.facts import FeedbackType
from relay_project.mail.reports.feedback import read_feedback
from relay_project.mail.reports.message import read_message
from relay_project.mail.reports.model import Report, ReportKind

CORPUS = Path(__file__).parent / "corpus" / "arf"
TOKEN = "b.abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnop@mail.relay.test"
COMPLAINTS = {
    "rfc5965": ["user@isp.test"],
    "minimal": ["user@isp.test"],
    "no-fields": ["user@isp.test"],
    "brackets": ["User.Name@ISP.test"],
    "headers-only": ["user@isp.test"],
    "several-recipients": ["one@isp.test", "two@isp.test"],
    "mislabelled-text": ["user@isp.test"],
    "mislabelled-base64": ["user@isp.test"],
    "yahoo": ["user@yahoo.test"],
    "aol-redacted": [],
    "microsoft-jmrp": ["user@hotmail.test"],
    "microsoft-bare": ["user@hotmail.test"],
    "comcast": ["user@comcast.test"],
    "validity-redacted": [],
    "fastmail": ["user@fastmail.test"],
    "mail-ru": ["user@mail-ru.test"],
    "vade": ["user@cox.test"],
    "amazon": ["user@isp.test"],
    "virus": ["user@isp.test"],
    "unknown-type": ["user@isp.test"],
    "spamcop": [],
    "abusix-xarf": ["trap@isp.test"],
    "forwarded-by-hand": ["user@isp.test"],
}
TYPES = {"vade": FeedbackType.FRAUD, "virus": FeedbackType.VIRUS, "unknown-type": FeedbackType.OTHER}


def read(name: str) -> Report | None:
    return read_feedback(read_message((CORPUS / f"{name}.eml").read_bytes()))


@pytest.mark.parametrize("name", COMPLAINTS)
def test_a_complaint_is_read_with_who_complained(name):
    """Lesson C6."""
    report = read(name)

    assert report is not None
    assert report.kind is ReportKind.COMPLAINT
    assert [one.address for one in report.recipients] == COMPLAINTS[name]
    assert report.feedback.type is TYPES.get(name, FeedbackType.ABUSE)
    assert report.feedback.is_redacted == (not COMPLAINTS[name])


@pytest.mark.parametrize("name", sorted(set(COMPLAINTS) - {"validity-redacted", "mail-ru"}))
def test_the_original_is_known_by_its_own_header(name):
    original = read(name).original

    assert original.message_id == "0197-offer@shop.test"
    assert original.subject == "Autumn offers"


@pytest.mark.parametrize("name", ["aol-redacted", "validity-redacted", "mail-ru", "spamcop", "microsoft-jmrp"])
def test_the_return_paths_token_is_found_when_nobody_is_named(name):
    assert read(name).original.tokens == (TOKEN,)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("not-spam", "not-spam"), ("auth-failure", "auth-failure"), ("dmarc-failure-in-prose", "auth-failure")],
)
def test_feedback_that_nobody_complains_by_is_no_complaint(name, kind):
    report = read(name)

    assert report.kind is ReportKind.NONE
    assert report.feedback.type == kind


def test_the_fields_of_a_report_are_read():
    report = read("rfc5965")

    assert report.feedback.user_agent == "SomeGenerator/1.0"
    assert report.feedback.source_ip == "192.0.2.7"
    assert report.feedback.reported_domains == ("shop.test",)
    assert report.reporting_mta == "mail.isp.test"
    assert report.original.return_path == TOKEN
    assert read("several-recipients").feedback.incidents == 2
    assert read("several-recipients").original.envelope_id == "1y6Hkr-3SHLw0-L0"
    assert read("auth-failure").feedback.auth_failure == "dmarc"
    assert read("brackets").feedback.source_ip == "192.0.2.7"
    assert read("microsoft-jmrp").feedback.source_ip == "192.0.2.7"


@pytest.mark.parametrize("name", ["none-abuse-autoreply", "none-content-bounce"])
def test_an_answer_of_an_abuse_desk_and_a_bounce_about_spam_are_no_complaints(name):
    assert read(name) is None


def test_of_several_recipients_in_to_nobody_is_named():
    octets = (CORPUS / "minimal.eml").read_bytes().replace(b"To: <user@isp.test>", b"To: a@isp.test, b@isp.test")

    report = read_feedback(read_message(octets))

    assert report.recipients == ()
    assert report.original.recipients == ("a@isp.test", "b@isp.test")


@given(st.binary(max_size=400), st.sampled_from(sorted(COMPLAINTS)), st.integers(0, 3000))
def test_whatever_stands_in_a_report_nothing_is_raised(noise, name, at):
    octets = (CORPUS / f"{name}.eml").read_bytes()

    report = read_feedback(read_message(octets[:at] + noise + octets[at:]))

    assert report is None or all("\0" not in one.address for one in report.recipients)
