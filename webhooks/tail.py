"""A project's events as lines for a terminal: what `manage.py tail` prints."""

import json
from collections.abc import Collection, Iterator
from typing import Any

import psycopg
from django.db import connection

from projects.events import FEED_CHANNEL
from relay_project.db.session import direct_parameters
from relay_project.mail.text import clean
from webhooks.feed import FeedEvent, read_feed
from webhooks.live.reading import read_start
from webhooks.payload import bodies

PAGE = 200  # events a reading
LOOK_SECONDS = 1.0  # a notification may be lost with its connection
ADDRESS_WIDTH = 32
KIND_WIDTH = 26
MAX_REASON = 200  # characters


def follow(project_id: int, after: int | None, kinds: Collection[str] | None, *, in_full: bool) -> Iterator[str]:
    """The line of each event, as they happen; without end."""
    with psycopg.connect(**direct_parameters("relay tail"), autocommit=True) as listener:
        listener.execute(f"LISTEN {FEED_CHANNEL}")
        position = read_start(project_id, after).position
        while True:
            with connection.cursor() as cursor:
                reading = read_feed(cursor, position, PAGE, project_id=project_id, kinds=kinds)
                if in_full and reading.events:
                    yield from (json.dumps(body) for body in bodies(reading.events))
                else:
                    yield from map(line_of, reading.events)
            position = reading.last
            if not reading.is_full:
                list(listener.notifies(timeout=LOOK_SECONDS, stop_after=1))


def line_of(event: FeedEvent) -> str:
    """Id, time, kind, subject, address and reason."""
    subject = f"{event.subject_kind} {event.subject_id}"
    address, reason = address_of(event.payload), reason_of(event.payload)
    words = [
        str(event.id),
        f"{event.created_at:%Y-%m-%d %H:%M:%S.%f}"[:-3],
        event.kind.ljust(KIND_WIDTH),
        subject.ljust(22),
        address.ljust(ADDRESS_WIDTH) if reason else address,
        reason,
    ]
    return "  ".join(word for word in words if word).rstrip()


def address_of(payload: dict[str, Any]) -> str:
    """The address, domain or name that an event is about."""
    for name in ("address", "email", "recipient"):
        if isinstance(payload.get(name), str):
            return clean(payload[name], 254)
    for name, key in (("domain", "domain"), ("project", "name"), ("api_key", "name"), ("webhook", "url")):
        inside = payload.get(name)
        if isinstance(inside, dict) and isinstance(inside.get(key), str):
            return clean(inside[key], 254)
    return ""


def reason_of(payload: dict[str, Any]) -> str:
    """Why, in a remote's words or ours; empty where nothing is said."""
    if payload.get("smtp_message"):
        reply = (payload.get("smtp_code") or "", payload.get("smtp_enhanced_code") or "", payload["smtp_message"])
        return _one_line(" ".join(str(word) for word in reply if word))
    for name in ("complaint", "bounce", "delay"):
        inside = payload.get(name)
        if isinstance(inside, dict) and inside.get("text"):
            return _one_line(str(inside["text"]))
    for name in ("reason", "description", "new_status", "new_state", "limit"):
        if payload.get(name):
            return _one_line(str(payload[name]))
    return ""


def _one_line(text: str) -> str:
    return " ".join(clean(text, MAX_REASON).split())
