"""The retry schedule."""

from datetime import UTC, datetime, timedelta

import pytest

from relay_project.mail.schedule import DEFAULT, InvalidSchedule, RetrySchedule, next_try, parse_schedule

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_the_default_waits_are_the_contracts() -> None:
    waits = [next_try(tries, NOW) for tries in range(1, 8)]
    minutes = [round((due - NOW).total_seconds() / 60) if due else None for due in waits]
    assert minutes == [15, 60, 120, 240, 480, 960, None]


def test_it_spans_more_than_a_day() -> None:
    """Lesson C2: a host that was down for fifteen minutes lost its mail."""
    assert sum(DEFAULT.steps, timedelta()) > timedelta(days=1)


def test_the_last_wait_repeats_when_there_are_more_tries_than_waits() -> None:
    schedule = RetrySchedule((timedelta(minutes=1), timedelta(hours=1)), max_tries=5)
    assert [schedule.next_try(tries, NOW) for tries in (2, 3, 4)] == [NOW + timedelta(hours=1)] * 3
    assert schedule.next_try(5, NOW) is None
    assert schedule.next_try(99, NOW) is None


def test_a_schedule_is_read_as_operators_write_it() -> None:
    assert parse_schedule("15m, 1h 2h,4h,8h,16h") == DEFAULT
    assert parse_schedule("30s", max_tries=3) == RetrySchedule((timedelta(seconds=30),), 3)


@pytest.mark.parametrize("text", ["", "soon", "15", "0m", "-5m", "15m;1h"])
def test_a_nonsense_schedule_is_refused(text: str) -> None:
    with pytest.raises(InvalidSchedule):
        parse_schedule(text)


def test_a_schedule_without_tries_is_refused() -> None:
    with pytest.raises(InvalidSchedule):
        RetrySchedule((timedelta(minutes=1),), 0)
