"""A gate: what may enter, in which order connections are given, the pace, and what a site's words do to it."""

import asyncio
import itertools
import time
from datetime import UTC, datetime, timedelta

import pytest

from relay_project.mail.rates import FIRST_BACK_OFF, Learned, Limits
from sending.deliver.gate import BUSY_SECONDS, NO_LIMIT, Gate, Rules

CLOCK = datetime(2026, 11, 22, 12, tzinfo=UTC)
SLOW_DOWN = "421 4.7.0 slow down"


def gate(connections: int = 2, paused: str | None = None, learns: bool = True, **limits: int) -> Gate:
    made = Gate("google", "192.0.2.7", Rules(Limits(connections, **limits), paused), learns)
    made.start(0.0, CLOCK, lambda pacer: 0)
    return made


def after(seconds: float) -> datetime:
    return CLOCK + timedelta(seconds=seconds)


def test_a_site_without_limits_lets_everything_in_and_costs_next_to_nothing() -> None:
    """Less than 5 µs for each mail."""
    site = gate()
    assert site.is_open
    assert site.room(0) == NO_LIMIT

    async def go() -> float:
        started = time.perf_counter()
        for key in range(20_000):
            now = time.monotonic()
            assert site.enter(key, 1, now) is None
            assert await site.connection(key, 0, now + 100, now)
            assert not site.pace(key, now)
            assert not site.is_shut(now)
            site.began(now)
            site.went(now, now)
            site.leave(key, now)
        return (time.perf_counter() - started) / 20_000

    assert min(asyncio.run(go()) for _ in range(3)) < 10e-6, "twice the goal, for busy machines"


def test_a_paused_site_says_who_and_why() -> None:
    site = gate(paused="they asked us to wait")
    refusal = site.enter(1, 1, 0.0)
    assert refusal is not None
    assert refusal.reason == "google is paused by staff: they asked us to wait"
    assert site.room(1e9) == 0
    site.obey(Rules(Limits(2)), 1.0, CLOCK)
    assert site.enter(1, 1, 1.0) is None


def test_what_is_over_the_rate_is_refused_with_the_time_of_the_next_slot() -> None:
    site = gate(per_minute=20)  # two at once, then one each 60/19 s
    entered = [site.enter(key, 1, 0.0) for key in range(5)]
    assert entered[:2] == [None, None]
    assert all(entered[2:])
    assert entered[2].reason == "google: 20 a minute from 192.0.2.7"
    for key in range(2):
        assert site.pace(key, 0.0) == 0.0
        site.leave(key, 0.1)
    assert site.refusal(0.1).seconds == pytest.approx(60 / 19 - 0.1)
    assert site.room(1.0) == 0
    assert site.room(1.5) == 1, "its turn comes within the horizon"
    assert site.enter(9, 1, 1.5) is None
    assert site.pace(9, 1.5) == pytest.approx(60 / 19 - 1.5)


def test_jobs_that_wait_for_their_turn_are_counted_before_they_have_taken_it() -> None:
    site = gate(per_minute=600)
    entered = sum(site.enter(key, 1, 0.0) is None for key in range(1000))
    assert entered == site.pacers[0].room(0, 2_000_000_000)


async def test_connections_go_to_the_most_urgent_first() -> None:
    site = gate(connections=1)
    assert await site.connection(0, 0, 100.0, 0.0)
    order: list[str] = []

    async def wait(name: str, key: int, priority: int) -> None:
        assert await site.connection(key, priority, 100.0, 0.0)
        order.append(name)
        site.leave(key, 0.0)

    async with asyncio.TaskGroup() as group:
        for key, (name, priority) in enumerate((("bulk", 10), ("mail", 0), ("bulk 2", 10), ("notice", -10)), 1):
            site.enter(key, 1, 0.0)
            group.create_task(wait(name, key, priority))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        site.leave(0, 0.0)
    assert order == ["notice", "mail", "bulk", "bulk 2"]
    assert site.inside == {}


