"""Apply: what a batch of reports says, in one transaction: states, feedback, suppressions, incidents, events, and the marks.

A mail is applied once: its unread row is deleted here, and only whose row was there counts. Feedback is written once for
each recipient and type; only what is new has consequences, so that the same report twice (a retried delivery, a lost
answer, "read again") changes nothing. Locks in settle's order: waiting rows by id, recipients by id, then what
consequences.py says.

A report's word is final: the recipient leaves the ledger, be it in flight, and no late 250 takes the word back.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.conf import settings
from django.db import transaction
from django.db.backends.utils import CursorWrapper

from ips.incidents import Sighting, sight
from projects.events import EventKind, NewEvent, emit_many
from relay_project.db.bound import bound_cursor
from relay_project.db.ids import by_day
from relay_project.mail.reports.model import ReportKind
from relay_project.mail.text import clean
from sending import soft_bounces
from sending.deliver.consequences import MAX_QUOTE
from sending.inbound.advice import keep
from sending.inbound.correlate import Match, Read, correlate
from sending.inbound.decide import Blow, Decision, Delay, decide
from sending.inbound.routing.take import take
from sending.labels import NONE, labels_of
from sending.models import FeedbackType, InboundState, RecipientStatus, SuppressionReason
from sending.suppress import NewSuppression, suppress_and_tell

LOOK_AGAIN = timedelta(seconds=3)
MAX_TROUBLE = 500  # characters, the column's

# What a report overrides. `suppressed` was never sent; a complaint is about a mail that came, whatever else was said of it.
_BOUNCING = ("queued", "deferred", "accepted", "failed", "cancelled")
_COMPLAINING = (*_BOUNCING, "bounced")

_TAKE = """
DELETE FROM sending_unreadmail u USING unnest(%s::bigint[], %s::smallint[]) AS t(id, tries)
 WHERE u.mail_id = t.id AND u.tries = t.tries RETURNING u.mail_id
"""
_LATER = """
UPDATE sending_unreadmail u SET due_at = %s, tries = u.tries - 1
  FROM unnest(%s::bigint[], %s::smallint[]) AS t(id, tries) WHERE u.mail_id = t.id AND u.tries = t.tries
"""
_FEEDBACK = """
INSERT INTO sending_feedback (type, recipient_id, id, send_id, project_id, attempt_id, mail_id, is_proven, bounce_class,
       status, code, reason)
SELECT f.type, f.recipient, new_id(), f.send, f.project, f.attempt, f.mail, f.proven, f.class, f.status, f.code, f.reason
  FROM jsonb_to_recordset(%s::jsonb) AS f(type text, recipient bigint, send bigint, project bigint, attempt bigint,
       mail bigint, proven bool, class text, status text, code smallint, reason text)
 ORDER BY f.recipient, f.type
ON CONFLICT (type, recipient_id) DO NOTHING RETURNING recipient_id, type, id
"""
_RECIPIENTS = """
UPDATE sending_recipient SET status = %s
 WHERE id = ANY(%s) AND id BETWEEN %s AND %s AND status = ANY(%s) RETURNING id, try_count
