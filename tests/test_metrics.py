"""Metrics of one process and of a family. Each case is a program of its own: the choice falls at import."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CHILD = """
    from relay_project.metrics import SECONDS, Counter, Gauge, Histogram
    Counter("relay_test_mails_total", "Mails.", ["outcome"]).labels("accepted").inc(3)
    Gauge("relay_test_in_flight", "In flight.", multiprocess_mode="livesum").set(5)
    Histogram("relay_test_seconds", "Time.", buckets=SECONDS).observe(0.2)
"""


def run(code: str) -> str:
    """Run a program with nothing but the modules under test."""
    environment = {k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_alone_shows_its_own_metrics() -> None:
    page = run(textwrap.dedent(CHILD) + "\nfrom relay_project.metrics import page\nprint(page().decode())")
    assert 'relay_test_mails_total{outcome="accepted"} 3.0' in page
    assert 'relay_test_seconds_bucket{le="0.25"} 1.0' in page
    assert "process_resident_memory_bytes" in page
    assert "_created" not in page


def test_the_parent_shows_the_sum_of_its_children_and_live_gauges_leave_with_them() -> None:
    told = run(f"""
        import os, subprocess, sys
        from relay_project import metrics
        folder = metrics.share("senders")
        child = {textwrap.dedent(CHILD)!r}
        children = [subprocess.Popen([sys.executable, "-c", child]) for _ in range(2)]
        assert [c.wait() for c in children] == [0, 0]
        print(metrics.page().decode())
        print("--- one child is forgotten")
        metrics.forget_child(children[0].pid)
        print(metrics.page().decode())
        metrics.stop_sharing()
        assert not folder.exists() and "PROMETHEUS_MULTIPROC_DIR" not in os.environ
    """)
    both, one = told.split("--- one child is forgotten")
    assert 'relay_test_mails_total{outcome="accepted"} 6.0' in both
    assert "relay_test_in_flight 10.0" in both
    assert "relay_test_seconds_count 2.0" in both
    assert 'relay_test_mails_total{outcome="accepted"} 6.0' in one
    assert "relay_test_in_flight 5.0" in one


def test_each_start_counts_from_nothing() -> None:
    told = run("""
        from relay_project import metrics
        first = metrics.share("web"); second = metrics.share("web")
        assert first != second and list(second.iterdir()) == []
        print(oct(second.stat().st_mode & 0o777))
        first.rmdir(); metrics.stop_sharing()
    """)
    assert told.strip() == "0o700"


def test_many_observations_at_once_count_as_each_by_itself() -> None:
    told = run("""
        from relay_project.metrics import SECONDS, Histogram, observe_many, page
        seen = [0.0005, 0.001, 0.2, 0.2, 0.26, 1000.0]
        one_by_one = Histogram("relay_test_one_seconds", "Time.", buckets=SECONDS)
        for value in seen:
            one_by_one.observe(value)
        observe_many(Histogram("relay_test_many_seconds", "Time.", buckets=SECONDS), seen)
        print(page().decode())
    """)
    lines = {
        name: [line.replace(name, "") for line in told.splitlines() if line.startswith(f"relay_test_{name}")]
        for name in ("one", "many")
    }
    assert lines["one"] == lines["many"]
    assert len(lines["one"]) > 10
