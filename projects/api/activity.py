"""A project's audit log over the API."""

from collections.abc import Mapping
from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from projects.activity import Filter, entries_of, entry_objects
from projects.api.schemas import LAST_MOMENT
from projects.endpoint import Endpoint
from projects.models import ApiKey
from projects.scopes import Scope, by_method
from relay_project.web.describe import describe
from relay_project.web.pagination import read_number, read_page, read_text, within
from relay_project.web.schema import (
    Schema,
    answer,
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

MAX_ACTION = 64  # characters, the width of AuditEntry.action

_ACTOR = answer(
    "ActivityActor",
    {
        "kind": choice(["person", "staff", "api_key", "relay"]),
        "id": nullable(identifier("Of the person or the key.")),
        "name": string(),
    },
)
_SUBJECT = answer(
    "ActivitySubject",
    {"kind": string(examples=["user"]), "id": nullable(identifier()), "name": nullable(string("A person's."))},
)
ENTRY = answer(
    "ActivityEntry",
    {
        "id": identifier(),
        "created_at": moment(),
        "action": string(examples=["member.added"]),
        "text": string("The action in words."),
        "actor": _ACTOR,
        "subject": nullable(_SUBJECT),
        "address": nullable(string("Where the request came from; null for staff.")),
        "detail": {"type": "object", "description": "What the action said."},
    },
)
EXAMPLE_ENTRY = {
    "id": 41,
    "created_at": 1795315071,
    "action": "member.added",
    "text": "added a member",
    "actor": {"kind": "person", "id": 2, "name": "Alice"},
    "subject": {"kind": "user", "id": 7, "name": "Bob"},
    "address": "192.0.2.7",
    "detail": {"scopes": ["project.read"]},
}
QUERY: dict[str, Schema] = {
    **page("limit", "before_id"),
    "user_id": integer("Only what this person did."),
    "api_key_id": integer("Only what this key did."),
    "action": text("A whole action, or its noun: `member.added`, `member`.", maximum=MAX_ACTION),
    "since": integer("Not before this time, Unix seconds.", 0, LAST_MOMENT),
    "until": integer("Not after this time, Unix seconds.", 0, LAST_MOMENT),
}


class AuditLogView(Endpoint):
    """`/audit-log`."""

    section = "Projects"
    required_scope = by_method(GET=Scope.PROJECT_READ)

    @describe(
        "listActivity",
        "List what was done in the project",
        "By its people and keys, and by staff. The newest first.",
        query=QUERY,
        answer=listed(ENTRY),
        sample=[EXAMPLE_ENTRY],
    )
    def get(self, request: Request) -> Response:
        """The project's entries, the newest first."""
        query = request.query_params
        asked = read_page(query)
        wanted = Filter(
            user_id=read_number(query, "user_id"),
            api_key_id=self.filter_id(ApiKey.objects.all(), "api_key_id"),
            action=read_text(query, "action", MAX_ACTION),
            since=_read_moment(query, "since"),
            until=_read_moment(query, "until"),
        )
        return Response(entry_objects(entries_of(self.project, wanted, asked.limit, asked.before_id), self.project))


def _read_moment(query: Mapping[str, str], name: str) -> datetime | None:
    seconds = read_number(query, name)
    return None if seconds is None else datetime.fromtimestamp(within(name, seconds, 0, LAST_MOMENT), UTC)
