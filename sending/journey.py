"""A send's journey, read back: accepted, queued, signed, every attempt with its conversations, and what comes next.

The console shows it, `send_test` and `quickstart` print it. Read-only; every query carries a range of ids.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from django.conf import settings

from ips.models import SourceIp
from queues.models import Queue
from relay_project.db.ids import hours_after, id_time
from relay_project.mail.classify import source_of
from relay_project.mail.reply import Stage
from sending.backlog.why import attempts_of, read_waits, reasons_of, words_of
from sending.explain import Kind, Reason, Wait, reply_text
from sending.feedback import feedback_of, said
from sending.models import (
    Attempt,
    AttemptRecipient,
    Feedback,
    FeedbackType,
    Recipient,
    RecipientStatus,
    SandboxMessage,
    Send,
    Signature,
)

# What decided about TLS (sending.deliver.tls_ladder.TlsPolicy), where it was more than the server's offer.
_DEMANDS = {"dane": "demanded by DANE", "mta-sts": "demanded by MTA-STS", "override": "demanded by staff"}
_SIGNED_BY = re.compile(rb"\bd=([^;\s]+);.*?\bs=([^;\s]+)", re.DOTALL)
# Steps that the client sends in one go (RFC 2920): their times all count from the same moment.
_PIPELINED = frozenset({Stage.MAIL, Stage.RCPT, Stage.DATA})


class StepKind(StrEnum):
    """What a step is about: `smtp` steps are the lines inside an `attempt`."""

    ACCEPTED = "accepted"
    QUEUED = "queued"
    SIGNED = "signed"
    ATTEMPT = "attempt"
    SMTP = "smtp"
    RESULT = "result"
    RECEIVED = "received"
    REPORT = "report"
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened, or will: `at` is aware UTC, `detail` one line. `status` colours it."""

    at: datetime
    title: str
    detail: str = ""
    kind: StepKind = StepKind.RESULT
    status: str = ""
    attempt_id: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A command and its reply. `code` 0: no reply came."""

    stage: str
    command: str
    code: int
    reply: str
    duration_ms: int
    elapsed_ms: int  # since the conversation began
    note: str = ""  # where the reply looks like what it is not

    @property
    def said(self) -> str:
        """The reply as it came over the wire: the code before each line (RFC 5321 §4.2.1)."""
        if not self.code:
            return "no reply"
        *before, last = self.reply.split("\n")
        return "\n".join([*(f"{self.code}-{line}" for line in before), f"{self.code} {last}"])

    @property
    def tone(self) -> str:
        """The reply's class as a state's colour; a refusal with a note is none."""
        if self.note:
            return "mute"
        return {2: "ok", 3: "ok", 4: "later", 5: "bad"}.get(self.code // 100, "mute")


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was said to one host."""

    host: str
    started_at: datetime
    duration_ms: int
    network_error: str
    lines: tuple[Line, ...]

    @property
    def is_reused(self) -> bool:
        """The connection was open from an earlier mail, so nothing was dialled."""
        return bool(self.lines) and self.lines[0].stage in (Stage.MAIL, Stage.RCPT)


@dataclass(frozen=True, slots=True)
class Result:
    """What an attempt brought for one recipient, and the rule that decided."""

    address: str
    status: str
    code: int  # 0: no reply, `reply` says why
    reply: str
    category: str
    rule: str
    is_suppressed: bool

    @property
    def source(self) -> str:
        """Where the rule is written; empty for one of ours, which its name explains."""
        return source_of(self.rule)


def _is_session(record: dict[str, Any] | None) -> bool:
    """Whether an attempt's TLS record is of a session, and not of a demand that was not met."""
    return bool(record and record.get("version"))


