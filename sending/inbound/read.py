"""The reader of what came in: takes unread mail under a lease, parses it, and has a batch applied in one transaction.

What enters: rows that say what is unread. What leaves: marked mails, their rows gone with what they said. No transaction is
open while mail is parsed. A reader that dies leaves its rows to the next, when their lease ends; a mail that was being read
then is taken by itself, and after MAX_TRIES set aside. So is one that the code or the database stumbles over: its batch is
halved until it stands alone, and staff find its bytes and the reason.
"""

from collections import Counter as Counts
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog
from django.db import InterfaceError, OperationalError, connection, transaction
from psycopg.errors import DeadlockDetected

from relay_project.db.bound import bound_cursor
from relay_project.mail.reports.model import Report, ReportKind
from relay_project.mail.reports.parse import parse_report
from relay_project.mail.text import clean
from relay_project.metrics import Counter, Gauge
from sending.inbound.addresses import FORGED
from sending.inbound.apply import Outcome, apply, mark
from sending.inbound.correlate import Match, Read
from sending.inbound.decide import Decision
from sending.inbound.mail import Inbound
from sending.inbound.routing.match import is_all_routed
from sending.models import InboundState

BATCH = 100  # mails of one look
MAX_OCTETS = 16 * 1024 * 1024  # of one look, unless a single mail has more
LEASE = timedelta(seconds=60)
MAX_TRIES = 3
DEADLOCKS = 3  # tries of a batch that met somebody else's order
SET_ASIDE = "Set aside: "  # how the trouble of a mail begins that was not read for an error of ours

log = structlog.get_logger()

READ = Counter("relay_inbound_read_total", "Mails that came in and were read.", ["kind", "state"])
LOST = Counter("relay_inbound_set_aside_total", "Mails that were set aside for an error of ours.")
LAG = Gauge("relay_inbound_lag_seconds", "How long the oldest mail has been due to be read.")
UNREAD = Gauge("relay_inbound_unread", "Mails that wait to be read.")

_DUE = """
SELECT mail_id, tries, size_bytes FROM sending_unreadmail WHERE due_at <= %s
 ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED
"""
_LEASE = "UPDATE sending_unreadmail SET due_at = %s, tries = tries + 1 WHERE mail_id = ANY(%s)"
_MAILS = """
SELECT id, mail_from, recipients, octets, peer, helo_name, tls FROM sending_inboundmail
 WHERE id = ANY(%s) AND id BETWEEN %s AND %s ORDER BY id
"""
_GIVE_BACK = """
UPDATE sending_unreadmail u SET due_at = %s, tries = u.tries - 1
  FROM unnest(%s::bigint[], %s::smallint[]) AS t(id, tries) WHERE u.mail_id = t.id AND u.tries = t.tries
"""
_WAITING = "SELECT count(*), extract(epoch FROM %s - min(due_at)) FROM sending_unreadmail"


class Reader:
    """One of any number of readers: `look()` reads a batch and returns how many mails that were.

    `has_more`: the last look left something due.
    """

    def __init__(self, batch: int = BATCH) -> None:
        self.batch = batch
        self.has_more = False
        self._owed: list[tuple[int, int]] = []  # mails and tries, of a batch that the database's absence cut short

    def look(self) -> int:
        """Read what is due; 0 when nothing is. Raises what says that the database is away."""
        now = datetime.now(UTC)
        self._repay(now)
        taken, self.has_more = take(self.batch, now)
        self._owed = sorted(taken.items())
        mails = _mails(taken)
        lost = [mail for mail in mails if mail.tries > MAX_TRIES]
        for mail in lost:
            _set_aside(mail, f"a reader died with it {MAX_TRIES} times")
        reads = [read for mail in mails if mail.tries <= MAX_TRIES and (read := _read(mail)) is not None]
        _apply_or_halve(reads)
        self._owed = []
        return len(taken)

    def _repay(self, now: datetime) -> None:
        """Take back the tries that were none of the mails' fault."""
        if self._owed:
            with connection.cursor() as cursor:
                cursor.execute(_GIVE_BACK, [now, *([row[i] for row in self._owed] for i in (0, 1))])
            self._owed = []


