"""What a report says: the facts that come out of a mail that came back, whoever wrote it."""

from dataclasses import dataclass, field
from enum import StrEnum

from relay_project.mail.reports.facts import DmarcReport, Feedback, TlsReport


class ReportKind(StrEnum):
    """What a mail that came to us is."""

    BOUNCE = "bounce"  # it says that a mail could not be delivered, or not yet
    COMPLAINT = "complaint"  # ARF, RFC 5965
    TLS_REPORT = "tls-report"  # RFC 8460
    DMARC_REPORT = "dmarc-report"  # aggregate, RFC 7489 §7.2
    AUTO_REPLY = "auto-reply"  # vacations, receipts, challenges: a machine wrote it, and the mail had arrived
    NONE = "none"  # anything else; also a DSN that tells of success only


class BounceClass(StrEnum):
    """Whose trouble a bounce is, as `parse_report` prints it."""

    HARD = "hard"  # the mailbox or its domain is not there
    SOFT = "soft"  # it may be there tomorrow: full, busy, given up after many tries
    INFRASTRUCTURE = "infrastructure"  # ours: IP, authentication, rate, TLS
    CONTENT = "content"  # this message: spam, virus, size, policy
    UNKNOWN = "unknown"


class Action(StrEnum):
    """RFC 3464 §2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """What a report says of one address.

    `status` as "5.1.1" and `code` as "550", each "" where nobody said it; `reason` is the diagnostic, cleaned and cut.
    `rule` is the row of bounce_rules.toml that decided; `suppress`: it takes an address away, as it would in a conversation.
    A class is broader: a mailbox that is refused for ever without a reason is `hard`, and only counted.
    """

    address: str
    status: str = ""
    code: str = ""
    bounce_class: BounceClass = BounceClass.UNKNOWN
    reason: str = ""
    action: Action = Action.FAILED
    rule: str = ""
    suppress: bool = False


@dataclass(frozen=True, slots=True)
class Original:
    """The mail that a report is about, as far as it came back; ids without angle brackets.

    `tokens`: every address anywhere in the report that has the shape of a return-path token of ours, in lower case.
    """

    message_id: str = ""
    envelope_id: str = ""
    return_path: str = ""
    recipients: tuple[str, ...] = ()
    subject: str = ""
    date: str = ""
    tokens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """One mail, read. `trouble` says why it could not be, where it could not."""

    kind: ReportKind
    recipients: tuple[ReportedRecipient, ...] = ()
    original: Original = field(default_factory=Original)
    feedback: Feedback | None = None
    tls_report: TlsReport | None = None
    dmarc_report: DmarcReport | None = None
    trouble: str = ""
    reporting_mta: str = ""
