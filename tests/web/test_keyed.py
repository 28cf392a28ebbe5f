"""The short way of requests with a key: the same answers, and nothing of a browser's."""

import pytest
from django.test import Client

from relay_project.web import keyed

pytestmark = pytest.mark.django_db
PATHS = ("/api/console/sends", "/api/console/nothing", "/api/console/sends/1")


@pytest.fixture
def long_way(monkeypatch: pytest.MonkeyPatch):
    return lambda: monkeypatch.setattr(keyed, "PREFIXES", ("/nowhere/",))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["get", "post", "put", "options", "head"])
def test_both_ways_give_the_same_answer(path, method, long_way):
    def ask():
        response = getattr(Client(headers={"Authorization": "Bearer x"}), method)(path)
        return response.status_code, response.content, response["Content-Type"], response["Content-Length"]

    short = ask()
    long_way()
    assert ask() == short


def test_a_session_or_a_policy_is_nobodys_who_comes_with_a_key():
    response = Client(headers={"Authorization": "Bearer x"}).get("/api/console/sends")
    assert "Content-Security-Policy" not in response
    assert response["X-Content-Type-Options"] == "nosniff"
    assert not response.cookies


def test_without_a_key_everything_is_as_for_a_browser():
    assert "Content-Security-Policy" in Client().get("/api/console/sends")
    assert Client(headers={"Authorization": "Basic x"}).get("/sign-in").status_code == 200


def test_a_host_that_is_not_ours_is_refused(settings):
    settings.ALLOWED_HOSTS = ["relay.test"]
    response = Client(headers={"Authorization": "Bearer x", "Host": "evil.test"}).get("/api/console/sends")
    assert (response.status_code, response.json()["status"]) == (400, 400)
