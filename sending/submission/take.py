"""Taking mails that were submitted at once: what the API does for one request, for several of them in as many statements.

In a thread, outside any transaction. Each mail has an outcome of its own, and one that makes trouble leaves the others
alone. The API's order: key, scope, project, rate, shape, rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from projects.access import Caller
from projects.api_keys import keys_of
from projects.throttle import use_sends_each
from relay_project.db.trouble import note_trouble
from relay_project.metrics import Histogram
from relay_project.net.smtp_server.model import Mail, SmtpReply
from relay_project.web.errors import ApiError
from sending.accept.accept import Asked, accept_together
from sending.accept.admit import Outcome
from sending.accept.idempotency import InFlight
from sending.accept.request import Refused
from sending.submission.login import Login, caller_of
from sending.submission.message import read_mail
from sending.submission.replies import LATER, refused, taken

MAX_MAILS = 50  # of one transaction; beyond that it only makes the first of them wait
MAX_OCTETS = 16 * 1024 * 1024  # of one transaction, unless a single mail has more

log = structlog.get_logger(__name__)

TOGETHER = Histogram(
    "relay_submissions_together", "Submitted mails of one transaction.", buckets=(1, 2, 5, 10, 20, MAX_MAILS)
)


@dataclass(slots=True)
class Submission:
    """A mail that was submitted, and how far it has come."""

    mail: Mail
    login: Login
    caller: Caller | None = None
    asked: Asked | None = None  # read, and counted against the limits of its project
    reply: SmtpReply | None = None  # what becomes of it; None while another call holds its idempotency key

    def refuse(self, error: ApiError | Refused) -> None:
        """It comes no further."""
        self.reply = refused(error)


def take_together(submissions: Sequence[Submission]) -> list[SmtpReply | None]:
    """The replies, in order: 250 after the commit. None: its key is in flight elsewhere; it may come again as it is."""
    try:
        fresh = [one for one in submissions if one.asked is None]
        _find_callers(fresh)
        _use_limits([one for one in fresh if one.reply is None])
        for one in fresh:
            if one.reply is None:
                _read(one)
        _accept([one for one in submissions if one.reply is None])
    except (DatabaseError, InterfaceError) as error:
        note_trouble("submission", error)
        return [one.reply or LATER for one in submissions]
    return [one.reply for one in submissions]


def _find_callers(submissions: Sequence[Submission]) -> None:
    """Keys that came more than once are looked up once; each by itself where that fails for a reason of its own."""
    if not submissions:
        return
    known = keys_of(list({one.login.secret for one in submissions}))
    for one in submissions:
        try:
            one.caller = caller_of(one.mail.peer, one.login.secret, known)
        except ApiError as error:
            one.refuse(error)


def _use_limits(submissions: Sequence[Submission]) -> None:
    callers = [one.caller for one in submissions if one.caller is not None]
    if not callers:
        return
    for one, error in zip(submissions, use_sends_each(callers), strict=True):
        if error is not None:
            one.refuse(error)


def _read(one: Submission) -> None:
    """From its octets to a request of accept()."""
    assert one.caller is not None and one.caller.project is not None  # noqa: PT018 — it was found, and a key has one
    addresses = list(dict.fromkeys(recipient.address for recipient in one.mail.recipients))
    try:
        one.asked = one.caller.project, read_mail(one.mail.octets, addresses, is_test=one.caller.is_test)
    except ApiError as error:
        one.refuse(error)
    except Exception:
        log.exception("submission.not_read", project_id=one.login.project_id)
        one.reply = LATER


def _accept(submissions: Sequence[Submission]) -> None:
    asked = [one.asked for one in submissions if one.asked is not None]
    if not asked:
        return
    TOGETHER.observe(len(asked))
    for one, outcome in zip(submissions, _outcomes(asked), strict=True):
        if isinstance(outcome, InFlight):
            continue
        if isinstance(outcome, Refused):
            one.refuse(outcome)
        else:
            one.reply = LATER if outcome is None else taken(outcome)


def _outcomes(asked: Sequence[Asked]) -> list[Outcome | None]:
    """None for one that the database refuses. With the connection lost nobody knows what came through: nothing is repeated."""
    try:
        return [*accept_together(asked, datetime.now(UTC))]
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        if len(asked) > 1 and not connection.in_atomic_block:
            return [outcome for one in asked for outcome in _outcomes([one])]
        log.exception("submission.not_accepted", project_id=asked[0][0].pk)
        return [None] * len(asked)
