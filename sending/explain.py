"""Why a recipient waits, or how it ended, in words. Pure: facts in, one Reason out; the console, the API, the staff admin
and the commands show the same one (sending.backlog.why reads the facts)."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from ips.carriers import Carrier
from sending.models import Priority, RecipientStatus

EXPIRED = "expired"  # the rule of sending.backlog.expire


class Kind(StrEnum):
    """What it waits for."""

    SCHEDULED = "scheduled"  # its first try is for a later time
    RETRY = "retry"  # the time of its next try
    TURN = "turn"  # due: a sender's room, and whatever is before it
    IN_FLIGHT = "in_flight"  # the receiving server
    SITE_LIMIT = "site_limit"  # a slot at the receiving site
    SITE_PAUSED = "site_paused"
    QUEUE_PAUSED = "queue_paused"
    PROJECT_SUSPENDED = "project_suspended"
    DOMAIN_STOPPED = "domain_stopped"  # the From domain may not send
    NO_SOURCE_IP = "no_source_ip"
    NO_SENDER = "no_sender"
    WARM_UP = "warm_up"
    FINAL = "final"  # it does not wait


@dataclass(frozen=True, slots=True)
class Reason:
    """`text`: for whose mail it is. `next_at`: when that changes next, None when nobody can know. `detail`: for staff."""

    kind: Kind
    text: str
    next_at: datetime | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LastWord:
    """What the last attempt brought for a recipient. `by`: the host that answered; `text`: its words or the failure."""

    by: str
    text: str
    try_count: int
    is_suppressed: bool = False
    rule: str = ""

    @property
    def quoted(self) -> str:
        """`mx.example.com said “450 4.2.1 Busy”`, or the failure alone."""
        return f"{self.by} said “{self.text}”" if self.by else self.text.rstrip(". ")

    @property
    def sentence(self) -> str:
        """As `quoted`, fit to begin a sentence; a host's or a domain's name keeps its case."""
        begins_with_name = bool(self.by) or "." in self.quoted.partition(" ")[0]
        return self.quoted if begins_with_name else self.quoted[:1].upper() + self.quoted[1:]


@dataclass(frozen=True, slots=True)
class Flight:
    """The attempt that a row is in. `server` and `sender_id`: who talks."""

    attempt_id: int
    began_at: datetime
    lease_until: datetime
    address: str = ""
    sender_id: int | None = None
    server: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """The site that a row hangs on. `paused`: what staff said when they paused the site, None when they did not."""

    site: str
    reason: str
    next_slot: datetime
    paused: str | None = None
    before: "Ahead | None" = None


@dataclass(frozen=True, slots=True)
class Pause:
    """A queue's pause, or a project's suspension, by staff."""

    since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Ahead:
    """How many of the same project leave before it. `is_more`: counting stopped there."""

    count: int
    is_more: bool = False
    has_urgent: bool = False  # mail of a more urgent priority is due in its queue

    def __str__(self) -> str:
        more = "More than " if self.is_more else ""
        noun = "mail of the project is" if self.count == 1 else "mails of the project are"
        return f"{more}{self.count:,} {noun} before it" if self.count else ""


@dataclass(frozen=True, slots=True)
class Wait:
    """A recipient's row in the ledger. `carriers`: the source IPs that may carry it, None when that does not matter now."""

    due_at: datetime
    tries: int
    is_due: bool = True
    queue: str = ""
    priority: int = Priority.TRANSACTIONAL
    flight: Flight | None = None
    hold: Hold | None = None
    pause: Pause | None = None
    suspension: Pause | None = None  # of the project, by staff
    carriers: tuple[Carrier, ...] | None = None
    is_sticky: bool = False
    ahead: Ahead | None = None
    stopped: str = ""  # the From domain and its status, where that forbids sending


def explain(
    status: str,
    wait: Wait | None,
    last: LastWord | None,
    max_tries: int,
    now: datetime,
    cancelled: str = "",
    reported: str = "",
) -> Reason:
    """The one reason. `cancelled`: why it was taken back; `reported`: what came back as a bounce."""
    if wait is None:
        return Reason(Kind.FINAL, _final(status, last, cancelled, reported))
    for told in (_flight, _suspended, _paused, _site_paused, _stopped, _later, _carried, _held):
        reason = told(wait, last, max_tries, now)
        if reason is not None:
            return reason
    return _turn(wait, last, max_tries, now)


# --- What ended ------------------------------------------------------------------------------------------------------


def _final(status: str, last: LastWord | None, cancelled: str, reported: str) -> str:
    text = last.quoted if last else ""
    if status == RecipientStatus.BOUNCED and reported:
        return f"It was taken, and came back later: “{reported}”."
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
        RecipientStatus.CANCELLED: f"Cancelled before it left: {cancelled.rstrip('. ')}."
        if cancelled
        else "Cancelled before it left.",
    }.get(
        RecipientStatus(status), "No longer waiting; its last state was not written. Staff are told by a health check."
    )


def _gave_up(last: LastWord | None) -> str:
    if last is None:
        return "Given up."
    if last.rule == EXPIRED:
        return f"Given up. {last.sentence}."
    tries = "1 try" if last.try_count == 1 else f"{last.try_count} tries"
    return f"Given up after {tries}. The last: {last.quoted}."


# --- What waits: the first that applies is the reason ----------------------------------------------------------------


