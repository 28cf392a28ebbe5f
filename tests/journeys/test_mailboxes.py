"""Mailboxes while everything is killed: what was answered with 202 is received, whatever died meanwhile."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from projects.models import Project
from relay_project.bench.process import family
from relay_project.chaos.arena import hurt
from relay_project.chaos.mailbox import NAME, Depositor, call
from tests.journeys.conftest import eventually
from tests.test_run_web import Web, running
from webhooks.mailbox.manage import MailboxChange, create_mailbox, create_token
from webhooks.models.mailbox import TokenKind

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.journey]

KILLS = 3
ENDED = 2  # of the server's sessions, all at once
SECONDS = 1.0  # between misfortunes


def everything(port: int, token: str) -> Iterator[str]:
    """Keys of what is received until nothing comes any more; acknowledgements may be lost, and are said again."""
    while (found := call(port, token, "/receive?limit=1000&lease=60")) is None or found["items"]:
        ids = [item["id"] for item in (found or {"items": []})["items"]]
        yield from (item["key"] for item in (found or {"items": []})["items"])
        while ids and call(port, token, "/ack", {"ids": ids}) is None:
            time.sleep(0.05)


def test_nothing_that_was_answered_is_lost_or_comes_twice_whatever_is_killed(tmp_path: Path) -> None:
    """The trial `mailbox` does the same for longer, to the database as well, with events among the deposits."""
    mailbox = create_mailbox(Project.objects.create(name="Shop"), NAME, MailboxChange())
    deposit, receive = (create_token(mailbox, kind, "")[1] for kind in (TokenKind.DEPOSIT, TokenKind.RECEIVE))
    with running(tmp_path) as web:
        depositors = [Depositor(web.port, deposit, f"d{number}") for number in range(4)]
        for each in depositors:
            each.start()
        try:
            for act in [kill_workers] * KILLS + [end_sessions] * ENDED:
                time.sleep(SECONDS)
                act(web)
            before = sum(len(each.stored) for each in depositors)
            eventually(lambda: sum(len(each.stored) for each in depositors) > before)
        finally:
            for each in depositors:
                each.stop()
            for each in depositors:
                each.join(30)
        stored = {key for each in depositors for key in each.stored.values()}
        assert sum(each.failed for each in depositors), "nobody noticed"
        came = list(everything(web.port, receive))
    assert stored - set(came) == set(), "what was answered is received"
    assert len(came) == len(set(came)), "each once, since a deposit that is tried again is the same item"
    assert len(set(came) - stored) <= len(depositors), "and of each at most the one that was not answered"


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
