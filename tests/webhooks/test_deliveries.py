"""From an event to its call and what is written of it: webhooks.fan_out, webhooks.deliver, webhooks.again, webhooks.switch.

Real calls over loopback, and the deliverer's own thread beside the test.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import orjson
import pytest
from django.db import connection, transaction
from django.utils import timezone
from standardwebhooks import Webhook as Library

from accounts.models import AuditEntry
from projects.events import NewEvent, emit, sequence_outbox
from projects.models import Event, FeedPosition, Project
from relay_project.web.errors import ApiError, Violations
from tests.webhooks.receiver import Receiver, receiving
from webhooks import replaying
from webhooks.again import replay, send_again, send_test, stop_replay
from webhooks.deliver import look
from webhooks.deliver.engine import Deliverer
from webhooks.deliver.lane import Row
from webhooks.deliver.settle import Result, settle
from webhooks.fan_out import fan_out
from webhooks.models import DisabledReason, Webhook, WebhookDelivery, WebhookLane, WebhookReplay, WebhookWaiting
from webhooks.replaying import Replays, work_off
from webhooks.replaying import _next as next_order
from webhooks.signature import standard_secret
from webhooks.switch import disable, enable
from webhooks.tidy import tidy
from webhooks.verdict import Answer

SECRET, FORMER = "0f5b3d0c6a7e4b1e9d2c8a7f6b5e4d3c", "ffffffffffffffff0000000000000000"
KIND = "domain.created"
PATIENCE_SECONDS = 15.0


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def receiver(server: Receiver, settings: Any) -> Receiver:
    settings.WEBHOOK_OPEN_NETWORKS = [ip_network("127.0.0.0/8")]
    with server.lock:
        server.requests.clear()
        server.answers.clear()
        server.most_busy, server.delay = 0, 0.0
    return server


@pytest.fixture
def shop(transactional_db: None) -> Project:
    return Project.objects.create(name="Shop", send_type="transactional")


def hook(project: Project, url: str, **fields: Any) -> Webhook:
    return Webhook.objects.create(project=project, url=url, secret=SECRET, **{"events": [KIND], **fields})


def tell(project: Project, *subjects: int, kind: str = KIND) -> list[int]:
    """Events that have their deliveries."""
    ids = emit(*(NewEvent(project.pk, kind, "domain", each, {"domain": {"id": each, "domain": "shop.example"}}) for each in subjects))  # fmt: skip # noqa: E501
    with connection.cursor() as cursor:
        sequence_outbox(cursor)
    while fan_out():
        pass
    return ids


@contextmanager
def delivering(count: int = 1) -> Iterator[list[Deliverer]]:
    """Deliverers in threads of their own; they look once a second, and at once when they begin."""
    deliverers = [Deliverer() for _ in range(count)]
    threads = [threading.Thread(target=each.run) for each in deliverers]
    for thread in threads:
        thread.start()
    try:
        yield deliverers
    finally:
        for each in deliverers:
            each.stop()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()


def until(true: Callable[[], Any]) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def settled(number: int = 0) -> Callable[[], bool]:
    return lambda: WebhookWaiting.objects.count() == number and not WebhookDelivery.objects.filter(tries=[]).exists()


def due_now() -> None:
    """The time of the next try has come."""
    WebhookWaiting.objects.update(due_at=timezone.now() - timedelta(seconds=1))


def test_an_event_is_told_in_its_order_signed_and_written_down(shop: Project, receiver: Receiver) -> None:
    hook(shop, f"{receiver.url}/ok", headers='{"Authorization": "Bearer of-the-shop", "X-Signature": "forged"}')
    other = Project.objects.create(name="Other", send_type="transactional")
    tell(other, 99)
    ids = tell(shop, *range(40))
    tell(shop, 7, kind="domain.deleted")
    with delivering():
        until(settled())
    heard = receiver.heard()
    assert len(heard) == 40, "once each, of its kinds and its project only"
    assert sorted(int(each.headers["webhook-id"]) for each in heard) == ids
    for each in heard:
        assert Library(standard_secret(SECRET)).verify(each.body, each.headers)["id"] == each.headers["webhook-id"]
        assert each.headers["authorization"] == "Bearer of-the-shop"
        assert each.headers["x-signature"] != "forged"
    delivery = WebhookDelivery.objects.earliest("event_id")
    assert (delivery.status, delivery.try_count, delivery.response_code, delivery.response) == (
        "delivered",
        1,
        200,
        "ok",
    )
    assert delivery.request_body.encode() == next(
        each.body for each in heard if each.headers["webhook-id"] == str(delivery.event_id)
    )
    [entry] = delivery.tries
    assert (entry["code"], entry["text"]) == (200, "ok")
    assert (delivery.next_try_at, delivery.kind) == (None, "event")
    assert not WebhookLane.objects.exists(), "let go at the stop"


def test_an_event_whose_body_cannot_be_made_stops_no_projects_webhooks(
    shop: Project, receiver: Receiver, monkeypatch: Any
) -> None:
    """Lesson C11: it is told by what it carries, and its neighbours in the batch whole."""
    from webhooks import payload

    real = payload._payload

    def broken(event: Any, known: Any) -> Any:
        if event.subject_id == 2:
            raise KeyError("a body that cannot be made")
        return {**real(event, known), "whole": True}

    monkeypatch.setattr(payload, "_payload", broken)
    hook(shop, f"{receiver.url}/ok")
    ids = tell(shop, 1, 2, 3)
    told = [orjson.loads(row.request_body) for row in WebhookDelivery.objects.order_by("event_id")]
    assert [int(body["id"]) for body in told] == ids
    assert ["whole" in body["payload"] for body in told] == [True, False, True]
    assert told[1]["payload"]["domain"]["domain"] == "shop.example"


def test_events_of_one_subject_are_told_one_after_the_other(shop: Project, receiver: Receiver) -> None:
    """Lesson C10."""
    hook(shop, f"{receiver.url}/ok")
    receiver.delay = 0.02
    ids = tell(shop, *([5] * 8))
    with delivering():
        until(settled())
    assert [int(each.headers["webhook-id"]) for each in receiver.heard()] == ids
    assert receiver.most_busy == 1


def test_what_fails_climbs_the_ladder_and_is_the_same_each_time(shop: Project, receiver: Receiver) -> None:
    webhook = hook(shop, f"{receiver.url}/fail")
    tell(shop, 1)
    waits = []
    with delivering() as [deliverer]:
        for tries in range(1, 8):
            until(lambda tries=tries: WebhookDelivery.objects.filter(try_count=tries).exists())
            row = WebhookWaiting.objects.first()
            if row:
                waits.append((row.due_at - timezone.now()).total_seconds())
                due_now()
                deliverer.wake(str(webhook.pk))
                for lane in deliverer.lanes.values():
                    lane.paused_until = 0.0  # the endpoint's own back-off is another test's
    for wait, step in zip(waits, (60, 300, 900, 3600, 14_400, 86_400), strict=True):
        assert step - 10 < wait <= step
    delivery = WebhookDelivery.objects.get()
    assert (delivery.status, delivery.response_code, delivery.response) == ("failed", 500, "out of order")
    assert len(delivery.tries) == 7
    assert len({(each.headers["webhook-id"], each.body) for each in receiver.heard()}) == 1
    webhook.refresh_from_db()
    assert webhook.failing_since is not None


def test_a_failing_call_holds_up_nothing_after_it_and_success_mends_the_webhook(
    shop: Project, receiver: Receiver
) -> None:
    webhook = hook(shop, f"{receiver.url}/ok", failing_since=timezone.now() - timedelta(hours=1))
    receiver.answers["/ok"] = [503]
    tell(shop, 5, 5, 6)
    with delivering():
        until(settled(1))
    assert sorted(WebhookDelivery.objects.values_list("status", flat=True)) == ["delivered", "delivered", "pending"]
    webhook.refresh_from_db()
    assert webhook.failing_since is None


def test_an_answer_that_the_database_would_refuse_stops_nobody(shop: Project, receiver: Receiver) -> None:
    """Lesson C11: the batch of a spoilt answer is written like any other, and is not sent again at once."""
    hook(shop, f"{receiver.url}/spoilt")
    hook(shop, f"{receiver.url}/ok")
    tell(shop, 1)
    with delivering():
        until(settled(1))
    spoilt, fine = WebhookDelivery.objects.order_by("-response_code")
    assert (spoilt.status, fine.status) == ("pending", "delivered")
    assert spoilt.response is not None
    assert spoilt.response.startswith("ab\ufffdé")
    assert len(receiver.heard("/spoilt")) == 1


def test_what_cannot_be_written_is_halved_out(shop: Project, receiver: Receiver, monkeypatch: Any) -> None:
    """Lesson C11: one result that breaks the statement, whatever it is, costs the others nothing."""
    from webhooks.deliver import engine

    real = settle

    def breaking(results: Any, *values: Any) -> None:
        if any(result.answer.text == "out of order" for result in results):
            raise ValueError("cannot be stored")
        real(results, *values)

    monkeypatch.setattr(engine, "settle", breaking)
    hook(shop, f"{receiver.url}/fail")
    hook(shop, f"{receiver.url}/ok")
    tell(shop, 1, 2, 3)
    with delivering():
        until(settled(3))
    said = set(WebhookDelivery.objects.values_list("response_code", "response"))
    assert said == {(200, "ok"), (500, "The answer could not be stored.")}


def test_what_cannot_be_written_at_all_stops_nobody(shop: Project, receiver: Receiver, monkeypatch: Any) -> None:
    """Lessons C10, C11: it waits by itself, and is not sent again and again meanwhile."""
    from webhooks.deliver import engine

    real = settle

    def breaking(results: Any, *values: Any) -> None:
        if any(result.answer.code == 500 for result in results):
            raise ValueError("cannot be stored")
        real(results, *values)

    monkeypatch.setattr(engine, "settle", breaking)
    hook(shop, f"{receiver.url}/fail")
    hook(shop, f"{receiver.url}/ok")
    tell(shop, 1)
    with delivering():
        receiver.wait_for(1, "/fail")
        tell(shop, 2)
        until(lambda: WebhookDelivery.objects.filter(status="delivered").count() == 2)
    assert len(receiver.heard("/fail")) <= 2, "a call for each event"


def test_a_call_that_cannot_be_made_is_a_failure_and_its_lane_goes_on(
    shop: Project, receiver: Receiver, monkeypatch: Any
) -> None:
    """Lesson C10: an error of ours holds neither its row nor a place in the lane for ever."""
    from webhooks.deliver import engine

    real = engine.call_of

    def breaking(row: Row, *values: Any) -> Any:
        if row.subject_id < 5:
            raise ValueError("no secret")
        return real(row, *values)

    monkeypatch.setattr(engine, "call_of", breaking)
    hook(shop, f"{receiver.url}/ok")
    tell(shop, *range(1, 7))
    with delivering():
        until(settled(4))
    assert len(receiver.heard()) == 2
    assert set(WebhookDelivery.objects.values_list("status", "response")) == {
        ("delivered", "ok"), ("pending", "The call could not be made.")
    }  # fmt: skip


def test_a_retry_after_beyond_all_time_stops_nobody(shop: Project, receiver: Receiver) -> None:
    """Lesson C10: what one receiver writes into a header is no other's trouble, nor its own for ever."""
    hook(shop, f"{receiver.url}/never")
    hook(shop, f"{receiver.url}/never/503")
    hook(shop, f"{receiver.url}/ok")
    tell(shop, 1)
    with delivering():
        until(settled(2))
        tell(shop, 2)
        until(settled(4))
    assert WebhookDelivery.objects.filter(status="delivered").count() == 2
    assert all(due > timezone.now() for due in WebhookWaiting.objects.values_list("due_at", flat=True))


