"""One key never makes two sends, and calls that come at once share a transaction without sharing their fate."""

import threading
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from projects.models import Domain
from relay_project.db.gather import Gather
from relay_project.db.lookup import forget_remembered
from relay_project.mail.mime import NamedAddress
from sending.accept import accept as module
from sending.accept.accept import accept_many
from sending.accept.admit import admit
from sending.accept.request import Accepted, Refused
from sending.models import IdempotencyRecord, Recipient, Send
from tests.sending.scene import Scene, check_ledger, elsewhere, in_threads, later


def refusal(scene: Scene, *addresses: str, **fields: Any) -> Refused:
    """Refused, and nothing sent."""
    before = Send.objects.count()
    with pytest.raises(Refused) as refused:
        scene.send(*addresses, **fields)
    assert Send.objects.count() == before
    return refused.value


def shape(refused: Refused) -> tuple[int, str | None]:
    return refused.status, refused.field


# --- One key, one send ---------------------------------------------------------------------------------------------


def test_a_key_replays_its_answer_and_refuses_another_body(scene: Scene) -> None:
    first = scene.send("ann@one.example", idempotency_key="k", fingerprint="a")
    again = scene.send("ann@one.example", idempotency_key="k", fingerprint="a")
    assert (again.send_id, again.message_id, again.replayed) == (first.send_id, first.message_id, True)
    assert shape(refusal(scene, "ann@one.example", idempotency_key="k", fingerprint="b")) == (409, None)
    other = scene.send("ann@one.example", project=scene.other_project(), idempotency_key="k", fingerprint="b")
    assert other.send_id != first.send_id, "keys belong to projects"
    assert Send.objects.count() == 2


def test_a_key_is_not_used_up_by_a_refusal(scene: Scene) -> None:
    assert refusal(scene, idempotency_key="k", fingerprint="a").status == 422
    assert not scene.send("ann@one.example", idempotency_key="k", fingerprint="b").replayed


def test_concurrent_calls_with_one_key_make_one_send(open_scene: Scene) -> None:
    """Lesson C12: both sent, and the loser got an error of the unique index."""
    for number in range(5):
        key = f"key {number}"
        with in_threads(4) as run:
            answers = run(lambda _, key=key: open_scene.send("ann@one.example", idempotency_key=key, fingerprint="a"))
        assert len({answer.send_id for answer in answers}) == 1
        assert sorted(answer.replayed for answer in answers) == [False, True, True, True]
    assert Send.objects.count() == 5


def test_a_call_that_waits_for_a_key_sends_itself_when_the_first_one_rolls_back(open_scene: Scene) -> None:
    begun, waiting = threading.Event(), threading.Event()

    def call(index: int) -> int | None:
        if index == 0:
            with transaction.atomic():
                open_scene.send("ann@one.example", idempotency_key="k", fingerprint="a")
                begun.set()
                waiting.wait(0.3)
                transaction.set_rollback(True)
            return None
        begun.wait(5)
        answer = open_scene.send("ann@one.example", idempotency_key="k", fingerprint="a")
        assert not answer.replayed
        return answer.send_id

    with in_threads(2) as run:
        none, send_id = run(call)
    assert none is None
    assert [send.pk for send in Send.objects.all()] == [send_id]


