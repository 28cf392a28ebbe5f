"""What asks to be sent: one value object for the API, SMTP submission, notices and batches alike.

Surfaces check shapes and build it; accept() checks the rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from relay_project.mail.mime import Attachment, NamedAddress
from relay_project.mail.raw import RawMessage
from sending.models import Priority, RecipientType


@dataclass(frozen=True, slots=True)
class RequestedRecipient:
    """One address as it was asked for."""

    type: RecipientType
    address: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class ListUnsubscribe:
    """What `list_unsubscribe` asks for: our link, and an address that takes mail instead (RFC 2369), if there is one."""

    mailto: str | None = None


@dataclass(frozen=True, slots=True)
class SendRequest:
    """One message. Addresses are checked (mail.address) but not yet normalised; header names and values are checked."""

    from_: NamedAddress
    recipients: tuple[RequestedRecipient, ...]
    subject: str | None = None
    body_html: str | None = None
    body_text: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()
    raw: RawMessage | None = None  # the customer's own MIME, in place of subject, bodies, headers and files
    send_after: datetime | None = None
    priority: Priority | None = None  # None: what the project sends
    list: str | None = None  # the customer's name of the list it is for, normalised (sending.suppress.list_key)
    list_unsubscribe: ListUnsubscribe | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_test: bool = False  # made with a test key: answered by the simulator's table, in the sender
    # Of a message of a batch: its values for the placeholders in subject, bodies and headers, and the number of the content
    # that it shares with others of its batch.
    variables: Mapping[str, str] | None = None
    shares: int | None = None
    # Of a mail that came in and is passed on: its envelope sender, "" for <>. Its MIME leaves as it is, without a signature.
    forwarded_from: str | None = None
    idempotency_key: str | None = None
    fingerprint: str = ""  # SHA-256 of the request body, in hexadecimal; goes with idempotency_key


@dataclass(frozen=True, slots=True)
class Accepted:
    """What accept() answers. `replayed`: the idempotency key had been used with the same body."""

    send_id: int
    message_id: str  # without angle brackets
    replayed: bool = False
    suppressed: tuple[str, ...] = field(default=())


class Refused(ValueError):
    """The request breaks a rule. `status` is the contract's, `field` the body's property where one is to blame.

    `retry_after`: in so many seconds the same request may succeed.
    """

    def __init__(
        self, message: str, status: int = 400, field: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.field = field
        self.retry_after = retry_after


class TooLarge(Refused):
    """The message has more octets than the project may send."""


class TooManyRecipients(Refused):
    """The message has more recipients than the project may name."""
