"""The words of systems that gave up: the table beside that of replies."""

import re

import pytest

from relay_project.mail.classify import RULES
from relay_project.mail.reports.classes import _BY_RULE, _VAGUE, REPORT_RULES, judge
from relay_project.mail.reports.model import Action, BounceClass

SAID = [
    ("report-loop", "message looping"),
    ("report-full", "can't create user output file"),
    ("report-us", "failed: BATV failed to verify"),
    ("report-us", "TLS is required, but was not offered by host mx.example.net"),
    ("report-expired", "retry time not reached for any host after a long failure period"),
    ("report-expired", "This message has been in the queue too long"),
    (
        "report-host-unknown",
        "Host or domain name not found. Name service error for name=example.net type=A: Host not found",
    ),
    ("report-host-unknown", "all relevant MX records point to non-existent hosts"),
    ("report-network", "connect to mx.example.net[198.51.100.7]:25: Connection refused"),
    ("report-network", "Command died with status 127"),
    ("report-unknown-user", "The following recipient could not be resolved"),
    ("report-content", "the attachment was quarantined"),
    ("report-content", "Messages without To: fields are not accepted here"),
    ("report-unknown-user", "User name bob not unique. Several matches found in the directory."),
    ("report-no-mailbox", "550 5.7.1 No mailbox found"),
    ("report-full-abroad", "Почтовый ящик получателя переполнен"),
    ("report-unknown-abroad", "La dirección no existe"),
    ("report-unavailable", "554 <bob@example.net>... Service unavailable"),
    ("report-group", "you may not have permission to post messages to the group"),
]


@pytest.mark.parametrize(("rule", "text"), SAID)
def test_words_without_a_reply_choose_their_row(rule: str, text: str) -> None:
    assert judge(text).rule == rule


def test_every_row_is_chosen_by_some_words_and_says_where_it_is_written() -> None:
    assert {rule.id for rule in REPORT_RULES} == {rule for rule, _ in SAID}
    assert all(len(rule.source) > 8 and len(rule.id) <= 64 for rule in REPORT_RULES)
    assert not {rule.id for rule in REPORT_RULES} & {rule.verdict.rule for rule in RULES}


def test_texts_are_in_lower_case_and_repeat_within_bounds() -> None:
    for rule in REPORT_RULES:
        pattern = rule.text.pattern
        assert pattern == pattern.lower()
        assert not re.search(r"(?<!\\)[*+](?!\+)|\{[0-9]*,\}", pattern), rule.id


def test_the_rows_that_are_named_exist() -> None:
    assert set(_BY_RULE) | _VAGUE <= {rule.verdict.rule for rule in RULES}


def test_a_quoted_reply_means_what_it_means_in_the_conversation() -> None:
    """Lesson C9: bounces that come at once and those that come back must agree."""
    said = judge("host mx.example.net said: 550-5.1.1 no such 550 5.1.1 user (in reply to RCPT TO command)", "5.0.0")
    assert (said.bounce_class, said.rule, said.status, said.code) == (
        BounceClass.HARD,
        "mailbox-unknown",
        "5.1.1",
        "550",
    )
    assert said.suppress


def test_what_may_pass_suppresses_nobody() -> None:
    assert not judge("450 4.1.1 user unknown", action=Action.DELAYED).suppress
    assert judge("", "4.0.0").bounce_class is BounceClass.SOFT
    assert judge("").bounce_class is BounceClass.UNKNOWN


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        ("Sorry, the user's maildir has overdrawn his diskspace quota", "5.2.3", BounceClass.SOFT),
        ("550 sorry, no mailbox here by that name. (#5.7.17)", "5.0.0", BounceClass.HARD),
        ("550 5.1.1 Refused due to recipient preferences", "5.1.1", BounceClass.CONTENT),
    ],
)
def test_the_words_go_before_a_code_that_says_something_else(text: str, status: str, expected: BounceClass) -> None:
    said = judge(text, status)
    assert (said.bounce_class, said.suppress) == (expected, False)


def test_a_content_refusal_of_mail_that_is_only_delayed_is_soft() -> None:
    assert judge("451 SPAM not accepted", action=Action.DELAYED).bounce_class is BounceClass.SOFT
    assert judge("451 SPAM not accepted").bounce_class is BounceClass.CONTENT


def test_an_address_does_not_choose_the_row() -> None:
    assert judge("<host-not-found@example.net>: sorry").bounce_class is BounceClass.UNKNOWN
