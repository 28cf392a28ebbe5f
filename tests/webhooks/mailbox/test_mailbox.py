"""/v1/mailbox/: deposit, receive and acknowledge, with deposits and with events of the project."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from django.test import Client

from projects.events import NewEvent, emit, sequence_outbox
from projects.models import Event, Project
from tests.projects.conftest import alice, bob, charlie, foreign, project  # noqa: F401
from webhooks.mailbox.deposit import deposit, new_item
from webhooks.mailbox.expire import sweep_expired
from webhooks.mailbox.manage import MailboxChange, create_mailbox, create_token, update_mailbox
from webhooks.mailbox.receive import acknowledge, receive
from webhooks.models.mailbox import Mailbox, MailboxEvent, MailboxItem, TokenKind

DID = "did:sync:zQ3sh~Alice"
NOW = datetime.now(UTC)

Call = Callable[..., tuple[int, Any]]


@pytest.fixture
def mailbox(project: Project) -> Mailbox:  # noqa: F811
    return create_mailbox(project, DID, MailboxChange())


def caller(token: str, name: str = DID) -> Call:
    def call(method: str, what: str = "", body: Any = None, **headers: str) -> tuple[int, Any]:
        path, _, query = what.partition("?")
        url = f"/v1/mailbox/{quote(name)}{path}" + (f"?{query}" if query else "")
        sent = {"Authorization": f"Bearer {token}", **headers}
        more = {} if body is None else {"data": body, "content_type": "application/json"}
        response = (
            Client().generic(method, url, headers=sent)
            if body is None
            else getattr(Client(), method.lower())(url, headers=sent, **more)
        )
        return response.status_code, response.json()

    return call


@pytest.fixture
def sender(mailbox: Mailbox) -> Call:
    return caller(create_token(mailbox, TokenKind.DEPOSIT, "shop")[1])


@pytest.fixture
def receiver(mailbox: Mailbox) -> Call:
    return caller(create_token(mailbox, TokenKind.RECEIVE, "worker")[1])


def test_an_item_is_deposited_leased_acknowledged_and_gone(sender: Call, receiver: Call) -> None:
    status, made = sender("POST", "", {"payload": {"b": 1, "a": [None, "é"]}, "key": "one"})
    assert (status, made["duplicate"]) == (202, False)
    status, found = receiver("GET", "/receive?lease=60")
    [item] = found["items"]
    assert (status, found["more"]) == (200, False)
    assert item["payload"] == {"b": 1, "a": [None, "é"]}
    assert list(item["payload"]) == ["b", "a"], "as it was written"
    assert (item["id"], item["kind"], item["key"], item["from"], item["receive_count"]) == (
        made["id"], "deposit", "one", "shop", 1
    )  # fmt: skip
    assert item["expires_at"] - item["deposited_at"] == pytest.approx(30 * 86_400, abs=2)
    assert receiver("GET", "/receive")[1]["items"] == [], "it is leased"
    assert receiver("POST", "/ack", {"ids": [item["id"], "7", "x"]}) == (
        200, {"acked": [item["id"]], "unknown": ["7", "x"]}
    )  # fmt: skip
    assert receiver("POST", "/ack", {"ids": [item["id"]]})[1] == {"acked": [], "unknown": [item["id"]]}
    assert MailboxItem.objects.get().payload == "", "what was acknowledged is not kept"


def test_what_nobody_acknowledges_is_handed_out_again(mailbox: Mailbox) -> None:
    deposit(mailbox.pk, "s", [new_item(n) for n in range(3)], NOW)
    first = receive(mailbox, 2, 30, NOW)
    assert ([item["receive_count"] for item in first.items], first.more) == ([1, 1], True)
    assert len(receive(mailbox, 5, 30, NOW).items) == 1, "another receiver gets the rest"
    again = receive(mailbox, 5, 30, NOW + timedelta(seconds=31))
    assert sorted(item["receive_count"] for item in again.items) == [2, 2, 2]


def test_equal_deposits_are_one_by_key_or_by_content_even_after_the_acknowledgement(
    sender: Call, receiver: Call
) -> None:
    first = sender("POST", "", {"payload": {"a": 1, "b": 2}})[1]
    again = sender("POST", "", {"payload": {"b": 2, "a": 1}})[1]
    assert (again["id"], again["duplicate"]) == (first["id"], True)
    keyed_ = sender(
        "POST", "", {"items": [{"payload": 1, "key": "k"}, {"payload": 2, "key": "k"}, {"payload": {"a": 1, "b": 2}}]}
    )
    assert [each["duplicate"] for each in keyed_[1]["items"]] == [False, True, True]
    receiver("POST", "/ack", {"ids": [first["id"]]})
    assert sender("POST", "", {"payload": {"a": 1, "b": 2}})[1]["duplicate"], "the answer was lost, not the item"
    assert len(receiver("GET", "/receive")[1]["items"]) == 1


def test_a_full_mailbox_refuses_all_of_a_deposit_and_takes_again_what_is_there(
    sender: Call, receiver: Call, settings: Any, caplog: Any
) -> None:
    settings.MAILBOX_MAX_ITEMS = 3
    assert sender("POST", "", {"items": [{"payload": n} for n in range(2)]})[0] == 202
    status, refusal = sender("POST", "", {"items": [{"payload": n} for n in (5, 6)]})
    assert (status, refusal["status"]) == (507, 507)
    assert "full" in refusal["message"]
    assert sender("POST", "", {"items": [{"payload": n} for n in (0, 1, 2)]})[0] == 202, "two of them are there"
    assert sender("POST", "", {"payload": 9})[0] == 507
    ids = [item["id"] for item in receiver("GET", "/receive?limit=1")[1]["items"]]
    receiver("POST", "/ack", {"ids": ids})
    assert sender("POST", "", {"payload": 9})[0] == 202
    assert not [record for record in caplog.records if record.levelname == "ERROR"], "no defect of ours"


def test_an_item_expires_and_is_swept(mailbox: Mailbox) -> None:
    deposit(mailbox.pk, "s", [new_item("short", ttl_seconds=1), new_item("long")], NOW)
    later = NOW + timedelta(seconds=2)
    assert len(receive(mailbox, 9, 1, later).items) == 1
    [stored] = deposit(mailbox.pk, "s", [new_item("short")], later) or []
    assert not stored.is_duplicate, "what has expired is no more"
    assert sweep_expired(later + timedelta(days=31)) == 2
    assert not MailboxItem.objects.exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "payload"),
        ({"payload": None}, "payload"),
        ({"payload": 1, "key": ""}, "key"),
        ({"payload": 1, "key": "a" * 256}, "key"),
        ({"payload": 1, "key": "nul\0"}, "key"),
        ({"payload": 1, "ttl_seconds": 0}, "ttl_seconds"),
        ({"payload": 1, "ttl_seconds": True}, "ttl_seconds"),
        ({"payload": 1, "ttl_seconds": 10**30}, "ttl_seconds"),
        ({"payload": 1, "from": ""}, "from"),
        ({"items": []}, "items"),
        ({"items": {}}, "items"),
        ({"items": [{"payload": 1}, 7]}, "items[1]"),
        ({"items": [{"payload": 1}, {"key": "x"}]}, "items[1].payload"),
        ({"items": [{"payload": 1}] * 1001}, "items"),
    ],
    ids=["empty", "null", "blank-key", "long-key", "nul", "zero", "true", "huge", "blank-from", "none", "map", "number",
         "no-payload", "many"],
)  # fmt: skip
def test_a_wrong_deposit_names_the_field_and_stores_nothing(sender: Call, body: Any, field: str) -> None:
    status, refusal = sender("POST", "", body)
    assert (status, refusal["violations"][0]["property"]) in ((422, field), (400, field)), refusal
    assert not MailboxItem.objects.exists()


def test_a_large_payload_and_odd_queries_are_refused(sender: Call, receiver: Call, settings: Any) -> None:
    settings.MAILBOX_MAX_PAYLOAD_BYTES = 10
    assert sender("POST", "", {"payload": "é" * 6})[0] == 413
    assert receiver("GET", "/receive?limit=x")[0] == 400
    assert receiver("GET", "/receive?limit=0")[0] == 422
    assert receiver("GET", "/receive?wait=31")[0] == 422
    assert receiver("GET", "/receive?lease=999999999999999999999")[0] == 400
    assert receiver("POST", "/ack", {"ids": []})[0] == 422
    assert receiver("POST", "/ack", {"ids": ["1", {}]})[1]["violations"][0]["property"] == "ids[1]"
    assert receiver("PUT", "/ack", {"ids": ["1"]})[0] == 405


def test_only_its_tokens_and_its_projects_keys_open_a_mailbox(
    mailbox: Mailbox,
    sender: Call,
    receiver: Call,
    project: Project,  # noqa: F811
    foreign: Project,  # noqa: F811
) -> None:
    assert sender("GET", "/receive")[0] == 403
    assert receiver("POST", "", {"payload": 1})[0] == 403
    assert caller("mbx_wrong")("GET", "/receive")[0] == 401
    assert caller("")("GET", "/receive")[0] == 401
    other = create_mailbox(foreign, "theirs", MailboxChange())
    token = create_token(other, TokenKind.RECEIVE, "")[1]
    there, nowhere = caller(token)("GET", "/receive"), caller(token, "nobody's")("GET", "/receive")
    assert (there, there[0]) == (nowhere, 404), "whether a name is taken is nobody's business"
    update_mailbox(mailbox, MailboxChange(is_enabled=False))
    assert receiver("GET", "/receive")[0] == 403


def test_events_of_a_subscription_are_leased_and_acknowledged_like_deposits(mailbox: Mailbox, project: Project) -> None:  # noqa: F811
    happened(project, 2)
    mailbox = update_mailbox(mailbox, MailboxChange(events=["domain.created"]))
    happened(project, 3)
    happened(Project.objects.create(name="Other"), 2)
    deposit(mailbox.pk, "s", [new_item("mine")], NOW)
    found = receive(mailbox, 3, 30, NOW)
    assert [item["kind"] for item in found.items] == ["deposit", "event", "event"]
    assert found.more
    assert found.items[1]["payload"]["event"] == "domain.created", "those before the subscription are not told"
    [last] = receive(mailbox, 3, 30, NOW).items
    later = NOW + timedelta(seconds=31)
    assert acknowledge(mailbox, [int(last["id"])], later) == {int(last["id"])}
    again = receive(mailbox, 10, 30, later)
    assert sorted(item["receive_count"] for item in again.items if item["kind"] == "event") == [2, 2]
    acknowledge(mailbox, [int(item["id"]) for item in again.items], later)
    assert receive(mailbox, 10, 30, later + timedelta(seconds=31)).items == []
    assert not MailboxEvent.objects.exists()


def test_a_full_mailbox_loses_no_event(mailbox: Mailbox, project: Project, settings: Any) -> None:  # noqa: F811
    settings.MAILBOX_MAX_ITEMS = 2
    mailbox = update_mailbox(mailbox, MailboxChange(events=["domain.created"]))
    happened(project, 5)
    taken: list[str] = []
    for round_ in range(4):
        items = receive(mailbox, 10, 30, NOW + timedelta(minutes=round_)).items
        assert len(items) <= 2
        taken += [item["id"] for item in items]
        acknowledge(mailbox, [int(item["id"]) for item in items], NOW)
    assert len(set(taken)) == 5


def test_an_event_that_retention_took_is_handed_out_no_more(mailbox: Mailbox, project: Project) -> None:  # noqa: F811
    mailbox = update_mailbox(mailbox, MailboxChange(events=["domain.created"]))
    happened(project, 1)
    assert len(receive(mailbox, 10, 1, NOW).items) == 1
    Event.objects.all().delete()
    assert receive(mailbox, 10, 1, NOW + timedelta(seconds=2)).items == []
    assert not MailboxEvent.objects.exists()


def happened(project: Project, count: int) -> None:  # noqa: F811
    emit(*[NewEvent(project.pk, "domain.created", "domain", n, {"domain": {"domain": "a.test"}}) for n in range(count)])
    with connection.cursor() as cursor:
        sequence_outbox(cursor)
