"""Two requests at the same moment: committed for real, each over a connection of its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from django.test import Client

from sending.models import Recipient, Send, Waiting
from tests.sending.api.conftest import mail

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(api, count: int, call: Callable[[Client], Any]) -> list[tuple[int, Any]]:
    """(status, body) of the same call made by several clients at the same time."""

    def one(_: int) -> tuple[int, Any]:
        try:
            response = call(Client(headers={"Authorization": f"Bearer {api.token}"}))
            return response.status_code, response.json()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_one_key_never_makes_two_sends(api):
    """Lesson C12."""
    answers = at_once(
        api,
        4,
        lambda client: client.post(
            "/api/console/sends", mail(), content_type="application/json", headers={"Idempotency-Key": "order-1"}
        ),
    )
    assert {status for status, _ in answers} == {200}
    assert len({body["id"] for _, body in answers}) == 1
    assert (Send.objects.count(), Waiting.objects.count()) == (1, 1)


def test_a_recipient_is_retried_once(api):
    send_id = api.send(to=["a@example.test", "b@example.test"])
    Waiting.objects.all().delete()
    Recipient.objects.all().update(status="failed", try_count=7)
    answers = at_once(
        api, 4, lambda client: client.post(f"/api/console/sends/{send_id}/retry", {}, content_type="application/json")
    )
    assert sorted(body.get("retried_recipients", -1) for _, body in answers) in (
        [0, 0, 0, 2],
        [-1, 0, 0, 2],  # one that had looked before the first committed finds nothing failed any more
        [-1, -1, 0, 2],
        [-1, -1, -1, 2],
    )
    assert {status for status, _ in answers} <= {200, 400}
    assert Waiting.objects.count() == 2