@dataclass(frozen=True, slots=True)
class AttemptStory:
    """One try in one domain."""

    attempt: Attempt
    at: datetime
    source: SourceIp | None
    conversations: tuple[Conversation, ...]
    results: tuple[Result, ...]

    @property
    def tls(self) -> str:
        """The TLS session in words; empty without one."""
        session = self.attempt.tls or {}
        if not _is_session(session):
            return ""
        checked = "certificate verified" if session.get("verified") else "certificate not checked"
        demanded = _DEMANDS.get(session.get("policy", ""), "")
        words = [session.get("version", "TLS"), session.get("cipher", ""), checked, demanded]
        return ", ".join(word for word in words if word)

    @property
    def is_clear(self) -> bool:
        """Mail was spoken of without TLS."""
        spoken = any(line.stage == Stage.MAIL for talk in self.conversations for line in talk.lines)
        return spoken and not _is_session(self.attempt.tls)

    @property
    def tls_unmet(self) -> str:
        """By whom a session was demanded that did not come about: `demanded by DANE`."""
        record = self.attempt.tls
        return "" if not record or _is_session(record) else _DEMANDS.get(record.get("policy", ""), "")

    @property
    def ended_at(self) -> datetime:
        """When its last reply came."""
        ends = [c.started_at + timedelta(milliseconds=c.duration_ms) for c in self.conversations]
        return max([self.at + timedelta(milliseconds=self.attempt.duration_ms), *ends])


@dataclass(frozen=True, slots=True)
class RecipientStory:
    """A recipient, its row in the ledger if it waits, and a sentence about it."""

    recipient: Recipient
    sentence: str
    next_at: datetime | None = None
    in_flight: bool = False


@dataclass(frozen=True, slots=True)
class Journey:
    """Everything known about one send. `attempts` oldest first; `steps` in the order of time."""

    send: Send
    accepted_at: datetime
    queue: str
    recipients: tuple[RecipientStory, ...]
    attempts: tuple[AttemptStory, ...]
    steps: tuple[Step, ...] = field(default=())

    @property
    def is_final(self) -> bool:
        """No recipient waits any more."""
        return not any(
            story.recipient.status in (RecipientStatus.QUEUED, RecipientStatus.DEFERRED) for story in self.recipients
        )

    @property
    def milestones(self) -> tuple[Step, ...]:
        """The steps without the lines of the conversations."""
        return tuple(step for step in self.steps if step.kind is not StepKind.SMTP)

    @property
    def next_at(self) -> datetime | None:
        """The earliest time something is due."""
        return min((story.next_at for story in self.recipients if story.next_at), default=None)


def recipients_of(send_id: int) -> list[Recipient]:
    """A send's recipients in the order of its headers."""
    rows = Recipient.objects.filter(send_id=send_id, id__gte=send_id, id__lt=hours_after(send_id, 1))
    return list(rows.order_by("position", "id"))


def read_journey(send: Send, now: datetime) -> Journey:
    """One send with all that happened to it: a dozen small queries, however long the history is."""
    recipients = recipients_of(send.pk)
    attempts, results = attempts_of(send)
    waits = read_waits(send, now)
    feedback = feedback_of(send)
    reasons = reasons_of(send, recipients, waits, words_of(attempts, results), now, feedback)
    queue = Queue.objects.filter(pk=send.queue_id).values_list("name", flat=True).first()
    journey = Journey(
        send,
        id_time(send.pk),
        queue or "a queue that is gone",
        _recipient_stories(recipients, reasons, waits),
        _attempt_stories(attempts, results, {recipient.pk: recipient for recipient in recipients}),
    )
    return replace(journey, steps=tuple(_steps(journey, feedback)))


# --- Rows to values ----------------------------------------------------------------------------------------------


def _attempt_stories(
    attempts: Sequence[Attempt], results: Sequence[AttemptRecipient], recipients: dict[int, Recipient]
) -> tuple[AttemptStory, ...]:
    by_attempt: dict[int, list[AttemptRecipient]] = defaultdict(list)
    for row in results:
        by_attempt[row.attempt_id].append(row)
    sources = SourceIp.objects.in_bulk({attempt.source_ip_id for attempt in attempts if attempt.source_ip_id})
    return tuple(
        AttemptStory(
            attempt,
            id_time(attempt.pk),
            sources.get(attempt.source_ip_id or 0),
            _conversations(attempt),
            tuple(_result(row, recipients, attempt) for row in by_attempt[attempt.pk]),
        )
        for attempt in attempts
    )


