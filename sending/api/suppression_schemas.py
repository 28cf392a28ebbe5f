"""What goes over the wire about suppressions."""

from typing import Any

from relay_project.web.schema import (
    Schema,
    answer,
    any_of,
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
from sending.models import SuppressionReason
from sending.suppress import MAX_DESCRIPTION

EMAIL = string("A bare address, in any case.", format="email", examples=["dora@example.com"])
LIST_NAME = text("The name of a list; case makes no difference.", format="list-name", examples=["newsletter"])
REASON = choice(SuppressionReason.values, "Why.")

SUPPRESSION = answer(
    "Suppression",
    {
        "id": identifier(),
        "created_at": moment(),
        "email": string("In lower case."),
        "reason": choice(SuppressionReason.values),
        "description": nullable(string()),
        "list": nullable(string("Null: all mail of the project.")),
        "expires_at": nullable(moment("Until then, in Unix seconds; null: for good.")),
    },
)
NEW_SUPPRESSION = body(
    "NewSuppression",
    {
        "email": EMAIL,
        "reason": choice(SuppressionReason.values, "Default: `manual`."),
        "description": text(maximum=MAX_DESCRIPTION),
        "list": LIST_NAME | {"description": "Only mail to this list; default: all mail of the project."},
        "expires_at": integer("Unix seconds, in the future; default: never."),
    },
    ["email"],
)
NEW_EVERYBODYS_SUPPRESSION = body(
    "NewEverybodysSuppression",
    {
        "email": EMAIL,
        "reason": choice(SuppressionReason.values, "Default: `manual`."),
        "description": text(maximum=MAX_DESCRIPTION),
        "expires_at": integer("Unix seconds, in the future; default: never."),
    },
    ["email"],
)
IN_LIST = {"list": LIST_NAME | {"description": "Only of this list."}}
SUPPRESSION_FILTER: dict[str, Schema] = {
    "email": text("A piece of the address, in any case."),
    "reason": text("One of the reasons; another word is ignored."),
    **IN_LIST,
}
SUPPRESSION_QUERY = {**page(), **SUPPRESSION_FILTER}
EVERYBODYS_QUERY = {name: schema for name, schema in SUPPRESSION_QUERY.items() if name not in IN_LIST}
IMPORT_QUERY: dict[str, Schema] = {
    "reason": choice(SuppressionReason.values, "For lines that say none; default: `manual`."),
    "list": LIST_NAME | {"description": "For lines that say none."},
    "expires_at": text(
        "For lines that say none: `2027-01-31`, `2027-01-31T12:00:00Z` or Unix seconds.", format="day-or-time"
    ),
}
CSV_FILE = string("CSV in UTF-8, of any length up to `MAX_IMPORT_BYTES`.", examples=["email\ndora@example.com\n"])
IMPORTED = answer(
    "SuppressionImport",
    {
        "lines": integer("That hold something."),
        "added": integer(),
        "extended": integer("Were there, and have a later end now, or none."),
        "unchanged": integer("Were there."),
        "invalid": integer("Could not be used."),
        "errors": listed(answer("BadLine", {"line": integer(), "message": string()}), "The first 100."),
    },
)
EXAMPLE_SUPPRESSION: dict[str, Any] = {
    "id": 17,
    "created_at": 1795315070,
    "email": "dora@example.com",
    "reason": "manual",
    "description": "asked us by phone",
    "list": None,
    "expires_at": None,
}
LIST_UNSUBSCRIBE = any_of(
    boolean(),
    body("ListUnsubscribe", {"list": LIST_NAME, "mailto": EMAIL}),
    says="An unsubscribe link in the header (RFC 8058); the mail has one recipient.",
)
