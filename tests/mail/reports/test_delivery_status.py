"""Notifications as servers send them: a corpus of forms seen in the wild, in words and addresses of our own."""

import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.reports.delivery_status import MAX_RECIPIENTS, MAX_TOLD, address_of
from relay_project.mail.reports.model import Report, ReportKind
from relay_project.mail.reports.parse import parse_report

CORPUS = Path(__file__).parent / "corpus"
TOKEN = f"b.{'a' * 48}@relay.example.com"

# file: what each recipient comes to, as address | class | status code | action
EXPECTED = {
    "blank-line-inside": ["bob@example.net | hard | 5.2.1 550 | failed"],
    "broken-continuation": ["bob@example.net | infrastructure | 5.0.0 550 | failed"],
    "edge-block": ["bob@example.net | hard | 5.4.1 550 | failed"],
    "exchange-2003-supplementary": ["bob@example.net | infrastructure | 5.7.1 554 | failed"],
    "exchange-expired": ["bob@example.net | soft | 4.4.7 550 | failed"],
    "exchange-not-found": ["bob@example.net | hard | 5.1.10 550 | failed"],
    "exim-mixed": ["bob@example.net | content | 5.3.4 552 | failed"],
    "gmail-dmarc": ["bob@example.net | infrastructure | 5.7.26 550 | failed"],
    "local-part-only": ["bob@example.net | hard | 5.1.1 500 | failed"],
    "mislabelled-text": ["bob@example.net | soft | 4.4.2 421 | failed"],
    "no-blank-lines": ["bob@example.net | hard | 5.1.1 | failed", "carol@example.net | content | 5.7.1 | failed"],
    "postfix-delayed": ["bob@example.net | soft | 4.4.1 | delayed"],
    "postfix-forwarded": ["bob@example.net | soft | 5.2.2 | failed"],
    "postfix-unknown": ["bob@example.net | hard | 5.1.1 550 | failed"],
    "sendmail-many-crlf": [
        "bob@example.net | hard | 5.1.1 550 | failed",
        "carol@example.net | soft | 5.2.2 552 | failed",
        "dave@example.net | unknown | 2.1.9 | relayed",
    ],
    "sendmail-no-diagnostic": ["bob@example.net | hard | 5.1.2 550 | failed"],
    "status-as-reply": ["bob@example.net | content | 553 | failed"],
    "success-only": [
        "bob@example.net | unknown | 2.0.0 | delivered",
        "team@example.net | unknown | 2.0.0 | expanded",
    ],
    "utf8-address": ["jörg@example.net | hard | 5.1.1 550 | failed"],
    "wrapped-by-scanner": ["bob@example.net | hard | 5.1.1 550 | failed"],
    "x400": ["bob@example.net | soft | 4.4.7 | failed"],
}
SUCCESS = {"success-only"}


def octets(name: str) -> bytes:
    return (CORPUS / f"{name}.eml").read_bytes()


def in_words(report: Report) -> list[str]:
    return [
        " | ".join([one.address, one.bounce_class, f"{one.status} {one.code}".strip(), one.action])
        for one in report.recipients
    ]


@pytest.mark.parametrize("name", EXPECTED)
def test_every_form_gives_its_recipients_and_their_classes(name: str) -> None:
    """Lesson C6: CRLF kept only the first recipient; "RFC822;", a comment in Status and "FAILED" lost it all."""
    report = parse_report(octets(name))
    assert in_words(report) == EXPECTED[name]
    assert report.kind is (ReportKind.NONE if name in SUCCESS else ReportKind.BOUNCE)


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_change_nothing(name: str, end: bytes) -> None:
    again = octets(name).replace(b"\r\n", b"\n").replace(b"\n", end)
    assert parse_report(again) == parse_report(octets(name))


@pytest.mark.parametrize("name", EXPECTED)
def test_the_case_of_field_names_and_values_changes_nothing(name: str) -> None:
    fields = re.compile(
        rb"(?m)^(?:Final-Recipient: [^;]*|Original-Recipient: [^;]*|Action: .*|Status:|Diagnostic-Code: [^;]*)"
    )
    shouted = fields.sub(lambda match: match[0].upper(), octets(name))
    assert in_words(parse_report(shouted)) == EXPECTED[name]


def test_what_came_back_is_known_by_its_header() -> None:
    report = parse_report(octets("postfix-unknown"))
    original = report.original
    assert (original.message_id, original.subject) == ("0190f3c0-0000-7000-8000-000000000001@example.com", "Your order")
    assert original.recipients == ("bob@example.net",)
    assert original.return_path == TOKEN
    assert original.tokens == (TOKEN,)
    assert report.reporting_mta == "mx.example.org"
    assert parse_report(octets("x400")).original.envelope_id == "env-42"


