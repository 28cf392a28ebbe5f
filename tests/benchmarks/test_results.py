"""Medians, ratios, goals, and the pages that are written from the result files."""

from pathlib import Path
from typing import Any

import pytest

from relay_project.bench.goals import GOALS, Goal, figure_of, judge
from relay_project.bench.pages import WRITERS, rendered
from relay_project.bench.repeat import comparison_of, median_of
from relay_project.bench.report import read_files, write_file
from relay_project.bench.sets import FULL

DOCS = Path(__file__).parents[2] / "docs"
CONDITIONS = {
    "rsa_2048_per_second": 2700,
    "cores": 2,
    "cpu": "a CPU",
    "fsync": True,
    "synchronous_commit": "on",
    "versions": {"python": "3.11"},
    "measured_at": "2026-11-22T04:17:49Z",
}


def result(rate: float, peak: float = 100.0, **more: Any) -> dict[str, Any]:
    return {
        "name": "drain",
        "rate": rate,
        "messages": 10,
        "body_bytes": 2048,
        "sender_peak_mib": peak,
        **CONDITIONS,
        **more,
    }


def test_the_median_run_is_shown_with_the_rates_of_all_and_the_highest_memory() -> None:
    median = median_of([result(900, 120), result(1500), result(1200, 90)])
    assert (median["rate"], median["rates"], median["sender_peak_mib"]) == (1200, [900, 1500, 1200], 120)
    assert "rates" not in median_of([result(900)])


def test_paced_runs_are_ordered_by_their_p99() -> None:
    runs = [{**result(50), "name": "latency", "percentiles": {"p99": p99}} for p99 in (80, 10, 400)]
    assert median_of(runs)["percentiles"]["p99"] == 80


def test_a_comparison_is_the_ratio_of_medians() -> None:
    compared = comparison_of(
        "tarpit", [result(1000), result(2000), result(500)], [result(900, 310), result(950), result(10)]
    )
    assert (compared["ratio"], compared["rate_a"], compared["rate"]) == (0.9, 1000, 900)
    assert compared["rates_a"] == [1000, 2000, 500]
    assert compared["sender_peak_mib"] == 310
    assert compared["versions"] == {"python": "3.11"}
    assert "versions" not in compared["a"]
    [ratio, memory] = judge("tarpit", compared)
    assert (ratio["met"], memory["met"]) == (True, False)


@pytest.mark.parametrize(("rsa", "bound", "met"), [(2700, 1500, False), (1350, 750, True), (5400, 1500, False)])
def test_goals_that_signing_bounds_go_down_with_the_machine(rsa: int, bound: int, met: bool) -> None:
    judged = judge("drain", {**result(1000), "rsa_2048_per_second": rsa})
    assert (judged[0]["goal"], judged[0]["bound"], judged[0]["met"]) == (1500, bound, met)


def test_latencies_do_not_follow_the_machine() -> None:
    points = {"p50": 29.0, "p99": 151.0}
    judged = judge("latency-idle", {**result(2, percentiles=points), "rsa_2048_per_second": 100})
    assert [(goal["bound"], goal["met"]) for goal in judged[:2]] == [(30, True), (150, False)]


def test_every_goal_is_measured_by_the_full_set() -> None:
    assert {goal.result for goal in GOALS} <= FULL.keys()


def test_a_figure_is_a_path_into_the_result() -> None:
    assert figure_of({"a": {"b": 2}}, "a.b") == 2
    assert figure_of({"a": {"b": 2}}, "a.c") is None
    assert figure_of({"a": None}, "a.c") is None
    assert not Goal("x", "y", 1, "z").at_most


def test_pages_are_written_between_their_marks_only(tmp_path: Path) -> None:
    write_file(tmp_path, "drain", {**result(1600), "sender_cpu_us": 700, "postgresql_cpu_us": 100, "sink_cpu_us": 20})
    text = "before\n<!-- figures: goals -->\nold\n<!-- end of figures -->\nafter\n"
    page = rendered(text, read_files(tmp_path))
    assert page.startswith("before\n<!-- figures: goals -->\n| goal |")
    assert page.endswith("<!-- end of figures -->\nafter\n")
    assert "| ≥ 1,500 | ≥ 1,500 | 1,600 | yes | [drain](benchmarks/drain.json), 2026-11-22 |" in page
    assert "not measured" in page
    assert "old" not in page
    assert rendered(page, read_files(tmp_path)) == page
    cores = rendered("<!-- figures: cores -->\n<!-- end of figures -->", read_files(tmp_path))
    assert "700 senders + 100 PostgreSQL = 800 | 1,250 | 54 million |" in cores


def test_the_figures_of_the_pages_are_those_of_the_result_files() -> None:
    results = read_files(DOCS / "benchmarks")
    pages = {page.name: page.read_text(encoding="utf-8") for page in DOCS.glob("*.md")}
    shown = [name for name in WRITERS if any(f"<!-- figures: {name} -->" in text for text in pages.values())]
    assert set(shown) == set(WRITERS)
    for name, text in pages.items():
        assert rendered(text, results) == text, f"{name} is older than the results: run `manage.py bench render`."
