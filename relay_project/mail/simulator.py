"""The simulator's table: what a local part makes the sandbox do with a mail.

`missing+atdata+17@…`: the first word chooses the behaviour, `+atdata` and `+async` move the answer, every other
suffix is ignored so that tests can make distinct addresses. Whatever the table does not name is accepted.
"""

from dataclasses import dataclass
from enum import StrEnum

from relay_project.mail.reply import Reply


class Kind(StrEnum):
    """The behaviours by the local part that asks for them."""

    ACCEPT = "accept"
    BUSY = "busy"
    TEMPFAIL = "tempfail"
    MISSING = "missing"
    DISABLED = "disabled"
    SPAM = "spam"
    THROTTLE = "throttle"
    BLOCKLISTED = "blocklisted"
    SLOW = "slow"  # accepted, but every reply takes its time
    DROP = "drop"  # the connection is cut after DATA, before the final reply
    COMPLAINT = "complaint"  # accepted; an ARF report (RFC 5965) follows
    GREYLIST = "greylist"  # refused on the first try of a transaction, accepted afterwards; the server keeps that state


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the sandbox does with one recipient.

    `reply` is the refusal, None where there is none. `at_data`: it comes as the reply to the final dot instead of
    RCPT. `async_`: the mail is accepted now and a report goes to the reverse path later, a DSN with `reply` or, for a
    complaint, an ARF report; `async_` goes before `at_data`.
    """

    kind: Kind
    at_data: bool = False
    async_: bool = False
    reply: Reply | None = None


REFUSALS = {
    Kind.BUSY: Reply(450, "4.2.1", "The mailbox is busy, try again later"),
    Kind.TEMPFAIL: Reply(451, "4.3.0", "A temporary failure of the receiving system"),
    Kind.MISSING: Reply(550, "5.1.1", "No such mailbox here"),
    Kind.DISABLED: Reply(550, "5.2.1", "The mailbox is disabled"),
    Kind.SPAM: Reply(550, "5.7.1", "The message looks like spam and is refused"),
    Kind.THROTTLE: Reply(421, "4.7.0", "Too many messages from your address, slow down"),
    Kind.BLOCKLISTED: Reply(554, "5.7.1", "Service unavailable; client host blocked using zen.spamhaus.org"),
    Kind.GREYLIST: Reply(451, "4.7.1", "Greylisted, please try again later"),
}

# Refusals that can come later as a report; the others are a matter of the conversation itself.
REPORTED = frozenset(REFUSALS) - {Kind.GREYLIST, Kind.THROTTLE, Kind.BLOCKLISTED}
_KINDS = {kind.value: kind for kind in Kind}


def behaviour(local_part: str) -> Behaviour:
    """Read the table for one local part; case does not matter, unknown words are accepted."""
    name, *suffixes = local_part.lower().split("+")
    kind = _KINDS.get(name, Kind.ACCEPT)
    refusal = REFUSALS.get(kind)
    return Behaviour(
        kind=kind,
        at_data=refusal is not None and "atdata" in suffixes,
        async_=kind is Kind.COMPLAINT or (kind in REPORTED and "async" in suffixes),
        reply=refusal,
    )