def test_gone_disables_at_once_and_a_busy_receiver_says_when(shop: Project, receiver: Receiver) -> None:
    gone, busy = hook(shop, f"{receiver.url}/gone"), hook(shop, f"{receiver.url}/busy-seconds")
    tell(shop, 1)
    with delivering():
        until(settled(1))
        until(lambda: not Webhook.objects.get(pk=gone.pk).is_enabled)
    gone.refresh_from_db()
    assert gone.disabled_reason == "gone"
    assert WebhookDelivery.objects.get(webhook_id=gone.pk).status == "failed"
    [event] = Event.objects.filter(kind="webhook.disabled")
    assert (event.payload["reason"], event.payload["webhook"]["id"]) == ("gone", gone.pk)
    assert AuditEntry.objects.get(action="webhook.disabled").actor_label == "run_webhooks"
    due = WebhookWaiting.objects.get(webhook_id=busy.pk).due_at - timezone.now()
    assert timedelta(minutes=118) < due <= timedelta(hours=2)


def test_a_busy_receiver_is_left_alone_by_every_process_but_for_tests(shop: Project, receiver: Receiver) -> None:
    busy = hook(shop, f"{receiver.url}/busy-seconds")
    tell(shop, 1)
    with delivering():
        until(settled(1))
    busy.refresh_from_db()
    assert timedelta(minutes=59) < busy.held_until - timezone.now() <= timedelta(hours=1)
    tell(shop, 2)
    with delivering() as [another]:
        until(lambda: busy.pk in another.lanes and another.lanes[busy.pk].held)
        send_test(busy)
        another.wake(f"!{busy.pk}")
        receiver.wait_for(2)
        assert [heard.json.get("test") for heard in receiver.heard()] == [None, True]
        assert disable(busy, DisabledReason.BY_HAND)
        another.wake(f"!{busy.pk}")
        until(lambda: another.lanes[busy.pk].rests_until == 0.0)
        assert enable(busy)
        busy.refresh_from_db()
        assert busy.held_until is None, "who mended the receiver need not wait"
        another.wake(f"!{busy.pk}")
        receiver.wait_for(3)


