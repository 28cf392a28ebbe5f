"""Incidents over the staff API: as they are, and in the contract's shape as infrastructure bounces."""

import re
from datetime import UTC, datetime
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from ips import incidents
from ips.models import Incident, IncidentCause
from ips.remedies import BY_CAUSE, remedies
from projects.objects import timestamp
from projects.staff_endpoint import StaffEndpoint, page_of
from relay_project.mail.classify import Cause
from relay_project.web.describe import describe
from relay_project.web.errors import ApiError
from relay_project.web.pagination import read_choice, read_page
from relay_project.web.schema import (
    answer,
    body,
    boolean,
    choice,
    identifier,
    integer,
    listed,
    moment,
    nullable,
    page,
    string,
    text,
)

STATES = ("open", "acknowledged", "closed")
YES_OR_NO = ("true", "false", "1", "0")
MAX_NOTE = 255  # characters, the column's
_REPLY = re.compile(r"(\d{3})[ -]?(\d\.\d{1,3}\.\d{1,3})?\s*(.*)", re.DOTALL)

QUOTE = answer(
    "IncidentReply",
    {"text": string("Cut to 500 characters."), "count": integer("Attempts.", 1), "last_seen_at": moment()},
)
INCIDENT = answer(
    "Incident",
    {
        "id": identifier(),
        "state": choice(STATES),
        "source_ip_id": identifier(),
        "ip_address": string(),
        "site": string("The receiving provider or MX hosts."),
        "cause": choice(IncidentCause.values),
        "advice": string("What to do, by the cause."),
        "remedies": listed(string("The same, and what the provider and the lists that it names offer.")),
        "rule": string("Which row of the table of replies decided last."),
        "attempt_count": integer("Attempts that met it.", 0),
        "opened_at": moment(),
        "last_seen_at": moment(),
        "last_reply": string(),
        "replies": listed(QUOTE),
        "last_project_id": identifier(),
        "last_send_id": identifier(),
        "acknowledged_at": nullable(moment()),
        "acknowledged_by": nullable(identifier()),
        "closed_at": nullable(moment()),
        "paused_at": nullable(moment("When Relay last paused the site for this address because of it.")),
        "note": string(),
    },
)
INCIDENT_CHANGE = body("IncidentChange", {"state": choice(STATES[1:]), "note": text(maximum=MAX_NOTE)}, ["state"])
BOUNCE = answer(
    "InfrastructureBounce",
    {
        "id": identifier("The incident's."),
        "created_at": moment(),
        "is_read": boolean("It is acknowledged or closed."),
        "smtp_code": integer("0 where no reply came."),
        "smtp_enhanced_code": nullable(string()),
        "smtp_message": string(),
        "send_recipient_id": nullable(identifier("Not kept; the incident names its last send.")),
    },
)
MARKED = answer("MarkedCount", {"marked_count": integer("How many were unread.", 0)})


class IncidentsView(StaffEndpoint):
    """`/incidents`."""

    @describe(
        "listIncidents",
        "List incidents",
        query={**page("limit", "before_id"), "state": choice(STATES, "Only those.")},
        answer=listed(INCIDENT),
    )
    def get(self, request: Request) -> Response:
        """A page, the newest first."""
        query = request.query_params
        rows = Incident.objects.select_related("source_ip")
        match read_choice(query, "state", STATES):
            case "open":
                rows = rows.filter(closed_at=None, acknowledged_at=None)
            case "acknowledged":
                rows = rows.filter(closed_at=None).exclude(acknowledged_at=None)
            case "closed":
                rows = rows.exclude(closed_at=None)
        return Response([incident_object(row) for row in page_of(rows, read_page(query))])


class IncidentView(StaffEndpoint):
    """`/incidents/{id}`."""

    @describe("getIncident", "Get an incident", answer=INCIDENT)
    def get(self, request: Request, incident_id: str) -> Response:
        """One of them."""
        return Response(incident_object(self.row(Incident.objects.select_related("source_ip"), incident_id)))

    @describe(
        "changeIncident",
        "Acknowledge or close an incident",
        "What is seen after it was closed opens another.",
        body=INCIDENT_CHANGE,
        answer=INCIDENT,
        refusals={400: ("This incident is closed.",)},
    )
    def patch(self, request: Request, incident_id: str) -> Response:
        """Say that somebody is on it, or that it is over."""
        incident, fields = self.row(Incident.objects.select_related("source_ip"), incident_id), self.fields()
        state = fields.choice("state", STATES[1:], required=True)
        note = fields.text("note", maximum=MAX_NOTE) or ""
        fields.check()
        if incident.closed_at is not None and state == "acknowledged":
            raise ApiError(400, "This incident is closed.")
        change = incidents.close if state == "closed" else incidents.acknowledge
        change(incident, note, datetime.now(UTC), **self.by)
        return Response(incident_object(incident))


