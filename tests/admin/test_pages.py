"""Every page of the staff admin: reachable by staff only, read-only, without secrets and without counting."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from projects.models import Event
from relay_project.db.ids import MAX_ID, id_floor
from relay_project.web.staff import Happened, span, subject_of
from sending.models import Attempt, AttemptRecipient, Content, InboundMail, Recipient, Send
from tests.admin.secret import SECRET
from webhooks.models import WebhookDelivery

OURS = ("relay_project", "accounts", "projects", "queues", "ips", "sending", "webhooks")
# Django's admin takes no composite keys; what such a table has to say stands on the page of its parent.
MODELS = [m for app in OURS for m in apps.get_app_config(app).get_models() if len(m._meta.pk_fields) == 1]
PARTITIONED = (Send, Recipient, Content, Attempt, AttemptRecipient, InboundMail, Event, WebhookDelivery)


def name(model: type[Model]) -> str:
    return f"{model._meta.app_label}_{model._meta.model_name}"


def list_url(model: type[Model]) -> str:
    return reverse(f"admin:{name(model)}_changelist")


def row_url(row: Model, page: str = "change") -> str:
    return reverse(f"admin:{name(type(row))}_{page}", args=[row.pk])


@pytest.mark.parametrize("model", MODELS, ids=name)
def test_every_model_has_a_list_and_a_page_that_show_no_secret(
    model: type[Model], staff_client: Client, world: dict[type[Model], Model]
) -> None:
    """Lesson S9: keys, hashes and bodies reach no page, not even staff's."""
    for url in (list_url(model), row_url(world[model])):
        answer = staff_client.get(url)
        assert answer.status_code == 200
        assert SECRET not in answer.content.decode()


