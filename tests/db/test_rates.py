"""Rate windows: exact over all processes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from relay_project.db import rates
from relay_project.db.rates import Rate, forget, sweep, use

THREE = Rate("test", 3, 60)
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.django_db
def test_the_count_is_exact_and_the_window_starts_with_the_first_use():
    uses = [use(THREE, "alice", NOW + timedelta(seconds=second)) for second in (0, 10, 20, 30)]
    assert [u.allowed for u in uses] == [True, True, True, False]
    assert [u.remaining for u in uses] == [2, 1, 0, 0]
    assert [u.reset_seconds for u in uses] == [60, 50, 40, 30]
    assert use(THREE, "bob", NOW).remaining == 2, "keys do not share a window"
    assert use(THREE, "alice", NOW + timedelta(seconds=59, milliseconds=999)).reset_seconds == 1
    assert use(THREE, "alice", NOW + timedelta(seconds=60)).allowed, "a new window"


@pytest.mark.django_db
def test_a_success_starts_the_window_anew():
    for _ in range(4):
        use(THREE, "alice", NOW)
    forget(THREE, "alice")
    assert use(THREE, "alice", NOW).remaining == 2


@pytest.mark.django_db
def test_a_key_of_any_length_is_bounded():
    long = "x" * 10_000
    assert use(THREE, long, NOW).remaining == 2
    assert use(THREE, long, NOW).remaining == 1
    forget(THREE, long)
    assert use(THREE, long, NOW).remaining == 2


@pytest.mark.django_db
def test_windows_that_nobody_used_for_a_day_go():
    use(THREE, "old", NOW - timedelta(days=2))
    use(THREE, "new", NOW)
    assert sweep(NOW) == 1
    assert use(THREE, "new", NOW).remaining == 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_uses_are_all_counted():
    def one(_: int) -> bool:
        try:
            return rates.use(Rate("test", 10, 60), "shared", NOW).allowed
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        allowed = list(pool.map(one, range(40)))
    assert sum(allowed) == 10
    sweep(NOW + timedelta(days=2))
