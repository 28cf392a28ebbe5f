"""What a trial needs from within the product, in processes with a trial's settings: load, impatience, and the ledger.

Each prints lines of JSON. The load says what was accepted only after accept_many() has returned; a batch that failed is
in doubt (its commit may have gone through) and its numbers are not used again.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import DatabaseError, InterfaceError, connection

from projects.event_registry import REGISTRY
from projects.models import Project
from relay_project.bench.letters import letter
from relay_project.bench.stage import make_stage, take
from sending.backlog.ledger import read_ledger
from sending.deliver.giveback import LOST_TEXT
from sending.models import Send
from sending.retry import RetryRefused, retry
from webhooks.mailbox.manage import MailboxChange, create_mailbox, create_token
from webhooks.models import Mailbox, TokenKind, Webhook
from webhooks.subscriptions import create_webhook

BODY_BYTES = 1500
PAUSE_SECONDS = 0.5  # after a failed batch
HURRY_ROWS = 50
ABOUT_MAIL = [kind.value for kind, described in REGISTRY.items() if described.subject == "send"]
NUMBER = r"([0-9]+)@"


def say(**record: Any) -> None:
    """One line for the trial."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def prepare() -> None:
    """Migrate and set the stage."""
    say(project=make_stage().pk)


def load(project_id: int, begin: int, messages: int, batch: int, pace: float) -> None:
    """Accept `messages` numbered from `begin`, `pace` a second, and say which."""
    project: Project | None = None
    number, began = begin, time.monotonic()
    while number < begin + messages:
        time.sleep(max(began + (number - begin) / pace - time.monotonic(), 0))
        span = [number, min(number + batch, begin + messages)]
        requests = [letter(each, BODY_BYTES) for each in range(*span)]
        number = span[1]
        try:
            project = project or Project.objects.get(pk=project_id)
            take(project, requests)
        except (DatabaseError, InterfaceError, OSError) as error:
            say(doubtful=span, error=type(error).__name__)
            connection.close()
            time.sleep(PAUSE_SECONDS)
        else:
            say(accepted=span)


def hurry(seconds: float) -> None:
    """Press "try now" on mail that is in flight, again and again."""
    pressed, give_up = 0, time.monotonic() + seconds
    while time.monotonic() < give_up:
        for send in _in_flight():
            try:
                retry(send, datetime.now(UTC))
            except RetryRefused:
                continue
            pressed += 1
        time.sleep(0.02)
    say(pressed=pressed)


def _in_flight() -> list[Send]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT send_id FROM sending_waiting WHERE attempt_id IS NOT NULL LIMIT %s", [HURRY_ROWS]
        )
        ids = [row[0] for row in cursor.fetchall()]
    return list(Send.objects.filter(pk__in=ids))


def subscribe(project_id: int, url: str) -> None:
    """A webhook that is told of all that happens to a mail."""
    webhook, secret = create_webhook(Project.objects.get(pk=project_id), url, ABOUT_MAIL)
    say(id=webhook.pk, secret=secret)


def open_mailbox(project_id: int, name: str) -> None:
    """A mailbox that subscribes to the same, with a token for each side."""
    mailbox = create_mailbox(Project.objects.get(pk=project_id), name, MailboxChange(events=ABOUT_MAIL))
    tokens = {kind.value: create_token(mailbox, kind, "chaos")[1] for kind in TokenKind}
    say(id=mailbox.pk, **tokens)


def mailbox_events(mailbox_id: int) -> None:
    """What a mailbox was to be told."""
    mailbox = Mailbox.objects.get(pk=mailbox_id)
    say(events=_events_of(mailbox.project_id, mailbox.events))


def deliveries(webhook_id: int) -> None:
    """What a webhook was to be told, and what the database says of it."""
    webhook = Webhook.objects.get(pk=webhook_id)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT event_id::text, encode(sha256(convert_to(request_body, 'UTF8')), 'hex'), status, try_count
                 FROM webhooks_webhookdelivery WHERE webhook_id = %s""",
            [webhook_id],
        )
        rows = cursor.fetchall()
    say(events=_events_of(webhook.project_id, webhook.events), deliveries=rows)


def _events_of(project_id: int, kinds: Sequence[str]) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id::text FROM projects_event WHERE project_id = %s AND kind = ANY(%s)", [project_id, list(kinds)]
        )
        return [event_id for (event_id,) in cursor.fetchall()]


def report() -> None:
    """What the database says at the end."""
    ledger = read_ledger()
    say(
        silent=ledger.silent,
        stray=ledger.stray,
        waiting=_count("SELECT count(*) FROM sending_waiting"),
        states=_states(),
        lost_attempts=_lost_attempts(),
        unsequenced=_count("SELECT count(*) FROM projects_eventoutbox"),
        events=_count("SELECT count(*) FROM projects_event"),
        fed=_count("SELECT count(DISTINCT event_id) FROM projects_feedposition"),
    )


def _states() -> dict[str, str]:
    """number → the recipient's status."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT substring(address from %s), status FROM sending_recipient", [NUMBER])
        return {row[0]: row[1] for row in cursor.fetchall()}


def _lost_attempts() -> dict[str, int]:
    """number → attempts whose result was not known when they were freed, told by their events: a late result mends the row."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT substring(r.address from %s) FROM projects_event e
                 JOIN sending_recipient r ON r.id = (e.payload->>'recipient_id')::bigint
                WHERE e.payload->>'smtp_message' LIKE %s""",
            [NUMBER, f"{LOST_TEXT}%"],
        )
        return dict(Counter(row[0] for row in cursor.fetchall()))


def _count(statement: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.fetchone()[0])
