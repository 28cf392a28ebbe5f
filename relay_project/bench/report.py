"""Results for people and for files."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from relay_project.bench.plan import SCENARIOS

COLUMNS = ("benchmark", "rate/s", "p50 ms", "p99 ms", "messages", "body", "signatures", "processes")


def write_table(out: TextIO, results: Mapping[str, Mapping[str, Any]]) -> None:
    """One line for each result, then the conditions they share."""
    rows = [COLUMNS, *(_row(name, result) for name, result in results.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        numbers = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        out.write("  ".join([first.ljust(widths[0]), *numbers]) + "\n")
    for line in sorted({_conditions(result) for result in results.values()}):
        out.write(line + "\n")


def write_details(out: TextIO, result: Mapping[str, Any]) -> None:
    """Everything of one result, a line each."""
    for key, value in result.items():
        shown = ", ".join(f"{name} {part}" for name, part in value.items()) if isinstance(value, dict) else value
        out.write(f"  {key:22} {shown}\n")


def write_list(out: TextIO, sets: Iterable[tuple[str, Iterable[str]]]) -> None:
    """The scenarios, and the sets with what they run."""
    for name, what in SCENARIOS.items():
        out.write(f"{name:12} {what}\n")
    for name, members in sets:
        out.write(f"{name:12} a set: {', '.join(members)}\n")


def write_file(folder: Path, name: str, result: Mapping[str, Any]) -> Path:
    """Keep a result as <name>.json; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    fields = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in result.items())
    path.write_text("{\n" + ",\n".join(fields) + "\n}\n", encoding="utf-8")
    return path


def _row(name: str, result: Mapping[str, Any]) -> tuple[str, ...]:
    points = result.get("percentiles") or {}
    return (
        name,
        _number(result["rate"]),
        _number(points.get("p50")),
        _number(points.get("p99")),
        _number(result["messages"]),
        _number(result["body_bytes"]),
        str(result["signatures"]),
        str(result["processes"]),
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,}"


def _conditions(result: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    promise = "fsync on" if result["fsync"] else "fsync OFF"
    return f"{result['cores']} cores, {result['cpu']}; {promise}, synchronous_commit {result['synchronous_commit']}; {versions}"