def test_a_key_that_stays_in_flight_is_a_conflict_worth_another_try(
    open_scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lesson C12: waiting for the first call without end would hold the second one's thread."""
    monkeypatch.setattr(module, "IN_FLIGHT_SECONDS", 0.05)
    fields = {"idempotency_key": "k", "fingerprint": "a"}
    with elsewhere() as other:
        other(lambda: transaction.set_autocommit(False))
        first = other(lambda: open_scene.send("ann@one.example", **fields))
        with pytest.raises(Refused) as refused:
            open_scene.send("ann@one.example", **fields)
        assert (refused.value.status, refused.value.retry_after) == (409, 1)
        batch = [open_scene.request("bob@one.example"), open_scene.request("ann@one.example", **fields)]
        free, busy = accept_many(open_scene.project, batch, timezone.now())
        assert isinstance(free, Accepted), "only the message with the key waits"
        assert isinstance(busy, Refused)
        other(transaction.commit)
        other(lambda: transaction.set_autocommit(True))
    again = open_scene.send("ann@one.example", **fields)
    assert (again.send_id, again.replayed) == (first.send_id, True)


def test_a_key_is_new_again_after_a_day_whether_the_sweep_came_by_or_not(scene: Scene) -> None:
    fields = {"idempotency_key": "k", "fingerprint": "a"}
    first = scene.send("ann@one.example", **fields)
    IdempotencyRecord.objects.update(created_at=later(hours=-23.9))
    assert scene.send("ann@one.example", **fields).send_id == first.send_id
    IdempotencyRecord.objects.update(created_at=later(hours=-24.1))
    second = scene.send("ann@one.example", **{**fields, "fingerprint": "b"})
    assert (second.send_id != first.send_id, second.replayed) == (True, False)
    assert scene.send("ann@one.example", **{**fields, "fingerprint": "b"}).send_id == second.send_id
    assert IdempotencyRecord.objects.count() == 1


def test_what_was_answered_once_is_answered_again_whatever_the_rules_say_now(scene: Scene) -> None:
    fields = {"idempotency_key": "k", "fingerprint": "a"}
    first = scene.send("ann@one.example", **fields)
    Domain.objects.filter(pk=scene.domain.pk).update(status="suspended")
    forget_remembered()
    assert scene.send("ann@one.example", **fields).send_id == first.send_id
    assert shape(refusal(scene, "ann@one.example", **{**fields, "fingerprint": "b"})) == (409, None)
    assert shape(refusal(scene, "ann@one.example", idempotency_key="new", fingerprint="a")) == (400, "from")


def test_a_key_repeated_within_a_batch_is_one_send(scene: Scene) -> None:
    requests = [
        scene.request("ann@one.example", idempotency_key=key, fingerprint=fingerprint)
        for key, fingerprint in (("b", "1"), ("a", "1"), ("b", "1"), ("b", "2"))
    ]
    first, other, again, refused = accept_many(scene.project, requests, timezone.now())
    assert isinstance(first, Accepted)
    assert isinstance(again, Accepted)
    assert isinstance(other, Accepted)
    assert isinstance(refused, Refused)
    assert (again.send_id, again.replayed, other.replayed, refused.status) == (first.send_id, True, False, 409)
    assert Send.objects.count() == 2


def test_batches_with_the_same_keys_in_another_order_do_not_deadlock(open_scene: Scene) -> None:
    keys = [f"key {number}" for number in range(20)]

    def call(index: int) -> list[Accepted | Refused]:
        ordered = keys if index % 2 else keys[::-1]
        requests = [open_scene.request("ann@one.example", idempotency_key=k, fingerprint="a") for k in ordered]
        return accept_many(open_scene.project, requests, timezone.now())

    with in_threads(3) as run:
        answers = run(call)
    assert all(isinstance(answer, Accepted) for batch in answers for answer in batch)
    assert Send.objects.count() == 20


# --- Sharing a transaction -----------------------------------------------------------------------------------------


def test_calls_of_several_projects_at_once_share_a_transaction_and_each_has_its_own_answer(
    open_scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Group commit: the second to the sixth come while the first one's transaction is under way."""
    projects = [open_scene.project, open_scene.other_project()]
    rounds: list[int] = []
    came, go = threading.Semaphore(0), threading.Event()

    def slow(candidates: Any) -> Any:
        rounds.append(len(candidates))
        came.release()
        assert go.wait(10)
        return admit(candidates)

    gather: Gather[Any, Any] = Gather(slow, 50)
    monkeypatch.setattr(module, "_gather", gather)

    def call(index: int) -> tuple[int, str]:
        if index == 1:
            return 400, str(refusal(open_scene, "ann@one.example", from_=NamedAddress("a@elsewhere.example")))
        if index:
            assert came.acquire(timeout=10)
            came.release()
        else:
            threading.Timer(0.3, go.set).start()
        accepted = open_scene.send(f"person{index}@one.example", project=projects[index % 2])
        return accepted.send_id, accepted.message_id

    with in_threads(6) as run:
        answers = run(call)
    assert rounds[0] == 1
    assert sum(rounds) == 5
    assert len(rounds) < 5
    for index in (0, 2, 3, 4, 5):
        send = Send.objects.get(pk=answers[index][0])
        assert send.project_id == projects[index % 2].pk
        assert Recipient.objects.get(send_id=send.pk).address == f"person{index}@one.example"
    check_ledger()