def result(row: WebhookWaiting, code: int) -> Result:
    given = Row(row.delivery_id, row.webhook_id, row.subject_id, row.kind, row.due_at, row.try_count, 1, "", "{}")
    return Result(given, Answer(code, "x"), timezone.now())


def test_days_of_nothing_but_failures_disable_and_enabling_goes_on_with_what_waited(
    shop: Project, receiver: Receiver, settings: Any
) -> None:
    webhook = hook(shop, f"{receiver.url}/ok", failing_since=timezone.now() - timedelta(days=2))
    tell(shop, 1, 2)
    one, two = WebhookWaiting.objects.order_by("delivery_id")
    settle([result(one, 500)], timezone.now(), {webhook.pk})
    webhook.refresh_from_db()
    assert webhook.is_enabled, "not yet"
    Webhook.objects.update(failing_since=timezone.now() - timedelta(days=4))
    settle([result(two, 500)], timezone.now(), {webhook.pk})
    webhook.refresh_from_db()
    assert (webhook.is_enabled, webhook.disabled_reason) == (False, "failing")
    due_now()
    assert fan_out() == fan_out() == 0
    tell(shop, 3)
    with delivering():
        time.sleep(0.3)
        assert receiver.heard() == []
        assert enable(webhook)
        assert not enable(webhook)
        until(settled())
    assert len(receiver.heard()) == 2, "what happened while it was disabled is not delivered by itself"
    webhook.refresh_from_db()
    assert (webhook.disabled_reason, webhook.failing_since, webhook.disabled_at) == ("", None, None)
    assert disable(webhook, DisabledReason.BY_HAND)
    assert not disable(webhook, DisabledReason.BY_HAND)


