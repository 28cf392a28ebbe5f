"""Mailboxes while everything is killed: what was answered with 202 is received, whatever died meanwhile."""

import contextlib
import http.client
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from projects.models import Project
from relay_project.bench.process import family
from relay_project.chaos.arena import hurt
from tests.journeys.conftest import eventually
from tests.test_run_web import Web, running
from webhooks.mailbox.manage import MailboxChange, create_mailbox, create_token
from webhooks.models.mailbox import TokenKind

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.journey]

KILLS = 3
ENDED = 2  # of the server's sessions, all at once
SECONDS = 1.0  # between misfortunes


class Depositor(threading.Thread):
    """Deposits one item after the other, each until it is answered with 202, as the docs say."""

    def __init__(self, port: int, token: str, name: str, is_over: threading.Event) -> None:
        super().__init__()
        self.port, self.token, self.called, self.is_over = port, token, name, is_over
        self.stored: dict[str, str] = {}  # key → id
        self.failed = 0

    def run(self) -> None:
        number = 0
        while not self.is_over.is_set():
            key = f"{self.called}-{number}"
            answer = call(self.port, self.token, "", {"payload": {"number": number}, "key": key})
            if answer is None:
                self.failed += 1
                time.sleep(0.05)
                continue
            self.stored[key] = answer["id"]
            number += 1


def call(port: int, token: str, what: str, body: object | None = None) -> dict | None:  # type: ignore[type-arg]
    """The answer, or None for whatever else became of it."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        client.request(
            "GET" if body is None else "POST", f"/v1/mailbox/orders{what}", body and json.dumps(body), headers
        )
        answer = client.getresponse()
        return dict(json.loads(answer.read())) if answer.status in (200, 202) else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        client.close()


def everything(port: int, token: str) -> Iterator[str]:
    """Keys of what is received until nothing comes any more; acknowledgements may be lost, and are said again."""
    while (found := call(port, token, "/receive?limit=1000&lease=60")) is None or found["items"]:
        ids = [item["id"] for item in (found or {"items": []})["items"]]
        yield from (item["key"] for item in (found or {"items": []})["items"])
        while ids and call(port, token, "/ack", {"ids": ids}) is None:
            time.sleep(0.05)


def test_nothing_that_was_answered_is_lost_or_comes_twice_whatever_is_killed(tmp_path: Path) -> None:
    mailbox = create_mailbox(Project.objects.create(name="Shop"), "orders", MailboxChange())
    deposit, receive = (create_token(mailbox, kind, "")[1] for kind in (TokenKind.DEPOSIT, TokenKind.RECEIVE))
    is_over = threading.Event()
    with running(tmp_path) as web:
        threading.Thread(target=drain, args=(web,), daemon=True).start()
        depositors = [Depositor(web.port, deposit, f"d{number}", is_over) for number in range(4)]
        for each in depositors:
            each.start()
        try:
            for act in [kill_workers] * KILLS + [end_sessions] * ENDED:
                time.sleep(SECONDS)
                act(web)
            before = sum(len(each.stored) for each in depositors)
            eventually(lambda: sum(len(each.stored) for each in depositors) > before)
        finally:
            is_over.set()
            for each in depositors:
                each.join(30)
        stored = {key: number for each in depositors for key, number in each.stored.items()}
        assert sum(each.failed for each in depositors), "nobody noticed"
        came = list(everything(web.port, receive))
    assert stored.keys() - set(came) == set(), "what was answered is received"
    assert len(came) == len(set(came)), "each once, since a deposit that is tried again is the same item"
    assert len(set(came) - stored.keys()) <= len(depositors), "and of each at most the one that was not answered"


def drain(web: Web) -> None:
    """Read its log, so that it does not wait for us."""
    assert web.process.stdout is not None
    with contextlib.suppress(ValueError):  # closed
        for _ in web.process.stdout:
            pass


def kill_workers(web: Web) -> None:
    for pid in family(web.process.pid)[1:]:
        hurt(pid, signal.SIGKILL)


def end_sessions(web: Web) -> None:
    """As when the server is restarted: every session of others ends, in mid-commit too."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE pid <> pg_backend_pid() AND datname = current_database()"""
        )
