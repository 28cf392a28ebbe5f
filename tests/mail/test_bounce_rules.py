"""The table of replies: every row by replies as receivers send them, and what hostile text may cost."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail import classify as module
from relay_project.mail.classify import MAX_READ, RULES, Category, Cause, Verdict, classify, is_throttle, source_of
from relay_project.mail.reply import FailureKind, NetworkFailure, Reply, Stage, parse_reply

GOLDEN = Path(__file__).parent / "golden" / "replies.txt"


class Line(NamedTuple):
    """One reply and what it must mean."""

    stage: Stage
    verdict: str
    rule: str
    reply: Reply


def golden_lines() -> Iterator[Line]:
    for line in GOLDEN.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            stage, verdict, rule, text = line.split(" | ", 3)
            yield Line(Stage(stage), verdict, rule, parse_reply([text.encode()]))


LINES = list(golden_lines())


def in_words(verdict: Verdict, throttle: bool) -> str:
    """As the golden file has it."""
    marks = [verdict.cause, "suppress" if verdict.suppress else None, "throttle" if throttle else None]
    return " ".join([verdict.outcome, verdict.category, *(mark for mark in marks if mark)])


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.rule}: {str(line.reply)[:50]}")
def test_what_receivers_say_means_what_they_meant(line: Line) -> None:
    """Lesson C9: the set of hard bounces was too small in one place and too broad in another."""
    verdict = classify(line.stage, line.reply)
    assert in_words(verdict, is_throttle(line.stage, line.reply)) == line.verdict
    assert verdict.rule == line.rule


def test_every_row_has_a_reply_that_chooses_it() -> None:
    assert {rule.verdict.rule for rule in RULES} == {line.rule for line in LINES}
    assert len(LINES) > 300


def test_every_row_is_named_once_and_says_where_it_is_written() -> None:
    names = [rule.verdict.rule for rule in RULES]
    assert len(set(names)) == len(names)
    assert all(len(rule.source) > 8 for rule in RULES)
    assert all(len(name) <= 64 for name in names), "the column's length"


def test_what_is_about_us_names_a_cause_and_nothing_else_does() -> None:
    for rule in RULES:
        about_us = rule.verdict.category is Category.INFRASTRUCTURE
        assert (rule.verdict.cause is not None) is about_us, rule.verdict.rule
        assert not (about_us and rule.verdict.suppress)
    assert {rule.verdict.cause for rule in RULES} == {None, *Cause}


def test_texts_are_in_lower_case_and_repeat_within_bounds() -> None:
    """Replies are made lower before they are searched; an unbounded repeat is where quadratic time begins."""
    for rule in RULES:
        pattern = rule.text.pattern if rule.text else ""
        assert pattern == pattern.lower()
        assert not re.search(r"(?<!\\)[*+](?!\+)|\{[0-9]*,\}", pattern), rule.verdict.rule


def test_every_rule_that_can_decide_has_a_source() -> None:
    for kind in FailureKind:
        assert source_of(classify(Stage.DIAL, None, NetworkFailure(kind, "gone")).rule)
    for reply in (Reply(250, None, "fine"), Reply(220, None, "what"), None):
        assert source_of(classify(Stage.RCPT, reply).rule)
    assert source_of("a-row-of-an-older-version") == ""


@pytest.mark.parametrize(
    "quoted",
    [
        "<no.such.user@example.com>",
        "no-such-user@example.com:",
        '<"user unknown"@example.com>',
        "(unknown.user@b.example)",
    ],
)
def test_an_address_in_a_reply_does_not_choose_the_row(quoted: str) -> None:
    assert not classify(Stage.RCPT, Reply(550, None, f"{quoted} not today")).suppress


HOSTILE = ["user ", "mailbox ", "recipient ", "address ", "sender ", "helo ", "message ", "too many ", "exceeded "]
HOSTILE += ["a", "a@", "<", '"', '"a', "@", "(", "\n", "ß", "messages from ", "unknown ", "your ", "no such ", "550 "]


@given(
    st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=6),
    st.sampled_from([450, 550, 554]),
    st.sampled_from(["rcpt", "mail"]),
)
def test_a_hostile_text_costs_little(words: list[str], code: int, stage: str) -> None:
    """No reply may hold up the sender: what is read is bounded, and so is every repeat in the table."""
    text = "".join(words) * 2000
    module._decided.cache_clear()
    begun = time.process_time()
    classify(Stage(stage), Reply(code, None, text))
    assert time.process_time() - begun < 0.25, "a few milliseconds, and room for a busy machine"


def test_what_follows_the_limit_is_not_read() -> None:
    said = Reply(550, None, "x" * MAX_READ + " no such user")
    assert not classify(Stage.RCPT, said).suppress


@given(st.sampled_from(LINES))
def test_white_space_and_case_change_nothing(line: Line) -> None:
    shouted = Reply(line.reply.code, line.reply.enhanced, "\n".join(line.reply.text.upper().split(" ")))
    assert classify(line.stage, shouted) == classify(line.stage, line.reply)