async def test_a_waiter_that_is_cancelled_takes_no_connection_along() -> None:
    site = gate(connections=1)
    assert await site.connection(0, 0, 100.0, 0.0)
    first = asyncio.create_task(site.connection(1, 0, 100.0, 0.0))
    second = asyncio.create_task(site.connection(2, 0, 100.0, 0.0))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    site.leave(1, 0.0)
    site.leave(0, 0.0)
    assert await second
    third = asyncio.create_task(site.connection(3, 0, 100.0, 0.0))
    await asyncio.sleep(0)
    site.leave(2, 0.0)  # handed to the third, which is cancelled before it runs
    third.cancel()
    await asyncio.gather(third, return_exceptions=True)
    site.leave(3, 0.0)
    assert await site.connection(4, 0, 100.0, 0.0)


async def test_nobody_waits_beyond_the_deadline() -> None:
    """Lesson C17: without a timer for each mail, once a second for all."""
    site = gate(connections=1)
    assert await site.connection(0, 0, 100.0, 0.0)
    late = asyncio.create_task(site.connection(1, -10, 5.0, 0.0))
    patient = asyncio.create_task(site.connection(2, 10, 50.0, 0.0))
    await asyncio.sleep(0)
    site.tick(0.9, CLOCK)
    assert not late.done()
    site.tick(5.1, CLOCK)
    assert not await late
    assert not patient.done()
    site.leave(0, 5.1)
    assert await patient


async def test_a_slow_site_keeps_what_its_connections_carry_and_the_rest_goes_back() -> None:
    site = gate(connections=2)
    waiting = []
    for key in range(100):
        assert site.enter(key, 1, 0.0) is None
        waiting.append(asyncio.create_task(site.connection(key, 0, 300.0, 0.0)))
    await asyncio.sleep(0)
    site.tick(0.9, CLOCK)
    assert len(site.inside) == 100, "a second's wait says nothing yet"
    site.tick(1.9, CLOCK)
    for key, got in enumerate(await asyncio.gather(*(asyncio.wait_for(w, 1) for w in waiting))):
        if not got:
            site.leave(key, 2.0)
    assert len(site.inside) == 2
    assert site.is_slow
    assert site.room(2.0) == 0
    refusal = site.enter(200, 1, 2.0)
    assert refusal is not None
    assert (refusal.seconds, "slow" in refusal.reason) == (BUSY_SECONDS, True)
    for key in range(2):
        site.leave(key, 3.0)
    for second in range(4, 12):
        site.tick(second, CLOCK)
    assert site.is_open, "quick again, as far as anybody knows"


async def test_a_busy_site_that_is_quick_keeps_its_mail() -> None:
    site = gate(connections=2)
    keys = itertools.count()
    for _ in range(200):
        key = next(keys)
        site.enter(key, 1, 0.0)
        asyncio.ensure_future(site.connection(key, 0, 300.0, 0.0)).add_done_callback(lambda _: None)
    await asyncio.sleep(0)
    done = 0
    for second in range(1, 3):
        for _ in range(60):
            site.leave(done, float(second))
            done += 1
        site.tick(second + 0.5, CLOCK)
        await asyncio.sleep(0)
    assert len(site.inside) == 80, "two seconds' worth of mail may wait"
    for key in list(site.inside):
        site.leave(key, 9.0)
        await asyncio.sleep(0)


def test_slow_sites_share_the_room_among_them() -> None:
    site = gate(connections=50)
    site.is_slow, site.share = True, 10
    site._settle(0.0, CLOCK)
    for key in range(3):
        assert site.enter(key, 3, 0.0) is None
    assert site.enter(3, 3, 0.0) is None, "begun at nine of ten"
    assert site.enter(4, 1, 0.0) is not None


# --- What the site says ----------------------------------------------------------------------------------------------


