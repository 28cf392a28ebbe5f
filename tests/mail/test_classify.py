"""Verdicts, line by line, on replies as providers word them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.classify import RULES, Category, Outcome, Verdict, classify, is_throttle
from relay_project.mail.reply import FailureKind, NetworkFailure, Reply, Stage, parse_reply

ABOUT_US = (Stage.DIAL, Stage.HELLO, Stage.STARTTLS)
TAKING = (Stage.RCPT, Stage.DATA_CLOSE)
DNS_ANSWERS = (FailureKind.NULL_MX, FailureKind.NO_SUCH_DOMAIN)


def judge(stage: str, *lines: str) -> Verdict:
    """Classify a reply as it comes over the wire."""
    return classify(Stage(stage), parse_reply([line.encode() for line in lines]))


@pytest.mark.parametrize(
    "line",
    [
        "550 5.1.1 <bob@example.com>: Recipient address rejected: User unknown in virtual mailbox table",
        "550-5.1.1 The email account that you tried to reach does not exist.",
        "550 5.1.3 bad address syntax",
        "550 5.1.6 The mailbox has moved",
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
        "550 5.2.1 The email account that you tried to reach is disabled.",
        "550 5.2.1 The email account that you tried to reach is inactive.",
        "550 5.4.1 Recipient address rejected: Access denied. AS(201806281) [x.protection.outlook.com]",
        "550 5.4.310 DNS domain example.com does not exist",
        "554 delivery error: dd This user doesn't have a yahoo.com account (bob@yahoo.com) [0] - mta1.yahoo.com",
        "554 delivery error: dd Sorry, your message to bob@yahoo.com cannot be delivered. "
        "This account has been disabled or discontinued [#102].",
        "552 1 Requested mail action aborted, mailbox not found",
        "550 User unknown",
        "550 No such user here",
        "550 <bob@example.com>: Recipient unknown",
        "553 sorry, no mailbox here by that name. (#5.1.1)",
        "550 5.0.0 <bob@example.com>... User unknown",
        "553 5.3.0 <bob@example.com>... User unknown",
        "550 Requested action not taken: mailbox not found",
        "550 user <no-reply@server.example> does not exist",
    ],
)
def test_a_missing_mailbox_is_suppressed(line: str) -> None:
    """Lesson C9: the set of hard bounces was too small."""
    verdict = judge("rcpt", line.replace("550-", "550 "))
    assert verdict.outcome is Outcome.BOUNCED
    assert verdict.suppress
    assert verdict.category in (Category.RECIPIENT, Category.DOMAIN)


@pytest.mark.parametrize(
    ("line", "category"),
    [
        ("550 5.5.0 Requested action not taken: mailbox unavailable", Category.RECIPIENT),
        ("550 5.5.0 no such user", Category.RECIPIENT),
        ("503 5.5.0 need MAIL first", Category.INFRASTRUCTURE),
        ("503 5.5.1 bad sequence of commands", Category.INFRASTRUCTURE),
        ("550 Requested action not taken: mailbox unavailable", Category.RECIPIENT),
        ("550 denied", Category.RECIPIENT),
        ("554 Transaction failed", Category.INFRASTRUCTURE),
        ("552 5.2.2 The email account that you tried to reach is over quota", Category.RECIPIENT),
        ("552 Mailbox full", Category.RECIPIENT),
        ("554 5.2.2 mailbox full; the user account is disabled for now", Category.RECIPIENT),
        ("552 5.3.4 Message size exceeds fixed limit", Category.CONTENT),
        (
            "550 5.7.1 Unauthenticated email from example.com is not accepted due to DMARC policy",
            Category.INFRASTRUCTURE,
        ),
        ("550 5.7.26 This mail has been blocked because the sender is unauthenticated", Category.INFRASTRUCTURE),
        ("550 5.7.1 Service unavailable; client [192.0.2.1] blocked using zen.spamhaus.org", Category.INFRASTRUCTURE),
        ("550 5.7.606 Access denied, banned sending IP [192.0.2.1]", Category.INFRASTRUCTURE),
        ("554 5.7.9 Message not accepted for policy reasons", Category.INFRASTRUCTURE),
        ("550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup", Category.RECIPIENT),
        ("554 5.7.1 <bob@example.com>: Relay access denied", Category.DOMAIN),
        ("550 relay not permitted", Category.DOMAIN),
        ("550 5.1.2 we do not relay for this domain", Category.DOMAIN),
        ("550 5.1.8 <alice@example.org>: Sender address rejected: Domain not found", Category.INFRASTRUCTURE),
        ("550 5.1.1 user unknown; your IP is on our blacklist", Category.INFRASTRUCTURE),
        ("550 5.2.1 Mailbox unavailable. Your IP address 192.0.2.1 is blacklisted", Category.INFRASTRUCTURE),
        ("550 5.4.6 Routing loop detected", Category.DOMAIN),
        ("556 5.1.10 Recipient address has null MX", Category.DOMAIN),
        ("556 domain takes no mail", Category.DOMAIN),
        ("550 recipient server: unknown error", Category.RECIPIENT),
        ("550 recipient domain not found", Category.DOMAIN),
        ("554 Your IP address 192.0.2.1 has been disabled, connection closed", Category.INFRASTRUCTURE),
        ("550 <no.such.user@example.com> not today", Category.RECIPIENT),
        ("599 who knows", Category.INFRASTRUCTURE),
    ],
)
def test_anything_less_sure_bounces_without_suppression(line: str, category: Category) -> None:
    """Lesson C9: and 5.5.0, a protocol error, suppressed people."""
    verdict = judge("rcpt", line)
    assert (verdict.outcome, verdict.category, verdict.suppress) == (Outcome.BOUNCED, category, False)


def test_a_sender_call_out_does_not_suppress_the_recipient() -> None:
    verdict = judge(
        "rcpt", "550-Verification failed for <alice@example.org>", "550-No Such User Here", "550 Sender verify failed"
    )
    assert (verdict.category, verdict.suppress) == (Category.INFRASTRUCTURE, False)


@pytest.mark.parametrize(
    ("line", "category"),
    [
        ("450 4.2.1 The user you are trying to contact is receiving mail too quickly", Category.TEMPORARY),
        ("452 4.2.2 The recipient's inbox is out of storage space", Category.RECIPIENT),
        ("451 4.3.0 Mail server temporarily rejected message", Category.TEMPORARY),
        ("451 4.7.1 Greylisting in action, please come back later", Category.TEMPORARY),
        ("421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", Category.INFRASTRUCTURE),
        ("451 4.7.500 Server busy. Please try again later", Category.INFRASTRUCTURE),
        ("421 Too many connections from your IP", Category.INFRASTRUCTURE),
        ("452 mailbox full", Category.RECIPIENT),
        ("451 local error", Category.TEMPORARY),
        ("450 5.1.1 contradicts itself", Category.TEMPORARY),
    ],
)
def test_a_4xx_is_a_deferral(line: str, category: Category) -> None:
    verdict = judge("rcpt", line)
    assert (verdict.outcome, verdict.category, verdict.suppress) == (Outcome.DEFERRED, category, False)


@pytest.mark.parametrize("stage", TAKING)
@pytest.mark.parametrize("code", range(250, 260))
def test_every_25x_takes_the_recipient(stage: Stage, code: int) -> None:
    """Lesson C5: 251 and 252 are legal successes."""
    assert classify(stage, Reply(code, None, "fine")).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(
    ("stage", "code"), [(Stage.DATA, 250), (Stage.RCPT, 220), (Stage.DATA_CLOSE, 354), (Stage.MAIL, 250)]
)
def test_a_success_out_of_place_is_not_taken_for_delivery(stage: Stage, code: int) -> None:
    assert classify(stage, Reply(code, None, "fine")).outcome is Outcome.DEFERRED


@pytest.mark.parametrize("stage", ABOUT_US)
@pytest.mark.parametrize("line", ["554 5.1.1 no such user", "550 go away", "521 no mail here"])
def test_replies_before_mail_defer_to_the_next_host(stage: str, line: str) -> None:
    verdict = judge(stage, line)
    assert (verdict.outcome, verdict.category) == (Outcome.DEFERRED, Category.INFRASTRUCTURE)
    assert not verdict.suppress


@pytest.mark.parametrize("stage", ABOUT_US)
def test_a_busy_server_is_nobodys_fault(stage: str) -> None:
    verdict = judge(stage, "421 busy")
    assert (verdict.outcome, verdict.category) == (Outcome.DEFERRED, Category.TEMPORARY)


@pytest.mark.parametrize(
    ("line", "outcome", "category"),
    [
        ("550 5.1.1 no such user", Outcome.BOUNCED, Category.INFRASTRUCTURE),
        ("550 5.7.1 blocked", Outcome.BOUNCED, Category.INFRASTRUCTURE),
        ("552 5.3.4 too big", Outcome.BOUNCED, Category.CONTENT),
        ("552 size over limit", Outcome.BOUNCED, Category.CONTENT),
        ("550 temporarily unavailable, try again later", Outcome.DEFERRED, Category.INFRASTRUCTURE),
        ("421 4.7.0 rate limited", Outcome.DEFERRED, Category.INFRASTRUCTURE),
        ("452 4.3.1 out of space", Outcome.DEFERRED, Category.TEMPORARY),
    ],
)
def test_replies_to_mail_are_about_us(line: str, outcome: Outcome, category: Category) -> None:
    verdict = judge("mail", line)
    assert (verdict.outcome, verdict.category, verdict.suppress) == (outcome, category, False)


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind not in DNS_ANSWERS])
@pytest.mark.parametrize("stage", list(Stage))
def test_a_failure_of_network_or_dns_is_a_deferral(kind: FailureKind, stage: Stage) -> None:
    """Lessons C1 and C2: a bad certificate, or a hiccup of DNS, lost mail for good."""
    verdict = classify(stage, None, NetworkFailure(kind, "gone"))
    assert (verdict.outcome, verdict.suppress, verdict.rule) == (Outcome.DEFERRED, False, f"network-{kind}")


@pytest.mark.parametrize("kind", DNS_ANSWERS)
def test_a_definite_no_of_dns_bounces_at_once(kind: FailureKind) -> None:
    """Lesson C15: null MX was retried for 31 hours."""
    verdict = classify(Stage.ROUTE, None, NetworkFailure(kind, "example.com takes no mail"))
    assert (verdict.outcome, verdict.category, verdict.suppress) == (Outcome.BOUNCED, Category.DOMAIN, False)


def test_a_refusal_says_more_than_the_cut_that_follows() -> None:
    cut = NetworkFailure(FailureKind.CUT, "closed")
    assert classify(Stage.RCPT, Reply(550, "5.1.1", "no"), cut).suppress
    assert classify(Stage.DATA_CLOSE, Reply(354, None, "go"), cut).rule == "network-cut"


def test_neither_reply_nor_failure_is_a_deferral() -> None:
    assert classify(Stage.RCPT, None).outcome is Outcome.DEFERRED


def test_one_reply_for_several_recipients_suppresses_nobody() -> None:
    unknown = Reply(550, "5.1.1", "one of them is unknown")
    assert classify(Stage.DATA_CLOSE, unknown).suppress
    assert not classify(Stage.DATA_CLOSE, unknown, recipients=2).suppress
    assert classify(Stage.RCPT, unknown, recipients=2).suppress


def test_a_refusal_after_data_without_reason_is_about_the_content() -> None:
    assert judge("data_close", "550 rejected").category is Category.CONTENT
    assert judge("data_close", "552 too big for us").category is Category.CONTENT


def test_every_row_has_a_source_and_a_name_of_its_own() -> None:
    assert len({rule.verdict.rule for rule in RULES}) == len(RULES)
    assert all(len(rule.source) > 8 for rule in RULES)


def test_only_rows_about_mailbox_or_domain_suppress() -> None:
    suppressing = [rule for rule in RULES if rule.verdict.suppress]
    assert {rule.verdict.category for rule in suppressing} == {Category.RECIPIENT, Category.DOMAIN}
    assert all(code.startswith("5") for rule in suppressing for code in rule.codes)


REPLIES = st.builds(
    Reply,
    st.integers(-10, 700),
    st.one_of(st.none(), st.from_regex(r"\A[245]\.[0-9]{1,3}\.[0-9]{1,3}\Z"), st.text(max_size=5)),
    st.text(max_size=200),
)
FAILURES = st.one_of(st.none(), st.builds(NetworkFailure, st.sampled_from(list(FailureKind)), st.text(max_size=20)))


@given(st.sampled_from(list(Stage)), st.one_of(st.none(), REPLIES), FAILURES)
def test_every_ending_has_a_sane_verdict(stage: Stage, reply: Reply | None, failure: NetworkFailure | None) -> None:
    verdict = classify(stage, reply, failure)
    code = reply.code if reply else 0
    if verdict.suppress:
        assert verdict.outcome is Outcome.BOUNCED
        assert 500 <= code <= 599
        assert stage in (Stage.RCPT, Stage.DATA, Stage.DATA_CLOSE)
    if verdict.outcome is Outcome.ACCEPTED:
        assert 250 <= code <= 259
        assert failure is None
    if 400 <= code <= 499:
        assert verdict.outcome is Outcome.DEFERRED


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        ("dial", "421 4.7.0 mx.example.com too busy"),
        ("data_close", "421 4.3.2 shutting down"),
        ("rcpt", "421 Service not available"),
        ("mail", "451 4.7.1 you send too fast"),
        ("mail", "421 4.7.28 unusual rate of unsolicited mail"),
        ("rcpt", "452 too many recipients this hour"),
        ("mail", "550 too many connections from your host"),
        ("data_close", "450 4.7.0 rate limited"),
    ],
)
def test_what_asks_for_less_is_a_throttle(stage: str, line: str) -> None:
    reply = parse_reply([line.encode()])
    assert is_throttle(Stage(stage), reply)


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        ("rcpt", "450 4.7.1 greylisted, try again in 5 minutes"),
        ("rcpt", "452 4.2.2 mailbox full"),
        ("rcpt", "451 4.3.0 local error"),
        ("rcpt", "550 5.1.1 no such user"),
        ("rcpt", "250 ok"),
        ("data_close", "554 5.7.1 spam"),
    ],
)
def test_other_replies_are_no_throttle(stage: str, line: str) -> None:
    reply = parse_reply([line.encode()])
    assert not is_throttle(Stage(stage), reply)


@pytest.mark.parametrize(
    ("stage", "kind", "expected"),
    [
        (Stage.DIAL, FailureKind.REFUSED, True),
        (Stage.DIAL, FailureKind.CUT, True),
        (Stage.DIAL, FailureKind.CONNECT, False),
        (Stage.DIAL, FailureKind.TIMEOUT, False),
        (Stage.RCPT, FailureKind.CUT, False),
        (Stage.ROUTE, FailureKind.DNS, False),
    ],
)
def test_a_door_shut_before_the_greeting_is_a_throttle(stage: Stage, kind: FailureKind, expected: bool) -> None:
    assert is_throttle(stage, None, NetworkFailure(kind, "gone")) is expected
