"""The pace at a site: never one too many in any window, and what a site teaches us."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.mx import DEFAULT_LIMITS, PROVIDERS, limits_of, provider_name
from relay_project.mail.rates import (
    FIRST_BACK_OFF,
    FORGET_AFTER,
    LONGEST_BACK_OFF,
    LOWEST_PER_MINUTE,
    NANOSECONDS,
    Learned,
    Limits,
    Pacer,
    learn,
    next_slot,
    take_slot,
    went_well,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CONFIGURED = Limits(connections=10, per_minute=600)


@given(
    st.integers(1, 500),
    st.integers(1, 7200),
    st.lists(st.tuples(st.integers(0, 10**11), st.booleans()), min_size=1, max_size=300),
)
def test_no_window_ever_holds_more_than_its_limit(most: int, seconds: int, steps: list[tuple[int, bool]]) -> None:
    pacer = Pacer(most, seconds * NANOSECONDS)
    now, gone = 0, []
    for pause, waits in steps:  # some ask and go away, some wait for their slot
        now += pause // 10
        slot = pacer.next_slot(now)
        assert slot >= now
        if waits:
            now = slot
        if slot <= now:
            pacer.take(now)
            gone.append(now)
    for first in gone:
        assert sum(first <= at < first + pacer.window for at in gone) <= most


@given(st.integers(1, 2000), st.integers(1, 3600))
def test_a_busy_pacer_comes_close_to_its_limit(most: int, seconds: int) -> None:
    """What the even distance costs is rounding, not a tenth of the limit."""
    pacer = Pacer(most, seconds * NANOSECONDS)
    gone = [take_slot([pacer], 0) for _ in range(most + 1)]
    assert sum(at < pacer.window for at in gone) == most


@given(st.integers(1, 300), st.integers(1, 100), st.integers(0, 10**12), st.integers(0, 10**11))
def test_room_is_what_may_really_go_by_then(most: int, seconds: int, now: int, ahead: int) -> None:
    pacer, twin = Pacer(most, seconds * NANOSECONDS), Pacer(most, seconds * NANOSECONDS)
    for one in (pacer, twin):
        one.spent(most // 7, now // 2)
    gone = 0
    while gone <= 2000 and twin.next_slot(now) <= now + ahead:
        twin.take(twin.next_slot(now))
        gone += 1
    assert min(pacer.room(now, now + ahead), 2001) == gone


def test_a_tenth_may_go_at_once_and_the_rest_evenly() -> None:
    pacer = Pacer(20, 60 * NANOSECONDS)
    gone = [take_slot([pacer], 0) / NANOSECONDS for _ in range(5)]
    assert gone == pytest.approx([0, 0, 60 / 19, 120 / 19, 180 / 19])


def test_one_a_minute_is_one_a_minute() -> None:
    pacer = Pacer(1, 60 * NANOSECONDS)
    assert [take_slot([pacer], 0) // NANOSECONDS for _ in range(3)] == [0, 60, 120]


def test_all_windows_are_kept_together() -> None:
    pacers = Limits(per_second=5, per_minute=20).pacers()
    gone = [take_slot(pacers, 0) / NANOSECONDS for _ in range(21)]
    assert gone[1] - gone[0] == pytest.approx(0.2)
    assert next_slot(pacers, 0) / NANOSECONDS > 60
    assert next_slot((), 7) == 7


def test_a_restart_begins_with_what_is_left_of_the_burst() -> None:
    pacer = Pacer(100, 3600 * NANOSECONDS)
    pacer.spent(4, 0)
    assert pacer.room(0, 0) == 6
    pacer.spent(5000, 0)
    assert pacer.room(0, 0) == 0
    assert pacer.next_slot(0) == pacer.interval
    assert pacer.is_rested(10 * pacer.interval)


def test_narrower_limits_go_over_wider_ones() -> None:
    site = Limits(connections=3)
    assert site.over(Limits(connections=10, per_minute=20)) == Limits(connections=3, per_minute=20)
    assert Limits().over(CONFIGURED) is CONFIGURED
    assert Limits(per_second=1, per_minute=120, per_hour=600).ceiling_per_minute == 10
    assert Limits(connections=3).ceiling_per_minute is None
    assert Limits(per_minute=20, per_hour=500).words == "20 a minute, 500 an hour"


# --- Learning ------------------------------------------------------------------------------------------------------


def throttled(times: int, observed: int = 400, limits: Limits = CONFIGURED) -> Learned:
    learned = None
    for _ in range(times):
        learned = learn(limits, learned, observed, "421 4.7.0 slow down", NOW)
    assert learned is not None
    return learned


def test_a_throttle_halves_what_went_and_leaves_the_site_alone() -> None:
    learned = throttled(1)
    assert (learned.per_minute, learned.connections) == (200, 5)
    assert learned.back_off_until == NOW + FIRST_BACK_OFF
    assert learned.is_backing_off(NOW)
    assert not learned.is_backing_off(NOW + FIRST_BACK_OFF)
    assert learned.limits == Limits(connections=5, per_minute=200)


def test_without_a_limit_the_observed_rate_is_halved_and_nothing_is_halved_twice_as_much() -> None:
    unlimited = Limits(connections=10)
    assert throttled(1, 900, unlimited).per_minute == 450
    assert throttled(2, 900, unlimited).per_minute == 225
    assert throttled(1, 5000).per_minute == 300, "more than configured went in a clock's minute: the limit counts"


def test_there_is_a_floor_and_a_longest_pause() -> None:
    learned = throttled(30)
    assert (learned.per_minute, learned.connections) == (LOWEST_PER_MINUTE, 1)
    assert learned.back_off == LONGEST_BACK_OFF
    assert throttled(1, 0, Limits(connections=1)).per_minute == LOWEST_PER_MINUTE
    assert throttled(5, 0, Limits(connections=1, per_hour=60)).per_minute == 1, "a floor above the limit is none"


def test_it_goes_up_slowly_while_mail_goes_well_and_ends_at_the_ceiling() -> None:
    learned: Learned | None = throttled(3)
    now, minutes = NOW + timedelta(hours=1), 0
    rates = []
    while learned is not None and minutes < 100:
        rates.append(learned.per_minute)
        assert went_well(learned, CONFIGURED, 10, now + timedelta(seconds=1)) in (learned, None) or minutes == 0
        now, minutes = now + timedelta(minutes=1), minutes + 1
        learned = went_well(learned, CONFIGURED, 10, now)
    assert learned is None
    assert rates == sorted(set(rates))
    assert 5 < minutes < 20


def test_nothing_is_raised_without_mail_nor_within_a_minute() -> None:
    learned = throttled(1)
    end = learned.back_off_until
    assert went_well(learned, CONFIGURED, 0, end + timedelta(hours=1)) is learned
    assert went_well(learned, CONFIGURED, 50, end + timedelta(seconds=59)) is learned
    raised = went_well(learned, CONFIGURED, 50, end + timedelta(seconds=60))
    assert raised is not None
    assert (raised.per_minute, raised.connections) == (250, 6)


def test_a_lesson_of_yesterday_is_forgotten() -> None:
    learned = throttled(1)
    assert went_well(learned, CONFIGURED, 0, NOW + FORGET_AFTER) is learned
    assert went_well(learned, CONFIGURED, 0, NOW + FORGET_AFTER + timedelta(minutes=1)) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2000), st.integers(0, 7200)), max_size=60))
def test_what_is_learned_stays_within_its_bounds(steps: list[tuple[bool, int, int]]) -> None:
    learned, now = None, NOW
    for is_throttled, messages, seconds in steps:
        now += timedelta(seconds=seconds)
        if is_throttled:
            before, learned = learned, learn(CONFIGURED, learned, messages, "421", now)
            assert before is None or learned.per_minute <= max(before.per_minute, LOWEST_PER_MINUTE)
        elif learned is not None:
            learned = went_well(learned, CONFIGURED, messages, now)
        if learned is not None:
            assert LOWEST_PER_MINUTE <= learned.per_minute <= 600
            assert 1 <= learned.connections <= 10
            assert FIRST_BACK_OFF / 2 <= learned.back_off <= LONGEST_BACK_OFF


# --- The table -----------------------------------------------------------------------------------------------------


def test_every_figure_of_the_table_says_where_it_is_from() -> None:
    for provider in PROVIDERS:
        assert bool(provider.limits_source) == (provider.limits != Limits()), provider.name
    named = {provider.name for provider in PROVIDERS if provider.limits != Limits()}
    assert named >= {"google", "microsoft365", "outlook-consumer", "yahoo", "apple", "proofpoint", "mimecast", "gmx"}


def test_a_sites_limits_are_its_providers_over_everybodys() -> None:
    assert limits_of("yahoo") == Limits(connections=5, messages_per_connection=20)
    assert limits_of("mx.example.com") == DEFAULT_LIMITS
    assert DEFAULT_LIMITS.connections is None, "that is a setting"
    assert (provider_name("google"), provider_name("mx.example.com")) == ("google", "other")
