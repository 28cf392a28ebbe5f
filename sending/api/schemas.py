"""What goes over the wire on this floor: the shapes of sending.objects, and of the bodies that the views read."""

from typing import Any

from relay_project.mail.classify import Category
from relay_project.mail.placeholders import MAX_VARIABLE, MAX_VARIABLES, VARIABLE_NAME
from relay_project.mail.reports.model import BounceClass
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
    mapped,
    moment,
    nullable,
    number,
    page,
    string,
    text,
)
from sending.api.attachments import CONTENT_ID, DISPOSITIONS, MAX_ATTACHMENT, MAX_ATTACHMENTS, MAX_FILE_NAME
from sending.api.extras import MAX_METADATA, MAX_METADATA_VALUE, MAX_REPLY_TO, MAX_TAGS, METADATA_NAME, TAG
from sending.api.message import MAX_BODY, MAX_HEADER_VALUE, MAX_HEADERS, MAX_SUBJECT, PRIORITIES
from sending.api.raw import MAX_RAW
from sending.api.reading import MAX_DISPLAY_NAME
from sending.api.suppression_schemas import LIST_NAME, LIST_UNSUBSCRIBE
from sending.explain import Kind
from sending.models import AttemptStatus, RecipientStatus, RecipientType
from sending.preflight.finding import Level

ARCHIVE = body("ArchiveProject", {"cancel_waiting": boolean("Whether what waits is cancelled; else nothing may wait.")})
ARCHIVED = answer(
    "ArchivedProject",
    {
        "id": identifier(),
        "status": choice(("archived",)),
        "cancelled_recipients": integer("Until the answer; a great many are cancelled within minutes.", 0),
    },
)
ONE_LINE = r"^[^\u0000\r\n]*$"
MAX_RECIPIENT_IDS = 1000  # the setting MAX_RECIPIENTS allows no more

# --- What is sent --------------------------------------------------------------------------------------------------


def line(says: str = "", maximum: int = 255) -> Schema:
    """A text that becomes (part of) a header."""
    return text(says, maximum=maximum) | {"pattern": ONE_LINE}