def test_a_result_that_comes_late_changes_nothing(shop: Project, receiver: Receiver) -> None:
    hook(shop, receiver.url)
    tell(shop, 1)
    row = WebhookWaiting.objects.get()
    settle([result(row, 200)], timezone.now())
    settle([result(row, 500)], timezone.now())
    delivery = WebhookDelivery.objects.get()
    assert (delivery.status, delivery.try_count, len(delivery.tries)) == ("delivered", 1, 1)
    assert not WebhookWaiting.objects.exists()


def test_two_processes_share_webhooks_and_the_dead_ones_are_taken_over(
    shop: Project, receiver: Receiver, monkeypatch: Any
) -> None:
    """Lesson C10: what a killed process had leased is another's when the lease ends, and is sent then."""
    hooks = [hook(shop, f"{receiver.url}/ok/{number}") for number in range(6)]
    dead = uuid.uuid4()
    monkeypatch.setattr(look, "LEASE_SECONDS", 1.0)
    assert look.take(dead, [hooks[0].pk]) == {hooks[0].pk}
    assert look.take(uuid.uuid4(), [hooks[0].pk]) == set()
    tell(shop, *range(10))
    monkeypatch.setattr(look, "LEASE_SECONDS", 15.0)
    with delivering(2):
        until(settled())
    assert len(receiver.heard()) == 60, "none twice, although two were at it"


def test_slow_endpoints_hold_up_no_other(shop: Project, receiver: Receiver, settings: Any) -> None:
    """Lesson P8."""
    for number in range(3):
        hook(shop, f"{receiver.url}/hang/{number}")
    hook(shop, f"{receiver.url}/ok")
    settings.WEBHOOK_IN_FLIGHT = 20
    tell(shop, *range(30))
    with delivering():
        began = time.monotonic()
        receiver.wait_for(30, "/ok", seconds=4.0)
        assert time.monotonic() - began < 4.0, "while the others hang for five seconds"


