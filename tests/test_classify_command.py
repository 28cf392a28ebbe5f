"""`manage.py classify`: the table, asked from the command line."""

import pytest
from django.core.management import CommandError, call_command


def ask(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, str]:
    call_command("classify", *args)
    return {line[:12].strip(): line[12:] for line in capsys.readouterr().out.splitlines()}


def test_a_reply_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    said = ask(capsys, "550-5.1.1 The account does not exist.", "550 5.1.1 Learn more")
    assert (said["outcome"], said["category"], said["suppresses"]) == ("bounced", "recipient", "yes")
    assert said["rule"] == "mailbox-unknown"
    assert "RFC 3463" in said["source"]


def test_step_and_number_of_recipients_matter(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "554 5.1.1 no", "--stage", "dial")["category"] == "infrastructure (ip-reputation)"
    assert ask(capsys, "550 5.1.1 no", "--stage", "data_close", "--recipients", "2")["suppresses"] == "no"
    assert ask(capsys, "552 5.2.2 full")["suppresses"] == "after some days of it"
    assert ask(capsys, "421 slow down")["slows down"] == "yes"


def test_what_is_no_reply_is_refused_with_a_sentence() -> None:
    with pytest.raises(CommandError, match="This is no SMTP reply"):
        call_command("classify", "hello")
    with pytest.raises(CommandError, match="put a whole line in quotes"):
        call_command("classify", "550", "5.1.1", "no")
    with pytest.raises(CommandError, match="--recipients"):
        call_command("classify", "550 no", "--recipients", "0")
