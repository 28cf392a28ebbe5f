"""What a report means for each recipient that it speaks of: pure, a table of kinds and classes.

failed            bounced, if the match finds the recipient
  hard              and suppressed, with proof; counted, where no row of the table takes an address away for it
  soft              and counted as a soft bounce, with proof
  infrastructure    and an incident, with proof
delayed           noted, and told of, with proof
relayed, delivered, expanded              noted
complaint         complained, and suppressed, with proof; "not spam" and failed authentication are noted
anything else     noted
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from relay_project.mail.classify import RULES, Category, Cause, Verdict
from relay_project.mail.reports.model import Action, BounceClass, Report, ReportedRecipient, ReportKind
from relay_project.mail.text import clean
from sending.inbound.correlate import Match, Target
from sending.models import FeedbackType

MAX_REASON = 2000  # characters, the column's
MAX_FINDINGS = 100  # recipients of one report that are kept; a transaction of ours has no more
MAX_ADDRESS = 320  # characters
MAX_FINDING = 500  # characters of a reason that staff see in the list of findings

_VERDICTS = {rule.verdict.rule: rule.verdict for rule in RULES}
_CATEGORIES = {
    BounceClass.HARD: Category.RECIPIENT,
    BounceClass.SOFT: Category.TEMPORARY,
    BounceClass.INFRASTRUCTURE: Category.INFRASTRUCTURE,
    BounceClass.CONTENT: Category.CONTENT,
}


@dataclass(frozen=True, slots=True)
class Blow:
    """What happens to one recipient: it bounced, or complained."""

    type: FeedbackType
    mail_id: int
    target: Target
    match: Match
    reported: ReportedRecipient
    feedback_type: str = ""  # of a complaint, as RFC 5965 §7.3 names it
    text: str = ""

    @property
    def key(self) -> tuple[int, str]:
        """One of each type for a recipient, in the order in which they are written."""
        return self.target.recipient_id, self.type.value

    @property
    def counts(self) -> bool:
        """Whether it may change more than the recipient's state: suppressions, counts, incidents."""
        return self.match.is_proven and not self.match.is_test

    @property
    def is_hard(self) -> bool:
        """The mailbox is not there, as sure as a reply in the conversation would have said it."""
        return self.type is FeedbackType.BOUNCE and self.reported.suppress

    @property
    def is_soft(self) -> bool:
        """The mailbox could not be reached, this time."""
        about_it = self.reported.bounce_class in (BounceClass.SOFT, BounceClass.HARD)
        return self.type is FeedbackType.BOUNCE and about_it and not self.reported.suppress

    @property
    def category(self) -> str:
        """Whose problem it is, as the events of a conversation say it."""
        verdict = _VERDICTS.get(self.reported.rule)
        found = verdict.category if verdict else _CATEGORIES.get(self.reported.bounce_class)
        return found.value if found else ""

    @property
    def cause(self) -> Cause | None:
        """What about us it complains of."""
        if self.type is not FeedbackType.BOUNCE or self.reported.bounce_class is not BounceClass.INFRASTRUCTURE:
            return None
        verdict: Verdict | None = _VERDICTS.get(self.reported.rule)
        return verdict.cause if verdict else Cause.PROTOCOL

    @property
    def code(self) -> int:
        """The reply's code; 0: none was quoted."""
        code = self.reported.code
        return int(code) if len(code) == 3 and code.isascii() and code.isdigit() else 0

    @property
    def said(self) -> str:
        """The reply on one line; reports quote it with its codes or without."""
        return " ".join(filter(None, (self.reported.code, self.reported.status, self.message)))

    @property
    def message(self) -> str:
        """The reply without its codes, as the events of a conversation have it."""
        text = " ".join(self.text.split())
        for code in filter(None, (self.reported.code, self.reported.status)):
            if text.startswith(code) and text[len(code) : len(code) + 1] in ("", " ", "-"):
                text = text[len(code) :].lstrip(" -")
        return text


@dataclass(frozen=True, slots=True)
class Delay:
    """What the receiving side says of a mail that it has and still tries to pass on."""

    target: Target
    status: str
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from one report: blows, delays, and a line for staff about each recipient that it names."""

    blows: tuple[Blow, ...]
    findings: tuple[dict[str, Any], ...]
    delays: tuple[Delay, ...] = ()


def decide(mail_id: int, report: Report, match: Match) -> Decision:
    """What the report means for whom it names."""
    kind = _type_of(report)
    blows: dict[int, Blow] = {}
    delays: dict[int, Delay] = {}
    findings = []
    for reported in map(_storable, _named(report, kind)[:MAX_FINDINGS]):
        target = match.of(reported.address)
        strikes = kind is FeedbackType.COMPLAINT or (kind is not None and reported.action is Action.FAILED)
        if strikes and target is not None and kind is not None:
            blows.setdefault(target.recipient_id, _blow(kind, mail_id, target, match, reported, report))
        if target is not None and match.is_proven and reported.action is Action.DELAYED:
            delays.setdefault(target.recipient_id, Delay(target, reported.status, reported.reason))
        findings.append(_finding(reported, target, strikes, kind))
    return Decision(tuple(blows.values()), tuple(findings), tuple(delays.values()))


def _type_of(report: Report) -> FeedbackType | None:
    """What it would do to a recipient."""
    if report.kind is ReportKind.BOUNCE:
        return FeedbackType.BOUNCE
    feedback = report.feedback
    if report.kind is ReportKind.COMPLAINT and (feedback is None or feedback.type.is_complaint):
        return FeedbackType.COMPLAINT
    return None


def _named(report: Report, kind: FeedbackType | None) -> Sequence[ReportedRecipient]:
    """Whom it names; a report that names nobody (a redacted complaint) may still mean the only one there is."""
    if report.recipients:
        return report.recipients
    if kind is None:
        return ()
    named = report.original.recipients if kind is FeedbackType.COMPLAINT else ()
    return [ReportedRecipient(address) for address in named] or [ReportedRecipient("")]


def _storable(reported: ReportedRecipient) -> ReportedRecipient:
    """The same within the columns' widths, whoever read it."""
    return replace(
        reported,
        address=clean(reported.address, MAX_ADDRESS),
        status=clean(reported.status, 12),
        code=clean(reported.code, 3),
        reason=clean(reported.reason, MAX_REASON),
        rule=clean(reported.rule, 64),
    )


def _blow(
    kind: FeedbackType, mail_id: int, target: Target, match: Match, reported: ReportedRecipient, report: Report
) -> Blow:
    feedback = report.feedback
    feedback_type = feedback.type.value if feedback is not None else ""
    if kind is FeedbackType.COMPLAINT:
        agent = feedback.user_agent if feedback is not None else ""
        text = f"Reported as {feedback_type or 'unwanted'}" + (f" by {agent}" if agent else "")
    else:
        text = reported.reason
    return Blow(kind, mail_id, target, match, reported, feedback_type, clean(text, MAX_REASON))


def _finding(
    reported: ReportedRecipient, target: Target | None, strikes: bool, kind: FeedbackType | None
) -> dict[str, Any]:
    found: dict[str, Any] = {"address": reported.address, "action": reported.action.value}
    if kind is FeedbackType.BOUNCE:
        found |= {
            "class": reported.bounce_class.value,
            "status": reported.status,
            "code": reported.code,
            "reason": reported.reason[:MAX_FINDING],
            "rule": reported.rule,
        }
    if target is not None:
        found |= {"recipient_id": target.recipient_id, "recipient": target.address}
    found["outcome"] = "nobody of ours" if target is None else "noted" if not strikes else ""
    return found