def test_a_project_whose_receivers_all_hang_leaves_room_for_others(
    shop: Project, receiver: Receiver, settings: Any
) -> None:
    """Lesson P8, between tenants: its calls took all of the room as long as none had failed yet."""
    settings.WEBHOOK_IN_FLIGHT = 8
    other = Project.objects.create(name="Other", send_type="transactional")
    for number in range(4):
        hook(shop, f"{receiver.url}/hang/{number}")
    hook(other, f"{receiver.url}/ok")
    tell(shop, *range(10))
    with delivering():
        receiver.wait_for(6)
        tell(other, *range(10))
        receiver.wait_for(10, "/ok", seconds=4.0)  # while the others hang for five


def test_webhooks_that_rest_give_way_where_a_process_holds_no_more(
    shop: Project, receiver: Receiver, monkeypatch: Any
) -> None:
    """Lesson P8: as many dead ones as it holds kept all others from it until they were disabled, days later."""
    monkeypatch.setattr(look, "MOST_LANES", 3)
    dead = [hook(shop, f"{receiver.url}/fail/{number}", events=["domain.deleted"]) for number in range(3)]
    hook(shop, f"{receiver.url}/ok")
    tell(shop, *range(20), kind="domain.deleted")
    with delivering() as [deliverer]:
        until(lambda: all(lane.is_failing for lane in deliverer.lanes.values()) and len(deliverer.lanes) == len(dead))
        tell(shop, 1)
        receiver.wait_for(1, "/ok", seconds=4.0)


def test_a_process_that_gets_a_failing_webhook_asks_it_once_first(shop: Project, receiver: Receiver) -> None:
    dead = hook(shop, f"{receiver.url}/fail", failing_since=timezone.now())
    mended = hook(shop, f"{receiver.url}/ok", failing_since=timezone.now())
    tell(shop, *range(20))
    with delivering():
        receiver.wait_for(20, "/ok")
        assert len(receiver.heard("/fail")) == 1
    assert Webhook.objects.get(pk=mended.pk).failing_since is None
    assert Webhook.objects.get(pk=dead.pk).failing_since


def test_a_rotation_is_signed_by_both_secrets_until_its_time_is_over(shop: Project, receiver: Receiver) -> None:
    later, before = timezone.now() + timedelta(hours=1), timezone.now() - timedelta(seconds=1)
    hook(shop, f"{receiver.url}/both", previous_secret=FORMER, previous_secret_until=later)
    hook(shop, f"{receiver.url}/one", previous_secret=FORMER, previous_secret_until=before)
    tell(shop, 1)
    with delivering():
        until(settled())
    [both], [one] = receiver.heard("/both"), receiver.heard("/one")
    for secret in (SECRET, FORMER):
        Library(standard_secret(secret)).verify(both.body, both.headers)
    assert len(one.headers["webhook-signature"].split(" ")) == 1
    assert "x-signature-previous" not in one.headers


# --- By hand ---------------------------------------------------------------------------------------------------------


def test_a_test_goes_out_at_once_and_once_also_while_disabled(shop: Project, receiver: Receiver) -> None:
    webhook = hook(shop, f"{receiver.url}/fail", is_enabled=False)
    made = send_test(webhook)
    with delivering():
        until(settled())
    [heard] = receiver.heard()
    assert (heard.json["event"], heard.json["test"], heard.json["id"]) == ("test", True, str(made.event_id))
    made.refresh_from_db()
    assert (made.status, made.kind, made.try_count) == ("failed", "test", 1)
    webhook.refresh_from_db()
    assert webhook.failing_since is None


def test_send_again_goes_where_the_webhook_leads_now_with_the_same_id(shop: Project, receiver: Receiver) -> None:
    """Lesson C10: receivers know by the id what they have had."""
    webhook = hook(shop, f"{receiver.url}/ok")
    [event_id] = tell(shop, 1)
    with delivering():
        until(settled())
        Webhook.objects.update(url=f"{receiver.url}/new")
        made = send_again(WebhookDelivery.objects.get())
        until(settled())
    [first], [second] = receiver.heard("/ok"), receiver.heard("/new")
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == str(event_id)
    assert first.body == second.body
    assert (made.kind, made.url) == ("replay", f"{receiver.url}/new")
    Webhook.objects.update(is_enabled=False)
    with pytest.raises(ApiError, match="Enable it first"):
        send_again(made)
    webhook.delete()
    with pytest.raises(ApiError, match="not found"):
        send_again(made)


def work_off_replays() -> None:
    replays = Replays()
    for _ in range(10):
        replays._step()
    assert not WebhookReplay.objects.filter(finished_at=None).exists()


