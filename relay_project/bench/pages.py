"""The pages that show results: what stands between two marks is written from the result files, never by hand.

<!-- figures: goals -->
…
<!-- end of figures -->
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from relay_project.bench.goals import GOALS, MEMORY, Goal, figure_of
from relay_project.bench.report import conditions, number, read_files

BLOCK = re.compile(r"(<!-- figures: (?P<name>[a-z-]+) -->\n)(?P<body>.*?)(<!-- end of figures -->)", re.DOTALL)
SECONDS_A_DAY = 86_400
USE = 0.5  # of a core that a machine should be sized for: peaks, retries and upkeep take the rest
PROCESSES = ("sender_cpu_us", "web_cpu_us", "peer_cpu_us", "webhooks_cpu_us", "smtp_cpu_us")  # whose a run's CPU is
KINDS = {"sender_cpu_us": "senders", "postgresql_cpu_us": "PostgreSQL", "accept_cpu_us": "accepting in batches"}

Results = Mapping[str, Mapping[str, Any]]


def render(docs: Path) -> Iterator[Path]:
    """Write the blocks of all pages anew from docs/benchmarks; gives the pages that changed."""
    for page in sorted(docs.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        written = rendered(text, read_files(docs / "benchmarks"))
        if written != text:
            page.write_text(written, encoding="utf-8")
            yield page


def rendered(text: str, results: Results) -> str:
    """A page with its blocks written from the results."""
    return BLOCK.sub(lambda found: found[1] + WRITERS[found["name"]](results) + found[4], text)


def _goals(results: Results) -> str:
    rows = [_goal_row(goal, results) for goal in GOALS]
    peaks = {name: peak for name, result in results.items() if (peak := figure_of(result, MEMORY.figure)) is not None}
    if peaks:
        worst = max(peaks, key=lambda name: peaks[name])
        rows.append(_goal_row(MEMORY, results, worst))
    head = ["| goal | wanted | here that is | measured | met | result, date |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def _goal_row(goal: Goal, results: Results, name: str = "") -> str:
    name = name or goal.result
    result = results.get(name)
    sign = "≤" if goal.at_most else "≥"
    wanted = f"{sign} {number(goal.bound)}"
    value = figure_of(result, goal.figure) if result else None
    if result is None or value is None:
        return f"| {goal.says} | {wanted} | – | not measured | – | – |"
    bound = goal.bound_on(result["rsa_2048_per_second"])
    met = "yes" if (value <= bound if goal.at_most else value >= bound) else "**no**"
    here = f"{sign} {number(bound)}" if goal.scales else "the same"
    if goal.scales and bound < (full := goal.in_proportion(result["rsa_2048_per_second"])):
        here += f" (in full proportion {number(full)})"
    link = f"[{name}](benchmarks/{name}.json), {result['measured_at'][:10]}"
    return f"| {goal.says} | {wanted} | {here} | {number(value)} | {met} | {link} |"


def _runs(results: Results) -> str:
    head = [
        "| run | rate/s | of all runs | p50 / p95 / p99 / max ms | process, µs a mail | PostgreSQL | sink | RSA/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = [row for name, result in results.items() for row in _run_rows(name, result)]
    machines = sorted({conditions(result) for result in results.values()})
    return "\n".join([*head, *rows, "", *(f"{machine}." for machine in machines)]) + "\n"


def _run_rows(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    if "ratio" not in result:
        yield _run_row(f"[{name}](benchmarks/{name}.json)", result, result.get("rates"), result)
        return
    for side in "ab":
        title = f"[{name}](benchmarks/{name}.json), {side.upper()}"
        yield _run_row(title, result[side], result[f"rates_{side}"], result)


def _run_row(title: str, run: Mapping[str, Any], rates: list[float] | None, result: Mapping[str, Any]) -> str:
    points = run.get("percentiles") or {}
    shown = " / ".join(number(points.get(part)) for part in ("p50", "p95", "p99", "max")) if points else "–"
    process = next((run[name] for name in PROCESSES if run.get(name)), None)
    cells = [
        *(title, number(run["rate"]), ", ".join(map(number, rates)) if rates else "–", shown, number(process)),
        *(number(run.get("postgresql_cpu_us")), number(run.get("sink_cpu_us")), number(result["rsa_2048_per_second"])),
    ]
    return f"| {' | '.join(cells)} |"


def _cores(results: Results) -> str:
    """Mails a day that a core carries, from the CPU each takes."""
    head = [
        "| mail | CPU of a mail, µs | mails a second and core | mails a day and core, half used |",
        "|---|---|---|---|",
    ]
    names = {
        "drain": "2 KB, two signatures, delivered",
        "drain-1-signature": "2 KB, one signature, delivered",
        "drain-100-kb": "100 KB, one signature, delivered",
        "end_to_end": "2 KB, one signature, accepted in batches and delivered",
    }
    rows = [_core_row(says, results[name]) for name, says in names.items() if name in results]
    return "\n".join([*head, *rows]) + "\n"


def _core_row(says: str, result: Mapping[str, Any]) -> str:
    parts = {kind: result[key] for key, kind in KINDS.items() if result.get(key)}
    spent = sum(parts.values())
    shown = " + ".join(f"{number(value)} {kind}" for kind, value in parts.items())
    a_day = SECONDS_A_DAY * USE / spent  # millions: a million µs to the second
    millions = f"{a_day:,.0f}" if a_day >= 10 else f"{a_day:.1f}"
    return f"| {says} | {shown} = {number(spent)} | {number(round(1e6 / spent))} | {millions} million |"


def _disk(results: Results) -> str:
    head = ["| mail | disk of a million mails while they are kept |", "|---|---|"]
    names = {"drain": "2 KB, one recipient", "drain-100-kb": "100 KB, one recipient"}
    rows = [
        f"| {says} | {results[name]['table_bytes_per_mail'] / 1e3:,.1f} GB |"
        for name, says in names.items()
        if results.get(name, {}).get("table_bytes_per_mail")
    ]
    return "\n".join([*head, *rows]) + "\n"


WRITERS: Mapping[str, Callable[[Results], str]] = {"goals": _goals, "runs": _runs, "cores": _cores, "disk": _disk}
