"""Settle: what conversations brought, written once, in one transaction, whatever happened meanwhile."""

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from projects.models import Event, EventOutbox, FeedPosition
from relay_project.mail.dkim import Signer
from relay_project.mail.reply import Reply
from sending.content import raw_message
from sending.deliver import settle as module
from sending.deliver import settling
from sending.deliver.giveback import promote, sweep
from sending.deliver.load import Job
from sending.deliver.prepare import prepare
from sending.deliver.settle import settle
from sending.deliver.settling import REPLACED, Batch, Settler
from sending.models import Attempt, AttemptRecipient, Recipient, Send, Signature, Suppression, Waiting
from tests.sending.scene import (
    LATER,
    MISSING,
    OK,
    Scene,
    answered,
    check_ledger,
    elsewhere,
    in_threads,
    insert_waiting,
    later,
    nodes,
    plans,
    signed,
)

NO = Reply(554, "5.7.1", "not today")


def lose(scene: Scene) -> None:
    """All that is in flight loses its lease, is swept and due again."""
    Waiting.objects.exclude(attempt_id=None).update(due_at=later(seconds=-1), lease_until=later(seconds=-1))
    sweep(timezone.now())


def settler() -> Settler:
    return Settler(seconds=0.05, most=200)


def batch(*outcomes: Any) -> Batch:
    return Batch([(outcome, lambda job: None) for outcome in outcomes])


def codes(accepted: Any) -> list[int]:
    rows = AttemptRecipient.objects.filter(send_id=accepted.send_id).order_by("attempt_id", "recipient_id")
    return list(rows.values_list("smtp_code", flat=True))


def test_one_attempt_with_mixed_outcomes_gives_each_recipient_its_own(scene: Scene) -> None:
    accepted = scene.send(*(f"{name}@one.example" for name in ("ann", "bob", "carol", "dan")))
    now = timezone.now()
    settle([answered(scene.job(), OK, MISSING, LATER, NO, duration_ms=7, site="one")], now)
    assert scene.statuses(accepted) == ["accepted", "bounced", "deferred", "bounced"]
    [row] = scene.waiting(accepted)
    assert (row.due_at, row.phase) == (now + settings.RETRY_SCHEDULE.steps[0], 1)
    assert (row.attempt_id, row.sender_id, row.lease_until) == (None, None, None)
    assert (row.lane, row.source_ip_id, row.tries) == (-scene.ip.id, scene.ip.id, 1), "retries stay on their IP"
    [attempt] = Attempt.objects.filter(send_id=accepted.send_id)
    assert (attempt.status, attempt.try_count, attempt.duration_ms, attempt.site) == ("partial", 1, 7, "one")
    assert codes(accepted) == [250, 550, 451, 554]
    assert sorted(scene.kinds(accepted)) == ["accepted", "bounced", "bounced", "deferred"]
    assert [s.email for s in Suppression.objects.all()] == ["bob@one.example"], "not for a policy reply"
    assert set(Recipient.objects.values_list("try_count", flat=True)) == {1}
    check_ledger()


