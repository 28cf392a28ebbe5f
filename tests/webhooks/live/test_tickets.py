"""webhooks.live.tickets and tokens: who opens a stream, and what ends it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client

from projects.api_keys import create_key
from projects.models import Membership, Project
from relay_project.web.errors import ApiError
from tests.webhooks.live.test_asked import asked
from webhooks.live.frames import Ending
from webhooks.live.tickets import admit, standing

pytestmark = pytest.mark.django_db


def now() -> datetime:
    return datetime.now(UTC)


def signed_in(user: Any) -> Client:
    client = Client(headers={"Origin": "http://127.0.0.1:8000"})
    client.force_login(user)
    return client


def by_session(client: Client, project: Any) -> Any:
    key = client.cookies["relay_session"].value
    return asked(f"project_id={project.pk}", authorization="", cookie=f"relay_session={key}")


def by_token(client: Client, project: Any) -> Any:
    answer = client.post("/api/console/live/token", headers={"X-Project-ID": str(project.pk)})
    assert answer.status_code == 200, answer.content
    return asked(f"token={answer.json()['token']}", authorization="")


def refused(request: Any, at: datetime | None = None) -> int:
    with pytest.raises(ApiError) as error:
        admit(request, at or now())
    return error.value.status


def ended(ticket: Any) -> int:
    ending = standing([ticket], now())[ticket]
    assert isinstance(ending, Ending)
    return ending.code


def test_a_key_opens_a_stream_of_what_it_may_read_and_its_end_is_the_streams(project: Any):
    key, token = create_key(project, "k", ["domains.read"])
    request = asked(authorization=f"Bearer {token}")
    ticket, scopes = admit(request, now())
    assert (ticket.project_id, scopes) == (project.pk, {"domains.read"})
    assert refused(replace(request, kinds=frozenset({"send.queued"}))) == 403
    assert refused(replace(request, authorization="Bearer " + "0" * 32)) == 403
    assert refused(replace(request, authorization="Basic x")) == 403
    key.scopes = []
    key.save()
    assert standing([ticket], now())[ticket] == frozenset()
    key.is_enabled = False
    key.save()
    assert ended(ticket) == 4401
    key.delete()
    assert ended(ticket) == 4401


def test_a_session_opens_a_stream_and_signing_out_or_another_password_ends_it(alice: Any, project: Any):
    client = signed_in(alice)
    ticket, scopes = admit(by_session(client, project), now())
    page, _ = admit(by_token(client, project), now())
    assert "sends.read" in scopes
    assert ticket.session_key == page.session_key
    alice.set_password("another one, quite long")
    alice.save()
    assert (ended(ticket), ended(page)) == (4401, 4401)
    client = signed_in(alice)
    ticket, _ = admit(by_session(client, project), now())
    page, _ = admit(by_token(client, project), now())
    Session.objects.all().delete()
    assert (ended(ticket), ended(page)) == (4401, 4401)
    assert refused(asked(authorization="", cookie="relay_session=made-up")) == 401
    assert refused(asked(authorization="")) == 401


def test_strangers_and_those_who_were_switched_off_see_nothing(alice: Any, bob: Any, charlie: Any, project: Any):
    assert refused(by_session(signed_in(charlie), project)) == 403
    ticket, _ = admit(by_session(signed_in(bob), project), now())
    Membership.objects.filter(user=bob).delete()
    assert ended(ticket) == 4403
    ticket, _ = admit(by_session(signed_in(alice), project), now())
    Project.objects.filter(pk=project.pk).update(suspended_at=now())
    assert ended(ticket) == 4403
    Project.objects.filter(pk=project.pk).update(suspended_at=None, archived_at=now())
    assert ended(ticket) == 4403
    alice.is_active = False
    alice.save()
    assert ended(ticket) == 4401


def test_a_pages_token_is_of_one_project_for_five_minutes_and_opens_nothing_else(alice: Any, project: Any, api: Any):
    request = by_token(signed_in(alice), project)
    assert admit(request, now())[0].project_id == project.pk
    assert refused(request, now() + timedelta(minutes=6)) == 401
    for wrong in (request.token[:-2], "", "x" * 5000, "é", "gAAAA"):
        assert refused(replace(request, token=wrong)) == 401
    status, _ = api.get("/sends", headers={"Authorization": f"Bearer {request.token}"})
    assert status == 403


def test_a_keys_token_shows_what_the_key_may_see_then(project: Any, keyed: Any, settings: Any):
    settings.LIVE_URL = "http://127.0.0.1:8001"
    status, body = keyed("sends.read").post("/live/token")
    assert (status, body["websocket_url"]) == (200, "ws://127.0.0.1:8001/api/console/live")
    ticket, scopes = admit(asked(f"token={body['token']}", authorization=""), now())
    assert (ticket.user_id, scopes) == (None, {"sends.read"})
    assert keyed("domains.read").post("/live/token")[0] == 403