@pytest.mark.parametrize("model", MODELS, ids=name)
def test_nothing_is_added_edited_or_deleted_by_hand(
    model: type[Model], staff_client: Client, world: dict[type[Model], Model]
) -> None:
    row = world[model]
    assert staff_client.get(reverse(f"admin:{name(model)}_add")).status_code == 403
    assert staff_client.post(row_url(row), {"name": "changed"}).status_code == 403
    assert staff_client.post(row_url(row, "delete"), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("model", MODELS, ids=name)
def test_no_list_counts_rows(model: type[Model], staff_client: Client, world: dict[type[Model], Model]) -> None:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        staff_client.get(list_url(model))
    assert [query["sql"] for query in queries if "COUNT(" in query["sql"].upper()] == []


@pytest.mark.parametrize("model", PARTITIONED, ids=name)
def test_lists_of_partitioned_tables_carry_a_range_of_ids(
    model: type[Model], staff_client: Client, world: dict[type[Model], Model]
) -> None:
    assert isinstance(admin.site._registry[model], Happened)
    for query in ("", "?q=no-such-word", "?q=12345", "?when=168", "?when=2026-11-22", "?when=nonsense"):
        with CaptureQueriesContext(connection) as queries:
            assert staff_client.get(list_url(model) + query).status_code == 200
        key = f'"{model._meta.db_table}"."{model._meta.pk.column}"'
        listed = [q["sql"] for q in queries if f'FROM "{model._meta.db_table}" ' in q["sql"] and "ORDER BY" in q["sql"]]
        assert listed or query == "?q=no-such-word"  # without words to look in nothing is asked
        for sql in listed:
            assert f"{key} >=" in sql or f"{key} =" in sql, sql


def test_a_send_is_found_by_id_uuid_and_address_whatever_time_is_chosen(
    staff_client: Client, world: dict[type[Model], Model]
) -> None:
    send: Any = world[Send]
    for term in (str(send.pk), str(send.uuid)):
        assert "Your order" in staff_client.get(list_url(Send), {"q": term, "when": "2020-01-02"}).content.decode()
        assert "Ann@example.net" in staff_client.get(list_url(Recipient), {"q": term, "when": "1"}).content.decode()
    assert "Your order" in staff_client.get(list_url(Send), {"q": "hello@shop.example"}).content.decode()
    assert "Ann@example.net" in staff_client.get(list_url(Recipient), {"q": "Ann@example.net"}).content.decode()
    assert "Your order" not in staff_client.get(list_url(Send), {"q": "hello"}).content.decode()


def test_a_send_tells_its_journey_and_an_attempt_its_conversation(
    staff_client: Client, world: dict[type[Model], Model]
) -> None:
    send = staff_client.get(row_url(world[Send])).content.decode()
    assert "Ann@example.net" in send
    assert "mx.example.net" in send
    attempt = staff_client.get(row_url(world[Attempt])).content.decode()
    assert "RCPT TO:&lt;ann@example.net&gt;" in attempt
    assert "4.2.1 &lt;b&gt;Busy&lt;/b&gt;" in attempt
    assert "<b>Busy</b>" not in attempt


def test_a_row_whose_project_is_gone_is_still_listed_and_shown(
    staff_client: Client, world: dict[type[Model], Model]
) -> None:
    send: Any = world[Send]
    Send.objects.filter(pk=send.pk, pk__gte=send.pk).update(project_id=999)
    assert "Your order" in staff_client.get(list_url(Send)).content.decode()
    assert staff_client.get(row_url(send)).status_code == 200


def test_a_stranger_signs_in_first_and_a_member_is_refused(bob: User) -> None:
    page = reverse("admin:sending_send_changelist")
    sent_to = Client().get(page, follow=True)
    assert sent_to.redirect_chain[-1][0].startswith("/sign-in?next=")
    client = Client()
    client.force_login(bob)
    assert client.get(page, follow=True).status_code == 403


def test_only_the_admin_may_evaluate_code(staff_client: Client, world: dict[type[Model], Model]) -> None:
    policy = staff_client.get(reverse("admin:index")).headers["Content-Security-Policy"]
    assert "script-src 'self' 'unsafe-eval'" in policy
    assert "frame-ancestors 'self'" in policy
    outside = Client().get("/sign-in").headers["Content-Security-Policy"]
    assert "unsafe-eval" not in outside
    assert "unsafe-inline" not in outside


def test_the_overview_shows_what_waits_what_happened_who_sends_and_health(
    staff_client: Client, world: dict[type[Model], Model]
) -> None:
    page = staff_client.get(reverse("admin:index"))
    text = page.content.decode()
    assert [(q.name, q.held, q.due) for q in page.context["queues"]] == [("transactional", 1, 0)]
    assert {o.status: o.number for o in page.context["outcomes"]}["deferred"] == 1
    assert "192.0.2.7" in text
    assert "mx1.relay.test" in text
    assert "421 4.7.0 Slow down" in text
    assert {result.name for result in page.context["health"]} >= {"database", "migrations", "partitions", "senders"}


def test_the_menu_leads_to_every_model(staff_client: Client, world: dict[type[Model], Model]) -> None:
    text = staff_client.get(reverse("admin:index")).content.decode()
    assert [model for model in MODELS if list_url(model) not in text] == []


def test_spans_and_subjects_of_nonsense_are_harmless() -> None:
    now = timezone.now()
    last_day = (id_floor(now - timedelta(hours=24)), MAX_ID)
    assert span("nonsense", now) == span("24", now) == span("9999-99-99", now) == last_day
    midnights = [id_floor(datetime(2026, 11, day, tzinfo=UTC)) for day in (22, 23)]
    assert span("2026-11-22", now) == tuple(midnights)
    assert [subject_of(term) for term in ("", "0", "9" * 30, "0" * 19 + "1" * 5000, "٣", "not-a-uuid", "17")] == [
        None,
        None,
        None,
        None,
        None,
        None,
        17,
    ]


def test_an_empty_list_asks_nobody_to_make_rows_and_times_are_plain(
    staff_client: Client, world: dict[type[Model], Model]
) -> None:
    empty = staff_client.get("/admin/sending/suppression/?q=nobody@example.com").content.decode()
    assert "No row is within this search" in empty
    assert "Create a new item" not in empty
    people = staff_client.get("/admin/accounts/user/").content.decode()
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", people)
    assert ".m.<" not in people