def test_a_deferral_is_tried_by_the_schedule_until_it_fails(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    now = timezone.now()
    waits = []
    for _ in range(settings.RETRY_SCHEDULE.max_tries):
        settle([answered(scene.job(now), LATER)], now)
        check_ledger()
        for row in scene.waiting(accepted):
            waits.append(row.due_at - now)
            now = row.due_at
            promote(now)
    assert waits == list(settings.RETRY_SCHEDULE.steps)
    assert scene.statuses(accepted) == ["failed"]
    assert scene.waiting(accepted) == []
    assert scene.kinds(accepted) == ["deferred"] * 6 + ["failed"]
    assert Recipient.objects.get().try_count == settings.RETRY_SCHEDULE.max_tries


def test_a_late_result_is_recorded_and_changes_nothing_unless_it_is_a_250(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    job = scene.job()
    lose(scene)
    again = scene.job()
    settle([answered(job, MISSING)], timezone.now())
    assert scene.statuses(accepted) == ["deferred"], "the row is in flight again and will say"
    [row] = scene.waiting(accepted)
    assert row.attempt_id == again.attempt_id
    first = Attempt.objects.get(pk=job.attempt_id)
    assert (first.status, first.is_lost) == ("bounced", False), "what really happened replaces the loss"
    assert codes(accepted) == [550], "and stands there once"
    assert scene.kinds(accepted) == ["deferred"]
    settle([answered(again, OK)], timezone.now())
    assert scene.statuses(accepted) == ["accepted"]
    assert scene.kinds(accepted) == ["deferred", "accepted"]
    check_ledger()


@pytest.mark.parametrize("end", [LATER, MISSING, OK, None])
def test_a_late_250_ends_the_wait_even_of_a_row_that_is_in_flight_again(scene: Scene, end: Reply | None) -> None:
    """The mail has arrived: nothing that the second attempt hears can take that back, and it is told once."""
    accepted = scene.send("ann@one.example")
    job = scene.job()
    lose(scene)
    again = scene.job()
    settle([answered(job, OK)], timezone.now())
    assert scene.statuses(accepted) == ["accepted"]
    assert scene.waiting(accepted) == []
    check_ledger()
    settle([answered(again, end)], timezone.now())
    assert scene.statuses(accepted) == ["accepted"]
    assert scene.waiting(accepted) == []
    assert scene.kinds(accepted) == ["deferred", "accepted"]
    assert Attempt.objects.count() == 2
    check_ledger()


@pytest.mark.parametrize("order", [1, -1])
def test_a_late_250_and_the_next_attempts_deferral_may_be_settled_together(scene: Scene, order: int) -> None:
    accepted = scene.send("ann@one.example")
    job = scene.job()
    lose(scene)
    settle([answered(job, OK), answered(scene.job(), LATER)][::order], timezone.now())
    assert scene.statuses(accepted) == ["accepted"]
    assert scene.waiting(accepted) == []
    assert scene.kinds(accepted) == ["deferred", "accepted"]


@pytest.mark.parametrize(("status", "kept"), [("failed", False), ("bounced", False), ("complained", True)])
def test_a_late_250_overrides_what_a_reply_said_and_no_complaint(scene: Scene, status: str, kept: bool) -> None:
    accepted = scene.send("ann@one.example")
    job = scene.job()
    Waiting.objects.all().delete()
    Recipient.objects.update(status=status)
    settle([answered(job, OK)], timezone.now())
    assert scene.statuses(accepted) == [status if kept else "accepted"]
    assert scene.kinds(accepted) == ([] if kept else ["accepted"])


@pytest.mark.parametrize("reply", [OK, LATER, MISSING])
def test_what_a_report_said_before_settle_is_kept(scene: Scene, reply: Reply) -> None:
    accepted = scene.send("ann@one.example")
    job = scene.job()
    Recipient.objects.update(status="complained")
    settle([answered(job, reply)], timezone.now())
    assert scene.statuses(accepted) == ["complained"]
    assert scene.waiting(accepted) == []
    check_ledger()


def test_settling_the_same_results_twice_changes_nothing(scene: Scene) -> None:
    """A commit whose answer was lost is repeated."""
    accepted = scene.send("ann@one.example", "bob@one.example", "carol@one.example")
    outcome = answered(scene.job(), OK, LATER, MISSING)
    settle([outcome], timezone.now())
    before = [list(model.objects.order_by("pk").values()) for model in (Attempt, Recipient, Waiting, Suppression)]
    settle([outcome], timezone.now() + timedelta(seconds=1))
    after = [list(model.objects.order_by("pk").values()) for model in (Attempt, Recipient, Waiting, Suppression)]
    assert after == before
    assert codes(accepted) == [250, 451, 550]
    assert len(scene.kinds(accepted)) == 3


def test_a_second_bounce_and_a_bounce_of_two_spellings_make_one_suppression(scene: Scene) -> None:
    """Lesson C7: no unique violation, no lost events."""
    sends = [scene.send("Ann@One.example"), scene.send("ann@one.example")]
    settle([answered(job, MISSING) for job in scene.jobs()], timezone.now())
    assert [s.email for s in Suppression.objects.all()] == ["ann@one.example"]
    assert [scene.kinds(send) for send in sends] == [["bounced"], ["bounced"]]
    assert Event.objects.filter(kind="suppression.created").count() == 1
    assert scene.statuses(scene.send("ANN@ONE.EXAMPLE")) == ["suppressed"]


def test_signatures_are_kept_once_and_reused(scene: Scene) -> None:
    accepted = scene.send("ann@one.example", "bob@two.example")
    first, second = scene.jobs()
    lines = signed(first)
    settle([answered(first, LATER, signature=lines)], timezone.now())
    settle([answered(second, OK, signature=b"DKIM-Signature: of another key\r\n")], timezone.now())
    assert [bytes(s.header_lines) for s in Signature.objects.all()] == [lines]
    promote(later(hours=1))
    retried = scene.job(later(hours=1))
    assert retried.signature == lines
    assert prepare(retried).signature == lines
    raw = raw_message(Send.objects.get(pk=accepted.send_id))
    assert raw is not None
    assert raw.startswith(lines)


def test_what_raw_shows_before_settle_is_what_was_sent(scene: Scene) -> None:
    accepted = scene.send("ann@one.example", body_html="<p>Grüße</p>")
    send = Send.objects.get(pk=accepted.send_id)
    before = raw_message(send)
    job = scene.job()
    prepared = prepare(job)
    settle([answered(job, OK, signature=prepared.signature)], timezone.now())
    assert before == prepared.message.octets == raw_message(send)
    assert before is not None
    assert before.count(b"DKIM-Signature:") == 2
    assert prepared.message.size == len(prepared.signature) + send.size_bytes


def test_events_leave_with_the_settle_or_not_at_all(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    job = scene.job()
    with transaction.atomic():
        settle([answered(job, MISSING)], timezone.now())
        assert EventOutbox.objects.count() == 3, "send.queued came with the accept"
        transaction.set_rollback(True)
    assert (Event.objects.count(), EventOutbox.objects.count(), FeedPosition.objects.count()) == (1, 1, 0)
    assert scene.statuses(accepted) == ["queued"]
    assert not Suppression.objects.exists()
    assert not Attempt.objects.exists()
    check_ledger()


POISON = [
    Reply(451, "4." + "9" * 40, "an enhanced code that no column holds"),
    Reply(550, "5.1.1", "NUL\0 in the text"),
    Reply(550, "5.1.1", "a surrogate \ud800 in the text"),
]


@pytest.mark.parametrize("reply", POISON)
def test_a_result_that_the_database_refuses_is_settled_with_its_texts_replaced(scene: Scene, reply: Reply) -> None:
    """Lesson C3: neither lost nor repeated, and the good results of the batch are none the worse."""
    sends = [scene.send(f"u{number}@one.example") for number in range(7)]
    outcomes = [answered(job, OK) for job in scene.jobs()]
    bad = replace(answered(outcomes[3].job, reply), conversations={"mx": {"steps": ["\0"]}}, resolved_hosts=("\ud800",))
    settler().settle(batch(*outcomes[:3], bad, *outcomes[4:]))
    statuses = [scene.statuses(send)[0] for send in sends]
    assert statuses.count("accepted") == 6
    assert statuses.count("queued") == 0
    attempt = Attempt.objects.get(pk=bad.job.attempt_id)
    assert (attempt.network_error, attempt.smtp_conversations) == (REPLACED, {})
    assert AttemptRecipient.objects.filter(smtp_message=REPLACED).count() == 1
    check_ledger()


def test_a_result_that_nothing_can_settle_is_left_to_its_lease(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are settled, the loop lives, and the sweeper will write the loss."""
    sends = [scene.send(f"u{number}@one.example") for number in range(3)]
    outcomes = [answered(job, OK) for job in scene.jobs()]
    broken = outcomes[1].job.attempt_id
    real = module.settle

    def settle_all_but_one(items: Any, now: Any) -> None:
        assert all(item.job.attempt_id != broken for item in items), "a bug"
        real(items, now)

    monkeypatch.setattr(settling, "settle", settle_all_but_one)
    settler().settle(batch(*outcomes))
    assert [scene.statuses(send)[0] for send in sends].count("accepted") == 2
    assert Waiting.objects.get().attempt_id == broken
    lose(scene)
    assert Attempt.objects.get(pk=broken).is_lost
    check_ledger()


def test_a_settle_that_meets_a_deadlock_or_a_cut_connection_is_repeated(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = scene.send("ann@one.example")
    outcome = answered(scene.job(), OK)
    troubles = [OperationalError("deadlock detected"), OperationalError("server closed the connection")]
    real = module.settle

    def troubled(items: Any, now: Any) -> None:
        if troubles:
            raise troubles.pop()
        real(items, now)

    monkeypatch.setattr(settling, "settle", troubled)
    monkeypatch.setattr(settling, "RETRY_SECONDS", 0)
    monkeypatch.setattr(settling.connection, "close", lambda: None)  # the test's transaction lives on it
    settler().settle(batch(outcome))
    assert scene.statuses(accepted) == ["accepted"]
    assert troubles == []


def test_two_settles_of_the_same_rows_in_opposite_order_do_not_deadlock(open_scene: Scene) -> None:
    scene = open_scene
    for number in range(60):
        scene.send(f"u{number}@one.example", "shared@two.example")
    jobs = scene.jobs(500)
    started = time.monotonic()

    def one(index: int) -> None:
        ordered = jobs if index else jobs[::-1]
        for _ in range(3):
            settle([answered(job, MISSING) for job in ordered], timezone.now())

    with in_threads(2) as run:
        run(one)
    assert time.monotonic() - started < 20
    assert not Waiting.objects.exists()
    assert Suppression.objects.count() == 61
    assert Event.objects.filter(kind="send.recipient.bounced").count() == 120
    check_ledger()


def test_a_settle_waits_for_whoever_holds_the_waiting_row(open_scene: Scene) -> None:
    """The waiting rows are locked first, so a staff action and a settle take turns instead of crossing."""
    accepted = open_scene.send("ann@one.example")
    job = open_scene.job()
    with elsewhere() as there:

        def hold() -> None:
            transaction.set_autocommit(False)
            list(Waiting.objects.select_for_update())

        there(hold)
        with pytest.raises(OperationalError, match="lock timeout"), transaction.atomic():
            _settle_impatiently(job)
        assert open_scene.statuses(accepted) == ["queued"]
        there(transaction.rollback)
        there(lambda: transaction.set_autocommit(True))
    settle([answered(job, OK)], timezone.now())
    assert open_scene.statuses(accepted) == ["accepted"]


def _settle_impatiently(job: Job) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '100ms'")
    settle([answered(job, OK)], timezone.now())


def test_settling_two_hundred_results_walks_indexes_only(scene: Scene) -> None:
    """No statement of a settle scans what waits or what happened."""
    for number in range(100):
        scene.send(f"u{number}@one.example", f"v{number}@two.example")
    jobs = scene.jobs(300)
    insert_waiting(scene, 20_000, phase="1", due_at="now() + interval '1 hour'")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE sending_waiting")
    replies = [OK, LATER, MISSING, NO]
    found = plans(lambda: settle([answered(job, replies[i % 4]) for i, job in enumerate(jobs)], timezone.now()))
    assert found
    for sql, plan in found:
        scans = [node for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
        assert not [node for node in scans if node["Relation Name"] == "sending_waiting"], sql


TEXTS = st.text(st.characters(), max_size=40)


@given(texts=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=3))
@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_of_a_remote_stops_a_settle(scene: Scene, texts: list[tuple[str, str, str]]) -> None:
    """Whatever comes, surrogates and NUL included: every result is settled and every text can be read."""
    sends = [scene.send("ann@one.example") for _ in texts]
    outcomes = [
        answered(job, Reply(451, None, text), network_error=error, conversations={"mx": {"said": said}})
        for job, (text, error, said) in zip(scene.jobs(), texts, strict=True)
    ]
    settler().settle(batch(*outcomes))
    assert [scene.statuses(send) for send in sends] == [["deferred"]] * len(sends)
    assert Attempt.objects.filter(send_id__in=[send.send_id for send in sends]).count() == len(sends)


def test_the_signers_of_a_job_are_the_domains_and_the_instances(scene: Scene) -> None:
    scene.send("ann@one.example")
    [job] = scene.jobs()
    assert [(s.domain, s.selector) for s in job.signers] == [("shop.example", "rly1"), ("relay.test", "rly1")]
    assert all(isinstance(signer, Signer) for signer in job.signers)
