"""A scheduled send on its page: its time, moving it, taking it back; tags, metadata and tests as people see them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client

from projects.models import Event
from sending.models import Recipient, Send, SendTag, Signature, Waiting
from tests.browser.seed import Seeded, seed

pytestmark = pytest.mark.django_db


@pytest.fixture
def rows(db: None) -> Seeded:
    return seed(datetime.now(UTC), sends=3, days=2)


@pytest.fixture
def client(rows: Seeded) -> Client:
    client = Client()
    client.force_login(rows.alice, backend="accounts.sign_in.PasswordBackend")
    return client


@pytest.fixture
def scheduled(rows: Seeded) -> Send:
    """The seed's waiting send, as if it were scheduled and had not been tried."""
    later = (datetime.now(UTC) + timedelta(days=3)).replace(second=0, microsecond=0)
    Waiting.objects.filter(send_id=rows.send.pk).update(
        tries=0, lost=0, phase=1, due_at=later, since=later, attempt_id=None, sender_id=None, lease_until=None,
        held_site_id=None, lane=rows.send.queue_id, source_ip_id=None,
    )  # fmt: skip
    waiting = Waiting.objects.filter(send_id=rows.send.pk).values_list("recipient_id", flat=True)
    Recipient.objects.filter(send_id=rows.send.pk).exclude(pk__in=list(waiting)).update(
        status="suppressed", try_count=0
    )
    Recipient.objects.filter(pk__in=list(waiting)).update(status="queued", try_count=0)
    Signature.objects.filter(pk=rows.send.pk).delete()
    Send.objects.filter(pk=rows.send.pk).update(message_date=later, tags=["welcome", "a b"], metadata={"order": "17"})
    for tag in ("welcome", "a b"):
        SendTag.objects.create(project_id=rows.shop.pk, tag=tag, send_id=rows.send.pk)
    return Send.objects.get(pk=rows.send.pk)


def address(rows: Seeded, send: Send, what: str = "") -> str:
    return f"/console/{rows.shop.pk}/sends/{send.uuid}{what}"


def told(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


def test_page_shows_time_labels_and_both_forms(rows: Seeded, client: Client, scheduled: Send) -> None:
    text = client.get(address(rows, scheduled)).content.decode()
    assert "Move or cancel" in text
    assert f'value="{scheduled.message_date:%Y-%m-%dT%H:%M}"' in text
    assert "?tag=a%20b" in text
    assert "<dt>order</dt><dd>17</dd>" in text


def test_list_shows_when_it_leaves_and_finds_it_by_tag(rows: Seeded, client: Client, scheduled: Send) -> None:
    found = client.get(f"/console/{rows.shop.pk}/sends", {"tag": "a b"})
    assert [row.send.pk for row in found.context["rows"]] == [scheduled.pk]
    assert found.context["rows"][0].scheduled_for == scheduled.message_date
    assert not client.get(f"/console/{rows.shop.pk}/sends", {"tag": "nobody"}).context["rows"]


def test_time_is_moved(rows: Seeded, client: Client, scheduled: Send) -> None:
    at = (datetime.now(UTC) + timedelta(days=5)).replace(second=0, microsecond=0)
    response = client.post(address(rows, scheduled, "/move"), {"send_after": f"{at:%Y-%m-%dT%H:%M}"})
    assert response["Location"] == address(rows, scheduled)
    assert told(response) == [f"This send leaves at {at:%d %b %Y, %H:%M} UTC."]
    assert set(Waiting.objects.filter(send_id=scheduled.pk).values_list("due_at", flat=True)) == {at}


@pytest.mark.parametrize("value", ["", "soon", "9999-12-31T00:00", "0001-01-01T00:00"])
def test_time_that_cannot_be_is_told(rows: Seeded, client: Client, scheduled: Send, value: str) -> None:
    [said] = told(client.post(address(rows, scheduled, "/move"), {"send_after": value}))
    assert said.startswith("The time was not moved") or "leaves at" in said


def test_send_is_cancelled_with_its_reason(rows: Seeded, client: Client, scheduled: Send) -> None:
    number = Waiting.objects.filter(send_id=scheduled.pk).count()
    [said] = told(client.post(address(rows, scheduled, "/cancel"), {"reason": "wrong link\0"}))
    assert said.startswith(f"{number} recipient")
    event = Event.objects.filter(kind="send.recipient.cancelled").latest("pk")
    assert (event.payload["reason"], event.payload["tags"]) == ("wrong link", ["welcome", "a b"])
    assert told(client.post(address(rows, scheduled, "/cancel")))[-1].startswith(
        "Nothing of this send could be cancelled"
    )
    assert "Move or cancel" not in client.get(address(rows, scheduled)).content.decode()


def test_who_may_only_read_sees_no_form(rows: Seeded, scheduled: Send) -> None:
    client = Client()
    client.force_login(rows.bob, backend="accounts.sign_in.PasswordBackend")
    text = client.get(address(rows, scheduled)).content.decode()
    may_send = client.post(address(rows, scheduled, "/cancel")).status_code == 302
    assert ("Move or cancel" in text) is may_send


def test_test_mail_says_so(rows: Seeded, client: Client, scheduled: Send) -> None:
    Send.objects.filter(pk=scheduled.pk).update(is_test=True)
    assert "went to nobody" in client.get(address(rows, scheduled)).content.decode()
    assert '<span class="tag">test</span>' in client.get(f"/console/{rows.shop.pk}/sends").content.decode()