EMAIL = string("A bare address.", format="email", examples=["bob@example.com"])
ADDRESS = any_of(
    EMAIL,
    body("Address", {"email": EMAIL, "name": line(maximum=MAX_DISPLAY_NAME)}, ["email"]),
    says='`"bob@example.com"` or `{"email": "bob@example.com", "name": "Bob"}`.',
)
ADDRESSES = any_of(ADDRESS, listed(ADDRESS), says="One address or a list of them.")
ATTACHMENT = body(
    "Attachment",
    {
        "content": string("Base64.", format="byte", minLength=1, maxLength=MAX_ATTACHMENT),
        "name": line("The file's name.", MAX_FILE_NAME),
        "content_type": string("Default: what the name says.", pattern=r"^[\x20-\x7e]*$", maxLength=255),
        "content_id": string(
            "What the HTML body names it by: `cid:logo`.", pattern=f"^(?:<{CONTENT_ID}>|{CONTENT_ID})$"
        ),
        "disposition": choice(DISPOSITIONS, "Default: inline with a `content_id`, else attachment."),
    },
    ["content"],
    additionalProperties=False,
)
MESSAGE_FIELDS: dict[str, Schema] = {
    "from": ADDRESS | {"description": "Its domain must be registered by the project and may have to be verified."},
    "to": ADDRESSES,
    "cc": ADDRESSES,
    "bcc": ADDRESSES,
    "subject": line(maximum=MAX_SUBJECT),
    "body_text": text("At least one of the two bodies.", maximum=MAX_BODY),
    "body_html": text(maximum=MAX_BODY),
    "headers": mapped(
        string(maxLength=MAX_HEADER_VALUE, pattern=ONE_LINE),
        "Further header fields.",
        maxProperties=MAX_HEADERS,
        propertyNames={"pattern": r"^(?!-?[0-9]+$)[!-9;-~]{1,76}$"},
    ),
    "attachments": listed(ATTACHMENT, maxItems=MAX_ATTACHMENTS),
    "priority": choice(PRIORITIES, "Default: what the project sends."),
    "raw": string(
        "A whole message in base64, in place of its parts; `from` and `to` may then be left out.",
        format="byte",
        maxLength=MAX_RAW,
    ),
    "list": LIST_NAME | {"description": "The list that the mail is for: who is suppressed in it gets nothing."},
    "list_unsubscribe": LIST_UNSUBSCRIBE,
    "reply_to": any_of(ADDRESS, listed(ADDRESS, maxItems=MAX_REPLY_TO), says="Whom answers go to."),
    "send_after": integer("When, in Unix seconds, at most 30 days ahead; a past time means now.", minimum=0),
    "tags": listed(string(pattern=f"^{TAG}$", maxLength=64), "Words to find and count it by.", maxItems=MAX_TAGS),
    "metadata": mapped(
        string(maxLength=MAX_METADATA_VALUE),
        "Your own names and values; they come back in its events.",
        maxProperties=MAX_METADATA,
        propertyNames={"pattern": f"^{METADATA_NAME}$"},
    ),
}
NEW_SEND = body("NewSend", MESSAGE_FIELDS, ["from", "to"])
ACCEPTED = answer(
    "Accepted", {"id": identifier("The send's."), "message_id": string("The Message-ID, without angle brackets.")}
)
VARIABLES = mapped(
    any_of(string(maxLength=MAX_VARIABLE), number()),
    "What `{{name}}` becomes in subject, bodies and header fields.",
    maxProperties=MAX_VARIABLES,
    propertyNames={"pattern": VARIABLE_NAME},
)
BATCH_MESSAGE = body(
    "BatchMessage",
    {
        **MESSAGE_FIELDS,
        "variables": VARIABLES,
        "idempotency_key": string("Sends this message once, in whatever batch it comes.", minLength=1, maxLength=255),
    },
)
NEW_BATCH = body(
    "NewBatch",
    {
        **{name: schema for name, schema in MESSAGE_FIELDS.items() if name != "to"},
        "variables": VARIABLES,
        "messages": listed(BATCH_MESSAGE, "What each has for itself.", minItems=1),
    },
    ["messages"],
)
BATCH_RESULT = answer(
    "BatchResult",
    {
        "status": integer("200, or why the message was refused."),
        "id": identifier("The send's."),
        "message_id": string("The Message-ID, without angle brackets."),
        "replayed": boolean("Its own key had been used before."),
        "message": string("Why it was refused."),
        "violations": listed(answer("BatchViolation", {"property": string(), "message": string()})),
        "errors": mapped(listed(string())),
    },
    "Of one message, in their order.",
    sometimes=("id", "message_id", "replayed", "message", "violations", "errors"),
)
BATCH_ACCEPTED = answer("BatchAccepted", {"accepted": integer(), "refused": integer(), "results": listed(BATCH_RESULT)})
EXAMPLE_BATCH: dict[str, Any] = {
    "from": {"email": "hello@demo.test", "name": "Demo"},
    "subject": "Order {{order}}",
    "body_text": "Dear {{name}}, thank you.",
    "messages": [
        {"to": "bob@inbox.test", "variables": {"name": "Bob", "order": 1001}},
        {"to": "no address", "variables": {"name": "X", "order": 1002}},
    ],
}
EXAMPLE_RESULTS = {
    "accepted": 1,
    "refused": 1,
    "results": [
        {"status": 200, "id": 890792257310765, "message_id": "01a20122-a90d-702d-9de8-efa6f39926e0@demo.test"},
        {
            "status": 422,
            "message": "to: This value is not a valid email address.",
            "violations": [{"property": "to", "message": "This value is not a valid email address."}],
            "errors": {"to": ["This value is not a valid email address."]},
        },
    ],
}
EXAMPLE_MESSAGE: dict[str, Any] = {
    "from": {"email": "hello@demo.test", "name": "Demo"},
    "to": ["bob@inbox.test", {"email": "carol@inbox.test", "name": "Carol"}],
    "subject": "Order 1001",
    "body_text": "Thank you.",
    "body_html": "<p>Thank you.</p>",
    "headers": {"Reply-To": "help@demo.test"},
}
EXAMPLE_ACCEPTED = {"id": 890792257310765, "message_id": "01a20122-a90d-702d-9de8-efa6f39926e0@demo.test"}
IDEMPOTENCY_KEY = {
    "X-Idempotency-Key": string(
        "Sends once, however often it is asked for; `Idempotency-Key` is taken as well.", minLength=1, maxLength=255
    )
}

