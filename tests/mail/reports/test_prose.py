"""Bounces for people's eyes, and mail that is none: in words of our own, in the forms that servers use."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.reports.model import ReportKind
from relay_project.mail.reports.parse import parse_report
from tests.mail.reports.samples import TOKEN, Sample, samples_of

CORPUS = Path(__file__).parent / "corpus"
BOUNCES_OF_MANY = samples_of(CORPUS / "prose.toml")
NO_BOUNCES = samples_of(CORPUS / "no-bounces.toml")
BOUNCES = {
    "prose-qmail": ["bob@example.net | hard | failed", "carol@example.net | soft | failed"],
    "prose-exim": ["bob@example.net | hard | failed"],
    "prose-exim-delayed": ["bob@example.net | soft | delayed"],
    "prose-gmail": ["bob@example.net | content | failed"],
    "prose-exchange-html": ["bob@example.net | hard | failed"],
    "prose-german": ["bob@example.net | soft | failed"],
}
OTHERS = {
    "none-challenge": ReportKind.AUTO_REPLY,
    "none-gone": ReportKind.AUTO_REPLY,
    "none-newsletter": ReportKind.NONE,
    "none-parcel": ReportKind.NONE,
    "none-person": ReportKind.NONE,
    "none-question": ReportKind.NONE,
    "none-receipt": ReportKind.AUTO_REPLY,
    "none-vacation": ReportKind.AUTO_REPLY,
    "none-vacation-subject": ReportKind.AUTO_REPLY,
}


def octets(name: str) -> bytes:
    return (CORPUS / f"{name}.eml").read_bytes()


@pytest.mark.parametrize("name", BOUNCES)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_bounce_without_a_status_part_is_read(name: str, end: bytes) -> None:
    """Lesson C6: bounces that come later were lost."""
    report = parse_report(octets(name).replace(b"\n", end))
    assert report.kind is ReportKind.BOUNCE
    assert [f"{one.address} | {one.bounce_class} | {one.action}" for one in report.recipients] == BOUNCES[name]


@pytest.mark.parametrize("name", OTHERS)
def test_what_answers_or_talks_of_bounces_is_none(name: str) -> None:
    report = parse_report(octets(name))
    assert (report.kind, report.recipients) == (OTHERS[name], ())


@pytest.mark.parametrize("sample", BOUNCES_OF_MANY, ids=lambda sample: sample.name)
def test_every_form_of_words_names_who_failed_and_why(sample: Sample) -> None:
    """Lesson C6."""
    report = parse_report(sample.octets)
    assert report.kind is ReportKind.BOUNCE
    assert [f"{one.address} {one.bounce_class} {one.action}" for one in report.recipients] == sample.expect


@pytest.mark.parametrize("sample", NO_BOUNCES, ids=lambda sample: sample.name)
def test_mail_of_people_lists_and_auto_responders_is_no_bounce(sample: Sample) -> None:
    report = parse_report(sample.octets)
    assert report.kind in (ReportKind.NONE, ReportKind.AUTO_REPLY)
    assert report.recipients == ()


@pytest.mark.parametrize("sample", [one for one in NO_BOUNCES if "quota" not in one.name], ids=lambda one: one.name)
def test_neither_is_it_when_it_answers_a_return_path_of_ours(sample: Sample) -> None:
    """A token says whose mail was answered, not that it bounced."""
    octets = sample.octets.replace(b"<alice@example.com>", f"<{TOKEN}>".encode())
    assert parse_report(octets).kind is not ReportKind.BOUNCE


@pytest.mark.parametrize("address", ["support@example.net", "postmaster@example.net", "bob@bücher.example"])
@pytest.mark.parametrize(
    "words",
    ["<{}>: host mx said: 550 No such user", "\n  {}\n    Unknown user", "It wasn't delivered to {}: unknown user"],
)
def test_every_address_may_be_who_failed(address: str, words: str) -> None:
    """Those of helpers too, but not those of the mail system that writes."""
    head = "From: MAILER-DAEMON@mx.example.org\nSubject: Delivery failure\nContent-Type: text/plain; charset=utf-8\n\n"
    text = f"Could not be delivered.\n{words.format(address)}\nWrite to postmaster@example.org for help.\n"
    assert [one.address for one in parse_report((head + text).encode()).recipients] == [address]


def test_the_mail_below_the_words_is_known() -> None:
    original = parse_report(octets("prose-qmail")).original
    assert original.message_id == "0190f3c0-0000-7000-8000-000000000001@example.com"
    assert original.recipients == ("bob@example.net",)
    assert original.tokens


WORDS = [octets(name) for name in (*BOUNCES, *OTHERS)]


@given(st.sampled_from(WORDS), st.binary(max_size=200), st.floats(0, 1))
def test_noise_in_a_bounce_never_raises(mail: bytes, noise: bytes, place: float) -> None:
    at = int(len(mail) * place)
    report = parse_report(mail[:at] + noise + mail[at:])
    assert report.trouble == ""
    for one in report.recipients:
        (one.address + one.reason).encode()


def test_what_is_said_to_all_is_judged_once() -> None:
    """Two hundred names with nothing said of each must not cost two hundred looks at the whole."""
    names = "".join(f"<u{number}@example.net>: address\n" for number in range(200))
    mail = f"From: MAILER-DAEMON@a.example\nSubject: Undeliverable mail\n\ncould not be delivered {'mailbox ' * 500}\n{names}"
    begin = time.process_time()
    assert len(parse_report(mail.encode()).recipients) == 200
    assert time.process_time() - begin < 1


BEGINNING = b"From: MAILER-DAEMON@a.example\nSubject: Undeliverable mail\n\ncould not be delivered\n"


@pytest.mark.parametrize(
    "body",
    [
        b"a" * 900_000,
        b"a@" * 400_000,
        b"<a@b.example>:\n" * 60_000,
        b'"' * 500_000,
        b"<" * 500_000,
        b"to: " * 200_000,
        b"550 5.1.1 " * 90_000,
        b"not delivered not been delivered failed " * 20_000,
        b"original message\n" * 50_000,
        b"your original returned failed " * 30_000,
        b" \t" * 400_000,
    ],
    ids=lambda body: body[:20].decode(),
)
def test_hostile_words_cost_little(body: bytes) -> None:
    begun = time.process_time()
    assert parse_report(BEGINNING + body).trouble == ""
    assert time.process_time() - begun < 2.5, "under half a second, and room for a busy machine"


def test_a_thousand_beginnings_of_what_comes_back_cost_little() -> None:
    page = b"From: postmaster@mx.test\nContent-Type: text/html\n\n" + b"<p>-- Your message</p>" * 2500
    begun = time.process_time()
    parse_report(page)
    assert time.process_time() - begun < 1, "some tens of milliseconds, and room for a busy machine"
