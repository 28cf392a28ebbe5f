"""Orders over waiting mail in the staff admin: a form, a preview of what it would do, and only then the deed."""

import re
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, User
from queues.models import Queue
from sending import order_admin
from sending.models import Operation, Recipient, Waiting

World = dict[type[Model], Any]


def url(kind: str) -> str:
    return reverse(f"admin:sending_operation_{kind}")


def carry_out(client: Client, kind: str, **data: Any) -> tuple[str, str]:
    """(what the preview asks, what is told afterwards)."""
    asked = client.post(url(kind), data)
    assert asked.status_code == 200
    assert not Operation.objects.filter(reason=data["reason"]).exists(), "a preview does nothing"
    page = asked.content.decode()
    seen = re.search(r'name="seen" value="([0-9a-f]{64})"', page)
    assert seen, page
    question = re.search(r'relay-question relay-preview" role="status">([^<]*)<', page)
    assert question
    done = client.post(url(kind), {**data, "seen": seen[1]}, follow=True)
    return question[1], "; ".join(map(str, done.context["messages"]))


def test_the_queues_page_leads_to_the_orders_with_its_queue_chosen(staff_client: Client, world: World) -> None:
    queue = world[Queue]
    page = staff_client.get(reverse("admin:queues_queue_change", args=[queue.pk])).content.decode()
    assert f'href="{url("purge")}?queue={queue.pk}"' in page
    form = staff_client.get(f"{url('purge')}?queue={queue.pk}").content.decode()
    assert f'<option value="{queue.pk}" selected>' in form


def test_a_purge_shows_how_many_before_it_is_done(staff_client: Client, sam: User, world: World) -> None:
    question, told = carry_out(staff_client, "purge", queue=world[Queue].pk, reason="wrong link")
    assert question == "In “transactional” 1 recipient waits. All of it is cancelled for good. Continue?"
    assert told == "Purge of transactional: 1 recipient done."
    assert Recipient.objects.get(pk=world[Recipient].pk).status == "cancelled"
    operation = Operation.objects.get(reason="wrong link")
    assert (operation.done, operation.ordered_by) == (1, "Sam")
    given = AuditEntry.objects.get(action="queue.purge_ordered")
    assert (given.actor_id, given.address) == (sam.pk, "127.0.0.1")


def test_the_button_says_how_many_and_there_is_none_for_nobody(staff_client: Client, world: World) -> None:
    data = {"queue": world[Queue].pk, "reason": "wrong link"}
    assert re.search(r">\s*Purge 1 recipient\s*<", staff_client.post(url("purge"), data).content.decode())
    assert re.search(r">\s*Flush 1 recipient\s*<", staff_client.post(url("flush"), data).content.decode())
    page = staff_client.post(url("purge"), {**data, "domain": "elsewhere.example"}).content.decode()
    assert "0 recipients wait. There is nothing to purge." in page
    assert 'name="seen"' not in page
    assert not re.search(r"<button[^>]*>\s*Purge", page)
    assert "Look again" in page


def test_consent_to_one_preview_is_none_to_another_order(staff_client: Client, world: World) -> None:
    data = {"queue": world[Queue].pk, "domain": "example.net", "reason": "wrong link"}
    page = staff_client.post(url("purge"), data).content.decode()
    seen = re.search(r'name="seen" value="([0-9a-f]{64})"', page)
    assert seen
    answer = staff_client.post(url("purge"), {**data, "domain": "", "seen": seen[1]})
    assert answer.status_code == 200
    assert Waiting.objects.count() == 1
    assert not Operation.objects.filter(reason="wrong link").exists()


def test_a_flush_and_a_reroute(staff_client: Client, world: World) -> None:
    other = Queue.objects.create(name="distributional", is_default=True)
    question, told = carry_out(staff_client, "flush", queue=world[Queue].pk, domain="Example.NET", reason="test")
    assert "Scheduled mail keeps its time." in question
    assert told == "Flush of transactional: 1 recipient done."
    question, told = carry_out(staff_client, "reroute", queue=world[Queue].pk, to=other.pk, reason="other")
    assert "All of it moves to “distributional”" in question
    assert told == "Reroute of transactional: 1 recipient done."
    assert Waiting.objects.get().queue_id == other.pk


def test_what_makes_no_sense_is_said_at_its_field(staff_client: Client, world: World) -> None:
    queue = world[Queue].pk
    page = staff_client.post(url("reroute"), {"queue": queue, "to": queue, "reason": "x"}).content.decode()
    assert "The mail is in this queue already." in page
    page = staff_client.post(url("purge"), {"queue": queue, "reason": " "}).content.decode()
    assert "This field is required." in page


def test_a_long_order_goes_on_without_the_page_and_can_be_stopped(
    staff_client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_admin, "PAGE_SECONDS", -1.0)
    _, told = carry_out(staff_client, "purge", queue=world[Queue].pk, reason="wrong link")
    assert told == "Purge of transactional goes on by itself. So far: 1 recipient done."
    operation = Operation.objects.get(reason="wrong link")
    stop = reverse("admin:sending_operation_stop", args=[operation.pk])
    assert "Continue?" in staff_client.get(stop).content.decode()
    staff_client.post(stop)
    operation.refresh_from_db()
    assert operation.stopped_at is not None
    assert staff_client.get(stop).status_code == 404


def test_only_staff_give_orders(bob: User, world: World) -> None:
    client = Client()
    client.force_login(bob)
    assert client.get(url("purge")).status_code in (302, 403)
    assert client.post(url("purge"), {"queue": world[Queue].pk, "reason": "x"}).status_code in (302, 403)
    assert Waiting.objects.count() == 1


def test_why_stands_on_the_pages_of_sends_recipients_and_waiting_rows(staff_client: Client, world: World) -> None:
    for model in (Recipient, Waiting):
        row = world[model]
        name = f"admin:sending_{model._meta.model_name}_change"
        assert (
            "Waits for its turn at the receiving site"
            in staff_client.get(reverse(name, args=[row.pk])).content.decode()
        )
