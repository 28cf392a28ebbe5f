"""Trying again from a send's page: who may, what becomes of the rows, and what the person is told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client

from projects.models import Domain
from sending.console.retrying import RetryForm, failed_of
from sending.models import Phase, Recipient, Send, Waiting
from sending.retry import RetryRefused
from tests.browser.seed import Seeded, seed

pytestmark = pytest.mark.django_db


@pytest.fixture
def rows(db: None) -> Seeded:
    return seed(datetime.now(UTC), sends=3, days=2)


@pytest.fixture
def post(rows: Seeded) -> Any:
    """`post(send, "now" or "retry", data)` by Alice, or by `who` → the response."""

    def go(send: Send, what: str, data: Any = None, who: str = "alice", csrf: bool = False) -> Any:
        client = Client(enforce_csrf_checks=csrf)
        client.force_login(getattr(rows, who), backend="accounts.sign_in.PasswordBackend")
        return client.post(f"/console/{rows.shop.pk}/sends/{send.uuid}/{what}", data)

    return go


def told(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


def failed_ids(send: Send) -> list[int]:
    return list(Recipient.objects.filter(send_id=send.pk, status="failed").order_by("pk").values_list("pk", flat=True))


def test_what_waits_is_made_due(rows: Seeded, post: Any) -> None:
    response = post(rows.send, "now")
    assert response["Location"] == f"/console/{rows.shop.pk}/sends/{rows.send.uuid}"
    assert told(response) == ["What waited is due now. It leaves as soon as a sender has room."]
    row = Waiting.objects.get(send_id=rows.send.pk)
    assert row.phase == Phase.DUE
    assert row.due_at <= datetime.now(UTC)
    assert told(post(rows.send, "now")) == ["Nothing of this send waits for a later time any more."]


def test_the_chosen_recipients_wait_anew(rows: Seeded, post: Any) -> None:
    first, second = failed_ids(rows.given_up)
    assert told(post(rows.given_up, "retry", {"recipients": [second]})) == ["1 recipient will be tried again now."]
    assert Waiting.objects.get(send_id=rows.given_up.pk).recipient_id == second
    assert failed_ids(rows.given_up) == [first]
    # the other one has to wait until this one is through: the rule would only bring forward what waits
    response = post(rows.given_up, "retry", {"recipients": [first]})
    assert told(response) == ["No recipient of this send is left to retry."]
    assert failed_ids(rows.given_up) == [first]


def test_a_time_can_be_chosen(rows: Seeded, post: Any) -> None:
    at = (datetime.now(UTC) + timedelta(days=2)).replace(second=0, microsecond=0)
    data = {"recipients": failed_ids(rows.given_up), "not_before": f"{at:%Y-%m-%dT%H:%M}"}
    response = post(rows.given_up, "retry", data)
    assert told(response) == [f"2 recipients will be tried again at {at:%d %b %Y, %H:%M} UTC."]
    assert {(row.phase, row.due_at) for row in Waiting.objects.filter(send_id=rows.given_up.pk)} == {(Phase.LATER, at)}


@pytest.mark.parametrize(
    ("not_before", "said"),
    [
        ("2020-01-01T00:00", "This time is past"),
        ("0001-01-01T00:00", "This time is past"),
        ("9999-12-31T23:59", "At most 30 days ahead"),
        ("tomorrow", "This is not a date and time"),
        ("2026-02-30T00:00", "This is not a date and time"),
    ],
)
def test_a_time_that_cannot_be_is_said_at_its_field(rows: Seeded, post: Any, not_before: str, said: str) -> None:
    ids = failed_ids(rows.given_up)
    response = post(rows.given_up, "retry", {"recipients": ids[:1], "not_before": not_before})
    assert response.status_code == 400
    assert said in response.content.decode()
    assert response.content.decode().count(" checked") == 1  # what was chosen stays chosen
    assert failed_ids(rows.given_up) == ids


@pytest.mark.parametrize("recipients", [[], ["abc"], ["0"], ["99999999999999999999999"], ["-1"]])
def test_recipients_that_cannot_be_are_refused(rows: Seeded, post: Any, recipients: list[str]) -> None:
    assert post(rows.given_up, "retry", {"recipients": recipients}).status_code == 400
    assert len(failed_ids(rows.given_up)) == 2


def test_recipients_of_another_send_are_not_touched(rows: Seeded, post: Any) -> None:
    other = Recipient.objects.get(send_id=rows.send.pk, status="accepted")
    assert post(rows.given_up, "retry", {"recipients": [other.pk]}).status_code == 400
    other.refresh_from_db()
    assert other.status == "accepted"


def test_who_comes_second_is_told(rows: Seeded) -> None:
    """Two open the page, both choose: the form was right when it was read."""
    failed = failed_of(list(Recipient.objects.filter(send_id=rows.given_up.pk)))
    form = RetryForm(failed, {"recipients": [failed[0].pk]})
    assert form.is_valid()
    Recipient.objects.filter(pk=failed[0].pk).update(status="accepted")
    with pytest.raises(RetryRefused, match="No matching failed recipients"):
        form.revive(rows.given_up, datetime.now(UTC))


def test_a_suspended_domain_sends_nothing_again(rows: Seeded, post: Any) -> None:
    Domain.objects.filter(pk=rows.domain.pk).update(status="suspended")
    response = post(rows.given_up, "retry", {"recipients": failed_ids(rows.given_up)})
    assert told(response) == ["Domain shop.example is not allowed to send emails (status: suspended)."]
    assert not Waiting.objects.filter(send_id=rows.given_up.pk).exists()


def test_the_address_of_the_form_leads_back_to_the_page(rows: Seeded) -> None:
    client = Client()
    client.force_login(rows.alice, backend="accounts.sign_in.PasswordBackend")
    path = f"/console/{rows.shop.pk}/sends/{rows.given_up.uuid}"
    assert client.get(f"{path}/retry")["Location"] == path


def test_only_who_may_send_may_try_again(rows: Seeded, post: Any) -> None:
    for who, status in (("bob", 403), ("sam", 403), ("charlie", 404)):
        assert post(rows.send, "now", who=who).status_code == status
        assert post(rows.given_up, "retry", {"recipients": failed_ids(rows.given_up)}, who).status_code == status
    assert Waiting.objects.get(send_id=rows.send.pk).phase == Phase.LATER
    assert len(failed_ids(rows.given_up)) == 2


def test_without_the_token_of_our_form_nothing_happens(rows: Seeded, post: Any) -> None:
    assert post(rows.send, "now", csrf=True).status_code == 403
    assert Waiting.objects.get(send_id=rows.send.pk).phase == Phase.LATER


@pytest.mark.parametrize(("who", "is_offered"), [("alice", True), ("bob", False), ("sam", False)])
def test_the_buttons_are_there_for_who_may_use_them(rows: Seeded, who: str, is_offered: bool) -> None:
    client = Client()
    client.force_login(getattr(rows, who), backend="accounts.sign_in.PasswordBackend")
    for send, words in ((rows.send, b"Try now"), (rows.given_up, b"Retry what failed")):
        content = client.get(f"/console/{rows.shop.pk}/sends/{send.uuid}").content
        assert (words in content) is is_offered


def test_a_part_brings_the_states_in_the_head_along(rows: Seeded) -> None:
    """The chips stand outside of the part that refreshes itself, and would go stale."""
    client = Client()
    client.force_login(rows.alice, backend="accounts.sign_in.PasswordBackend")
    path = f"/console/{rows.shop.pk}/sends/{rows.send.uuid}"
    part = client.get(path, headers={"HX-Request": "true"}).content.decode()
    assert part.count('id="send-state" hx-swap-oob="true"') == 1
    whole = client.get(path).content.decode()
    assert whole.count('id="send-state"') == 1
    assert "hx-swap-oob" not in whole