"""
_MARK = """
UPDATE sending_inboundmail m
   SET state = v.state, kind = v.kind, trouble = v.trouble, correlation = v.correlation, project_id = v.project,
       send_id = v.send, attempt_id = v.attempt, findings = v.findings, read_at = %s
  FROM jsonb_to_recordset(%s::jsonb) AS v(id bigint, state text, kind text, trouble text, correlation text,
       project bigint, send bigint, attempt bigint, findings jsonb)
 WHERE m.id = v.id AND m.id BETWEEN %s AND %s
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one mail, for the row, the metrics and the log."""

    mail_id: int
    kind: ReportKind
    state: InboundState
    match: Match
    decision: Decision
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class _Struck:
    """A blow that is new, and whether it moved its recipient."""

    blow: Blow
    feedback_id: int
    moved: bool
    try_count: int = 0


def apply(reads: Sequence[Read], now: datetime) -> list[Outcome]:
    """Do what a batch of mails says; returns what became of each that was ours to read, and is not looked at again."""
    with bound_cursor() as cursor:
        matches = correlate(cursor, reads, now)
    pairs = list(zip(reads, matches, strict=True))
    with transaction.atomic(), bound_cursor() as cursor:
        _look_again([read for read, match in pairs if match.look_again], cursor, now)
        taken = _take(cursor, [read for read, match in pairs if not match.look_again])
        mine = [(read, match) for read, match in pairs if read.mail.mail_id in taken]
        decisions = [decide(read.mail.mail_id, read.report, match) for read, match in mine]
        struck, events = _strike(cursor, [blow for decision in decisions for blow in decision.blows], now)
        events += _late(cursor, [delay for decision in decisions for delay in decision.delays])
        kept = keep(cursor, [read.report for read, _ in mine], now)
        outcomes = [
            _outcome(*pair, decision, struck, advises)
            for pair, decision, advises in zip(mine, decisions, kept, strict=True)
        ]
        emit_many(cursor, events)
        outcomes = _handed_on(outcomes, take(cursor, [(read.mail, match.goes_back) for read, match in mine], now))
        mark(cursor, outcomes, now)
    return outcomes


# --- Whose turn it is ----------------------------------------------------------------------------------------------


def _take(cursor: CursorWrapper, reads: Sequence[Read]) -> set[int]:
    """The mails that are still this reader's."""
    if not reads:
        return set()
    ordered = sorted(reads, key=lambda read: read.mail.mail_id)
    cursor.execute(_TAKE, [[read.mail.mail_id for read in ordered], [read.mail.tries for read in ordered]])
    return {mail_id for (mail_id,) in cursor.fetchall()}


def _look_again(reads: Sequence[Read], cursor: CursorWrapper, now: datetime) -> None:
    if reads:
        cursor.execute(
            _LATER, [now + LOOK_AGAIN, [read.mail.mail_id for read in reads], [read.mail.tries for read in reads]]
        )


# --- What happens to recipients ------------------------------------------------------------------------------------


def _strike(
    cursor: CursorWrapper, blows: Sequence[Blow], now: datetime
) -> tuple[dict[tuple[int, str], _Struck], list[NewEvent]]:
    """Write feedback, states and all that follows; returns what was new, and the events to write."""
    unique: dict[tuple[int, str], Blow] = {}
    for blow in blows:
        unique.setdefault(blow.key, blow)
    ordered = [unique[key] for key in sorted(unique)]
    if not ordered:
        return {}, []
    cursor.execute(
        "SELECT FROM sending_waiting WHERE recipient_id = ANY(%s) ORDER BY recipient_id FOR UPDATE",
        [sorted({blow.target.recipient_id for blow in ordered})],
    )
    fresh = _write_feedback(cursor, ordered)
    moved = _move(cursor, [blow for blow in ordered if blow.key in fresh])
    struck = {
        blow.key: _Struck(blow, fresh[blow.key], blow.key in moved, moved.get(blow.key, 0))
        for blow in ordered
        if blow.key in fresh
    }
    events = _consequences(cursor, list(struck.values()), now)
    known = labels_of(cursor, {one.blow.target.send_id for one in struck.values()})
    told = [_event(one, known.get(one.blow.target.send_id, NONE)) for one in struck.values() if one.moved]
    return struck, told + events


def _write_feedback(cursor: CursorWrapper, blows: Sequence[Blow]) -> dict[tuple[int, str], int]:
    """(recipient, type) → feedback id of what nobody had said yet."""
    cursor.execute(_FEEDBACK, [_as_json([_feedback_row(blow) for blow in blows])])
    return {(recipient_id, kind): feedback_id for recipient_id, kind, feedback_id in cursor.fetchall()}


def _feedback_row(blow: Blow) -> dict[str, Any]:
    is_bounce = blow.type is FeedbackType.BOUNCE
    return {
        "type": blow.type.value,
        "recipient": blow.target.recipient_id,
        "send": blow.target.send_id,
        "project": blow.target.project_id,
        "attempt": blow.match.attempt_id,
        "mail": blow.mail_id,
        "proven": blow.match.is_proven,
        "class": blow.reported.bounce_class.value if is_bounce else "",
        "status": clean(blow.reported.status if is_bounce else blow.feedback_type, 12),
        "code": blow.code,
        "reason": blow.text,
    }


