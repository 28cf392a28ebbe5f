"""Incidents: opened by what receivers say of a source IP, acknowledged and closed by staff.

One is open at most for each source IP, site and cause; what is seen again is counted on it. After it was closed the next
sighting opens another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson
import structlog
from django.db import transaction
from django.db.backends.utils import CursorWrapper

from accounts import audit
from accounts.models import User
from ips.models import Incident
from projects.events import NewEvent, emit
from projects.models import Project
from relay_project.mail.classify import Cause

OPENED = "incident.opened"  # events of the system project: they are the operator's, and no tenant subscribes to them
CLOSED = "incident.closed"

# What to do, by cause; docs/classification.md says it at length.
ADVICE = {
    Cause.IP_REPUTATION: (
        "The receiver does not trust the address, or lists it. Read the reply: it mostly names the list or a form for "
        "removal. Find out who sent what it complains of, and let the address rest or move it to another queue until "
        "then."
    ),
    Cause.AUTHENTICATION: (
        "SPF, DKIM or DMARC did not pass. Check the sending domain's DKIM record and its status, the SPF record of the "
        "instance domain, and whether somebody's From domain forbids what we send."
    ),
    Cause.DNS: (
        "The receiver cannot make sense of our names. The source IP needs a PTR record with its EHLO name, that name an "
        "address record back to the IP, and the instance domain MX records, because the return path lies there."
    ),
    Cause.RATE: (
        "The receiver wants fewer connections or messages from this address. Relay slows down by itself; when it lasts, "
        "spread the mail over more addresses or warm this one up more slowly."
    ),
    Cause.PROTOCOL: (
        "The receiver refuses what we say, or gives no reason that can be read. Read the conversation of the last "
        "attempt."
    ),
}

_UPSERT = """
INSERT INTO ips_incident (source_ip_id, site, cause, rule, attempt_count, opened_at, last_seen_at, last_reply,
                          last_project_id, last_send_id, note)
SELECT s.source_ip, s.site, s.cause, s.rule, s.attempts, %(now)s, %(now)s, s.reply, s.project, s.send, ''
  FROM jsonb_to_recordset(%(rows)s::jsonb) AS s(source_ip bigint, site text, cause text, rule text, attempts bigint,
                                                reply text, project bigint, send bigint)
 ORDER BY s.source_ip, s.site, s.cause
ON CONFLICT (source_ip_id, site, cause) WHERE closed_at IS NULL DO UPDATE SET
  rule = EXCLUDED.rule, attempt_count = ips_incident.attempt_count + EXCLUDED.attempt_count,
  last_seen_at = EXCLUDED.last_seen_at, last_reply = EXCLUDED.last_reply,
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
            "project": seen.project_id,
            "send": seen.send_id,
        }
        for seen in sightings
    ]
    cursor.execute(_UPSERT, {"now": now, "rows": orjson.dumps(rows).decode()})
    opened = [row[:6] for row in cursor.fetchall() if row[6]]
    for incident_id, source_ip_id, site, cause, rule, _ in opened:
        log.warning("incident.opened", incident=incident_id, source_ip=source_ip_id, site=site, cause=cause, rule=rule)
    return _events(OPENED, opened)


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


def close(incident: Incident, note: str, now: datetime, *, actor: User | None, address: str | None = None) -> bool:
    """End it; False when it was closed. What is seen from now on opens another."""
    with transaction.atomic():
        changed = Incident.objects.filter(pk=incident.pk, closed_at=None).update(closed_at=now, note=note)
        if changed:
            audit.record(
                "incident.closed", actor=actor, subject=incident, address=address, detail=_detail(incident, note)
            )
            row = (incident.pk, incident.source_ip_id, incident.site, incident.cause, incident.rule, note)
            emit(*_events(CLOSED, [row]))
    incident.refresh_from_db()
    return bool(changed)


def _detail(incident: Incident, note: str) -> dict[str, str]:
    return {"site": incident.site, "cause": incident.cause, "note": note}


def _events(kind: str, rows: Sequence[tuple[int, int, str, str, str, str]]) -> list[NewEvent]:
    """Events of the system project; none where there is no such project yet."""
    project_id = Project.objects.filter(is_system=True).values_list("pk", flat=True).first() if rows else None
    if project_id is None:
        return []
    text = "reply" if kind == OPENED else "note"
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
