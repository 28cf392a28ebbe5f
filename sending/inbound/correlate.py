"""Which mail of ours a report is about, and how far it may be believed.

    proof         it says                                                it may change
    token         a signed return path (in RCPT, or quoted by it)        the recipients of that attempt, or of that forward
    link          a signed unsubscribe link in the returned headers      the recipient whose link it is
    ids           envelope id, then Message-ID: everybody who has the    the recipient of a send that has but one, named
                  mail knows them, and who reads the archive of a list   exactly; nobody is suppressed by it

The first that holds decides. So nobody can bounce or suppress an address with what they find in their own mail, unless the
mail went to both in one transaction (lesson S7). An address that the report names otherwise than we do is a forwarded
mailbox: with proof, and one recipient to choose from, it is meant.

A token whose attempt is not settled yet (a report can be faster) is looked for among what is in flight, and again until
its lease is over. Only a bad MAC is a forgery.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.backends.utils import CursorWrapper

from relay_project.db.ids import MAX_ID, by_day, hours_after, id_of_uuid, id_time
from relay_project.db.keyring import ring
from relay_project.mail.address import suppression_key
from relay_project.mail.reports.model import Report
from relay_project.mail.srs import ExpiredSrs, ForgedSrs, NotSrs
from relay_project.mail.unsubscribe import MAX_TOKEN, Subscription, read_token
from relay_project.mail.unsubscribe import NotAToken as NotALink
from relay_project.mail.verp import ForgedToken, NotAToken, Token
from sending.inbound.addresses import Standing, of_path, rewritten, token_of
from sending.inbound.mail import Inbound
from sending.models import Correlation
from sending.unsubscribe import PATH
from sending.unsubscribe import PURPOSE as LINKS

MAX_TRIED = 20  # tokens or links of one mail that are looked at; an honest report has one
_WAYS = (Standing.OURS, Standing.WAY_BACK)
SETTLED_HOURS = 48  # after its attempt's id at the latest a result is written
PATIENCE_SECONDS = 60.0  # beyond the lease of an attempt that nobody has settled

_LINK = re.compile(rb"%s([A-Za-z0-9_-]{60,%d})" % (PATH.encode(), MAX_TOKEN))
_ATTEMPTS = """
SELECT id, source_ip_id, site, domain FROM sending_attempt WHERE id = ANY(%(ids)s) AND id BETWEEN %(low)s AND %(high)s
"""
_TOLD = """
SELECT attempt_id, recipient_id FROM sending_attemptrecipient
 WHERE attempt_id = ANY(%(ids)s) AND id BETWEEN %(low)s AND %(later)s
"""
_IN_FLIGHT = "SELECT attempt_id, recipient_id FROM sending_waiting WHERE send_id = ANY(%s) AND attempt_id = ANY(%s)"
_SENDS = """
SELECT id, uuid, is_test, project_id, forwarded_from FROM sending_send
 WHERE id = ANY(%(ids)s) AND id BETWEEN %(low)s AND %(high)s
"""
_RECIPIENTS = """
SELECT id, send_id, project_id, address, status FROM sending_recipient
 WHERE send_id = ANY(%(ids)s) AND id BETWEEN %(low)s AND %(soon)s ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Read:
    """A mail and what the parser made of it."""

    mail: Inbound
    report: Report


@dataclass(frozen=True, slots=True)
class Target:
    """One recipient of ours."""

    recipient_id: int
    send_id: int
    project_id: int
    address: str
    status: str


@dataclass(frozen=True, slots=True)
class Way:
    """How an attempt went out; where it is not kept any more, nothing is known."""

    source_ip_id: int | None = None
    site: str = ""
    domain: str = ""


@dataclass(frozen=True, slots=True)
class GoesBack:
    """A mail that came to the return path of a mail that was passed on: whose it was, and in which send."""

    project_id: int
    send_id: int
    address: str
    sender: str  # "" for <>


@dataclass(frozen=True, slots=True)
class Match:
    """What was found. `targets`: whom the report may speak of; `is_proven`: by something signed.

    `may_guess`: an address that is none of ours means the only target. `look_again`: its attempt may still be settled.
    `goes_back`: it came by the return path of a mail that was passed on.
    """

    correlation: Correlation | None = None
    targets: tuple[Target, ...] = ()
    send_id: int | None = None
    attempt_id: int | None = None
    way: Way = Way()
    is_proven: bool = False
    is_test: bool = False
    may_guess: bool = False
    is_forged: bool = False
    look_again: bool = False
    goes_back: GoesBack | None = None

    def of(self, address: str) -> Target | None:
        """The recipient that an address of the report means."""
        key = suppression_key(address)
        for target in self.targets:
            if suppression_key(target.address) == key:
                return target
        return self.targets[0] if self.may_guess and len(self.targets) == 1 else None


