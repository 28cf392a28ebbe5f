"""sending.deliver.cores: whether a core is left for threads, by readings of the kernel's count."""

import os
from pathlib import Path

import pytest

from sending.deliver.cores import Cores, Count, read_count


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("busy", "own", "has_spare"),
    [
        (0.1, 0.1, True),  # nothing is going on
        (1.9, 1.6, True),  # all of it is ours
        (2.0, 0.8, False),  # another sender does as much
        (1.2, 0.2, False),  # another program has a core to itself
        (0.0, 0.3, True),  # the clocks disagree
    ],
)
def test_what_others_leave_of_the_cores_decides(busy: float, own: float, has_spare: bool) -> None:
    cores = Cores(_last=Count(100.0, 50.0, 7.0))
    cores.look(Count(101.0, 50.0 + busy, 7.0 + own))
    assert cores.has_spare is has_spare


def test_two_looks_at_once_are_one() -> None:
    cores = Cores(has_spare=False, _last=Count(100.0, 50.0, 7.0))
    cores.look(Count(100.01, 50.0, 7.0))
    assert cores.has_spare is False


def test_only_cores_that_this_process_may_use_are_counted(two: None, tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text(
        "cpu  900 0 900 900 0 0 0 0 0 0\n"
        "cpu0 100 0 50 7 7 25 25 0 3 0\n"
        "cpu1 100 0 0 7 7 0 0 0 3 0\n"
        "cpu2 999 0 0 0 0 0 0 0 0 0\n"
    )
    count = read_count(stat)
    assert count is not None
    assert count.busy == pytest.approx(300 / os.sysconf("SC_CLK_TCK"))


def test_where_nobody_counts_a_core_is_spare(tmp_path: Path) -> None:
    assert read_count(tmp_path / "none") is None
    assert Cores(_last=None).has_spare is True
