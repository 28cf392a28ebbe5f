"""`POST /sends/check`: what a mail would meet, and nothing written."""

from collections.abc import Sequence
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from projects.models import Domain, Event
from relay_project.net.resolver import ResolverFailure
from sending.models import Content, Send, Suppression, Waiting
from sending.preflight import dns
from tests.sending.api.conftest import Api, mail

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(questions: Sequence[Any], nameservers: Any, timeout: float) -> list[ResolverFailure]:
        return [ResolverFailure(name, "no nameserver answered", 1) for name, _ in questions]

    monkeypatch.setattr(dns, "look_up_all", fail)


def levels(answer: dict[str, Any]) -> dict[str, str]:
    return {finding["check"]: finding["level"] for finding in answer["findings"]}


def check(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.post("/sends/check", mail(**fields))
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_good_mail_would_be_accepted_and_nothing_is_written(api: Api) -> None:
    with CaptureQueriesContext(connection) as queries:
        answer = check(api)
    assert answer["accepted"]
    assert answer["size_bytes"] > 100
    assert levels(answer).items() >= {"domain": "ok", "suppression": "ok", "subject": "ok", "links": "ok"}.items()
    assert not any("sending_" in q["sql"] and q["sql"].lstrip().upper().startswith("INSERT") for q in queries)
    assert not any(model.objects.exists() for model in (Send, Content, Waiting))
    assert not Event.objects.exclude(kind="api_key.created").exists()


def test_shape_is_listed_and_not_thrown(api: Api) -> None:
    answer = check(api, to="nobody", body_text=...)
    assert (answer["accepted"], answer["worst"], answer["size_bytes"]) == (False, "error", None)
    assert {finding["field"] for finding in answer["findings"]} == {"to", "body_html", "body_text"}


def test_all_rules_are_listed_at_once(api: Api) -> None:
    answer = check(api, send_after=2_000_000_000_0, **{"from": "a@bank.example"})
    messages = " ".join(finding["message"] for finding in answer["findings"] if finding["level"] == "error")
    assert not answer["accepted"]
    assert "Domain bank.example is not registered" in messages
    assert "30 days" in messages


def test_suspended_domain_is_an_error(api: Api) -> None:
    Domain.objects.update(status="suspended")
    answer = check(api)
    assert (answer["accepted"], levels(answer)["domain"]) == (False, "error")


def test_suppressed_recipient_is_told(api: Api) -> None:
    Suppression.objects.create(project=api.project, email="dora@example.test", reason="bounce")
    answer = check(api)
    told = [finding for finding in answer["findings"] if finding["check"] == "suppression"]
    assert (answer["accepted"], told[0]["level"], told[0]["field"]) == (True, "info", "to")
    assert "dora@example.test" in told[0]["message"]


def test_file_that_is_no_base64_is_a_finding(api: Api) -> None:
    answer = check(api, attachments=[{"content": "%%%"}])
    assert (answer["accepted"], answer["findings"][0]["field"]) == (False, "attachments")


def test_scope_and_json_are_asked_for(keyed: Any, api: Api) -> None:
    assert keyed("sends.read").post("/sends/check", mail()).status_code == 403
    assert api.post("/sends/check", b"[").status_code == 400
    assert api.get("/sends/check").status_code == 405