def _move(cursor: CursorWrapper, blows: Sequence[Blow]) -> dict[tuple[int, str], int]:
    """(recipient, type) → tries, of those whose state it changed; they wait for nothing any more."""
    moved: dict[tuple[int, str], int] = {}
    for kind, status, from_ in (
        (FeedbackType.BOUNCE, RecipientStatus.BOUNCED, _BOUNCING),
        (FeedbackType.COMPLAINT, RecipientStatus.COMPLAINED, _COMPLAINING),
    ):
        for ids in by_day(blow.target.recipient_id for blow in blows if blow.type is kind):
            cursor.execute(_RECIPIENTS, [status.value, ids, ids[0], ids[-1], list(from_)])
            moved |= {(recipient_id, kind.value): tries for recipient_id, tries in cursor.fetchall()}
    if moved:
        cursor.execute("DELETE FROM sending_waiting WHERE recipient_id = ANY(%s)", [[key[0] for key in moved]])
    return moved


# --- What follows beyond the mail ----------------------------------------------------------------------------------


def _consequences(cursor: CursorWrapper, struck: Sequence[_Struck], now: datetime) -> list[NewEvent]:
    """Suppressions and incidents, of what is proven and no test; returns the events to write."""
    counting = [one for one in struck if one.blow.counts]
    suppressions = [_suppression(one.blow, one.blow.said) for one in counting if one.blow.is_hard]
    suppressions += _soft(cursor, counting, now)
    suppressions += [
        _suppression(one.blow, one.blow.text) for one in counting if one.blow.type is FeedbackType.COMPLAINT
    ]
    events = suppress_and_tell(cursor, suppressions)
    return events + sight(cursor, _sightings(counting), now)


def _soft(cursor: CursorWrapper, struck: Sequence[_Struck], now: datetime) -> list[NewSuppression]:
    """As settle does: days count, and those that reached the limit are to be suppressed."""
    soft = {
        soft_bounces.key_of(one.blow.target.project_id, one.blow.target.address): one.blow
        for one in struck
        if one.blow.is_soft and one.moved
    }
    return [
        _suppression(
            soft[one.key],
            f"Undeliverable on {one.days} days within {settings.SOFT_BOUNCE_DAYS}: {soft[one.key].said}",
        )
        for one in soft_bounces.count(cursor, soft, now)
    ]


def _suppression(blow: Blow, description: str) -> NewSuppression:
    reason = SuppressionReason.COMPLAINT if blow.type is FeedbackType.COMPLAINT else SuppressionReason.BOUNCE
    return NewSuppression(blow.target.project_id, blow.target.address, reason, description)


def _sightings(struck: Sequence[_Struck]) -> list[Sighting]:
    """What is about us, by source IP, site and cause; not of the simulator, which says what it is asked to."""
    met: dict[tuple[int, str, str], list[Blow]] = {}
    for one in struck:
        cause, way = one.blow.cause, one.blow.match.way
        if cause is not None and way.source_ip_id is not None and way.domain != settings.SIMULATOR_DOMAIN:
            met.setdefault((way.source_ip_id, way.site, cause.value), []).append(one.blow)
    return [_sighting(*key[:2], found) for key, found in met.items()]


def _sighting(source_ip_id: int, site: str, blows: Sequence[Blow]) -> Sighting:
    last = blows[-1]
    attempts = len({blow.match.attempt_id for blow in blows})
    target, rule = last.target, last.reported.rule or "report"
    assert last.cause is not None
    said = clean(last.said, MAX_QUOTE)
    return Sighting(source_ip_id, site, last.cause, rule, attempts, said, target.project_id, target.send_id)


def _late(cursor: CursorWrapper, delays: Sequence[Delay]) -> list[NewEvent]:
    """Events of mail that the receiving side has and still tries to pass on; no state changes."""
    if not delays:
        return []
    known = labels_of(cursor, {delay.target.send_id for delay in delays})
    return [
        NewEvent(
            delay.target.project_id,
            EventKind.DELAYED,
            "send",
            delay.target.send_id,
            {
                "recipient_id": delay.target.recipient_id,
                "address": delay.target.address,
                "status": delay.target.status,
                "delay": {"source": "report", "text": delay.text, "status": delay.status or None},
                **known.get(delay.target.send_id, NONE),
            },
        )
        for delay in delays
    ]