@dataclass(frozen=True, slots=True)
class _Named:
    """What a report names, before anything is looked up."""

    token: Token | None = None
    forward_id: int | None = None  # the send of an SRS address
    way_back: str = ""  # the return path by which it came
    link: Subscription | None = None
    envelope_id: tuple[int, UUID] | None = None
    message_id: tuple[int, UUID] | None = None
    is_forged: bool = False

    @property
    def send_id(self) -> int | None:
        """The send that is meant, by the best proof."""
        if self.token is not None:
            return self.token.send_id
        if self.forward_id is not None:
            return self.forward_id
        if self.link is not None:
            return self.link.send_id
        ids = self.envelope_id or self.message_id
        return ids[0] if ids else None


class _Send(NamedTuple):
    """What is needed of a send."""

    uuid: UUID
    is_test: bool
    project_id: int
    forwarded_from: str | None


@dataclass(slots=True)
class _Known:
    """What the database has of all that a batch names."""

    ways: dict[int, Way] = field(default_factory=dict)
    told: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))  # attempt → recipients
    in_flight: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    sends: dict[int, _Send] = field(default_factory=dict)
    recipients: dict[int, list[Target]] = field(default_factory=lambda: defaultdict(list))  # by send


def correlate(cursor: CursorWrapper, reads: Sequence[Read], now: datetime) -> list[Match]:
    """What each report is about, in their order. Five statements for each day that the batch names."""
    named = [_names(read) for read in reads]
    known = _look_up(cursor, named)
    return [_match(one, known, now) for one in named]


# --- What a report names -------------------------------------------------------------------------------------------


def _names(read: Read) -> _Named:
    original = read.report.original
    token, forward_id, is_forged = _path(read.mail.recipients, read.mail.recipients)
    way_back = ""
    if token is not None or forward_id is not None:
        way_back = next(one for one in read.mail.recipients if of_path(one) in _WAYS)
    else:  # what is quoted may be of a mail within the mail
        quoted = (original.return_path, *original.tokens)
        token, forward_id, is_forged_too = _path(quoted, [original.return_path])
        is_forged |= is_forged_too
    is_found = token is not None or forward_id is not None
    return _Named(
        token=token,
        forward_id=forward_id,
        way_back=way_back,
        link=None if is_found else _link(read.mail.octets),
        envelope_id=_uuid_in(original.envelope_id),
        message_id=_uuid_in(original.message_id),
        is_forged=is_forged and not is_found,
    )


def _token(addresses: Iterable[str]) -> tuple[Token | None, bool]:
    """The first genuine return path, and whether a forged one was seen before it."""
    is_forged = False
    for address in [address for address in addresses if address][:MAX_TRIED]:
        try:
            return token_of(address), is_forged
        except ForgedToken:
            is_forged = True
        except NotAToken:
            continue
    return None, is_forged


def _path(tokens: Sequence[str], forwards: Sequence[str]) -> tuple[Token | None, int | None, bool]:
    token, is_forged = _token(tokens)
    return token, None if token else _forward(forwards), is_forged


def _forward(addresses: Iterable[str]) -> int | None:
    """The send of the first SRS address that is ours."""
    for address in [address for address in addresses if address][:MAX_TRIED]:
        try:
            return rewritten(address).send_id
        except (NotSrs, ForgedSrs, ExpiredSrs):
            continue
    return None


def _link(octets: bytes) -> Subscription | None:
    for index, found in enumerate(_LINK.finditer(octets)):
        if index == MAX_TRIED:
            break
        try:
            return read_token(found[1].decode("ascii"), ring(LINKS))
        except NotALink:
            continue
    return None


def _uuid_in(text: str) -> tuple[int, UUID] | None:
    """The send and uuid of `<uuid@host>` or a bare uuid, where it can be one of ours."""
    try:
        uuid = UUID(text.strip("<> ").partition("@")[0])
    except ValueError:
        return None
    send_id = id_of_uuid(uuid)
    return (send_id, uuid) if send_id is not None else None


# --- What there is of it -------------------------------------------------------------------------------------------


