"""Events of keys and limits: written with what they report, without secrets, and not for each refusal."""

import json
from datetime import UTC, datetime

import pytest

from projects.api_keys import KeyChange, create_key, delete_key, update_key
from projects.key_rotation import rotate_key
from projects.limit_events import forget_told, tell_of_limit
from projects.models import Event
from relay_project.db.rates import Window

pytestmark = pytest.mark.django_db
AT = 1_795_315_070


def told(prefix):
    rows = Event.objects.filter(kind__startswith=prefix).order_by("id")
    return [(event.kind, event.subject_kind, event.payload) for event in rows]


def test_the_life_of_a_key_is_told_without_its_secret(project):
    key, token = create_key(project, "CI", ["project.read"])
    rotate_key(key, 2, datetime.now(UTC))
    update_key(key, KeyChange(name="Build"))
    update_key(key, KeyChange(is_enabled=False))
    update_key(key, KeyChange(is_enabled=False))
    update_key(key, KeyChange(is_enabled=True))
    key.refresh_from_db()
    delete_key(key)
    events = told("api_key.")
    kinds = [kind.removeprefix("api_key.") for kind, _, _ in events]
    assert kinds == ["created", "rotated", "revoked", "revoked"]
    assert {subject for _, subject, _ in events} == {"api_key"}
    assert [payload.get("reason") for _, _, payload in events] == [None, None, "disabled", "deleted"]
    assert events[1][2]["former_until"] > AT
    text = json.dumps([payload for _, _, payload in events])
    assert token not in text
    assert key.key_hash not in text


def test_a_refused_key_is_not_told_of(api):
    before = told("api_key.created")
    assert api.post("/api-keys", {"name": "CI", "scopes": ["sends.send"]})[0] == 422
    assert told("api_key.created") == before


def test_a_limit_is_told_of_once_in_each_of_its_windows(project):
    forget_told()
    for at in (AT, AT + 1, AT + 3600, AT + 3601):
        tell_of_limit(project, "sends_per_hour", 10, Window.HOUR, at, at + 60)
    forget_told()  # as in another process
    tell_of_limit(project, "sends_per_hour", 10, Window.HOUR, AT + 2, AT + 60)
    tell_of_limit(project, "sends_per_day", 100, Window.DAY, AT, AT + 60)
    tell_of_limit(project, "sends_per_day", 100, Window.DAY, AT + 7200, AT + 60)
    limits = [(payload["limit"], payload["count"]) for _, _, payload in told("limit.reached")]
    assert limits == [("sends_per_hour", 10), ("sends_per_hour", 10), ("sends_per_day", 100)]


def test_refused_requests_are_told_of_once_an_hour(api, settings, project):
    forget_told()
    settings.REQUESTS_PER_MINUTE = settings.SESSION_REQUESTS_PER_MINUTE = 1
    statuses = [api.get("/project")[0] for _ in range(4)]
    assert statuses[0] == 200
    assert statuses.count(429) >= 2
    ((_, subject, payload),) = told("limit.reached")
    assert (subject, payload["count"]) == ("project", 1)
    assert payload["resets_at"] > AT
