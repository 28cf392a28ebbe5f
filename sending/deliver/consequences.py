"""What outcomes mean beyond their mail: suppressions, soft bounces, incidents. Part of settle's transaction.

Locks in settle's order: soft bounces by (project, address), suppressions by the same, incidents by (IP, site, cause).
A batch in which everything was accepted costs no statement here.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from django.conf import settings
from django.db.backends.utils import CursorWrapper

from ips.incidents import Sighting, sight
from projects.events import NewEvent
from relay_project.mail.classify import Cause
from relay_project.mail.text import clean
from sending import soft_bounces
from sending.deliver.outcome import AttemptOutcome, RecipientOutcome
from sending.models import RecipientStatus, SuppressionReason
from sending.suppress import NewSuppression, suppress_and_tell

MAX_QUOTE = 2000  # characters, the column of an incident

_ENDED = (RecipientStatus.BOUNCED, RecipientStatus.FAILED)
# The rows tell what happened to the recipient; those of this attempt follow it at once, which bounds their ids.
_MARK = """
UPDATE sending_attemptrecipient SET is_suppressed = true
 WHERE attempt_id = ANY(%s) AND recipient_id = ANY(%s) AND id >= %s
"""


class Line(Protocol):
    """One recipient's part in an attempt, as settle has it."""

    @property
    def attempt(self) -> AttemptOutcome:
        """The attempt."""

    @property
    def recipient(self) -> RecipientOutcome:
        """What was said and what it means."""

    @property
    def status(self) -> RecipientStatus:
        """The state it leads to."""

    @property
    def is_holder(self) -> bool:
        """Whether the attempt still held the waiting row: only then it is counted, and once."""


def draw_consequences(
    cursor: CursorWrapper, lines: Sequence[Line], decided: Sequence[Line], now: datetime
) -> list[NewEvent]:
    """Write what follows; `decided` are the lines that changed their recipient. Returns the events to write."""
    suppressions = _hard(lines)
    _take_back(cursor, decided)
    suppressions += _soft(cursor, decided, now)
    events = suppress_and_tell(cursor, suppressions)
    return events + sight(cursor, _sightings(lines), now)


def _hard(lines: Sequence[Line]) -> list[NewSuppression]:
    """Those whose verdict says that the mailbox is not there."""
    return [
        _suppression(line, _quote(line))
        for line in lines
        if line.recipient.verdict.suppress and line.status is RecipientStatus.BOUNCED
    ]


def _take_back(cursor: CursorWrapper, decided: Sequence[Line]) -> None:
    """An accepted mail ends the count of its address; whether there is one was read with the mail."""
    accepted = [
        soft_bounces.key_of(line.attempt.job.project_id, line.recipient.target.address)
        for line in decided
        if line.recipient.target.has_soft_bounces and line.status is RecipientStatus.ACCEPTED
    ]
    soft_bounces.take_back(cursor, accepted)


def _soft(cursor: CursorWrapper, decided: Sequence[Line], now: datetime) -> list[NewSuppression]:
    """Count what ended softly; those that reached the limit are to be suppressed."""
    soft = {
        soft_bounces.key_of(line.attempt.job.project_id, line.recipient.target.address): line
        for line in decided
        if line.recipient.verdict.soft and line.status in _ENDED
    }
    reached = [(one, soft[one.key]) for one in soft_bounces.count(cursor, soft, now)]
    _mark(cursor, [line for _, line in reached])
    return [
        _suppression(line, f"Undeliverable on {one.days} days within {settings.SOFT_BOUNCE_DAYS}: {_quote(line)}")
        for one, line in reached
    ]


def _mark(cursor: CursorWrapper, lines: Sequence[Line]) -> None:
    """Say in the attempt's rows that the address was suppressed; of a hard bounce they say so when they are written."""
    if lines:
        attempts = [line.attempt.job.attempt_id for line in lines]
        cursor.execute(_MARK, [attempts, [line.recipient.target.row.recipient_id for line in lines], min(attempts)])


def _suppression(line: Line, description: str) -> NewSuppression:
    address = line.recipient.target.address
    return NewSuppression(line.attempt.job.project_id, address, SuppressionReason.BOUNCE, description)


def _sightings(lines: Sequence[Line]) -> list[Sighting]:
    """What these attempts met that is about us, by source IP, site and cause.

    The simulator says what it is asked to: no tenant may put an alarm about our addresses before staff that way.
    """
    met: dict[tuple[int, str, Cause], dict[int, Line]] = {}
    for line in lines:
        cause = line.recipient.verdict.cause
        if cause is not None and line.is_holder and line.attempt.job.domain != settings.SIMULATOR_DOMAIN:
            key = line.attempt.job.source_ip_id, line.attempt.site, cause
            met.setdefault(key, {})[line.attempt.job.attempt_id] = line
    return [
        _sighting(source_ip_id, site, cause, len(found), found[max(found)])
        for (source_ip_id, site, cause), found in met.items()
    ]


def _sighting(source_ip_id: int, site: str, cause: Cause, attempts: int, last: Line) -> Sighting:
    job, rule = last.attempt.job, last.recipient.verdict.rule
    return Sighting(source_ip_id, site, cause, rule, attempts, _quote(last), job.project_id, job.send_id)


def _quote(line: Line) -> str:
    """The reply on one line, or the failure."""
    reply = line.recipient.reply
    return clean(line.recipient.text if reply is None else str(reply), MAX_QUOTE)