def _look_up(cursor: CursorWrapper, named: Sequence[_Named]) -> _Known:
    known = _Known()
    attempts = {one.token.attempt_id for one in named if one.token}
    sends = {one.send_id for one in named if one.send_id is not None}
    for ids in by_day(_possible(attempts)):
        values: dict[str, Any] = _range(ids) | {"later": hours_after(ids[-1], SETTLED_HOURS)}
        cursor.execute(_ATTEMPTS, values)
        known.ways |= {row[0]: Way(*row[1:]) for row in cursor.fetchall()}
        cursor.execute(_TOLD, values)
        for attempt_id, recipient_id in cursor.fetchall():
            known.told[attempt_id].add(recipient_id)
    if unsettled := attempts - known.told.keys():
        cursor.execute(_IN_FLIGHT, [sorted(sends), sorted(unsettled)])
        for attempt_id, recipient_id in cursor.fetchall():
            known.in_flight[attempt_id].add(recipient_id)
    for ids in by_day(_possible(sends)):
        values = _range(ids) | {"soon": hours_after(ids[-1], 1)}
        cursor.execute(_SENDS, values)
        known.sends |= {send_id: _Send(*row) for send_id, *row in cursor.fetchall()}
        cursor.execute(_RECIPIENTS, values)
        for row in cursor.fetchall():
            known.recipients[row[1]].append(Target(*row))
    return known


def _possible(ids: Iterable[int]) -> Iterator[int]:
    """Those that could ever be made: reports say what they like."""
    return (each for each in ids if 0 < each <= MAX_ID)


def _range(ids: Sequence[int]) -> dict[str, Any]:
    return {"ids": list(ids), "low": ids[0], "high": ids[-1]}


# --- What that makes of the report ---------------------------------------------------------------------------------


def _match(named: _Named, known: _Known, now: datetime) -> Match:
    if named.token is not None:
        return replace(_by_token(named.token, known, now), goes_back=_goes_back(named, known))
    if named.forward_id is not None:
        return _by_forward(named, named.forward_id, known)
    if named.link is not None:
        return _by_link(named.link, known)
    for ids, correlation in (
        (named.envelope_id, Correlation.ENVELOPE_ID),
        (named.message_id, Correlation.MESSAGE_ID),
    ):
        if ids is not None and ids[0] in known.sends and known.sends[ids[0]].uuid == ids[1]:
            return _by_ids(ids[0], correlation, known)
    return Match(is_forged=named.is_forged)


def _by_token(token: Token, known: _Known, now: datetime) -> Match:
    found = known.recipients[token.send_id]
    told, in_flight = known.told.get(token.attempt_id), known.in_flight.get(token.attempt_id)
    among = told or in_flight or set()
    targets = tuple(target for target in found if target.recipient_id in among)
    if not targets and _may_settle(token.attempt_id, now):
        return Match(Correlation.TOKEN, send_id=token.send_id, attempt_id=token.attempt_id, look_again=True)
    if not targets and len(found) == 1:  # attempts may be kept for less than sends are
        targets = tuple(found)
    return Match(
        Correlation.TOKEN,
        targets,
        send_id=token.send_id,
        attempt_id=token.attempt_id,
        way=known.ways.get(token.attempt_id, Way()),
        is_proven=True,
        is_test=_is_test(token.send_id, known),
        # what is in flight loses its rows one by one: the last of them need not be the one that is meant
        may_guess=bool(told) or len(found) == 1,
    )


def _may_settle(attempt_id: int, now: datetime) -> bool:
    lease = settings.CONVERSATION_SECONDS + settings.LEASE_GRACE_SECONDS + PATIENCE_SECONDS
    return id_time(attempt_id) + timedelta(seconds=lease) > now


def _by_link(link: Subscription, known: _Known) -> Match:
    targets = tuple(t for t in known.recipients[link.send_id] if t.recipient_id == link.recipient_id)
    is_test = _is_test(link.send_id, known)
    return Match(Correlation.HEADERS, targets, send_id=link.send_id, is_proven=True, is_test=is_test, may_guess=True)


def _by_forward(named: _Named, send_id: int, known: _Known) -> Match:
    """An SRS address names no attempt: the report may speak of whoever the mail was passed on to."""
    targets = tuple(known.recipients[send_id])
    back = _goes_back(named, known)
    return Match(Correlation.TOKEN, targets, send_id=send_id, is_proven=True, may_guess=True, goes_back=back)


def _goes_back(named: _Named, known: _Known) -> GoesBack | None:
    """Only what came by the return path, and only of a mail that was passed on and is still known."""
    send = known.sends.get(named.send_id or 0)
    if not named.way_back or send is None or send.forwarded_from is None:
        return None
    return GoesBack(send.project_id, named.send_id or 0, named.way_back, send.forwarded_from)


def _is_test(send_id: int, known: _Known) -> bool:
    return send_id in known.sends and known.sends[send_id].is_test


def _by_ids(send_id: int, correlation: Correlation, known: _Known) -> Match:
    """Whoever has the mail has these ids, so they speak for a send's only recipient and for nobody else."""
    found = known.recipients[send_id]
    return Match(
        correlation, tuple(found) if len(found) == 1 else (), send_id=send_id, is_test=_is_test(send_id, known)
    )