def _event(one: _Struck, labels: Any) -> NewEvent:
    """The contract's `bounce` or `complaint`, beside what the events of a conversation have."""
    blow = one.blow
    is_bounce = blow.type is FeedbackType.BOUNCE
    status = RecipientStatus.BOUNCED if is_bounce else RecipientStatus.COMPLAINED
    payload: dict[str, Any] = {
        "recipient_id": blow.target.recipient_id,
        "attempt_id": blow.match.attempt_id,
        "address": blow.target.address,
        "status": status.value,
        "try_count": one.try_count,
        "feedback_id": one.feedback_id,
    }
    if is_bounce:
        payload |= {
            "smtp_code": blow.code,
            "smtp_enhanced_code": blow.reported.status or None,
            "smtp_message": blow.message,
            "category": blow.category,
            "bounce": {"text": blow.text, "status": blow.reported.status},
        }
    else:
        payload["complaint"] = {"text": blow.text, "feedback_type": blow.feedback_type}
    target = blow.target
    return NewEvent(target.project_id, f"send.recipient.{status.value}", "send", target.send_id, {**payload, **labels})


# --- What is written down about the mails --------------------------------------------------------------------------


def _outcome(
    read: Read, match: Match, decision: Decision, struck: dict[tuple[int, str], _Struck], advises: bool
) -> Outcome:
    told = {blow.target.recipient_id: _told(struck.get(blow.key), blow) for blow in decision.blows}
    findings = tuple(
        {**found, "outcome": found["outcome"] or told.get(found.get("recipient_id", 0), "said before")}
        for found in decision.findings
    )
    state = InboundState.HANDED_ON if advises else _state(read, match, replace(decision, findings=findings), struck)
    return Outcome(
        read.mail.mail_id, read.report.kind, state, match, replace(decision, findings=findings), read.report.trouble
    )


def _told(struck: _Struck | None, blow: Blow) -> str:
    if struck is None or struck.blow is not blow:
        return "said before"
    status = "bounced" if blow.type is FeedbackType.BOUNCE else "complained"
    return status if struck.moved else f"noted: it was {blow.target.status}"


def _state(read: Read, match: Match, decision: Decision, struck: dict[tuple[int, str], _Struck]) -> InboundState:
    if any(struck.get(blow.key) is not None and struck[blow.key].blow is blow for blow in decision.blows):
        return InboundState.APPLIED
    if match.is_forged:
        return InboundState.FORGED
    if read.report.trouble:
        return InboundState.TROUBLE
    if read.report.kind not in (ReportKind.BOUNCE, ReportKind.COMPLAINT):
        return InboundState.NOTED
    return InboundState.NOTED if any("recipient_id" in found for found in decision.findings) else InboundState.UNMATCHED


def _handed_on(outcomes: Sequence[Outcome], routed: Collection[int]) -> list[Outcome]:
    """Mail of a project's route is no trouble of ours, unless it is a report that changed something as well."""
    return [
        replace(one, state=InboundState.HANDED_ON)
        if one.mail_id in routed and one.state is not InboundState.APPLIED
        else one
        for one in outcomes
    ]


def mark(cursor: CursorWrapper, outcomes: Sequence[Outcome], now: datetime) -> None:
    """Write on each mail what became of it."""
    if not outcomes:
        return
    rows = [
        {
            "id": one.mail_id,
            "state": one.state.value,
            "kind": one.kind.value,
            "trouble": clean(one.trouble, MAX_TROUBLE),
            "correlation": one.match.correlation.value if one.match.correlation else "",
            "project": one.match.targets[0].project_id if one.match.targets else None,
            "send": one.match.send_id,
            "attempt": one.match.attempt_id,
            "findings": one.decision.findings,
        }
        for one in outcomes
    ]
    ids = [one.mail_id for one in outcomes]
    cursor.execute(_MARK, [now, _as_json(rows), min(ids), max(ids)])


def _as_json(rows: Sequence[dict[str, Any]]) -> str:
    return orjson.dumps(rows).decode()