def test_only_rows_that_suppress_in_a_conversation_suppress() -> None:
    suppressed = {name for name in EXPECTED if any(one.suppress for one in parse_report(octets(name)).recipients)}
    assert suppressed >= {"postfix-unknown", "exchange-not-found", "edge-block"}
    assert not suppressed & {"postfix-forwarded", "exchange-expired", "exim-mixed", "gmail-dmarc", "success-only"}


def notification(*recipients: str, end: str = "\n", words: str = "Sorry.\n") -> bytes:
    head = f"Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\n{words}--b\n"
    text = head + "Content-Type: message/delivery-status\n\nReporting-MTA: dns; a.example\n\n" + "\n".join(recipients)
    return (text + "\n--b--\n").replace("\n", end).encode()


def one(**fields: str) -> str:
    given = {"Final-Recipient": "rfc822; bob@example.net", "Action": "failed", "Status": "5.0.0"} | {
        name.replace("_", "-"): value for name, value in fields.items()
    }
    return "".join(f"{name}: {value}\n" for name, value in given.items() if value)


@pytest.mark.parametrize(
    ("field", "address"),
    [
        ("rfc822; bob@example.net", "bob@example.net"),
        ("RFC822;bob@example.net", "bob@example.net"),
        ("rfc822;<bob@example.net>", "bob@example.net"),
        ('rfc822; "Bob B." <bob@example.net>', "bob@example.net"),
        ('rfc822; "bob b"@example.net', '"bob b"@example.net'),
        ("rfc822; bob@example.net (Bob)", "bob@example.net"),
        ("rfc822; mailto:bob@example.net", "bob@example.net"),
        ("rfc822; @relay.example,@b.example:bob@example.net", "bob@example.net"),
        ("rfc822; bob+40example.net", "bob@example.net"),
        ("bob@example.net", "bob@example.net"),
        ("<bob@example.net>", "bob@example.net"),
        ("utf-8; j\\x{F6}rg@example.net", "jörg@example.net"),
        ("utf-8; \\x{D800}@example.net", "\ufffd@example.net"),
        ("rfc822; bob@[192.0.2.1]", "bob@[192.0.2.1]"),
        ("rfc822; bob@example.net.", "bob@example.net"),
        ("rfc822; bob", ""),
        ("", ""),
    ],
)
def test_an_address_in_any_dress(field: str, address: str) -> None:
    assert address_of(field) == address


@pytest.mark.parametrize(
    ("status", "diagnostic", "bounce_class"),
    [
        ("5.0.0", "smtp; 550 5.1.1 no such user", "hard"),
        ("5.0.0", "smtp; 550 no such user (#5.1.1)", "hard"),
        ("4.4.7", "smtp; 550 5.1.1 no such user", "hard"),
        ("5.1.1", "smtp; 552 5.2.2 mailbox full", "soft"),
        ("5.1.1", "smtp; 550 5.7.1 your IP is on our blacklist", "infrastructure"),
        ("5.4.7", "", "soft"),
        ("5.4.4", "", "hard"),
        ("5.4.6", "smtp; 554 5.4.6 too many hops", "soft"),
        ("5.4.310", "smtp;550 5.4.310 DNS domain example.net does not exist", "hard"),
        ("5.0.0", "smtp;550 5.4.300 Message expired -> 451 4.7.500 Server busy", "soft"),
        ("5.7.23", "smtp; 550 5.7.23 refused because of Sender Policy Framework violation", "infrastructure"),
        ("5.7.1", "smtp; 550 5.7.1 TRANSPORT.RULES.RejectMessage; rejected by organization policy", "content"),
        ("nonsense", "smtp; 550 user unknown", "hard"),
        ("", 'X-Postfix; unknown user: "bob"', "hard"),
        ("", "x-unix; 67", "hard"),
        ("5.3.0", "x-unix; 75", "soft"),
        ("5.0.0", "X-Postfix; TLS is required, but was not offered by host mx.example.net", "infrastructure"),
        ("4.4.3", "X-Postfix; Host or domain name not found. Name service error: Host not found, try again", "soft"),
        ("5.4.4", "X-Postfix; Host or domain name not found. Name service error type=A: Host not found", "hard"),
        ("5.0.0", "", "unknown"),
    ],
)
def test_a_diagnostic_that_says_more_than_the_status_is_believed(
    status: str, diagnostic: str, bounce_class: str
) -> None:
    """Lesson C9: the set of hard bounces was too small in one place and too broad in another."""
    report = parse_report(notification(one(Status=status, Diagnostic_Code=diagnostic)))
    assert [one.bounce_class for one in report.recipients] == [bounce_class]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_hundreds_of_recipients_are_all_read_and_thousands_are_bounded(end: str) -> None:
    many = [one(Final_Recipient=f"rfc822; u{number}@example.net", Status="5.1.1") for number in range(500)]
    assert len(parse_report(notification(*many, end=end)).recipients) == 500
    report = parse_report(notification(*(many[0].replace("u0@", f"u{number}@") for number in range(5000)), end=end))
    assert len(report.recipients) == MAX_RECIPIENTS


