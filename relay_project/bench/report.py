"""Results for people and for files."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from relay_project.bench.scenarios import COMPARISONS, SCENARIOS, Comparison, Scenario

COLUMNS = ("benchmark", "rate/s", "ratio", "p50 ms", "p99 ms", "messages", "body", "goals")


def write_table(out: TextIO, results: Mapping[str, Mapping[str, Any]]) -> None:
    """One line for each result, the goals that are not met, then the conditions they share."""
    rows = [COLUMNS, *(_row(name, result) for name, result in results.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        numbers = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        out.write("  ".join([first.ljust(widths[0]), *numbers]) + "\n")
    for name, result in results.items():
        for goal in result.get("goals", ()):
            if not goal["met"]:
                out.write(f"not met: {name}: {in_words(goal)}\n")
    for line in sorted({conditions(result) for result in results.values()}):
        out.write(line + "\n")


def in_words(goal: Mapping[str, Any]) -> str:
    """A judged goal in a line."""
    return f"{goal['says']}: {number(goal['value'])}, wanted {'≤' if goal['at_most'] else '≥'} {number(goal['bound'])}"


def write_details(out: TextIO, result: Mapping[str, Any]) -> None:
    """Everything of one result, a line each."""
    for key, value in result.items():
        shown = ", ".join(f"{name} {part}" for name, part in value.items()) if isinstance(value, dict) else value
        if key == "goals":
            shown = "; ".join(f"{in_words(goal)}: {'met' if goal['met'] else 'NOT MET'}" for goal in value) or "none"
        out.write(f"  {key:22} {shown}\n")


def write_list(out: TextIO, sets: Iterable[tuple[str, Iterable[str]]]) -> None:
    """Scenarios and comparisons with their options, and the sets with what they run."""
    named: dict[str, Scenario | Comparison] = {**SCENARIOS, **COMPARISONS}
    for name, scenario in named.items():
        out.write(f"{name:12} {scenario.says}\n")
        defaults = {option: value for option, value in scenario.defaults.items() if option in scenario.options}
        for line in _wrapped(
            f"--{option.replace('_', '-')}{_default(defaults, option)}" for option in scenario.options
        ):
            out.write(f"{'':12}   {line}\n")
    for name, members in sets:
        out.write(f"{name:12} a set: {', '.join(members)}\n")


def write_file(folder: Path, name: str, result: Mapping[str, Any]) -> Path:
    """Keep a result as <name>.json; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    fields = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in result.items())
    path.write_text("{\n" + ",\n".join(fields) + "\n}\n", encoding="utf-8")
    return path


def read_files(folder: Path) -> dict[str, dict[str, Any]]:
    """All results of a folder by their titles; files of others are passed over."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    return {title: result for title, result in found.items() if "rsa_2048_per_second" in result and "rate" in result}


def number(value: float | None) -> str:
    """With thousands apart; – for none."""
    return "–" if value is None else f"{value:,}"


def conditions(result: Mapping[str, Any]) -> str:
    """The machine, the versions and the database's promises, in a line."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    promise = "fsync on" if result["fsync"] else "fsync OFF"
    machine = f"{result['cores']} cores, {result['cpu']}"
    return f"{machine}; {promise}, synchronous_commit {result['synchronous_commit']}; {versions}"


def _row(name: str, result: Mapping[str, Any]) -> tuple[str, ...]:
    points = result.get("percentiles") or {}
    goals = result.get("goals", ())
    return (
        name,
        number(result["rate"]),
        number(result.get("ratio")),
        number(points.get("p50")),
        number(points.get("p99")),
        number(result["messages"]),
        number(result["body_bytes"]),
        f"{sum(goal['met'] for goal in goals)} of {len(goals)}",
    )


def _default(defaults: Mapping[str, Any], option: str) -> str:
    return f" {defaults[option]:,}" if option in defaults else ""


def _wrapped(words: Iterable[str], width: int = 100) -> list[str]:
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += word + "  "
    return [line.rstrip() for line in lines]
