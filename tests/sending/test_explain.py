"""One sentence about each recipient: it says what a person would ask next."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ips.carriers import Carrier
from sending.explain import Ahead, Flight, Hold, Kind, LastWord, Pause, Wait, explain, reply_text
from sending.models import RecipientStatus

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
BUSY = LastWord("mx1.example.net", "450 4.2.1 Busy", 1)
SILENT = LastWord("", "no connection to 192.0.2.1 port 25 within 30 s", 1)


def text(wait: Wait, last: LastWord | None = None) -> str:
    return explain("queued", wait, last, 7, NOW).text


def test_a_new_recipient_waits_for_a_sender_and_knows_who_is_before_it() -> None:
    assert text(Wait(NOW, 0)) == "Waits for a sender; it leaves as soon as one has room."
    assert text(Wait(NOW, 0, ahead=Ahead(0))) == text(Wait(NOW, 0))
    assert text(Wait(NOW, 0, ahead=Ahead(1))).endswith(" 1 mail of the project is before it.")
    assert text(Wait(NOW, 0, ahead=Ahead(1000, True, True))).endswith(
        "More than 1,000 mails of the project are before it. More urgent mail of the queue leaves first."
    )


def test_a_scheduled_one_names_its_time_and_another_day_its_date() -> None:
    assert text(Wait(NOW + timedelta(hours=1), 0, False)) == "Scheduled for 13:00:00 UTC."
    assert text(Wait(NOW + timedelta(days=2), 0, False)) == "Scheduled for 24 November, 12:00 UTC."


def test_one_in_conversation_says_since_when_whatever_came_before() -> None:
    flight = Flight(77, NOW - timedelta(seconds=9), NOW + timedelta(minutes=5), "192.0.2.7", 4, "mx1")
    reason = explain("deferred", Wait(NOW, 1, False, flight=flight), BUSY, 7, NOW)
    assert reason.text.startswith("In conversation with the receiving server since 11:59:51 UTC from 192.0.2.7.")
    assert (reason.kind, reason.next_at) == (Kind.IN_FLIGHT, flight.lease_until)
    assert reason.detail == "Attempt 77, by sender 4 on mx1."


def test_a_held_one_quotes_why_and_names_the_next_slot() -> None:
    hold = Hold("gmail", "20/min on 192.0.2.7", NOW + timedelta(seconds=10))
    assert text(Wait(NOW, 0, False, hold=hold)) == (
        "Waits for its turn at the receiving site: gmail, 20/min on 192.0.2.7. Next slot at 12:00:10 UTC."
    )


def test_a_deferred_one_quotes_the_server_and_counts_its_tries() -> None:
    wait = Wait(NOW + timedelta(minutes=15), 1, False)
    assert text(wait, BUSY) == "mx1.example.net said “450 4.2.1 Busy”. Try 2 of 7 follows at 12:15:00 UTC."
    assert text(wait, SILENT).startswith("No connection to 192.0.2.1")


def test_what_staff_said_is_for_staff() -> None:
    pause = Pause(NOW - timedelta(hours=1), "blocklisted")
    reason = explain("queued", Wait(NOW, 0, queue="transactional", pause=pause), None, 7, NOW)
    assert reason.kind is Kind.QUEUE_PAUSED
    assert "transactional is paused" in reason.text
    assert "blocklisted" not in reason.text
    assert reason.detail == "Paused since 11:00:00 UTC: blocklisted."


@pytest.mark.parametrize(
    ("reason", "public"),
    [
        (
            "google asked us to slow down: “450 4.2.1 ann@other.example”, and is left alone for now by 192.0.2.7",
            "google asked us to slow down, and is left alone for now by 192.0.2.7",
        ),
        ("google: 6 a minute from 192.0.2.7, since it said “421 “slow” ann”", "google: 6 a minute from 192.0.2.7"),
        ("google is paused by staff: Other Ltd. sends spam", "google is paused by staff"),
        ("google: 20 a minute from 192.0.2.7", "google: 20 a minute from 192.0.2.7"),
    ],
)
def test_what_a_site_said_about_anothers_mail_and_what_staff_wrote_is_for_staff(reason: str, public: str) -> None:
    """Whatever hangs on a site shows its reason, and the mail that led to it is another project's."""
    told = explain(
        "queued", Wait(NOW, 0, False, hold=Hold("google", reason, NOW + timedelta(seconds=10))), None, 9, NOW
    )
    assert told.text == f"Waits for its turn at the receiving site: {public}. Next slot at 12:00:10 UTC."
    assert told.detail == ("" if reason == public else f"{reason}.")


