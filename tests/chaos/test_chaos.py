"""The judge of chaos: what its witness remembers, and that its arithmetic hides nothing. The trials are `make chaos`."""

import io
import json
import signal
import smtplib
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from relay_project.chaos.arena import ChaosError, Loader, hurt
from relay_project.chaos.judge import Verdict, _verdict
from relay_project.chaos.reading import read_share
from relay_project.chaos.trials import TRIALS, Trial
from relay_project.chaos.witness import Witness


def send(port: int, number: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        client.sendmail("a@sender.test", [f"someone-{number}@r1.test"], b"Subject: x\r\n\r\n.dot\r\n")


def test_the_witness_remembers_every_copy() -> None:
    with Witness(slow=0) as witness:
        for number in (7, 8, 7):
            send(witness.port, number)
        assert dict(witness.copies) == {7: 2, 8: 1}
        assert not witness.unanswered


def test_the_witness_counts_what_it_took_without_saying_so() -> None:
    with Witness(slow=0, cut_share=1.0) as witness:
        with pytest.raises(smtplib.SMTPServerDisconnected):
            send(witness.port, 3)
        assert (witness.copies[3], witness.unanswered[3]) == (1, 1)


@pytest.mark.parametrize("step", ["connect", "mail", "rcpt", "data", "dot"])
def test_a_trap_holds_a_conversation_at_its_step_until_it_is_let_go(step: str) -> None:
    with Witness(slow=0) as witness:
        trap = witness.set_trap(step)
        client = threading.Thread(target=send, args=(witness.port, 1))
        client.start()
        assert trap.sprung.wait(10)
        assert trap.peer == "127.0.0.1"
        assert witness.copies[1] == (1 if step == "dot" else 0)
        trap.released.set()
        client.join(10)
        assert witness.copies[1] == 1


def verdict(
    *,
    copies: dict[int, int],
    states: dict[int, str],
    accepted: set[int],
    lost_attempts: dict[int, int] | None = None,
    unanswered: dict[int, int] | None = None,
    may_duplicate: bool = True,
    **report: int,
) -> Verdict:
    witness = Witness()
    witness.copies.update(copies)
    witness.unanswered.update(unanswered or {})
    arena: Any = SimpleNamespace(loaders=[Loader(process=None, accepted=accepted)], witness=witness)  # type: ignore[arg-type]
    said = {
        "states": {str(number): state for number, state in states.items()},
        "lost_attempts": {str(number): count for number, count in (lost_attempts or {}).items()},
        **dict.fromkeys(("waiting", "silent", "stray", "unsequenced", "events", "fed"), 0),
        **report,
    }
    return _verdict(Trial("a test", lambda arena: None, may_duplicate=may_duplicate), arena, said, 1.0)


def test_mail_that_arrived_once_keeps_the_promise() -> None:
    result = verdict(copies={1: 1, 2: 1}, states={1: "accepted", 2: "accepted"}, accepted={1, 2})
    assert result.is_good
    assert (result.accepted, result.arrived, result.lost, result.duplicates) == (2, 2, 0, 0)


def test_accepted_mail_that_never_came_is_lost() -> None:
    result = verdict(copies={1: 1}, states={1: "accepted", 2: "accepted"}, accepted={1, 2})
    assert (result.lost, result.is_good) == (1, False)


def test_mail_that_the_database_forgot_is_lost_although_it_came() -> None:
    assert verdict(copies={1: 1}, states={}, accepted={1}).lost == 1


def test_mail_that_ended_with_a_reason_is_not_lost() -> None:
    assert verdict(copies={}, states={1: "failed"}, accepted={1}).is_good


def test_mail_in_doubt_may_have_been_taken_or_not() -> None:
    assert verdict(copies={1: 1, 9: 1}, states={1: "accepted", 9: "accepted"}, accepted={1}).is_good


def test_a_trial_without_mail_proves_nothing() -> None:
    with pytest.raises(ChaosError, match="Nothing was accepted"):
        verdict(copies={}, states={}, accepted=set())


@pytest.mark.parametrize("kept_from", [{"lost_attempts": {1: 1}}, {"unanswered": {1: 1}}])
def test_a_second_copy_is_explained_by_a_result_that_was_never_known(kept_from: dict[str, dict[int, int]]) -> None:
    result = verdict(copies={1: 2}, states={1: "accepted"}, accepted={1}, **kept_from)  # type: ignore[arg-type]
    assert (result.duplicates, result.unexplained, result.is_good) == (1, 0, True)


def test_a_third_copy_needs_a_second_explanation() -> None:
    result = verdict(copies={1: 3}, states={1: "accepted"}, accepted={1}, lost_attempts={1: 1})
    assert (result.duplicates, result.unexplained, result.is_good) == (2, 1, False)


def test_where_nothing_died_not_even_an_explained_copy_is_allowed() -> None:
    result = verdict(copies={1: 2}, states={1: "accepted"}, accepted={1}, lost_attempts={1: 1}, may_duplicate=False)
    assert not result.is_good


@pytest.mark.parametrize("left", ["waiting", "silent", "stray"])
def test_what_still_waits_or_is_in_no_ledger_is_stuck(left: str) -> None:
    result = verdict(copies={1: 1}, states={1: "accepted"}, accepted={1}, **{left: 1})
    assert (result.stuck, result.is_good) == (1, False)


def test_events_without_a_position_are_lost() -> None:
    assert verdict(copies={1: 1}, states={1: "accepted"}, accepted={1}, events=3, fed=2).events_lost == 1


def test_a_process_that_has_ended_feels_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    hurt(process.pid, signal.SIGCONT)


def test_an_unknown_trial_and_an_absurd_number_are_refused_by_name() -> None:
    with pytest.raises(CommandError, match="'earthquake' is none of"):
        call_command("chaos", "earthquake")
    with pytest.raises(CommandError, match="--messages must be from 50 to 50,000"):
        call_command("chaos", "deploy", messages=1)


def test_the_trials_are_listed() -> None:
    output = io.StringIO()
    call_command("chaos", "list", stdout=output)
    assert [line.split()[0] for line in output.getvalue().splitlines()] == [*TRIALS, "parsers"]


def test_figures_of_trials_that_were_not_run_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    results = tmp_path / "chaos.json"
    results.write_text('{"trials": {"deploy": {"lost": 0}, "parsers": {}, "abolished": {}}, "measured_at": "long ago"}')
    monkeypatch.setattr(
        "relay_project.management.commands.chaos.read_noise", lambda inputs: read_share(inputs // 1000, 1)
    )
    call_command("chaos", "parsers", messages=100, results=results, stdout=io.StringIO())
    record = json.loads(results.read_text())
    assert list(record["trials"]) == ["deploy", "parsers"]
    assert record["trials"]["deploy"] == {"lost": 0}
    assert record["trials"]["parsers"]["inputs"] == 50
    assert record["measured_at"] != "long ago"
