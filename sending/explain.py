"""One sentence about a recipient: where it stands, why, and what comes next. Pure; the console and `send_test` show it."""

from dataclasses import dataclass
from datetime import datetime

from sending.models import RecipientStatus


@dataclass(frozen=True, slots=True)
class LastWord:
    """What the last attempt brought for a recipient. `by`: the host that answered; `text`: its words or the failure."""

    by: str
    text: str
    try_count: int
    is_suppressed: bool = False

    @property
    def quoted(self) -> str:
        """`mx.example.com said “450 4.2.1 Busy”`, or the failure alone."""
        return f"{self.by} said “{self.text}”" if self.by else self.text

    @property
    def sentence(self) -> str:
        """As `quoted`, fit to begin a sentence; a host's name keeps its case."""
        return self.quoted if self.by else self.text[:1].upper() + self.text[1:]


@dataclass(frozen=True, slots=True)
class Wait:
    """The recipient's row in the ledger. `held_by`: why its receiving site may not be tried now."""

    due_at: datetime
    tries: int
    lease_until: datetime | None = None
    held_by: str = ""


def why(status: str, wait: Wait | None, last: LastWord | None, max_tries: int, now: datetime) -> str:
    """Where a recipient stands, in one or two sentences."""
    if wait is not None:
        return _why_it_waits(wait, last, max_tries, now)
    text = last.quoted if last else ""
    if status == RecipientStatus.BOUNCED and last and last.is_suppressed:
        return f"Refused for good: {text}. The address is now on the project's suppression list."
    return {
        RecipientStatus.ACCEPTED: f"{last.by or 'The next hop'} took it on: “{last.text}”."
        if last
        else "The next hop took it on.",
        RecipientStatus.BOUNCED: f"Refused for good: {text}." if text else "Refused for good.",
        RecipientStatus.FAILED: _gave_up(last),
        RecipientStatus.SUPPRESSED: "The address is on the project's suppression list, so nothing was sent to it.",
        RecipientStatus.COMPLAINED: "The recipient reported the mail as spam.",
        RecipientStatus.CANCELLED: "Cancelled before it left.",
    }.get(
        RecipientStatus(status), "No longer waiting; its last state was not written. Staff are told by a health check."
    )


def _gave_up(last: LastWord | None) -> str:
    if last is None:
        return "Given up."
    tries = "1 try" if last.try_count == 1 else f"{last.try_count} tries"
    return f"Given up after {tries}. The last: {last.quoted}."


def _why_it_waits(wait: Wait, last: LastWord | None, max_tries: int, now: datetime) -> str:
    if wait.lease_until is not None:
        return "In conversation with the receiving server right now."
    if wait.held_by:
        return f"Waits for its turn at the receiving site: {wait.held_by}. Next slot at {_clock(wait.due_at, now)}."
    if last is None and wait.due_at > now:
        return f"Scheduled for {_clock(wait.due_at, now)}."
    if last is None:
        return "Waits for a sender; it leaves as soon as one has room."
    when = f"at {_clock(wait.due_at, now)}" if wait.due_at > now else "as soon as a sender has room"
    return f"{last.sentence}. Try {wait.tries + 1} of {max_tries} follows {when}."


def _clock(at: datetime, now: datetime) -> str:
    return f"{at:%H:%M:%S} UTC" if at.date() == now.date() else f"{at:%-d %B, %H:%M} UTC"


def reply_text(code: int, enhanced: str | None, message: str, network_error: str = "") -> str:
    """A reply as one line, `450 4.2.1 Busy`; without a reply the network's failure."""
    if not code:
        return network_error or message or "no reply"
    text = " ".join(message.split())
    if text.startswith(str(code)):
        return text.rstrip(". ")
    if enhanced and not text.startswith(enhanced):
        text = f"{enhanced} {text}".rstrip()
    return f"{code} {text}".rstrip(". ")