def _result(row: AttemptRecipient, recipients: dict[int, Recipient], attempt: Attempt) -> Result:
    recipient = recipients.get(row.recipient_id)
    return Result(
        recipient.address if recipient else f"recipient {row.recipient_id}",
        row.recipient_status,
        row.smtp_code,
        reply_text(row.smtp_code, row.smtp_enhanced_code, row.smtp_message, attempt.network_error),
        row.category,
        row.rule,
        row.is_suppressed,
    )


def _conversations(attempt: Attempt) -> tuple[Conversation, ...]:
    """The stored JSON, host by host, in the order in which they were asked."""
    found = [_conversation(attempt, host, stored) for host, stored in dict(attempt.smtp_conversations or {}).items()]
    return tuple(sorted(found, key=lambda conversation: conversation.started_at))


def _conversation(attempt: Attempt, host: str, stored: dict[str, Any]) -> Conversation:
    try:
        started_at = datetime.fromisoformat(stored["start_time"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError):  # written by an older version: the attempt's own time is near enough
        started_at = id_time(attempt.pk)
    duration = int(stored.get("duration_ms") or 0)
    lines = _lines(stored.get("steps") or [], duration)
    return Conversation(host, started_at, duration, stored.get("network_error") or "", lines)


def _lines(steps: Sequence[dict[str, Any]], total_ms: int) -> tuple[Line, ...]:
    """Steps with their place in time. Those of a pipelined group count from the group's first command."""
    lines: list[Line] = []
    elapsed = begun = 0
    for step in steps:
        duration = int(step.get("duration_ms") or 0)
        if step.get("name") not in _PIPELINED:
            begun = elapsed
        elapsed = max(elapsed, begun + duration)
        if step.get("name") not in _PIPELINED:
            begun = elapsed
        lines.append(
            Line(
                step.get("name", ""),
                step.get("command", ""),
                int(step.get("reply_code") or 0),
                step.get("reply_text", ""),
                duration,
                min(elapsed, max(total_ms, duration)),
                step.get("note", ""),
            )
        )
    return tuple(lines)


def _recipient_stories(
    recipients: Sequence[Recipient], reasons: dict[int, Reason], waits: dict[int, Wait]
) -> tuple[RecipientStory, ...]:
    stories = []
    for recipient in recipients:
        wait, reason = waits.get(recipient.pk), reasons[recipient.pk]
        in_flight = reason.kind is Kind.IN_FLIGHT
        next_at = wait.due_at if wait and not in_flight else None
        stories.append(RecipientStory(recipient, reason.text, next_at, in_flight))
    return tuple(stories)


# --- Values to steps ---------------------------------------------------------------------------------------------


def _steps(journey: Journey, feedback: Sequence[Feedback]) -> list[Step]:
    steps = [_accepted(journey), *_queued(journey), *_signed(journey), *_forgotten(journey)]
    for story in journey.attempts:
        steps += _attempt_steps(story)
    steps += [_received(message) for message in _sandbox_messages(journey.send)]
    steps += _reports(journey, feedback)
    steps.sort(key=lambda step: step.at)  # stable: what shares a millisecond stays in the order of the journey
    return steps + _next(journey)


def _accepted(journey: Journey) -> Step:
    count = len(journey.recipients)
    people = "1 recipient" if count == 1 else f"{count} recipients"
    detail = f"{people}, {journey.send.size_bytes:,} bytes, from {journey.send.from_address}"
    return Step(journey.accepted_at, "Accepted and stored", detail, StepKind.ACCEPTED)


def _forgotten(journey: Journey) -> list[Step]:
    """It was tried, and what was tried has left before the send."""
    if journey.attempts or not any(story.recipient.try_count for story in journey.recipients):
        return []
    detail = f"Attempts are kept for {settings.RETENTION_ATTEMPTS_DAYS} days."
    return [Step(journey.accepted_at, "What was tried is no longer kept", detail, StepKind.RESULT)]


def _queued(journey: Journey) -> list[Step]:
    suppressed = [s.recipient.address for s in journey.recipients if s.recipient.status == RecipientStatus.SUPPRESSED]
    steps = []
    if suppressed:
        detail = "On the suppression list: " + ", ".join(suppressed)
        steps.append(Step(journey.accepted_at, "Suppressed", detail, StepKind.QUEUED, RecipientStatus.SUPPRESSED))
    if len(suppressed) < len(journey.recipients):
        steps.append(
            Step(journey.accepted_at, f"Queued in {journey.queue}", "", StepKind.QUEUED, RecipientStatus.QUEUED)
        )
    return steps


def _signed(journey: Journey) -> list[Step]:
    """The signatures were made just before the first attempt's DATA; they are stored without a time of their own."""
    row = Signature.objects.filter(pk=journey.send.pk).first()
    if row is None or not journey.attempts:
        return []
    lines = bytes(row.header_lines)
    signers = [f"{domain.decode()} (selector {selector.decode()})" for domain, selector in _SIGNED_BY.findall(lines)]
    return [Step(journey.attempts[0].at, "Signed with DKIM", "by " + " and ".join(signers), StepKind.SIGNED)]


def _attempt_steps(story: AttemptStory) -> list[Step]:
    attempt = story.attempt
    hosts = ", ".join(attempt.resolved_mx_hosts) or "no MX host found"
    source = f" from {story.source.address} ({story.source.helo_name})" if story.source else ""
    title = f"Try {attempt.try_count} for {attempt.domain}"
    steps = [Step(story.at, title, f"MX {hosts}{source}", StepKind.ATTEMPT, attempt.status, attempt.pk)]
    for conversation in story.conversations:
        steps += _conversation_steps(conversation, attempt.pk)
    failure = attempt.network_error if attempt.is_lost or not story.conversations else ""
    if failure:
        steps.append(Step(story.ended_at, "Network failure", failure, StepKind.SMTP, "", attempt.pk))
    for result in story.results:
        title = f"{result.address}: {result.status}"
        steps.append(Step(story.ended_at, title, result.reply, StepKind.RESULT, result.status, attempt.pk))
    return steps


def _conversation_steps(conversation: Conversation, attempt_id: int) -> list[Step]:
    steps = []
    for line in conversation.lines:
        at = conversation.started_at + timedelta(milliseconds=line.elapsed_ms)
        reply = reply_text(line.code, None, line.reply, conversation.network_error)
        steps.append(Step(at, line.command or line.stage, reply, StepKind.SMTP, "", attempt_id))
    return steps


def _sandbox_messages(send: Send) -> list[SandboxMessage]:
    """Where the mail stayed on this machine: what the sandbox received of it."""
    rows = SandboxMessage.objects.filter(project_id=send.project_id, send_id=send.pk)
    return list(rows.defer("data").order_by("id")[:20])


def _received(message: SandboxMessage) -> Step:
    valid = [
        f"{result.get('domain')} valid"
        if result.get("valid")
        else f"{result.get('domain')} NOT valid: {result.get('error', '')}"
        for result in message.dkim_results
    ]
    detail = f"for {', '.join(message.recipients)}; DKIM: {', '.join(valid) or 'no signature'}"
    return Step(message.received_at.astimezone(UTC), "Received by the sandbox", detail, StepKind.RECEIVED)


def _reports(journey: Journey, feedback: Sequence[Feedback]) -> list[Step]:
    """What came back afterwards."""
    addresses = {story.recipient.pk: story.recipient.address for story in journey.recipients}
    return [
        Step(
            id_time(row.id),
            f"A report came back: {addresses.get(row.recipient_id, 'a recipient')} "
            + ("complained" if row.type == FeedbackType.COMPLAINT else "bounced"),
            said(row) + ("" if row.is_proven else " (unsigned: nobody is suppressed by it)"),
            StepKind.REPORT,
            RecipientStatus.COMPLAINED if row.type == FeedbackType.COMPLAINT else RecipientStatus.BOUNCED,
        )
        for row in feedback
    ]


def _next(journey: Journey) -> list[Step]:
    """What is still to come, at the end whatever the clocks say."""
    due = defaultdict(list)
    for story in journey.recipients:
        if story.next_at is not None:
            due[story.next_at].append(story.recipient.address)
    return [
        Step(at, "Next try", ", ".join(addresses), StepKind.NEXT, RecipientStatus.QUEUED)
        for at, addresses in sorted(due.items())
    ]
