"""webhooks.signature, verdict, filters, lane: the rules of deliveries, without a database."""

import hashlib
import hmac
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from relay_project.mail.schedule import parse_schedule
from webhooks.deliver.lane import FAILURES_BEFORE_PAUSE, FIRST_WINDOW, MAX_PAUSE_SECONDS, Lane, Row
from webhooks.filters import Filters
from webhooks.signature import signature_headers, standard_secret
from webhooks.verdict import MAX_RETRY_AFTER, Answer, holds_back, next_try, read_retry_after

OLD, NEW = "0f5b3d0c6a7e4b1e9d2c8a7f6b5e4d3c", "ffffffffffffffff0000000000000000"
BODY = '{"event":"send.recipient.accepted","payload":{"ü":1}}'.encode()
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
LADDER = parse_schedule("1m,5m,15m,1h,4h,24h")


def test_the_library_verifies_a_call_and_the_contracts_signature_is_there_too() -> None:
    headers = signature_headers(BODY, "77", int(time.time()), [OLD])
    assert Webhook(standard_secret(OLD)).verify(BODY, headers)["event"] == "send.recipient.accepted"
    assert headers["X-Signature"] == hmac.new(OLD.encode(), BODY, hashlib.sha256).hexdigest()
    assert "X-Signature-Previous" not in headers
    with pytest.raises(WebhookVerificationError):
        Webhook(standard_secret(NEW)).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(standard_secret(OLD)).verify(BODY + b" ", headers)


def test_the_library_verifies_with_either_secret_during_a_rotation() -> None:
    headers = signature_headers(BODY, "77", int(time.time()), [NEW, OLD])
    for secret in (OLD, NEW):
        Webhook(standard_secret(secret)).verify(BODY, headers)
    assert headers["X-Signature"] == hmac.new(NEW.encode(), BODY, hashlib.sha256).hexdigest()
    assert headers["X-Signature-Previous"] == hmac.new(OLD.encode(), BODY, hashlib.sha256).hexdigest()


def test_a_call_of_long_ago_cannot_be_played_again() -> None:
    """Lesson S10: the time is signed, and libraries refuse an old one."""
    headers = signature_headers(BODY, "77", int(time.time()) - 3600, [OLD])
    with pytest.raises(WebhookVerificationError):
        Webhook(standard_secret(OLD)).verify(BODY, headers)


def test_the_ladder_really_starts_at_one_minute() -> None:
    waits = [next_try(Answer(500, ""), tries, NOW, LADDER) for tries in range(1, 8)]
    assert [wait - NOW if wait else None for wait in waits] == [
        timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1), timedelta(hours=4),
        timedelta(hours=24), None,
    ]  # fmt: skip
    assert next_try(Answer(204, ""), 1, NOW, LADDER) is None
    assert next_try(Answer(410, ""), 1, NOW, LADDER) is None
    assert next_try(Answer(200, "", is_whole=False), 1, NOW, LADDER) is not None
    assert next_try(Answer(302, ""), 1, NOW, LADDER) is not None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("Sat, 28 Nov 2026 12:10:00 GMT", 600),
        ("Sat, 28 Nov 2026 11:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ("9" * 30, 86_400),
        ("-5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("1" * 5000, None),
        ("1 Jan 99999999999999999 00:00:00", None),
        ("1 Jan 2026 00:00:99999999999999", None),
        ("31 Dec 9999 23:59:59 -2359", 86_400),
    ],
)
def test_retry_after_is_seconds_or_a_date_within_bounds(text: str | None, seconds: int | None) -> None:
    wait = read_retry_after(text, NOW)
    assert wait == (None if seconds is None else timedelta(seconds=seconds))


DATE_WORDS = ("Mon,", "1", "31", "Jan", "9999", "99999999999", "00:00:00", "1:", "GMT", "+0000", "-9999", "(", "\udcff")


@given(st.text(max_size=50) | st.lists(st.sampled_from(DATE_WORDS), max_size=6).map(" ".join))
def test_retry_after_never_raises(text: str) -> None:
    wait = read_retry_after(text, NOW)
    assert wait is None or timedelta() <= wait <= MAX_RETRY_AFTER


def test_retry_after_puts_a_try_off_and_never_forward_and_the_busy_are_left_alone() -> None:
    busy = Answer(429, "", retry_after="7200")
    assert next_try(busy, 1, NOW, LADDER) == NOW + timedelta(hours=2)
    assert next_try(busy, 6, NOW, LADDER) == NOW + timedelta(hours=24)
    assert next_try(busy, 7, NOW, LADDER) is None
    assert holds_back(busy, NOW) == timedelta(hours=2)
    assert holds_back(Answer(500, "", retry_after="7200"), NOW) == timedelta()