def test_words_about_thousands_of_recipients_are_not_all_read() -> None:
    """Each reading takes milliseconds: a report with a line for people about every one would hold its reader for long."""
    names = [f"u{number}@example.net" for number in range(2 * MAX_TOLD)]
    words = "".join(f"{name} 550 5.1.1 no such user here\n" for name in names)
    fields = (one(Final_Recipient=f"rfc822; {name}", Status="5.0.0") for name in names)
    hard = [recipient.bounce_class.value for recipient in parse_report(notification(*fields, words=words)).recipients]
    assert hard == ["hard"] * MAX_TOLD + ["unknown"] * MAX_TOLD


def test_a_recipient_that_is_named_twice_is_one() -> None:
    report = parse_report(notification(one(), one(Status="5.1.1"), one(Status="5.1.1")))
    assert in_words(report) == ["bob@example.net | hard | 5.1.1 | failed"]


def test_a_mail_that_only_talks_of_bounces_is_none() -> None:
    """A person who asks what "Action: failed" means is no server."""
    mail = b"From: bob@example.net\nSubject: help\n\nI got this:\n> Final-Recipient: rfc822; a@example.net\n> Action: failed\n"
    assert parse_report(mail).kind is ReportKind.NONE


ALL = [octets(name) for name in EXPECTED]


@given(st.sampled_from(ALL), st.integers(0, 2**32), st.sampled_from(["drop", "swap", "repeat", "noise", "cut"]))
def test_mutated_notifications_never_raise(mail: bytes, seed: int, how: str) -> None:
    """Every parser has a property: any bytes give a report that can be stored."""
    dice = random.Random(seed)
    lines = mail.splitlines(keepends=True)
    place, other = dice.randrange(len(lines)), dice.randrange(len(lines))
    if how == "drop":
        del lines[place]
    elif how == "swap":
        lines[place], lines[other] = lines[other], lines[place]
    elif how == "repeat":
        lines[place] *= dice.randrange(50)
    elif how == "noise":
        lines[place] = dice.randbytes(dice.randrange(300)) + b"\n"
    else:
        lines = lines[:place]
    report = parse_report(b"".join(lines))
    assert report.trouble == ""
    for one in report.recipients:
        (one.address + one.reason).encode()
        assert "\0" not in one.address + one.reason


@given(st.binary(max_size=300))
def test_any_octets_in_a_status_part_never_raise(noise: bytes) -> None:
    mail = notification(one()).replace(b"bob@example.net", noise)
    assert parse_report(mail).trouble == ""


@pytest.mark.parametrize(
    "mail",
    [
        notification(*[one()] * 6000),
        notification("Final-Recipient: rfc822; " + "a@" * 200_000),
        notification("Final-Recipient: rfc822; " + "(" * 400_000 + "\nStatus: 5.1.1\n"),
        notification("Final-Recipient: rfc822; " + '"' * 400_000 + "\nStatus: 5.1.1\n"),
        notification(one(Diagnostic_Code="smtp; " + "550 " * 200_000)),
        notification(one(Diagnostic_Code="smtp; " + "5.1." * 200_000)),
        notification(one(Diagnostic_Code="smtp;\n" + " host not found\n" * 50_000)),
        notification(one(Status="5" * 400_000)),
        notification(one(Action="failed\n\n" * 60_000)),
        notification(*["X-Field: y\n"] * 80_000, one()),
        notification(*[f"Final-Recipient: rfc822; u{number}@example.net\n" for number in range(20_000)]),
        b"Subject: x\n\n" + b"Final-Recipient: a\nAction:\n" * 40_000,
        b"Content-Type: text/html\n\n" + b"<style>" * 100_000 + b"Final-Recipient: a@b\nAction: failed\n",
    ],
    ids=lambda mail: str(len(mail)),
)
def test_hostile_notifications_cost_little(mail: bytes) -> None:
    begun = time.process_time()
    assert parse_report(mail).trouble == ""
    assert time.process_time() - begun < 2.5, "under half a second, and room for a busy machine"


CHALLENGE = "We hold your mail. Please click here to confirm that you sent it."


