"""Incidents: opened by what receivers say of a source IP, acknowledged and closed by staff, or by time (incident_upkeep).

One is open at most for each source IP, site and cause; what is seen again is counted on it. After it was closed the next
sighting opens another.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog
from django.conf import settings
from django.db import transaction
from django.db.backends.utils import CursorWrapper
from django.urls import reverse

from accounts import audit
from accounts.models import User
from ips.models import Incident
from projects.events import EventKind, NewEvent, emit
from projects.models import Project
from projects.notices import tell_staff
from relay_project.mail.classify import Cause

RELAY = "Relay"  # who acts where nobody does: an `actor_label`
MAX_REPLIES = 6  # different ones that an incident quotes
MAX_QUOTE = 500  # characters of each

# Replies are the same when they differ only in words with digits: queue ids, addresses, times.
_NUMBERS = re.compile(r"(?=\S{6})\S*\d\S*")
_UPSERT = """
INSERT INTO ips_incident (source_ip_id, site, cause, rule, attempt_count, opened_at, last_seen_at, last_reply,
                          replies, window_began_at, window_count, last_project_id, last_send_id, note)
SELECT s.source_ip, s.site, s.cause, s.rule, s.attempts, %(now)s, %(now)s, s.reply,
       jsonb_build_array(s.quote), %(now)s, s.attempts, s.project, s.send, ''
  FROM jsonb_to_recordset(%(rows)s::jsonb) AS s(source_ip bigint, site text, cause text, rule text, attempts bigint,
                                                reply text, quote jsonb, project bigint, send bigint)
 ORDER BY s.source_ip, s.site, s.cause
ON CONFLICT (source_ip_id, site, cause) WHERE closed_at IS NULL DO UPDATE SET
  rule = EXCLUDED.rule, attempt_count = ips_incident.attempt_count + EXCLUDED.attempt_count,
  last_seen_at = EXCLUDED.last_seen_at, last_reply = EXCLUDED.last_reply,
  replies = (
    SELECT jsonb_agg(q.quote ORDER BY q.place) FROM (
      SELECT jsonb_set(n.quote, '{count}', to_jsonb((n.quote ->> 'count')::bigint + coalesce((
               SELECT sum((o.quote ->> 'count')::bigint)
                 FROM jsonb_array_elements(ips_incident.replies) AS o(quote)
                WHERE o.quote ->> 'like' = n.quote ->> 'like'), 0))) AS quote, 0 AS place
        FROM (SELECT EXCLUDED.replies -> 0 AS quote) AS n
      UNION ALL
      SELECT o.quote, o.place FROM jsonb_array_elements(ips_incident.replies) WITH ORDINALITY AS o(quote, place)
       WHERE o.quote ->> 'like' <> EXCLUDED.replies -> 0 ->> 'like'
       ORDER BY place LIMIT %(most)s) AS q),
  window_began_at = CASE WHEN EXCLUDED.last_seen_at > ips_incident.window_began_at + %(window)s
                         THEN EXCLUDED.last_seen_at ELSE ips_incident.window_began_at END,
  window_count = EXCLUDED.attempt_count + CASE WHEN EXCLUDED.last_seen_at > ips_incident.window_began_at + %(window)s
                                               THEN 0 ELSE ips_incident.window_count END,
  last_project_id = EXCLUDED.last_project_id, last_send_id = EXCLUDED.last_send_id
RETURNING id, source_ip_id, site, cause, rule, last_reply, xmax = 0
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sighting:
    """What some attempts met: the same source IP, site and cause; rule, reply, project and send are the last one's."""

    source_ip_id: int
    site: str
    cause: Cause
    rule: str
    attempts: int
    reply: str  # cleaned and cut to the column
    project_id: int
    send_id: int