def test_a_throttle_shuts_the_gate_quotes_the_reply_and_opens_for_one() -> None:
    site = gate(connections=10)
    for key in range(100):
        site.began(float(key) / 10)
    assert site.throttled(SLOW_DOWN, 5.0, 10.0, CLOCK)
    refusal = site.enter(1, 1, 10.0)
    assert refusal is not None
    assert refusal.seconds == FIRST_BACK_OFF.total_seconds()
    assert refusal.reason.startswith("google asked us to slow down: “421 4.7.0 slow down”")
    assert site.learned is not None
    assert (site.learned.per_minute, site.learned.connections) == (50, 5)
    site.tick(41.0, after(31))
    assert site.room(41.0) == 1, "one tries"
    assert site.enter(1, 1, 41.0) is None
    assert site.enter(2, 1, 41.0) is not None
    site.pace(1, 41.0)
    site.went(41.0, 41.5)
    site.leave(1, 41.5)
    assert site.room(41.5) > 1
    assert "50 a minute" in site._pace_in_words()
    assert SLOW_DOWN in site._pace_in_words()


def test_ten_connections_that_are_told_so_at_once_are_one_lesson() -> None:
    site = gate(connections=10)
    assert site.throttled(SLOW_DOWN, 1.0, 2.0, CLOCK)
    first = site.learned
    assert not site.throttled(SLOW_DOWN, 1.5, 3.0, CLOCK)
    assert site.learned is first
    assert site.throttled(SLOW_DOWN, 40.0, 41.0, after(41))
    assert site.learned is not None
    assert site.learned.back_off == 2 * FIRST_BACK_OFF


async def test_whoever_waits_for_a_connection_goes_back_when_the_site_is_shut() -> None:
    site = gate(connections=1)
    assert await site.connection(0, 0, 100.0, 0.0)
    waiting = asyncio.create_task(site.connection(1, 0, 100.0, 0.0))
    await asyncio.sleep(0)
    site.throttled(SLOW_DOWN, 0.5, 1.0, CLOCK)
    assert not await waiting
    assert not await asyncio.wait_for(asyncio.ensure_future(_refused(site)), 1)


async def _refused(site: Gate) -> bool:
    return site.enter(9, 1, 2.0) is None


def test_a_site_that_the_operator_named_teaches_nothing() -> None:
    site = gate(learns=False)
    assert not site.throttled(SLOW_DOWN, 1.0, 2.0, CLOCK)
    assert site.is_open


def test_what_staff_forgot_is_forgotten_and_what_was_saved_is_not_taken_for_it() -> None:
    site = gate(connections=10)
    site.throttled(SLOW_DOWN, 1.0, 2.0, CLOCK)
    lesson = site.learned
    site.obey(Rules(Limits(10)), 3.0, after(1))
    assert site.learned is lesson, "not written yet: the table cannot have it"
    site.saved = lesson
    site.obey(Rules(Limits(10), learned=lesson), 4.0, after(2))
    assert site.learned is lesson
    site.obey(Rules(Limits(10)), 5.0, after(3))
    assert site.learned is None
    assert site.is_open


def test_a_lesson_of_the_process_before_holds_on() -> None:
    lesson = Learned(30, 2, 600, FIRST_BACK_OFF, after(20), CLOCK, after(20), SLOW_DOWN)
    site = Gate("google", "192.0.2.7", Rules(Limits(10), None, lesson))
    site.start(0.0, CLOCK, lambda pacer: pacer.burst)
    assert site.room(0.0) == 0
    assert site.refusal(0.0).seconds == 20
    site.tick(20.5, after(20.5))
    assert site.room(25.0) == 1
    assert site.connections == 2


def test_it_is_eased_while_mail_goes_well_until_nothing_is_left_of_it() -> None:
    site = gate(connections=10, per_minute=600)
    for _ in range(100):
        site.began(0.1)
    site.throttled(SLOW_DOWN, 5.0, 10.0, CLOCK)
    rates = []
    for minute in range(2, 30):
        if site.learned is None:
            break
        rates.append(site.learned.per_minute)
        site.went(minute * 60.0, minute * 60.0)
        site.tick(minute * 60.0, after(minute * 60))
    assert site.learned is None
    assert rates == sorted(rates)
    assert rates[0] == 50
