"""The simulator's table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.classify import Cause, Outcome, classify
from relay_project.mail.reply import Stage
from relay_project.mail.simulator import Kind, behaviour


@pytest.mark.parametrize(
    ("local_part", "code", "enhanced"),
    [
        ("busy", 450, "4.2.1"),
        ("tempfail", 451, "4.3.0"),
        ("missing", 550, "5.1.1"),
        ("disabled", 550, "5.2.1"),
        ("spam", 550, "5.7.1"),
        ("greylist", 451, "4.7.1"),
        ("throttle", 421, "4.7.0"),
        ("blocklisted", 554, "5.7.1"),
    ],
)
def test_a_refusal_has_the_tables_codes(local_part: str, code: int, enhanced: str) -> None:
    for spelling in (local_part, local_part.upper(), f"{local_part}+17", f"{local_part}+atdata+17"):
        reply = behaviour(spelling).reply
        assert reply is not None
        assert (reply.code, reply.enhanced) == (code, enhanced)


@pytest.mark.parametrize("local_part", ["accept", "slow", "drop", "complaint", "alice", "", "+", "accepted+missing"])
def test_the_others_refuse_nothing(local_part: str) -> None:
    assert behaviour(local_part).reply is None


def test_suffixes_move_the_answer() -> None:
    assert behaviour("missing+17").at_data is False
    assert behaviour("missing+atdata+17").at_data is True
    assert behaviour("missing+17+async").async_ is True
    assert behaviour("complaint").async_ is True
    assert behaviour("accept+async").async_ is False
    assert behaviour("greylist+async").async_ is False
    assert behaviour("nobody+atdata").kind is Kind.ACCEPT


@pytest.mark.parametrize(
    ("local_part", "outcome", "suppress"),
    [
        ("busy", Outcome.DEFERRED, False),
        ("tempfail", Outcome.DEFERRED, False),
        ("greylist", Outcome.DEFERRED, False),
        ("missing", Outcome.BOUNCED, True),
        ("disabled", Outcome.BOUNCED, True),
        ("spam", Outcome.BOUNCED, False),
        ("throttle", Outcome.DEFERRED, False),
        ("blocklisted", Outcome.BOUNCED, False),
    ],
)
@pytest.mark.parametrize("stage", [Stage.RCPT, Stage.DATA_CLOSE])
def test_refusals_are_classified_as_their_names_say(
    local_part: str, outcome: Outcome, suppress: bool, stage: Stage
) -> None:
    verdict = classify(stage, behaviour(local_part).reply)
    assert (verdict.outcome, verdict.suppress) == (outcome, suppress)


def test_what_is_about_the_source_ip_says_so() -> None:
    throttle, blocklisted = (classify(Stage.RCPT, behaviour(name).reply) for name in ("throttle", "blocklisted"))
    assert (throttle.cause, throttle.throttle) == (Cause.RATE, True)
    assert (blocklisted.cause, blocklisted.throttle) == (Cause.IP_REPUTATION, False)


@given(st.text())
def test_any_local_part_has_a_behaviour(local_part: str) -> None:
    assert behaviour(local_part).kind in Kind
