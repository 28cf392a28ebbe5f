"""What reports other than bounces say: complaints, TLS reports and DMARC aggregate reports.

Everything is text and numbers from outside, cleaned and cut where it was read; lists are bounded, and say what they
leave out.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class FeedbackType(StrEnum):
    """What a feedback report is about (RFC 5965 §7.3, RFC 6430, RFC 6591); what is unknown is `other` (RFC 5965 §3.5)."""

    ABUSE = "abuse"
    FRAUD = "fraud"
    VIRUS = "virus"
    OTHER = "other"
    NOT_SPAM = "not-spam"
    AUTH_FAILURE = "auth-failure"
    OPT_OUT = "opt-out"  # registered once, then withdrawn; still sent. So is opt-out-list

    @property
    def is_complaint(self) -> bool:
        """Whether somebody did not want the mail. Who opts out does not want the next either."""
        return self not in (FeedbackType.NOT_SPAM, FeedbackType.AUTH_FAILURE)


@dataclass(frozen=True, slots=True)
class Feedback:
    """A feedback report (ARF). Recipients and the original stand in the Report itself."""

    type: FeedbackType
    user_agent: str = ""
    version: str = ""
    source_ip: str = ""
    reported_domains: tuple[str, ...] = ()
    arrival_date: str = ""
    incidents: int = 1
    auth_failure: str = ""  # RFC 6591 §3.1: adsp, bodyhash, revoked, signature, spf, dmarc
    delivery_result: str = ""
    is_redacted: bool = False  # nobody is named as recipient


@dataclass(frozen=True, slots=True)
class TlsFailure:
    """Sessions that failed in one way (RFC 8460 §4.4)."""

    result_type: str  # "certificate-expired"; what is unknown stays as it was written
    sessions: int
    receiving_mx: str = ""
    sending_ip: str = ""
    receiving_ip: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """What was found of one policy of a domain."""

    domain: str  # normalised
    type: str  # tlsa, sts, no-policy-found
    succeeded: int
    failed: int
    failures: tuple[TlsFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class TlsReport:
    """A TLS report (RFC 8460): what one organisation saw when it sent mail to a domain. Times in UTC."""

    organisation: str
    report_id: str
    begins_at: datetime
    ends_at: datetime
    contact: str = ""
    policies: tuple[TlsPolicy, ...] = ()
    left_out: int = 0  # policies and failures beyond the limits


@dataclass(frozen=True, slots=True)
class DmarcResult:
    """What DKIM or SPF said of a domain, aligned or not."""

    domain: str
    result: str
    selector: str = ""


@dataclass(frozen=True, slots=True)
class DmarcRow:
    """Messages of one source that fared alike (RFC 7489 appendix C). `dkim`, `spf`: whether they passed *and* were aligned."""

    source_ip: str
    messages: int
    disposition: str  # none, quarantine, reject, pass
    dkim: bool
    spf: bool
    header_from: str  # normalised; the policy's domain where the row names none
    envelope_from: str = ""
    reasons: tuple[str, ...] = ()  # why the disposition is not the policy's: forwarded, mailing_list, …
    dkim_results: tuple[DmarcResult, ...] = ()
    spf_results: tuple[DmarcResult, ...] = ()

    @property
    def is_aligned(self) -> bool:
        """Whether DMARC passed."""
        return self.dkim or self.spf


@dataclass(frozen=True, slots=True)
class DmarcReport:
    """A DMARC aggregate report: what one organisation saw of a domain's mail. Times in UTC."""

    organisation: str
    report_id: str
    begins_at: datetime
    ends_at: datetime
    domain: str  # normalised: where the policy was published
    policy: str = ""  # p
    subdomain_policy: str = ""  # sp
    percent: int | None = None  # pct; the newer schema has none
    is_testing: bool = False  # t=y of the newer schema
    strict_dkim: bool = False
    strict_spf: bool = False
    contact: str = ""
    rows: tuple[DmarcRow, ...] = ()
    left_out: int = 0  # rows beyond the limit