def test_the_first_obstacle_is_the_reason() -> None:
    """A paused queue stands before a site's limit, and a time to come before a paused queue."""
    pause = Pause(NOW, "")
    hold = Hold("gmail", "20/min", NOW + timedelta(seconds=10), "by hand")
    dead = (Carrier("192.0.2.7", True, False, False),)
    later = NOW + timedelta(hours=1)
    waits = {
        Kind.RETRY: Wait(later, 1, False, pause=pause),
        Kind.QUEUE_PAUSED: Wait(NOW, 0, False, pause=pause, hold=hold, carriers=dead),
        Kind.SITE_PAUSED: Wait(NOW, 0, False, hold=hold, carriers=dead, stopped="The domain may not"),
        Kind.DOMAIN_STOPPED: Wait(NOW, 0, carriers=dead, stopped="The domain may not"),
        Kind.NO_SENDER: Wait(NOW, 0, False, carriers=dead, hold=replace(hold, paused=None)),
        Kind.SITE_LIMIT: Wait(NOW, 0, False, hold=replace(hold, paused=None), carriers=None),
    }
    for kind, wait in waits.items():
        assert explain("queued", wait, BUSY, 7, NOW).kind is kind


@pytest.mark.parametrize(
    ("carriers", "kind", "detail"),
    [
        ((), Kind.NO_SOURCE_IP, "The queue bulk has no source IP."),
        ((Carrier("192.0.2.7", False, True, False),), Kind.NO_SOURCE_IP, "192.0.2.7 is disabled or gone."),
        ((Carrier("192.0.2.7", True, False, True),), Kind.NO_SENDER, "192.0.2.7 is served by no sender."),
        ((Carrier("192.0.2.7", True, True, True),), Kind.WARM_UP, "192.0.2.7 has reached today's warm-up ceiling."),
        (
            (Carrier("192.0.2.7", True, True, True), Carrier("192.0.2.8", False, False, False)),
            Kind.WARM_UP,
            "192.0.2.7 has reached today's warm-up ceiling; 192.0.2.8 is disabled or gone.",
        ),
        ((Carrier("192.0.2.7", True, True, True), Carrier("192.0.2.8", True, True, False)), Kind.TURN, ""),
    ],
)
def test_what_keeps_the_source_ips_from_it(carriers: tuple[Carrier, ...], kind: Kind, detail: str) -> None:
    reason = explain("queued", Wait(NOW, 0, queue="bulk", carriers=carriers), None, 7, NOW)
    assert (reason.kind, reason.detail) == (kind, detail)
    if kind is Kind.WARM_UP:
        assert reason.next_at == datetime(2026, 11, 23, tzinfo=UTC)


def test_one_that_was_cancelled_says_why() -> None:
    assert why("cancelled", None) == "Cancelled before it left."
    assert explain("cancelled", None, None, 7, NOW, "wrong link.").text == "Cancelled before it left: wrong link."


def test_one_that_expired_says_so_and_counts_no_tries() -> None:
    last = LastWord("", "Expired: it has waited for more than 3 days.", 2, rule="expired")
    assert why("failed", last) == "Given up. Expired: it has waited for more than 3 days."


def why(status: str, last: LastWord | None) -> str:
    return explain(status, None, last, 7, NOW).text


def test_a_bounced_one_names_the_suppression_that_follows() -> None:
    gone = LastWord("mx1.example.net", "550 5.1.1 No such mailbox", 1, is_suppressed=True)
    assert why("bounced", gone).endswith("now on the project's suppression list.")


def test_a_failed_one_says_how_often_it_was_tried() -> None:
    assert why("failed", LastWord("", "one.test: SERVFAIL", 7, rule="expired")) == "Given up. one.test: SERVFAIL."
    assert why("failed", LastWord("", "no reply", 7)) == "Given up after 7 tries. The last: no reply."


@pytest.mark.parametrize("status", RecipientStatus.values)
def test_every_state_has_a_sentence_with_and_without_an_attempt(status: str) -> None:
    for last in (None, BUSY, SILENT):
        assert why(status, last).endswith(".")


def test_a_reply_is_written_once_however_the_server_spells_it() -> None:
    assert reply_text(450, "4.2.1", "Busy") == "450 4.2.1 Busy"
    assert reply_text(450, "4.2.1", "4.2.1 Busy\r\n come back") == "450 4.2.1 Busy come back"
    assert reply_text(450, "4.2.1", "450 4.2.1 Busy") == "450 4.2.1 Busy"
    assert reply_text(0, None, "", "cut") == "cut"
    assert reply_text(0, None, "") == "no reply"