# --- What became of it ---------------------------------------------------------------------------------------------

WHY = answer(
    "Reason",
    {
        "kind": choice(Kind, "One word for it."),
        "text": string("Why the recipient waits, or how it ended."),
        "next_at": nullable(moment("When that changes next; null when nobody can know.")),
    },
)
RECIPIENT = answer(
    "SendRecipient",
    {
        "id": identifier(),
        "type": choice(RecipientType.values),
        "address": string(),
        "name": string("Empty if there is none."),
        "status": choice(RecipientStatus.values),
        "try_count": integer("How often it was tried."),
        "why": WHY,
    },
    sometimes=("why",),
)
STEP = answer(
    "SmtpStep",
    {
        "name": choice(("dial", "hello", "starttls", "mail", "rcpt", "data", "data_close", "quit")),
        "duration_ms": integer(),
        "command": string(),
        "reply_code": integer("0: no reply came."),
        "reply_text": string(),
        "note": string("For a reply that looks like an error and is none."),
    },
    sometimes=("note",),
)
CONVERSATION = answer(
    "SmtpConversation",
    {
        "start_time": string(format="date-time"),
        "duration_ms": integer(),
        "network_error": string("Empty if there was none."),
        "address": string("The host's."),
        "steps": listed(STEP),
    },
    sometimes=("address",),
)
TLS = answer(
    "SmtpTls",
    {
        "version": nullable(string()),
        "cipher": nullable(string()),
        "verified": boolean("Whether the certificate was checked."),
        "policy": string("What decided."),
        "mta_sts": string("The mode of the domain's policy."),
    },
    "Null without a TLS session.",
    sometimes=("mta_sts",),
)
ATTEMPT_RECIPIENT = answer(
    "SendAttemptRecipient",
    {
        "id": identifier(),
        "created_at": moment(),
        "recipient_id": identifier(),
        "recipient_status": choice(RecipientStatus.values),
        "smtp_code": integer("0: no reply came."),
        "smtp_enhanced_code": nullable(string(examples=["5.1.1"])),
        "smtp_message": string(),
        "is_suppressed": boolean("Whether the address came onto the suppression list by this."),
        "category": choice(("", *Category), "Whose problem it is."),
        "rule": string("Which rule decided."),
    },
)
ATTEMPT = answer(
    "SendAttempt",
    {
        "id": identifier(),
        "created_at": moment(),
        "status": choice(AttemptStatus.values),
        "try_count": integer(),
        "domain": string("The recipients'."),
        "resolved_mx_hosts": listed(string()),
        "responded_mx_host": nullable(string()),
        "smtp_conversations": mapped(CONVERSATION, "By host."),
        "tls": nullable(TLS),
        "duration_ms": integer(),
        "recipients": listed(ATTEMPT_RECIPIENT),
    },
)
FEEDBACK = answer(
    "SendFeedback",
    {
        "id": identifier(),
        "created_at": moment(),
        "type": choice(("bounce", "complaint")),
        "recipient_id": identifier(),
        "debug_incoming_email_id": nullable(identifier("Of the report, for the operator.")),
        "attempt_id": nullable(identifier("Null where the report names the mail but no attempt of it.")),
        "class": nullable(choice([one.value for one in BounceClass], "Of a bounce: whose trouble it is.")),
        "status": nullable(string("Enhanced status of a bounce, kind of a complaint.")),
        "text": string("What the report said."),
        "is_proven": boolean("It came by a signed return path; otherwise nobody is suppressed."),
    },
)
SEND = answer(
    "Send",
    {
        "id": identifier(),
        "uuid": string(format="uuid"),
        "created_at": moment(),
        "from_address": string(),
        "from_name": nullable(string()),
        "subject": nullable(string()),
        "size_bytes": integer("Before signing."),
        "tags": listed(string()),
        "metadata": mapped(string(), "Your own names and values."),
        "is_test": boolean("Whether a test key made it: it went to nobody."),
        "forwarded_from": nullable(
            string("Of a mail that came in and is passed on: its envelope sender, empty for the null one.")
        ),
        "queued": boolean("Whether any recipient still waits."),
        "send_after": moment("When the next one is due."),
        "priority": choice(("notice", *PRIORITIES), "Only of a single send."),
        "recipients": listed(RECIPIENT),
        "attempts": listed(ATTEMPT, "The newest first; empty in lists."),
        "feedback": listed(FEEDBACK, "Empty in lists."),
    },
    sometimes=("priority",),
)
SEND_CONTENT = answer(
    "SendContent",
    {
        "body_html": nullable(string()),
        "body_text": nullable(string()),
        "headers": mapped(string(), "By name in lower case."),
        "raw": string("The message as it left, DKIM signatures included."),
    },
)
SEND_FILTER: dict[str, Schema] = {
    **page("limit", "before_id"),
    "status": text("Sends with a recipient of this status; an unknown word is ignored."),
    "from": text("The sender's whole address; case does not matter."),
    "to": text("A recipient's whole address; case does not matter. With `status`, one recipient fits both."),
    "from_search": text("A part of the sender's address; case matters."),
    "to_search": text("A part of a recipient's address; case matters. With `status`, one recipient fits both."),
    "subject_search": text("A part of the subject; case does not matter.", maximum=MAX_SUBJECT),
    "tag": text("Sends with exactly this tag."),
    "date_from_search": text("`2026-11-22` or `2026-11-22 09:30:00`, UTC, inclusive.", format="day-or-time"),
    "date_to_search": text("The same, inclusive.", format="day-or-time"),
}
RETRY = body(
    "Retry",
    {
        "send_after": integer("When, in Unix seconds, at most 30 days ahead; default: now."),
        "recipient_ids": listed(integer(), "Only these of the failed recipients.", maxItems=MAX_RECIPIENT_IDS),
    },
)
RETRIED = answer("Retried", {"retried_recipients": integer(), "send": SEND})
CANCEL = body("Cancel", {"reason": text("Shown in the events.", maximum=255)})
CANCELLED = answer(
    "Cancelled",
    {
        "cancelled_recipients": integer("Those that waited, and end as `cancelled`."),
        "in_flight_recipients": integer("Those that were in conversation just now, and are left alone."),
        "send": SEND,
    },
)
RESCHEDULE = body(
    "Reschedule",
    {"send_after": integer("When, in Unix seconds, at most 30 days ahead; a past time means now.", minimum=0)},
    ["send_after"],
)
RESCHEDULED = answer("Rescheduled", {"rescheduled_recipients": integer(), "send": SEND})
FINDING = answer(
    "Finding",
    {
        "check": string("One word for what was looked at.", examples=["dkim", "links"]),
        "level": choice(Level, "An error keeps the mail from being accepted or delivered; a warning may."),
        "message": string(),
        "field": nullable(string("The body's field that is to blame.")),
    },
)
PREFLIGHT = answer(
    "Preflight",
    {
        "accepted": boolean("Whether POST /sends would take it."),
        "worst": choice(Level, "The gravest level among the findings."),
        "size_bytes": nullable(integer("Before signing.")),
        "findings": listed(FINDING),
    },
)
