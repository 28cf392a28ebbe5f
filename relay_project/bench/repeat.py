"""Measuring more than once: medians, and comparisons in turn (A, B, A, B, …) on a machine that is never the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay_project.bench.goals import judge
from relay_project.bench.launch import Place, run_apart
from relay_project.bench.plan import Plan
from relay_project.bench.scenarios import COMPARISONS, plan_of, plans_of

# What describes the machine and not the run: of both sides of a comparison one is enough.
CONDITIONS = (
    *("fsync", "synchronous_commit", "fdatasync_us", "shared_buffers", "cores", "cpu", "memory_gib"),
    *(
        "rsa_2048_per_second",
        "rsa_2048_alone_per_second",
        "versions",
        "measured_at",
        "in_flight_rows",
        "site_connections",
    ),
)
HOISTED = ("messages", "body_bytes", "signatures", "processes", "percentiles")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a set: a scenario or a comparison with its options, and how often it is measured."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    repeat: int = 1


def measure(title: str, entry: Entry, place: Place, say: Say) -> dict[str, Any]:
    """Measure an entry; the result under its title is held to the title's goals. Raises BenchError."""
    if entry.name in COMPARISONS:
        first, second = plans_of(entry.name, entry.options)
        result = _compare(title, first, second, entry.repeat, place, say)
    else:
        plan = plan_of(entry.name, entry.options)
        result = median_of([_run(title, plan, turn, entry.repeat, place, say) for turn in range(entry.repeat)])
    return {**result, "title": title, "goals": judge(title, result)}


def median_of(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The result in the middle (of an even number the worse one of the middle two), with the rates of all.

    Paced runs all have the rate that they were asked for: there the p99 decides.
    """
    ordered = sorted(results, key=_quality)
    middle = dict(ordered[(len(ordered) - 1) // 2])
    if len(results) > 1:
        middle["rates"] = [each["rate"] for each in results]
        middle["sender_peak_mib"] = max((each.get("sender_peak_mib") or 0 for each in results), default=0) or None
    return middle


def comparison_of(
    title: str, first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """B against A: the ratio of their medians."""
    a, b = median_of(first), median_of(second)
    conditions = {name: b[name] for name in (*HOISTED, *CONDITIONS) if name in b}
    peak = max(a.get("sender_peak_mib") or 0, b.get("sender_peak_mib") or 0)
    return {
        "name": title,
        "ratio": round(b["rate"] / a["rate"], 3),
        "rate": b["rate"],
        "rate_a": a["rate"],
        "rates_a": [each["rate"] for each in first],
        "rates_b": [each["rate"] for each in second],
        "sender_peak_mib": peak or None,
        "a": {name: value for name, value in a.items() if name not in CONDITIONS},
        "b": {name: value for name, value in b.items() if name not in CONDITIONS},
        **conditions,
    }


def _compare(title: str, first: Plan, second: Plan, repeat: int, place: Place, say: Say) -> dict[str, Any]:
    results: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for turn in range(repeat):
        for side, plan in enumerate((first, second)):
            results[side].append(_run(f"{title}, {'AB'[side]}", plan, turn, repeat, place, say))
    return comparison_of(title, *results)


def _run(title: str, plan: Plan, turn: int, repeat: int, place: Place, say: Say) -> dict[str, Any]:
    say(f"{title}, {turn + 1} of {repeat} …" if repeat > 1 else f"{title} …")
    return run_apart(plan, place)


def _quality(result: Mapping[str, Any]) -> float:
    """More is better."""
    points = result.get("percentiles")
    if result["name"] == "latency" and points:
        return -float(points["p99"])
    return float(result["rate"] or 0)
