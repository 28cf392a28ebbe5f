"""Prometheus metrics for roles of one process and of many.

Metrics are declared at the top of the file that counts them, with `Counter`, `Gauge` and `Histogram` from here. Labels
are bounded: never an address, never a domain that a customer chose.

A role with children (the web's workers, several senders) shares files in one folder and shows the sum.
prometheus_client decides at import whether to share, so the folder's name must be in the environment *before* a child
starts, and a child must be a new program (subprocess, exec, multiprocessing's spawn), not a fork of a process that had
imported this module before `share`:

    parent:  share("senders"), start the children with os.environ, `forget_child(pid)` when one has ended
    child:   nothing
    the page of either:  `page()`

A gauge in such a role needs `multiprocess_mode` ("livesum", "livemax", …); live ones leave with their process.
"""

import os
import shutil
import tempfile
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

__all__ = [
    "CONTENT_TYPE_LATEST",
    "SECONDS",
    "Counter",
    "Gauge",
    "Histogram",
    "forget_child",
    "observe_many",
    "page",
    "share",
    "stop_sharing",
]

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own name; it reads it at import
# Upper bounds of histograms of durations, in seconds: a local statement to a conversation's deadline.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each one, which nobody reads


def share(role: str) -> Path:
    """Make an empty folder for the metrics of this role's children and name it in the environment they inherit.

    A folder of its own for each start: what a former run counted is not counted again.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"relay-metrics-{role}-"))
    os.environ[DIRECTORY_VARIABLE] = str(folder)
    return folder


def observe_many(histogram: Histogram, values: Sequence[float]) -> None:
    """As `histogram.observe` for each value, with one step for each bucket; the library has no such call."""
    buckets = Counts(bisect_left(histogram._upper_bounds, value) for value in values)
    for bucket, count in buckets.items():
        histogram._buckets[bucket].inc(count)
    histogram._sum.inc(sum(values))


def shared_directory() -> Path | None:
    """The folder that this process shares with its family; None for a process that is alone."""
    name = os.environ.get(DIRECTORY_VARIABLE)
    return Path(name) if name else None


def forget_child(pid: int) -> None:
    """Drop the live gauges of a child that has ended; what it counted stays counted."""
    if shared_directory() is not None:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]


def stop_sharing() -> None:
    """Remove the folder, by the process that made it, when the last child has ended."""
    folder = shared_directory()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
        del os.environ[DIRECTORY_VARIABLE]


def page() -> bytes:
    """The text that Prometheus reads (CONTENT_TYPE_LATEST): of this process, or of the family that shares files."""
    folder = shared_directory()
    if folder is None:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    if folder.is_dir():
        MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    return generate_latest(registry)
