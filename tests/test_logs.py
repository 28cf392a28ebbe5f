"""Logs of everyday work, at the most talkative level, hold no secret and no mail (lesson S9)."""

import json
import logging
from typing import Any

import pytest
import structlog
from django.conf import settings
from django.test import Client

from projects.api_keys import create_key
from projects.dkim_keys import create_dkim_key
from projects.models import Domain, Project
from projects.scopes import SCOPES
from projects.setup import ensure_instance
from queues.setup import ensure_queues
from relay_project.logs import configure
from sending.content import raw_message
from sending.models import Send

BODY = "the body that only the recipient reads"
SUBJECT = "the subject that only the recipient reads"
RECIPIENT = "dora.the.recipient@example.test"


@pytest.fixture
def shop(db: None) -> Domain:
    """A domain that may send."""
    ensure_queues()
    ensure_instance()
    project = Project.objects.create(name="Shop", send_type="transactional")
    domain = Domain.objects.create(project=project, domain="shop.example.test", status="active")
    create_dkim_key(domain, "s1")
    return domain


def everything(caplog: pytest.LogCaptureFixture) -> str:
    """All records with whatever hangs on them, as any formatter could tell it."""
    return "\n".join(f"{record.getMessage()} {vars(record)} {record.exc_text or ''}" for record in caplog.records)


def test_accepting_and_signing_a_mail_logs_neither_key_nor_body_nor_recipient(
    shop: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    """Lesson S9: mail bodies stood in a debug log, and keys in an error's."""
    token = create_key(shop.project, "Shop", SCOPES, ["127.0.0.1"])[1]
    mail = {"from": "shop@shop.example.test", "to": RECIPIENT, "subject": SUBJECT, "body_text": BODY}
    with caplog.at_level(logging.DEBUG):
        answers = [
            post(token, mail),
            post(token, {**mail, "headers": {"X-Bad": BODY + "\r\n"}}),
            post(token + "0", mail),
        ]
        raw = raw_message(Send.objects.get())
    assert [answer.status_code // 100 for answer in answers] == [2, 4, 4]
    assert raw is not None
    assert BODY.encode() in raw
    told = everything(caplog)
    assert "/api/console/sends" in told  # what is looked at is there
    pem = shop.dkim_keys.get().private_key.splitlines()[1]
    assert [secret for secret in (BODY, SUBJECT, RECIPIENT, token, pem, *settings.APP_SECRETS) if secret in told] == []


def post(token: str, mail: dict[str, Any]) -> Any:
    return Client().post(
        "/api/console/sends",
        json.dumps(mail),
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )


def test_a_crash_is_logged_with_its_traceback_and_without_the_request(
    shop: Domain, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError("the defect")

    token = create_key(shop.project, "Shop", SCOPES, ["127.0.0.1"])[1]
    monkeypatch.setattr("sending.api.submit.accept", crash)
    answer = post(token, {"from": "shop@shop.example.test", "to": RECIPIENT, "subject": SUBJECT, "body_text": BODY})
    assert answer.status_code == 500
    assert BODY not in answer.content.decode()
    told = everything(caplog)
    assert "the defect" in told
    assert [secret for secret in (BODY, SUBJECT, token) if secret in told] == []


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Any:
    """`written(human)` sets logging up and gives what reaches standard error from then on."""

    def begin(human: bool) -> Any:
        configure({"level": "DEBUG", "human": human})
        return lambda: capsys.readouterr().err

    yield begin
    configure(settings.LOGGING)


def test_a_crash_on_a_secret_path_is_logged_by_its_route(
    db: None, monkeypatch: pytest.MonkeyPatch, written: Any
) -> None:
    """Lesson S9: a database that fails while a one-time link is used must not write the link into the log."""

    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError("the defect")

    monkeypatch.setattr("accounts.console.is_usable", crash)
    read = written(human=False)
    answer = Client(raise_request_exception=False).get("/sign-in/link/a-token-that-still-works")
    told = read()
    assert answer.status_code == 500
    assert "the defect" in told
    assert "Internal Server Error: /sign-in/link/<str:token>" in told
    assert "a-token-that-still-works" not in told


def test_what_strangers_write_neither_begins_a_line_nor_commands_the_terminal(written: Any) -> None:
    read = written(human=True)
    log = structlog.get_logger("tests")
    log.warning("sign_in_failed", reason="\x1b[2Jcleared\x9b", name="a\nfake line")
    logging.getLogger("tests").warning("bad host %s", "x\nfake line \x1b[2J")
    told = read()
    assert "\x1b[2J" not in told
    assert "\x9b" not in told
    assert [line for line in told.splitlines() if line.startswith("fake")] == []
    assert told.count("\n") == 2


@pytest.mark.parametrize(
    "value", ["plain", "ümlaut \u2028 \x9b", "\ud800", 2**70, b"\xff", {"a": (1, None)}, float("inf")]
)
def test_a_line_of_json_is_one_line_of_ascii_whatever_it_tells(written: Any, value: Any) -> None:
    read = written(human=False)
    structlog.get_logger("any").info("told", value=value)
    [line] = read().splitlines()
    assert line.isascii()
    assert {"event", "level", "logger", "timestamp", "value"} == set(json.loads(line))