def test_filters_look_at_what_an_event_has() -> None:
    mail = {"event": "a", "payload": {"send": {"tags": ["spring"], "from_address": "hello@Shop.example"}}}
    domain = {"event": "a", "payload": {"domain": {"domain": "other.example"}}}
    neither = {"event": "a", "payload": {"suppression": {}}}
    gone = {"event": "a", "payload": {"send": {"id": 1}}}

    def wanted(**filters: list[str]) -> list[bool]:
        return [Filters(["a"], **filters).wants(body) for body in (mail, domain, neither, gone)]

    assert wanted() == [True, True, True, True]
    assert wanted(tags=["spring"]) == [True, True, True, False]
    assert wanted(tags=["autumn"]) == [False, True, True, False]
    assert wanted(domains=["shop.example"]) == [True, False, True, True]
    assert not Filters(["b"]).wants(mail)


# --- Lanes ----------------------------------------------------------------------------------------------------------


def row(number: int, subject: int = 0, tries: int = 0, kind: str = "event") -> Row:
    return Row(number, 1, subject or number, kind, NOW, tries, number, "http://x.example", "{}")


def taken(lane: Lane, now: float = 0.0) -> list[int]:
    found = []
    while (each := lane.take(now)) is not None:
        found.append(each.delivery_id)
    return found


def test_first_tries_about_one_subject_follow_each_other_and_others_pass() -> None:
    """Lesson C10: "accepted" does not overtake "deferred" of the same mail."""
    lane = Lane(1, 20)
    rows = [row(1, subject=7), row(2, subject=7), row(3, subject=8), row(4, subject=7, tries=1)]
    lane.add(rows)
    lane.add(rows)  # a look brings what is held again
    assert taken(lane) == [1, 3, 4], "a retry has lost its place in the order and waits for nobody"
    lane.finish(rows[0], True, 0, 0.0)
    assert taken(lane) == [2]


def test_a_window_grows_with_success_and_a_dead_endpoint_is_probed_by_one_call_a_minute() -> None:
    """Lesson P8."""
    lane = Lane(1, 20)
    lane.add(row(number) for number in range(1, 2000))
    assert len(taken(lane)) == FIRST_WINDOW
    for number in range(1, 5):
        lane.finish(row(number), True, 0, 0.0)
    assert len(taken(lane)) == 20, "never more than the setting"
    for number in range(5, 25):
        lane.finish(row(number), False, 0, 0.0)
    assert (lane.window, lane.is_failing, taken(lane, 0.9)) == (1.0, True, [])
    now, pauses = lane.paused_until, [lane.paused_until]
    for _ in range(8):
        [probe] = taken(lane, now)
        lane.finish(row(probe), False, 0, now)
        pauses.append(lane.paused_until - now)
        now = lane.paused_until
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, MAX_PAUSE_SECONDS]
    [probe] = taken(lane, now)
    lane.finish(row(probe), True, 0, now)
    assert len(taken(lane, now)) == 2, "it works again"


def test_calls_that_a_restart_of_the_receiver_cut_together_cost_a_second_and_not_a_minute() -> None:
    lane = Lane(1, 20, window=20.0)
    lane.add(row(number) for number in range(1, 30))
    cut = taken(lane)
    assert len(cut) == 20
    for number in cut:
        lane.finish(row(number), False, 0, 0.01 * number)
    assert lane.paused_until < 1.1
    [probe] = taken(lane, lane.paused_until)
    lane.finish(row(probe), True, 0, lane.paused_until)
    assert not lane.is_failing


def test_a_few_failures_pause_nothing_and_a_busy_receiver_is_left_alone() -> None:
    lane = Lane(1, 20)
    lane.add(row(number) for number in range(1, 20))
    for _ in range(FAILURES_BEFORE_PAUSE - 1):
        each = lane.take(0.0)
        assert each is not None
        lane.finish(each, False, 0, 0.0)
    assert len(taken(lane)) == 1
    lane.finish(row(FAILURES_BEFORE_PAUSE), True, 0, 0.0)
    each = lane.take(0.0)
    assert each is not None
    lane.finish(each, False, 30.0, 100.0)
    assert taken(lane, 129.0) == []
    a_test = row(99, kind="test")
    lane.add([a_test])
    assert taken(lane, 129.0) == [99], "somebody waits for a test"
    lane.finish(a_test, True, 0, 129.0)
    assert taken(lane, 129.0) == []
    assert taken(lane, 130.0)