def sight(cursor: CursorWrapper, sightings: Sequence[Sighting], now: datetime) -> list[NewEvent]:
    """Count sightings on the open incidents, or open them, in the caller's transaction; returns the events to write."""
    if not sightings:
        return []
    rows = [
        {
            "source_ip": seen.source_ip_id,
            "site": seen.site,
            "cause": seen.cause.value,
            "rule": seen.rule,
            "attempts": seen.attempts,
            "reply": seen.reply,
            "quote": _quote(seen, now),
            "project": seen.project_id,
            "send": seen.send_id,
        }
        for seen in sightings
    ]
    window = timedelta(minutes=settings.INCIDENT_PAUSE_MINUTES)
    values: dict[str, Any] = {"now": now, "rows": orjson.dumps(rows).decode(), "most": MAX_REPLIES, "window": window}
    cursor.execute(_UPSERT, values)
    opened = [row[:6] for row in cursor.fetchall() if row[6]]
    for incident_id, source_ip_id, site, cause, rule, reply in opened:
        log.warning("incident.opened", incident=incident_id, source_ip=source_ip_id, site=site, cause=cause, rule=rule)
        link = settings.WEB_URL + reverse("admin:ips_incident_change", args=[incident_id])
        text = f"{site} refuses mail of ours for the cause “{cause}”:\n\n    {reply}\n\n{link}\n"
        tell_staff(f"incident {source_ip_id} {site} {cause}", f"Incident at {site}: {cause}", text)
    return _events(EventKind.INCIDENT_OPENED, opened)


def _quote(seen: Sighting, now: datetime) -> dict[str, object]:
    """A reply as an incident keeps it; `like` is what it shares with others of its kind."""
    text = seen.reply[:MAX_QUOTE]
    return {"text": text, "like": _NUMBERS.sub("#", text), "at": now.isoformat(), "count": seen.attempts}


def acknowledge(
    incident: Incident, note: str, now: datetime, *, actor: User | None, address: str | None = None
) -> bool:
    """Say that somebody is on it; False when that was said, or it is closed."""
    with transaction.atomic():
        changed = Incident.objects.filter(pk=incident.pk, acknowledged_at=None, closed_at=None).update(
            acknowledged_at=now, acknowledged_by=actor, note=note
        )
        if changed:
            audit.record(
                "incident.acknowledged", actor=actor, subject=incident, address=address, detail=_detail(incident, note)
            )
    incident.refresh_from_db()
    return bool(changed)


def close(
    incident: Incident,
    note: str,
    now: datetime,
    *,
    actor: User | None,
    address: str | None = None,
    actor_label: str = "",
) -> bool:
    """End it; False when it was closed. What is seen from now on opens another."""
    with transaction.atomic():
        changed = Incident.objects.filter(pk=incident.pk, closed_at=None).update(closed_at=now, note=note)
        if changed:
            audit.record(
                "incident.closed",
                actor=actor,
                subject=incident,
                address=address,
                detail=_detail(incident, note),
                actor_label=actor_label,
            )
            row = (incident.pk, incident.source_ip_id, incident.site, incident.cause, incident.rule, note)
            emit(*_events(EventKind.INCIDENT_CLOSED, [row]))
    incident.refresh_from_db()
    return bool(changed)


def _detail(incident: Incident, note: str) -> dict[str, str]:
    return {"site": incident.site, "cause": incident.cause, "note": note}


def _events(kind: EventKind, rows: Sequence[tuple[int, int, str, str, str, str]]) -> list[NewEvent]:
    """Events of the system project; none where there is no such project yet."""
    project_id = Project.objects.filter(is_system=True).values_list("pk", flat=True).first() if rows else None
    if project_id is None:
        return []
    text = "reply" if kind is EventKind.INCIDENT_OPENED else "note"
    return [
        NewEvent(
            project_id,
            kind,
            "incident",
            incident_id,
            {"source_ip_id": source_ip_id, "site": site, "cause": cause, "rule": rule, text: words},
        )
        for incident_id, source_ip_id, site, cause, rule, words in rows
    ]
