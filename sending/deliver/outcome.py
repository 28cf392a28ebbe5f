"""What a conversation leaves for settle: plain values, no rows."""

from dataclasses import dataclass, field
from typing import Any

from relay_project.mail.classify import Category, Outcome, Verdict
from relay_project.mail.reply import NetworkFailure, Reply
from sending.deliver.load import Job, Target
from sending.models import AttemptStatus, RecipientStatus


@dataclass(frozen=True, slots=True)
class RecipientOutcome:
    """One recipient's part: what was said and what it means."""

    target: Target
    verdict: Verdict
    reply: Reply | None = None
    failure: NetworkFailure | None = None

    @property
    def text(self) -> str:
        """What the contract calls smtp_message."""
        if self.reply is not None:
            return self.reply.text
        return self.failure.text if self.failure is not None else ""


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """One attempt, finished. `conversations` is host → conversation as the API shows it."""

    job: Job
    recipients: tuple[RecipientOutcome, ...]
    site: str = ""
    resolved_hosts: tuple[str, ...] = ()
    responded_host: str | None = None
    conversations: dict[str, Any] = field(default_factory=dict)
    tls: dict[str, Any] | None = None
    network_error: str = ""
    duration_ms: int = 0
    signature: bytes | None = None
    is_dialled: bool = False
    by_hour: bool = False  # its site is limited by the hour, so it is counted


@dataclass(frozen=True, slots=True)
class GiveBack:
    """A job that was claimed and not dialled: its rows go back with their tries restored, due after `wait_seconds`.

    With `site`, they hang on a held site for that long. With `move_to` another source IP carries them.
    """

    job: Job
    wait_seconds: float = 0.0
    site: str | None = None
    reason: str = ""
    move_to: int | None = None


# Decided by us without a conversation, as the rule's name says.
SUPPRESSED = Verdict(Outcome.BOUNCED, Category.RECIPIENT, suppress=False, rule="suppressed-since-accept")
DOMAIN_STOPPED = Verdict(Outcome.DEFERRED, Category.INFRASTRUCTURE, suppress=False, rule="domain-may-not-send")
DOMAIN_REMOVED = Verdict(Outcome.BOUNCED, Category.INFRASTRUCTURE, suppress=False, rule="domain-removed-since-accept")


def status_of(outcome: RecipientOutcome, next_try_exists: bool) -> RecipientStatus:
    """The recipient's new state: a deferral without another try is `failed`."""
    if outcome.verdict is SUPPRESSED:
        return RecipientStatus.SUPPRESSED
    if outcome.verdict is DOMAIN_REMOVED:
        return RecipientStatus.FAILED
    if outcome.verdict.outcome is Outcome.ACCEPTED:
        return RecipientStatus.ACCEPTED
    if outcome.verdict.outcome is Outcome.BOUNCED:
        return RecipientStatus.BOUNCED
    return RecipientStatus.DEFERRED if next_try_exists else RecipientStatus.FAILED


_ALIKE = {RecipientStatus(status.value): status for status in AttemptStatus if status is not AttemptStatus.PARTIAL}


def attempt_status(statuses: list[RecipientStatus]) -> AttemptStatus:
    """The contract's: all alike → that; some accepted → partial; otherwise the mildest."""
    kinds = {RecipientStatus.BOUNCED if s is RecipientStatus.SUPPRESSED else s for s in statuses}
    if len(kinds) == 1:
        return _ALIKE[kinds.pop()]
    if RecipientStatus.ACCEPTED in kinds:
        return AttemptStatus.PARTIAL
    return AttemptStatus.DEFERRED if RecipientStatus.DEFERRED in kinds else AttemptStatus.BOUNCED
