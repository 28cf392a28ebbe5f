"""`manage.py parse_report`: mails on the command line, anywhere."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "mail" / "reports" / "corpus"
UNKNOWN = CORPUS / "postfix-unknown.eml"


def parse(*files: object, stdin: bytes = b"") -> tuple[int, list[dict[str, Any]]]:
    """Run it as a person would where nothing is set up."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "parse_report", *map(str, files)],
        input=stdin,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        timeout=60,
    )
    assert done.stderr == b""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_it_needs_no_settings_and_one_unreadable_file_does_not_stop_the_rest(tmp_path: Path) -> None:
    empty = tmp_path / "empty.eml"
    empty.write_bytes(b"")
    code, said = parse(tmp_path / "missing.eml", tmp_path, empty, UNKNOWN, "-", stdin=UNKNOWN.read_bytes())
    assert code == 0
    assert [(one["kind"], one.get("error")) for one in said] == [
        ("none", "No such file or directory"),
        ("none", "Is a directory"),
        ("none", None),
        ("bounce", None),
        ("bounce", None),
    ]
    assert said[3] == {
        "file": str(UNKNOWN),
        "kind": "bounce",
        "recipients": [
            {
                "address": "bob@example.net",
                "status": "5.1.1",
                "code": "550",
                "class": "hard",
                "reason": "550 5.1.1 <bob@example.net>: Recipient address rejected: User unknown in relay recipient table",
                "action": "failed",
            }
        ],
    }
    assert said[4] == said[3] | {"file": "-"}


def test_the_exit_code_says_when_nothing_could_be_read(tmp_path: Path) -> None:
    code, said = parse(tmp_path / "a", tmp_path / "b")
    assert (code, len(said)) == (1, 2)


def test_a_name_that_no_file_can_have_is_an_error_of_that_file(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("parse_report", "a\0b", str(UNKNOWN))
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["error"]
    assert second["kind"] == "bounce"
