"""One sentence about each recipient: it says what a person would ask next."""

from datetime import UTC, datetime, timedelta

import pytest

from sending.explain import LastWord, Wait, reply_text, why
from sending.models import RecipientStatus

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
BUSY = LastWord("mx1.example.net", "450 4.2.1 Busy", 1)
SILENT = LastWord("", "no connection to 192.0.2.1 port 25 within 30 s", 1)


def test_a_new_recipient_waits_for_a_sender() -> None:
    assert "as soon as one has room" in why("queued", Wait(NOW, 0), None, 7, NOW)


def test_a_scheduled_one_names_its_time_and_another_day_its_date() -> None:
    assert why("queued", Wait(NOW + timedelta(hours=1), 0), None, 7, NOW) == "Scheduled for 13:00:00 UTC."
    assert why("queued", Wait(NOW + timedelta(days=2), 0), None, 7, NOW) == "Scheduled for 24 November, 12:00 UTC."


def test_one_in_conversation_says_so_whatever_came_before() -> None:
    assert "right now" in why("deferred", Wait(NOW, 1, lease_until=NOW + timedelta(minutes=5)), BUSY, 7, NOW)


def test_a_held_one_quotes_why_and_names_the_next_slot() -> None:
    wait = Wait(NOW + timedelta(seconds=10), 0, held_by="gmail, 20/min on 192.0.2.7")
    assert why("queued", wait, None, 7, NOW) == (
        "Waits for its turn at the receiving site: gmail, 20/min on 192.0.2.7. Next slot at 12:00:10 UTC."
    )


def test_a_deferred_one_quotes_the_server_and_counts_its_tries() -> None:
    wait = Wait(NOW + timedelta(minutes=15), 1)
    assert why("deferred", wait, BUSY, 7, NOW) == (
        "mx1.example.net said “450 4.2.1 Busy”. Try 2 of 7 follows at 12:15:00 UTC."
    )
    assert why("deferred", wait, SILENT, 7, NOW).startswith("No connection to 192.0.2.1")


def test_a_bounced_one_names_the_suppression_that_follows() -> None:
    gone = LastWord("mx1.example.net", "550 5.1.1 No such mailbox", 1, is_suppressed=True)
    assert why("bounced", None, gone, 7, NOW).endswith("now on the project's suppression list.")


def test_a_failed_one_says_how_often_it_was_tried() -> None:
    assert why("failed", None, LastWord("", "no reply", 7), 7, NOW) == "Given up after 7 tries. The last: no reply."


@pytest.mark.parametrize("status", RecipientStatus.values)
def test_every_state_has_a_sentence_with_and_without_an_attempt(status: str) -> None:
    for last in (None, BUSY, SILENT):
        assert why(status, None, last, 7, NOW).endswith(".")


def test_a_reply_is_written_once_however_the_server_spells_it() -> None:
    assert reply_text(450, "4.2.1", "Busy") == "450 4.2.1 Busy"
    assert reply_text(450, "4.2.1", "4.2.1 Busy\r\n come back") == "450 4.2.1 Busy come back"
    assert reply_text(450, "4.2.1", "450 4.2.1 Busy") == "450 4.2.1 Busy"
    assert reply_text(0, None, "", "cut") == "cut"
    assert reply_text(0, None, "") == "no reply"
