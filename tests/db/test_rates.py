"""Rate windows: exact over all processes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from relay_project.db import rates
from relay_project.db.rates import Rate, Window, forget, read_meter, spend, sweep, use

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


# --- Several windows at once -----------------------------------------------------------------------------------------

CAPS = {Window.SECOND: 2, Window.HOUR: 5, Window.DAY: 8}


@pytest.mark.django_db
def test_each_window_of_the_clock_has_its_own_count():
    assert [spend("shop", 1, CAPS, at(0)).refused for _ in range(3)] == [None, None, "second"]
    assert [spend("shop", 1, CAPS, at(1)).refused for _ in range(3)] == [None, None, "second"]
    assert [spend("shop", 1, CAPS, at(2)).refused for _ in range(2)] == [None, "hour"]
    assert [spend("shop", 1, CAPS, at(3600 + i)).refused for i in range(4)] == [None, None, None, "day"]
    assert spend("shop", 1, CAPS, at(86_400)).used == {"second": 1, "minute": 1, "hour": 1, "day": 1}
    assert spend("other", 1, CAPS, at(0)).refused is None, "subjects do not share windows"


@pytest.mark.django_db
def test_what_is_refused_uses_nothing_of_the_other_windows():
    for _ in range(10):
        spend("shop", 1, CAPS, at(0))
    assert spend("shop", 1, CAPS, at(1)).used[Window.HOUR] == 3
    assert spend("shop", 4, CAPS, at(2)).refused == "hour", "all of it or nothing"
    assert spend("shop", 2, CAPS, at(2)).remaining(Window.HOUR) == 0


@pytest.mark.django_db
def test_the_wait_ends_with_the_window_that_is_full():
    spend("shop", 2, CAPS, at(10))
    assert spend("shop", 1, CAPS, at(10)).reset_seconds(Window.SECOND) == 1
    spend("shop", 3, CAPS, at(11))
    assert spend("shop", 1, CAPS, at(20)).reset_seconds(Window.HOUR) == 3580
    spend("shop", 3, CAPS, at(3600))
    assert spend("shop", 1, CAPS, at(3700)).reset_seconds(Window.DAY) == 86_400 - 3700


@pytest.mark.django_db
def test_a_batch_may_overdraw_a_second_and_those_after_it_pay():
    pace = {Window.SECOND: 10}
    assert spend("shop", 100, pace, at(0)).refused is None
    refused = spend("shop", 1, pace, at(3))
    assert (refused.refused, refused.reset_seconds(Window.SECOND)) == ("second", 7)
    assert spend("shop", 1, pace, at(9)).refused == "second"
    assert [spend("shop", 1, pace, at(10)).refused for _ in range(11)] == [None] * 10 + ["second"]


@pytest.mark.django_db
def test_a_clock_that_was_set_back_limits_nobody():
    spend("shop", 2, CAPS, at(7200))
    assert spend("shop", 1, CAPS, at(0)).used == {"second": 1, "minute": 1, "hour": 1, "day": 3}


@pytest.mark.django_db
def test_without_a_cap_everything_is_counted_and_nothing_refused():
    assert [spend("shop", 1, {}, at(0)).refused for _ in range(20)] == [None] * 20
    assert read_meter("shop", {}, at(59)).used == {"second": 0, "minute": 20, "hour": 20, "day": 20}
    assert read_meter("shop", {}, at(3600)).used == {"second": 0, "minute": 0, "hour": 0, "day": 20}
    assert read_meter("nobody", {}, at(0)).used == {"second": 0, "minute": 0, "hour": 0, "day": 0}


@pytest.mark.django_db
def test_meters_that_stood_still_for_two_days_go():
    spend("old", 1, CAPS, NOW - timedelta(days=3))
    spend("new", 1, CAPS, NOW)
    assert sweep(NOW) == 1
    assert spend("new", 1, CAPS, NOW).used[Window.SECOND] == 2


@pytest.mark.django_db(transaction=True)
def test_of_many_threads_at_once_exactly_as_many_pass_as_fit():
    def ten(_: int) -> list[Window | None]:
        try:
            return [spend("shared", 1, {Window.HOUR: 37}, NOW).refused for _ in range(10)]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        refused = [one for found in pool.map(ten, range(8)) for one in found]
    assert (refused.count(None), refused.count(Window.HOUR)) == (37, 43)
    sweep(NOW + timedelta(days=3))


def at(seconds: int) -> datetime:
    """So long after a midnight."""
    return datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=seconds)