def take(most: int, now: datetime) -> tuple[dict[int, int], bool]:
    """Lease what is due: mail id → tries, and whether there is more. What somebody died with comes alone."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_DUE, [now, most])
        due = cursor.fetchall()
        chosen: dict[int, int] = {}
        octets = 0
        for mail_id, tries, size in due:
            octets += size
            if chosen and (tries or octets > MAX_OCTETS):
                break
            chosen[mail_id] = tries + 1
            if tries:
                break
        if chosen:
            cursor.execute(_LEASE, [now + LEASE, list(chosen)])
    return chosen, len(due) == most or len(due) > len(chosen)


def measure(now: datetime) -> tuple[int, float]:
    """How many mails wait to be read, and how long the first has been due."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [now])
        count, seconds = cursor.fetchone()
    return int(count), max(float(seconds or 0), 0.0)


def _mails(taken: dict[int, int]) -> list[Inbound]:
    """The mails as they came, by id; those that are not kept any more are forgotten."""
    if not taken:
        return []
    with bound_cursor() as cursor:
        cursor.execute(_MAILS, [list(taken), min(taken), max(taken)])
        mails = [
            Inbound(
                mail_id=row[0],
                mail_from=row[1],
                recipients=tuple(row[2]),
                octets=bytes(row[3]),
                peer=row[4],
                helo_name=row[5],
                tls=row[6],
                tries=taken[row[0]],
            )
            for row in cursor.fetchall()
        ]
        gone = taken.keys() - {mail.mail_id for mail in mails}
        if gone:
            cursor.execute("DELETE FROM sending_unreadmail WHERE mail_id = ANY(%s)", [list(gone)])
    return mails


def _read(mail: Inbound) -> Read | None:
    """The mail with its report. The parser raises nothing; were it to, the mail is set aside.

    What is for projects alone is no report to us, whatever it quotes.
    """
    if is_all_routed(mail.recipients):
        return Read(mail, Report(ReportKind.NONE))
    try:
        return Read(mail, parse_report(mail.octets))
    except Exception as error:
        log.exception("inbound.parser_raised", mail=mail.mail_id)
        _set_aside(mail, f"the parser raised {type(error).__name__}: {error}")
        return None


def _apply_or_halve(reads: Sequence[Read]) -> None:
    if not reads:
        return
    try:
        outcomes = _apply(reads)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        if len(reads) > 1:
            middle = len(reads) // 2
            _apply_or_halve(reads[:middle])
            _apply_or_halve(reads[middle:])
            return
        log.exception("inbound.not_applied", mail=reads[0].mail.mail_id)
        _set_aside(reads[0].mail, f"{type(error).__name__}: {error}", reads[0].report.kind)
        return
    _tell(outcomes)


def _apply(reads: Sequence[Read]) -> list[Outcome]:
    for _ in range(DEADLOCKS - 1):
        try:
            return apply(reads, datetime.now(UTC))
        except OperationalError as error:
            if not isinstance(error.__cause__, DeadlockDetected):
                raise
    return apply(reads, datetime.now(UTC))


def _set_aside(mail: Inbound, why: str, kind: ReportKind = ReportKind.NONE) -> None:
    """Keep the bytes and the reason for staff."""
    trouble = f"{SET_ASIDE}{clean(why, 400)}"
    outcome = Outcome(mail.mail_id, kind, InboundState.TROUBLE, Match(), Decision((), ()), trouble)
    with transaction.atomic(), bound_cursor() as cursor:
        cursor.execute("DELETE FROM sending_unreadmail WHERE mail_id = %s", [mail.mail_id])
        mark(cursor, [outcome], datetime.now(UTC))
    LOST.inc()
    _tell([outcome])


def _tell(outcomes: Sequence[Outcome]) -> None:
    """To the metrics, and to the log what somebody may have to look at."""
    for (kind, state), count in Counts((one.kind.value, one.state.value) for one in outcomes).items():
        READ.labels(kind, state).inc(count)
    for one in outcomes:
        if one.match.is_forged:
            FORGED.labels("report").inc()
            log.warning("inbound.forged", mail=one.mail_id, kind=one.kind.value)
        elif one.state is InboundState.TROUBLE:
            log.warning("inbound.trouble", mail=one.mail_id, trouble=one.trouble)
        elif one.state is InboundState.UNMATCHED:
            log.info("inbound.unmatched", mail=one.mail_id, kind=one.kind.value, send=one.match.send_id)