class BouncesView(StaffEndpoint):
    """`/infrastructure-bounces`."""

    @describe(
        "listInfrastructureBounces",
        "List incidents as infrastructure bounces",
        query={**page("limit", "offset"), "is_read": choice(YES_OR_NO)},
        answer=listed(BOUNCE),
    )
    def get(self, request: Request) -> Response:
        """A page, the newest first."""
        query = request.query_params
        rows = Incident.objects.all()
        match read_choice(query, "is_read", YES_OR_NO):
            case "true" | "1":
                rows = rows.exclude(acknowledged_at=None, closed_at=None)
            case "false" | "0":
                rows = rows.filter(acknowledged_at=None, closed_at=None)
        return Response([bounce_object(row) for row in page_of(rows, read_page(query))])


class MarkBounceView(StaffEndpoint):
    """`/infrastructure-bounces/{id}/mark-as-read`."""

    @describe("markInfrastructureBounceAsRead", "Acknowledge an incident", answer=BOUNCE)
    def patch(self, request: Request, incident_id: str) -> Response:
        """One of them."""
        incident = self.row(Incident.objects.all(), incident_id)
        incidents.acknowledge(incident, "", datetime.now(UTC), **self.by)
        return Response(bounce_object(incident))


class MarkBouncesView(StaffEndpoint):
    """`/infrastructure-bounces/mark-all-as-read`."""

    @describe("markAllInfrastructureBouncesAsRead", "Acknowledge every incident", answer=MARKED)
    def post(self, request: Request) -> Response:
        """Those that are open; there is one for each address, site and cause at most."""
        now, unread = datetime.now(UTC), Incident.objects.filter(acknowledged_at=None, closed_at=None)
        return Response({"marked_count": sum(incidents.acknowledge(row, "", now, **self.by) for row in unread)})


def incident_object(row: Incident) -> dict[str, Any]:
    """Incident."""
    cause = Cause(row.cause)
    return {
        "id": row.pk,
        "state": "closed" if row.closed_at else "acknowledged" if row.acknowledged_at else "open",
        "source_ip_id": row.source_ip_id,
        "ip_address": row.source_ip.address,
        "site": row.site,
        "cause": row.cause,
        "advice": BY_CAUSE[cause],
        "remedies": remedies(cause, row.site, [each["text"] for each in row.replies]),
        "rule": row.rule,
        "attempt_count": row.attempt_count,
        "opened_at": timestamp(row.opened_at),
        "last_seen_at": timestamp(row.last_seen_at),
        "last_reply": row.last_reply,
        "replies": [_said(quote) for quote in row.replies],
        "last_project_id": row.last_project_id,
        "last_send_id": row.last_send_id,
        "acknowledged_at": timestamp(row.acknowledged_at),
        "acknowledged_by": row.acknowledged_by_id,
        "closed_at": timestamp(row.closed_at),
        "paused_at": timestamp(row.paused_at),
        "note": row.note,
    }


def _said(quote: dict[str, Any]) -> dict[str, Any]:
    last_seen_at = timestamp(datetime.fromisoformat(quote["at"]))
    return {"text": quote["text"], "count": quote["count"], "last_seen_at": last_seen_at}


def bounce_object(row: Incident) -> dict[str, Any]:
    """An incident in the contract's shape of an infrastructure bounce."""
    said = _REPLY.fullmatch(row.last_reply)
    return {
        "id": row.pk,
        "created_at": timestamp(row.opened_at),
        "is_read": row.acknowledged_at is not None or row.closed_at is not None,
        "smtp_code": int(said[1]) if said else 0,
        "smtp_enhanced_code": said[2] if said else None,
        "smtp_message": said[3] if said else row.last_reply,
        "send_recipient_id": None,
    }
