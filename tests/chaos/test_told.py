"""The judges of those who are told: a receiver of webhooks that dies, and both sides of a mailbox."""

import http.client
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from relay_project.chaos import mailbox, webhooks
from relay_project.chaos.hearer import HALVE
from relay_project.chaos.mailbox import Fetched, Handed, payload_of
from relay_project.chaos.webhooks import Heard, Listener
from webhooks.signature import standard_secret

SECRET = "0f5b3d0c6a7e4b1e9d2c8a7f6b5e4d3c"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    with Listener(tmp_path) as listener:
        listener.secret = SECRET
        listener.start()
        yield listener


def tell(listener: Listener, event: str, body: str = "{}", secret: str = SECRET) -> int:
    signature = Webhook(standard_secret(secret)).sign(event, datetime.now(UTC), body)
    headers = {"webhook-id": event, "webhook-timestamp": str(int(time.time())), "webhook-signature": signature}
    client = http.client.HTTPConnection("127.0.0.1", listener.port, timeout=10)
    try:
        client.request("POST", "/told", body.encode(), headers)
        return client.getresponse().status
    finally:
        client.close()


def test_what_a_receiver_answered_is_noted_though_it_dies_and_it_listens_where_it_did(listener: Listener) -> None:
    assert tell(listener, "77", "ü") == 200
    listener.kill()
    with pytest.raises(OSError, match="refused"):
        tell(listener, "78")
    listener.start()
    assert tell(listener, "79") == 200
    assert tell(listener, "80", secret="another") == 401
    assert listener.heard() == 5, "a line each, and one for each life"
    assert [(event, signed) for event, _, signed in listener.notes()] == [("77", True), ("79", True), ("80", False)]


def test_an_answer_in_two_pieces_is_whole_when_nobody_dies(listener: Listener) -> None:
    assert {tell(listener, str(number)) for number in range(HALVE + 1)} == {200}


def test_a_note_that_a_death_cut_is_none(listener: Listener, tmp_path: Path) -> None:
    tell(listener, "1")
    listener.kill()
    with (tmp_path / "notes").open("ab") as notes:
        notes.write(b"2 0abc")
    listener.start()
    tell(listener, "3")
    assert [event for event, _, _ in listener.notes()] == ["1", "3"]


def heard(calls: str, events: str = "ab", deliveries: str = "ab", status: str = "delivered", **other: Any) -> Heard:
    notes = [(event, other.get("digest", event), other.get("signed", True)) for event in calls]
    return webhooks.compare(notes, events, [(event, event, status, 1 + (event == "b")) for event in deliveries])


def test_every_event_heard_at_least_once_keeps_the_promise() -> None:
    result = heard("abab")
    assert result.is_good
    assert (result.events, result.heard, result.calls, result.again, result.retried) == (2, 2, 4, 2, 1)


@pytest.mark.parametrize(
    ("figure", "told"),
    [
        ("missing", {"calls": "a"}),
        ("foreign", {"calls": "abc"}),
        ("foreign", {"calls": "ab", "deliveries": "abc"}),
        ("differing", {"calls": "ab", "digest": "a"}),
        ("unsigned", {"calls": "a", "events": "a", "deliveries": "a", "signed": False}),
        ("made_twice", {"calls": "ab", "deliveries": "abb"}),
        ("undelivered", {"calls": "a", "events": "a", "deliveries": "a", "status": "pending"}),
    ],
)
def test_each_way_to_break_it_is_counted_by_its_name(figure: str, told: dict[str, Any]) -> None:
    result = heard(**told)
    assert (getattr(result, figure), result.is_good) == (1, False)


def test_a_webhook_that_was_to_be_told_nothing_proves_nothing() -> None:
    assert not heard("", "", "").is_good


# --- Mailboxes --------------------------------------------------------------------------------------------------------


def deposit(number: str, at: float = 0.0, **other: Any) -> Handed:
    key = other.get("key", f"key-{number}")
    return Handed(at, number, "deposit", key, other.get("payload", payload_of(key)), other.get("count", 1))


def event(number: str, at: float = 0.0) -> Handed:
    return Handed(at, number, "event", None, {"id": number}, 1)


def fetched(*handed: Handed, acked: dict[str, float] | None = None, left: int = 0) -> Fetched:
    return mailbox.compare({"1": "key-1"}, ["9"], handed, acked or {}, left=left)


def test_what_was_handed_out_again_before_it_was_acknowledged_keeps_the_promise() -> None:
    result = fetched(deposit("1"), event("9"), deposit("1", at=5.0), acked={"1": 6.0, "9": 6.0})
    assert result.is_good
    assert (result.deposits, result.events, result.handed, result.again) == (1, 1, 3, 1)
    assert fetched(deposit("1", count=2), event("9")).again == 1, "the first answer was lost"


def test_a_deposit_that_was_never_answered_may_come_too() -> None:
    assert fetched(deposit("1"), event("9"), deposit("2")).is_good


@pytest.mark.parametrize(
    ("figure", "handed"),
    [
        ("lost", [event("9")]),
        ("missing", [deposit("1")]),
        ("returned", [deposit("1"), event("9"), event("9", at=7.0)]),
        ("foreign", [deposit("1"), event("9"), event("8")]),
        ("altered", [deposit("1", payload={"order": "x"}), event("9")]),
        ("altered", [deposit("1", key="key-2"), event("9")]),
        ("made_twice", [deposit("1"), event("9"), deposit("2", key="key-1")]),
    ],
)
def test_each_way_to_break_a_mailbox_is_counted_by_its_name(figure: str, handed: list[Handed]) -> None:
    result = fetched(*handed, acked={"1": 6.0, "9": 6.0})
    assert (getattr(result, figure), result.is_good) == (1, False)
    assert json.loads(json.dumps(result.as_record()))[figure] == 1


def test_what_still_lies_in_a_mailbox_breaks_the_promise() -> None:
    assert not fetched(deposit("1"), event("9"), left=1).is_good
