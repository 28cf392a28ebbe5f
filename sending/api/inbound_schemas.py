"""What goes over the wire about mail that a project receives."""

from typing import Any

from relay_project.web.schema import (
    Schema,
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
from sending.inbound.routing.change import MAX_DESCRIPTION, MAX_FORWARD_TO, MAX_PRIORITY
from sending.models import RouteAction

RECEIVING_DOMAIN = answer(
    "ReceivingDomain",
    {
        "id": identifier(),
        "created_at": moment(),
        "domain": string("In lower case, as an A-label."),
        "mx": answer("MxRecord", {"type": string(), "host": string(), "value": string()}, "The record to publish."),
        "mx_checked_at": nullable(moment("When DNS was last asked for it.")),
        "is_mx_found": nullable(boolean("Whether the domain's mail comes here; null: nobody has looked.")),
        "mx_error_message": nullable(string()),
    },
)
NEW_RECEIVING_DOMAIN = body(
    "NewReceivingDomain",
    {
        "domain": text(
            "A domain that the project may send from, or one below it.", maximum=254, blank=False, format="domain"
        ),
        "catch_all": boolean("Whether to make a route for all of its addresses, too; default: false."),
    },
    ["domain"],
)
EXAMPLE_RECEIVING_DOMAIN: dict[str, Any] = {
    "id": 4,
    "created_at": 1795315070,
    "domain": "in.shop.example",
    "mx": {"type": "MX", "host": "in.shop.example", "value": "10 relay.example."},
    "mx_checked_at": 1795315170,
    "is_mx_found": True,
    "mx_error_message": None,
}

_ADDRESS = text(
    "`support@in.shop.example`, `support+*@…` (whatever begins so), or `*@…` (all).",
    maximum=320,
    blank=False,
    examples=["support+*@in.shop.example"],
)
_PRIORITY = integer("The smaller is asked first; default: 0.", 0, MAX_PRIORITY)
_ACTION = choice(
    RouteAction.values,
    "`event` (default): keep it and tell. `forward`: pass it on. `drop`: take it and forget it. `reject`: refuse it.",
)
_FORWARD_TO = listed(
    text(maximum=254, blank=False, examples=["team@other.example"]),
    "The addresses of a route with the action `forward`, which needs 1 to 10 of them.",
    maxItems=MAX_FORWARD_TO,
)
_REST: dict[str, Schema] = {
    "priority": _PRIORITY,
    "action": _ACTION,
    "forward_to": _FORWARD_TO,
    "description": text(maximum=MAX_DESCRIPTION),
    "is_enabled": boolean(),
}
ROUTE = answer(
    "InboundRoute",
    {
        "id": identifier(),
        "created_at": moment(),
        "domain_id": identifier("Of the receiving domain."),
        "address": string(),
        "priority": integer(),
        "action": choice(RouteAction.values),
        "forward_to": listed(string(), "Empty, unless it forwards."),
        "description": string(),
        "is_enabled": boolean(),
    },
)
NEW_ROUTE = body("NewInboundRoute", {"address": _ADDRESS, **_REST}, ["address"])
ROUTE_CHANGE = body("InboundRouteChange", {"address": _ADDRESS, **_REST})
ROUTE_QUERY: dict[str, Schema] = {
    **page("limit", "offset"),
    "domain_id": integer("Only those of this receiving domain."),
}
EXAMPLE_ROUTE: dict[str, Any] = {
    "id": 9,
    "created_at": 1795315070,
    "domain_id": 4,
    "address": "support+*@in.shop.example",
    "priority": 10,
    "action": "event",
    "forward_to": [],
    "description": "Replies to tickets",
    "is_enabled": True,
}

_WRITTEN = answer("InboundAddress", {"address": string(), "name": nullable(string())})
_SPF = answer(
    "SpfResult", {"result": string("RFC 7208 §2.6: `pass`, `fail`, …"), "domain": string(), "detail": string()}
)
_DKIM = answer(
    "DkimResult",
    {
        "result": choice(["pass", "fail", "temperror"]),
        "domain": string(),
        "selector": string(),
        "detail": string("Why it does not hold."),
    },
)
_DMARC = answer(
    "DmarcResult",
    {
        "result": choice(["pass", "fail", "none", "temperror", "permerror"], "`none`: no policy is published."),
        "domain": string("Of From."),
        "policy": nullable(string("What the domain asks for: `none`, `quarantine` or `reject`.")),
    },
)
_ARC = answer(
    "ArcResult",
    {
        "result": choice(["none", "pass", "fail", "temperror"], "`none`: nobody has sealed it."),
        "domain": string("Who sealed it last."),
        "detail": string("Why the chain does not hold."),
    },
)
_SUMMARY: dict[str, Schema] = {
    "id": identifier(),
    "created_at": moment("When it came."),
    "route_id": nullable(identifier("The route that it fitted; it may be gone. Null of a report that goes back.")),
    "envelope": answer(
        "InboundEnvelope",
        {"from": string("Empty: the null sender."), "to": listed(string(), "Those of this route.")},
    ),
    "from": string("The address in From."),
    "subject": string(),
    "message_id": nullable(string("Without angle brackets.")),
    "size_bytes": integer(),
    "attachment_count": integer(),
    "authentication": nullable(
        answer(
            "InboundAuthentication",
            {"spf": _SPF, "dkim": listed(_DKIM), "dmarc": _DMARC, "arc": _ARC},
            "Null until DNS was asked, a moment after it came.",
        )
    ),
    "hints": listed(string(), "What spam often has; see the documentation."),
    "forward": nullable(
        answer(
            "InboundForward",
            {
                "to": listed(string()),
                "send_id": nullable(identifier("The send by which it was passed on.")),
                "error": nullable(string("Why it was not passed on.")),
                "returns_send_id": nullable(identifier("Of a report that goes back: the forward that it is about.")),
            },
            "Where it is passed on; null: nowhere.",
        )
    ),
}
RECEIVED = answer("ReceivedMail", _SUMMARY)
_ATTACHMENT = answer(
    "InboundAttachment",
    {
        "id": integer("Counts from 1."),
        "name": string(),
        "type": string(),
        "size_bytes": integer(),
        "content_id": nullable(string("By which the HTML shows it.")),
        "is_inline": boolean(),
    },
)
_MESSAGE = answer(
    "InboundMessage",
    {
        "from": listed(_WRITTEN),
        "to": listed(_WRITTEN),
        "cc": listed(_WRITTEN),
        "reply_to": listed(_WRITTEN),
        "subject": string(),
        "date": nullable(moment()),
        "message_id": nullable(string()),
        "in_reply_to": nullable(string()),
        "references": listed(string()),
        "auto_submitted": nullable(string("RFC 3834: a machine wrote it, unless `no`.")),
        "text": nullable(string()),
        "is_text_cut": boolean(),
        "html": nullable(string()),
        "is_html_cut": boolean(),
        "attachments": listed(_ATTACHMENT),
    },
)
RECEIVED_WHOLE = answer(
    "ReceivedMailWhole",
    {
        **_SUMMARY,
        "message": nullable(_MESSAGE),
        "headers": listed(listed(string(), "Name and value.", minItems=2, maxItems=2), "As they stand, unfolded."),
    },
    "`message` is null when the mail is not kept any more.",
)
RECEIVED_QUERY: dict[str, Schema] = {**page("limit", "before_id"), "route_id": integer("Only what fitted this route.")}
EXAMPLE_RECEIVED: dict[str, Any] = {
    "id": 890792308609081,
    "created_at": 1795315070,
    "route_id": 9,
    "envelope": {"from": "dora@example.com", "to": ["support+4711@in.shop.example"]},
    "from": "dora@example.com",
    "subject": "Re: Your order",
    "message_id": "a1@example.com",
    "size_bytes": 20481,
    "attachment_count": 1,
    "authentication": {
        "spf": {"result": "pass", "domain": "example.com", "detail": "ip4:192.0.2.0/24"},
        "dkim": [{"result": "pass", "domain": "example.com", "selector": "s1", "detail": ""}],
        "dmarc": {"result": "pass", "domain": "example.com", "policy": "reject"},
        "arc": {"result": "none", "domain": "", "detail": ""},
    },
    "hints": [],
    "forward": None,
}
EXAMPLE_WHOLE: dict[str, Any] = {
    **EXAMPLE_RECEIVED,
    "message": {
        "from": [{"address": "dora@example.com", "name": "Dora"}],
        "to": [{"address": "support+4711@in.shop.example", "name": None}],
        "cc": [],
        "reply_to": [],
        "subject": "Re: Your order",
        "date": 1795315060,
        "message_id": "a1@example.com",
        "in_reply_to": "order-4711@shop.example",
        "references": ["order-4711@shop.example"],
        "auto_submitted": None,
        "text": "It came broken, see the picture.\n",
        "is_text_cut": False,
        "html": None,
        "is_html_cut": False,
        "attachments": [
            {
                "id": 1,
                "name": "broken.jpg",
                "type": "image/jpeg",
                "size_bytes": 18311,
                "content_id": None,
                "is_inline": False,
            }
        ],
    },
    "headers": [["From", "Dora <dora@example.com>"], ["Subject", "Re: Your order"]],
}
