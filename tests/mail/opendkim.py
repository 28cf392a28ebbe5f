"""OpenDKIM as a judge: its test mode reads messages from files and keys from a file in place of DNS."""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

PROGRAM = shutil.which("opendkim") or shutil.which("opendkim", path="/usr/sbin:/sbin")
SECONDS = 60
A_CALL = 50  # messages; names of files stand in one argument

# At -vv it prints the Authentication-Results that it would add: a clause for each signature.
_CLAUSE = re.compile(r"dkim=(\w+)[^;]*?header\.d=(\S+)")


def judge(messages: Sequence[bytes], records: Mapping[str, str], folder: Path) -> list[list[tuple[str, str]]]:
    """What it says of each message: [(domain, "pass" or what else), …] in the order of the signatures.

    `records`: TXT by name with its final dot.
    """
    zone = "".join(f"{name.rstrip('.')} {value}\n" for name, value in records.items())
    (folder / "zone").write_text(zone)
    (folder / "opendkim.conf").write_text(f"Mode v\nSyslog no\nTestDNSData {folder / 'zone'}\n")
    told: list[list[tuple[str, str]]] = []
    for start in range(0, len(messages), A_CALL):
        told += _ask(messages[start : start + A_CALL], folder)
    return told


def _ask(messages: Sequence[bytes], folder: Path) -> list[list[tuple[str, str]]]:
    names = [f"{number}.eml" for number in range(len(messages))]
    for name, message in zip(names, messages, strict=True):
        (folder / name).write_bytes(message)
    assert PROGRAM is not None
    answer = subprocess.run(
        [PROGRAM, "-x", str(folder / "opendkim.conf"), "-t", ",".join(names), "-vv"],
        cwd=folder,
        capture_output=True,
        timeout=SECONDS,
        check=True,
    )
    results = answer.stdout.decode("utf-8", "replace").split("### INSHEADER")[1:]
    found = [_CLAUSE.findall(part) for part in results]
    assert len(found) == len(messages), f"{len(found)} answers to {len(messages)} messages"
    return [[(domain, result) for result, domain in clauses] for clauses in found]
