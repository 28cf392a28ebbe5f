"""What goes over the wire about mailboxes and their tokens."""

from typing import Any

from relay_project.web.schema import (
    Schema,
    answer,
    body,
    boolean,
    choice,
    identifier,
    listed,
    moment,
    nullable,
    string,
    text,
)
from webhooks.api.schemas import KINDS
from webhooks.mailbox.manage import MAX_DESCRIPTION
from webhooks.models.mailbox import MAX_NAME, TokenKind
from webhooks.options import MAX_DOMAINS, MAX_TAG, MAX_TAGS

_FIELDS: dict[str, Schema] = {
    "description": text(maximum=MAX_DESCRIPTION),
    "events": listed(choice(KINDS), "What it is told of.", maxItems=1000),
    "tags": listed(text(maximum=MAX_TAG, blank=False), "Events of mail with one of them only.", maxItems=MAX_TAGS),
    "domains": listed(
        text(blank=False, format="domain"), "Events of these sending domains only.", maxItems=MAX_DOMAINS
    ),
    "is_enabled": boolean("Whether anybody may deposit or fetch."),
}
MAILBOX = answer(
    "Mailbox",
    {
        "id": identifier(),
        "name": string("Its address: `/v1/mailbox/{name}`."),
        "description": string(),
        "events": listed(choice(KINDS)),
        "tags": listed(string()),
        "domains": listed(string()),
        "is_enabled": boolean(),
        "created_at": moment(),
    },
)
NEW_MAILBOX = body(
    "NewMailbox",
    {"name": text("Unique in the installation.", maximum=MAX_NAME, blank=False, format="mailbox"), **_FIELDS},
    ["name"],
)
MAILBOX_CHANGE = body("MailboxChange", _FIELDS)
TOKEN = answer(
    "MailboxToken",
    {
        "id": identifier(),
        "kind": choice(TokenKind.values),
        "name": string(),
        "token": nullable(string("Only in the answer that makes it.")),
        "created_at": moment(),
    },
)
NEW_TOKEN = body("NewMailboxToken", {"kind": choice(TokenKind.values), "name": text(maximum=255)}, ["kind"])
EXAMPLE_MAILBOX: dict[str, Any] = {
    "id": 1,
    "name": "orders",
    "description": "",
    "events": ["send.recipient.bounced"],
    "tags": [],
    "domains": [],
    "is_enabled": True,
    "created_at": 1795315071,
}
EXAMPLE_TOKEN: dict[str, Any] = {
    "id": 1,
    "kind": "receive",
    "name": "worker 1",
    "token": None,
    "created_at": 1795315071,
}
