"""When a sender looks: at once when woken from rest, at a distance while mail keeps coming, at rest once a second."""

import pytest

from relay_project.jobs import WAKE_EVERY_SECONDS
from sending.deliver.pace import ATTENTIVE_SECONDS, LOOK_MAX_SECONDS, LOOK_MIN_SECONDS, MANY_ROWS, Pace


def looked(pace: Pace, clock: float, rows: int = 0, lasting: float = 0.0) -> None:
    pace.begin(clock)
    pace.end(rows, clock + lasting)


def at_rest(clock: float) -> Pace:
    """A sender whose last looks, until `clock`, found nothing."""
    pace = Pace()
    for seconds in range(-20, 1):
        looked(pace, clock + seconds)
    return pace


def looks(pace: Pace, clock: float, until: float) -> list[float]:
    """When a sender that finds nothing begins its looks."""
    found = []
    while (clock := clock + pace.delay(clock)) < until:
        found.append(clock)
        looked(pace, clock)
    return found


def test_the_first_look_is_at_once():
    assert Pace().delay(100.0) == 0


def test_a_sender_at_rest_looks_once_a_second_for_lost_wake_ups_and_due_retries():
    pace = at_rest(100.0)
    assert pace.delay(100.0) == LOOK_MAX_SECONDS == 1.0


def test_a_wake_up_ends_the_rest_at_once():
    """Lesson P4: no poll stands between a mail and its conversation."""
    pace = at_rest(100.0)
    pace.wake(100.5)
    assert pace.delay(100.5) == 0


def test_a_look_that_found_mail_is_not_followed_too_soon_so_that_mails_share_the_next_one():
    pace = at_rest(100.0)
    looked(pace, 100.0, rows=1)
    pace.wake(100.001)
    assert 0.9 * LOOK_MIN_SECONDS < pace.delay(100.001) < LOOK_MIN_SECONDS


def test_a_look_that_found_much_is_followed_at_once():
    """Lesson P4: no sleep between claims while a backlog is there."""
    pace = at_rest(100.0)
    looked(pace, 100.0, rows=MANY_ROWS)
    assert pace.delay(100.0) == 0
    looked(pace, 100.0, rows=MANY_ROWS - 1)
    assert pace.delay(100.0) == pytest.approx(LOOK_MIN_SECONDS)


def test_a_wake_up_that_comes_during_a_look_is_not_lost_with_it():
    pace = at_rest(100.0)
    pace.begin(101.0)
    pace.wake(101.003)
    pace.end(0, 101.005)
    assert pace.delay(101.005) <= LOOK_MIN_SECONDS


def test_whatever_is_accepted_while_wake_ups_are_left_out_is_seen_by_a_look_that_begins_after_it():
    """The promise between jobs.wake_soon and the senders, however late the wake-up is heard."""
    for heard in (0.0, 0.004, 0.3):
        pace = at_rest(100.0)
        pace.wake(100.0 + heard)
        begun = looks(pace, 100.0 + heard, 103.0)
        for step in range(100):
            committed = 100.0 + step / 100 * WAKE_EVERY_SECONDS
            first = min(look for look in begun if look > committed)
            assert first - max(committed, 100.0 + heard) <= LOOK_MIN_SECONDS + 1e-6


def test_attention_wears_off_and_the_looks_become_rarer():
    pace = at_rest(100.0)
    pace.wake(100.0)
    begun = looks(pace, 100.0, 110.0)
    attentive = [look for look in begun if look < 100.0 + ATTENTIVE_SECONDS]
    assert len(attentive) <= ATTENTIVE_SECONDS / LOOK_MIN_SECONDS + 2
    assert begun[-1] - begun[-2] == LOOK_MAX_SECONDS
    assert len(begun) < len(attentive) + 16


def test_each_find_renews_the_attention():
    pace = at_rest(100.0)
    for number in range(50):
        looked(pace, 100.0 + number * 0.1, rows=1)
    assert pace.delay(105.0) <= LOOK_MIN_SECONDS
    assert pace.attentive_until == 100.0 + 49 * 0.1 + ATTENTIVE_SECONDS