@pytest.mark.parametrize(
    ("sender", "words"),
    [("noreply@boxbe.com", "You are on my guest list."), ("bob@example.net", CHALLENGE)],
    ids=["by-a-known-service", "by-its-words"],
)
def test_a_challenge_in_the_form_of_a_notification_is_no_bounce(sender: str, words: str) -> None:
    mail = f"From: {sender}\n".encode() + notification(one(Status="4.7.0")).replace(b"Sorry.", words.encode())
    report = parse_report(mail)
    assert (report.kind, report.recipients) == (ReportKind.AUTO_REPLY, ())
    of_a_server = mail.replace(f"From: {sender}".encode(), b"From: MAILER-DAEMON@boxbe.com")
    assert parse_report(of_a_server).kind is ReportKind.BOUNCE


@pytest.mark.parametrize("kind", ["text/plain", "message/delivery-status"])
def test_a_notification_that_a_person_passes_on_is_no_bounce(kind: str) -> None:
    head = "From: Carol <carol@example.org>\nSubject: Fwd: Undeliverable\nContent-Type: multipart/mixed; boundary=b\n\n"
    mail = f"{head}--b\n\nWhat is this?\n--b\nContent-Type: {kind}\n\n{one(Status='5.1.1')}\n--b--\n"
    assert parse_report(mail.encode()).kind is ReportKind.NONE
    of_a_server = mail.replace("Carol <carol@example.org>", "MAILER-DAEMON@mx.example.org")
    assert in_words(parse_report(of_a_server.encode())) == ["bob@example.net | hard | 5.1.1 | failed"]


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ("From: mail.example.com\nSubject: Returned\nContent-Type: multipart/mixed", "text/plain"),
        ("From: <gw@example.org>\nSubject: Re: Hello\nContent-Type: multipart/report", "message/delivery-status"),
    ],
    ids=["fields amid the words, from a name that is no address", "an answer's subject"],
)
def test_a_notification_from_an_odd_sender_is_read(head: str, kind: str) -> None:
    mail = f"{head}; boundary=b\n\n--b\nContent-Type: {kind}\n\n{one(Status='5.1.1')}\n--b--\n"
    assert in_words(parse_report(mail.encode())) == ["bob@example.net | hard | 5.1.1 | failed"]


def test_a_notification_that_a_mail_system_passes_on_is_read() -> None:
    inner = b"From: MAILER-DAEMON@mx.example.org\n" + notification(one(Status="5.1.1"))
    head = b"From: MAILER-DAEMON@gw.example.org\nSubject: Returned mail\nContent-Type: multipart/mixed; boundary=o\n\n"
    mail = head + b"--o\n\nDelivery errors:\n--o\nContent-Type: message/rfc822\n\n" + inner + b"--o--\n"
    assert in_words(parse_report(mail)) == ["bob@example.net | hard | 5.1.1 | failed"]


def test_a_notification_that_lost_its_parts_is_read_with_the_words_above_it() -> None:
    head = "From: MAILER-DAEMON@mx.example.org\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"
    words = (
        "Failed:\n<bob@example.net>\n\nmail.local: unknown user: bob\n554 <bob@example.net>... Service unavailable\n\n"
    )
    words += "Reporting-MTA: dns; a.example\n\n"
    assert in_words(parse_report(f"{head}{words}{one(Status='5.5.0')}".encode())) == [
        "bob@example.net | hard | 5.5.0 554 | failed"
    ]


@pytest.mark.parametrize(
    ("status", "diagnostic", "expected"),
    [
        ("5.7.1", "smtp; 553 Invalid recipient bob@example.net", "hard"),
        ("5.7.1", "smtp; 554 5.7.1 The address is not known", "hard"),
        ("5.1.1", "smtp; 550 max message size exceeded", "content"),
        ("5.1.1", "smtp; 550 [x] Mailbox currently suspended", "hard"),
        ("5.0.0", "smtp; 550 Mailbox is temporarily suspended", "soft"),
        ("4.0.0", "smtp; DNS Error: the domain a.example doesn't receive email: returned Null MX", "hard"),
        ("5.0.0", "smtp; 553 blocked using spam pattern, look at what you write", "content"),
        ("5.7.708", "smtp; 550 5.7.708 Service unavailable. Traffic not accepted", "infrastructure"),
    ],
    ids=lambda value: value[:40],
)
def test_the_words_of_a_reply_go_before_a_status_that_it_does_not_quote(
    status: str, diagnostic: str, expected: str
) -> None:
    report = parse_report(notification(one(Status=status, Diagnostic_Code=diagnostic)))
    assert [one.bounce_class for one in report.recipients] == [expected]


def test_what_is_delayed_is_soft_whatever_was_said() -> None:
    waits = one(Action="delayed", Status="4.1.2", Diagnostic_Code="smtp; 450 Host unknown")
    assert in_words(parse_report(notification(waits))) == ["bob@example.net | soft | 4.1.2 450 | delayed"]