def _flight(wait: Wait, last: LastWord | None, max_tries: int, now: datetime) -> Reason | None:
    flight = wait.flight
    if flight is None:
        return None
    source = f" from {flight.address}" if flight.address else ""
    text = f"In conversation with the receiving server since {clock(flight.began_at, now)}{source}."
    until = f"Unless it is heard of, it is tried again after {clock(flight.lease_until, now)}."
    server = f" on {flight.server}" if flight.server else ""
    detail = f"Attempt {flight.attempt_id}, by sender {flight.sender_id}{server}."
    return Reason(Kind.IN_FLIGHT, f"{text} {until}", flight.lease_until, detail)


def _suspended(wait: Wait, last: LastWord | None, max_tries: int, now: datetime) -> Reason | None:
    suspension = wait.suspension
    if suspension is None:
        return None
    text = f"This project is suspended: {suspension.reason.rstrip('. ')}. Nothing of it leaves until staff resume it."
    return Reason(Kind.PROJECT_SUSPENDED, text, None, f"Suspended since {clock(suspension.since, now)}.")


def _paused(wait: Wait, last: LastWord | None, max_tries: int, now: datetime) -> Reason | None:
    pause = wait.pause
    if pause is None or (not wait.is_due and wait.hold is None and wait.due_at > now):
        return None
    text = f"The queue {wait.queue} is paused by the operator. It leaves when that is resumed."
    return Reason(Kind.QUEUE_PAUSED, text, None, _of_pause(pause, now))


def _of_pause(pause: Pause, now: datetime) -> str:
    return f"Paused since {clock(pause.since, now)}: {pause.reason or 'no reason given'}."


def _site_paused(wait: Wait, last: LastWord | None, max_tries: int, now: datetime) -> Reason | None:
    if wait.hold is None or wait.hold.paused is None:
        return None
    text = f"Sending to {wait.hold.site} is paused by the operator. It leaves when that is resumed."
    return Reason(Kind.SITE_PAUSED, text, None, f"Paused: {wait.hold.paused or 'no reason given'}.")


def _held(wait: Wait, last: LastWord | None, max_tries: int, now: datetime) -> Reason | None:
    hold = wait.hold
    if hold is None:
        return None
    public = for_everybody(hold.reason)
    why = public if hold.site in public else f"{hold.site}, {public}"
    text = f"Waits for its turn at the receiving site: {why}. Next slot at {clock(hold.next_slot, now)}."
    detail = "" if public == hold.reason else f"{hold.reason}."
    return Reason(Kind.SITE_LIMIT, _with_ahead(text, hold.before), hold.next_slot, detail)


# What a gate quotes (sending.deliver.gate): the site's words, and those of staff.
_QUOTED = re.compile(r"(?:: |, since it said )“.*”|(?<= is paused by staff):.*", re.DOTALL)


def for_everybody(reason: str) -> str:
    """A held site's reason without what is not for every tenant whose mail hangs there.

    The site said its words about the mail of one of them, and may have named whom it was from and to.
    """
    return _QUOTED.sub("", reason)


def _stopped(wait: Wait, last: LastWord | None, max_tries: int, now: datetime) -> Reason | None:
    if not wait.stopped:
        return None
    text = f"{wait.stopped}, so nothing of it is sent. It is looked at again at {clock(max(wait.due_at, now), now)}."
    return Reason(Kind.DOMAIN_STOPPED, text, max(wait.due_at, now))


def _later(wait: Wait, last: LastWord | None, max_tries: int, now: datetime) -> Reason | None:
    if wait.is_due or wait.hold is not None or wait.due_at <= now:
        return None
    detail = f"The queue {wait.queue} is paused as well. {_of_pause(wait.pause, now)}" if wait.pause else ""
    if last is None:
        return Reason(Kind.SCHEDULED, f"Scheduled for {clock(wait.due_at, now)}.", wait.due_at, detail)
    text = f"{last.sentence}. Try {wait.tries + 1} of {max_tries} follows at {clock(wait.due_at, now)}."
    return Reason(Kind.RETRY, text, wait.due_at, detail)


def _carried(wait: Wait, last: LastWord | None, max_tries: int, now: datetime) -> Reason | None:
    """What keeps its source IPs from it, when none of them may send."""
    carriers = wait.carriers
    if carriers is None or any(one.may_send for one in carriers):
        return None
    detail = "; ".join(one.trouble for one in carriers) or f"The queue {wait.queue} has no source IP"
    usable = [one for one in carriers if one.is_usable]
    moves = " If it stays so, its mail goes by another in a few minutes." if wait.is_sticky else ""
    if not usable:
        return Reason(Kind.NO_SOURCE_IP, f"No address of the operator can carry it now.{moves}", None, f"{detail}.")
    if not any(one.is_served for one in usable):
        return Reason(Kind.NO_SENDER, f"No sender is running that could carry it.{moves}", None, f"{detail}.")
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    text = "The addresses that may carry it are new, and have sent as much as they may in a day."
    return Reason(Kind.WARM_UP, f"{text} More leaves from {clock(midnight, now)} on.", midnight, f"{detail}.")


def _turn(wait: Wait, last: LastWord | None, max_tries: int, now: datetime) -> Reason:
    if last is None:
        text = "Waits for a sender; it leaves as soon as one has room."
    else:
        text = f"{last.sentence}. Try {wait.tries + 1} of {max_tries} follows as soon as a sender has room."
    return Reason(Kind.TURN, _with_ahead(text, wait.ahead), max(wait.due_at, now))


def _with_ahead(text: str, ahead: Ahead | None) -> str:
    if ahead is None:
        return text
    urgent = "More urgent mail of the queue leaves first." if ahead.has_urgent else ""
    return " ".join(filter(None, (text, f"{ahead}." if ahead.count else "", urgent)))


def clock(at: datetime, now: datetime) -> str:
    """A time as people read it: of today, or with its day."""
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