def test_a_range_is_told_again_by_one_call_and_so_is_what_failed(shop: Project, receiver: Receiver) -> None:
    webhook = hook(shop, f"{receiver.url}/ok")
    ids = tell(shop, *range(5))
    tell(shop, 9, kind="domain.deleted")
    WebhookWaiting.objects.all().delete()
    WebhookDelivery.objects.filter(event_id__in=ids[:2]).update(status="failed")
    now = timezone.now()
    made = replay(webhook, now - timedelta(hours=1), now + timedelta(hours=1))
    work_off_replays()
    made.refresh_from_db()
    assert (made.made, made.finished_at is not None) == (5, True)
    assert made.next_id == made.ends_id, "it has come to its end, as one that was stopped has not"
    assert list(WebhookDelivery.objects.filter(kind="replay").order_by("id").values_list("event_id", flat=True)) == ids
    WebhookDelivery.objects.filter(kind="replay").delete()
    stopped = replay(webhook)
    with connection.cursor() as cursor:
        order = next_order(cursor, 0)
        stop_replay(stopped)
        assert order is not None
        assert work_off(cursor, order, step=1) == 1, "it was at a step just then"
    stopped.refresh_from_db()
    assert (stopped.made, stopped.finished_at is not None, stopped.next_id < stopped.ends_id) == (1, True, True)
    WebhookDelivery.objects.filter(kind="replay").delete()
    failed = replay(webhook, only_failed=True)
    work_off_replays()
    failed.refresh_from_db()
    assert failed.made == 2
    with pytest.raises(Violations):
        replay(webhook, now, now - timedelta(hours=1))
    disable(webhook, DisabledReason.BY_HAND)
    webhook.refresh_from_db()
    with pytest.raises(ApiError, match="Enable it first"):
        replay(webhook)


def test_what_waits_for_its_next_try_is_tried_now_with_all_that_failed(
    shop: Project, receiver: Receiver, monkeypatch: Any
) -> None:
    """A receiver is mended: whoever says so does not wait for the ladder, however much stands on it."""
    webhook = hook(shop, f"{receiver.url}/ok")
    monkeypatch.setattr(replaying, "MOST_DUE", 10)
    tell(shop, *range(20))
    later = timezone.now() + timedelta(hours=4)
    WebhookWaiting.objects.update(due_at=later, try_count=1)
    WebhookDelivery.objects.update(next_try_at=later, try_count=1)
    fresh = WebhookDelivery.objects.earliest("id").pk
    WebhookDelivery.objects.filter(pk=fresh).update(try_count=0)
    order = replay(webhook, only_failed=True)
    work_off_replays()
    order.refresh_from_db()
    assert order.made == 19, "what was not tried yet did not fail"
    assert WebhookDelivery.objects.count() == 20, "none is told twice"
    assert WebhookWaiting.objects.get(due_at__gt=timezone.now()).delivery_id == fresh
    assert WebhookDelivery.objects.get(next_try_at__gt=timezone.now()).pk == fresh


def test_what_waits_for_a_webhook_that_is_gone_is_ended(shop: Project, receiver: Receiver) -> None:
    webhook = hook(shop, f"{receiver.url}/ok")
    tell(shop, 1, 2)
    webhook.delete()
    assert tidy(timezone.now()) == 2
    assert not WebhookWaiting.objects.exists()
    assert set(WebhookDelivery.objects.values_list("status", "response")) == {("failed", "The webhook was deleted.")}


def test_two_transactions_that_commit_out_of_order_lose_no_delivery(shop: Project, receiver: Receiver) -> None:
    """Lesson C10: nothing is lost, though the one with the lower id commits last, after the fan-out has passed it."""
    hook(shop, f"{receiver.url}/ok")
    began, may_commit = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            emit(NewEvent(shop.pk, KIND, "domain", 1, {"domain": {}}))
            began.set()
            assert may_commit.wait(10)
        connection.close()

    thread = threading.Thread(target=slow)
    thread.start()
    assert began.wait(10)
    tell(shop, 2)
    assert WebhookDelivery.objects.count() == 1
    may_commit.set()
    thread.join()
    tell(shop, 3)
    events = list(WebhookDelivery.objects.order_by("id").values_list("event_id", flat=True))
    assert sorted(events) == sorted(Event.objects.values_list("id", flat=True))
    assert events == list(FeedPosition.objects.order_by("position").values_list("event_id", flat=True))
