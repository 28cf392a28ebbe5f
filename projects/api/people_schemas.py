"""What goes over the wire about invitations and rotated keys."""

from django.conf import settings

from projects.api.schemas import API_KEY, GIVEN_ROLE, ROLE_NAME, SCOPE, SCOPE_LIST
from relay_project.web.schema import (
    Schema,
    answer,
    body,
    boolean,
    identifier,
    integer,
    listed,
    moment,
    nullable,
    string,
    text,
)

# --- Invitations ---------------------------------------------------------------------------------------------------

INVITATION = answer(
    "Invitation",
    {
        "id": identifier(),
        "created_at": moment(),
        "email": string(),
        "scopes": SCOPE_LIST,
        "role": ROLE_NAME,
        "invited_by": string("A person's name, or `API key 5`."),
        "sent_at": nullable(moment("Unix seconds, UTC; null: the mail could not be sent.")),
        "expires_at": moment("Until when the link works."),
        "is_expired": boolean(),
    },
)
NEW_INVITATION = body(
    "NewInvitation",
    {
        "email": text(format="email"),
        "scopes": listed(SCOPE, minItems=1, maxItems=1000),
        "role": GIVEN_ROLE,
    },
    ["email"],
    "Either `scopes` or `role` is needed.",
)
ACCEPTED_INVITATION = body("AcceptedInvitation", {"token": text("The last part of the link.", blank=False)}, ["token"])
EXAMPLE_INVITATION = {
    "id": 3,
    "created_at": 1795315071,
    "email": "dora@example.com",
    "scopes": ["project.read", "sends.read", "domains.read", "suppressions.read", "analytics.read"],
    "role": "viewer",
    "invited_by": "Alice",
    "sent_at": 1795315071,
    "expires_at": 1795919871,
    "is_expired": False,
}

# --- Rotated keys --------------------------------------------------------------------------------------------------

ROTATION = body(
    "KeyRotation",
    {"overlap_hours": integer("For how long the old secret works on.", 0, settings.API_KEY_OVERLAP_HOURS, default=0)},
)
ROTATED_KEY: Schema = {
    "allOf": [
        API_KEY,
        {
            "type": "object",
            "properties": {"former_key_until": nullable(moment("Until when the old secret works; null: not at all."))},
            "required": ["former_key_until"],
        },
    ]
}
