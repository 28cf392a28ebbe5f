"""The stage between a taken mail and its event: DNS is asked about it, then its row and its event are written at once, and
what is to be passed on is accepted for sending in the same transaction (routing.pass_on).

What enters: rows that wait, under a lease. What leaves: an examined row with its event, in one transaction that is fenced
by the lease. A process that dies leaves its rows to the next; a mail that one died with MAX_TRIES times is told of without
a look at DNS, since it is the project's all the same.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from django.db import InterfaceError, OperationalError, connection, transaction

from projects.events import EventKind, NewEvent, emit_many
from relay_project.mail.received import Received
from relay_project.mail.text import clean
from relay_project.metrics import Counter, Gauge
from sending.inbound.mail import Inbound
from sending.inbound.routing import pass_on
from sending.inbound.routing.forward import NotForwarded
from sending.inbound.routing.objects import event_payload, received_object
from sending.inbound.routing.verify import Findings, examine, unexamined
from sending.models import InboundMail, ReceivedMail

BATCH = 20  # mails of one look, examined side by side
MAX_OCTETS = 32 * 1024 * 1024  # of one look, unless a single mail has more
THREADS = 8
LEASE = timedelta(seconds=120)
MAX_TRIES = 3

log = structlog.get_logger()

EXAMINED = Counter("relay_inbound_examined_total", "Mails of routes whose event was written, by DMARC.", ["dmarc"])
UNEXAMINED = Gauge("relay_inbound_unexamined", "Mails of routes that wait for their look at DNS.")
LAG = Gauge("relay_inbound_unexamined_lag_seconds", "How long the oldest of them has been due.")
UNEXAMINABLE = Counter("relay_inbound_unexaminable_total", "Mails of routes that were told of without a look at DNS.")

_DUE = """
SELECT received_id, tries FROM sending_unexaminedmail WHERE due_at <= %s ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED
"""
_LEASE = "UPDATE sending_unexaminedmail SET due_at = %s, tries = tries + 1 WHERE received_id = ANY(%s)"
_GIVE_BACK = "UPDATE sending_unexaminedmail SET due_at = %s, tries = tries - 1 WHERE received_id = ANY(%s)"
_WAITING = "SELECT count(*), extract(epoch FROM %s - min(due_at)) FROM sending_unexaminedmail"
_FOUND = (
    "from_address", "subject", "message_id", "attachment_count", "authentication", "hints", "examined_at",
    "forward_send_id", "forward_error",
)  # fmt: skip
_FENCE = "DELETE FROM sending_unexaminedmail WHERE received_id = %s AND tries = %s"


@dataclass(frozen=True, slots=True)
class _Job:
    row: ReceivedMail
    mail: Inbound
    tries: int


class Examiner:
    """One of any number: `look()` examines a batch and returns how many mails that were."""

    def look(self) -> int:
        """Examine what is due; 0 when nothing is. Raises what says that the database is away."""
        jobs = _taken(datetime.now(UTC))
        if not jobs:
            return 0
        with ThreadPoolExecutor(min(THREADS, len(jobs)), "examine") as threads:
            found = list(threads.map(_examined, jobs))  # DNS and CPU; nothing of the database
        for job, findings in zip(jobs, found, strict=True):
            try:
                _settle(job, findings, datetime.now(UTC))
            except (OperationalError, InterfaceError):
                raise
            except (
                Exception
            ):  # its lease ends, and after MAX_TRIES it is not passed on; the others are not kept waiting
                log.exception("inbound.not_settled", received=job.row.pk)
        return len(jobs)


def measure(now: datetime) -> tuple[int, float]:
    """How many mails wait to be examined, and how long the first has been due; told to the metrics too."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [now])
        count, seconds = cursor.fetchone()
    waiting, lag = int(count), max(float(seconds or 0), 0.0)
    UNEXAMINED.set(waiting)
    LAG.set(lag)
    return waiting, lag


def _taken(now: datetime) -> list[_Job]:
    """Lease what is due, and read it; what is not kept any more is forgotten."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_DUE, [now, BATCH])
        tries = {received_id: count + 1 for received_id, count in cursor.fetchall()}
        cursor.execute(_LEASE, [now + LEASE, list(tries)])
    if not tries:
        return []
    rows = list(ReceivedMail.objects.filter(pk__in=tries, pk__gte=min(tries), pk__lte=max(tries)).order_by("pk"))
    chosen = _within(rows)
    jobs = [_Job(row, mail, tries[row.pk]) for row in chosen if (mail := _mail_of(row)) is not None]
    later = [row.pk for row in rows[len(chosen) :]]
    gone = tries.keys() - {job.row.pk for job in jobs} - set(later)
    with connection.cursor() as cursor:
        if later:
            cursor.execute(_GIVE_BACK, [now, later])
        if gone:
            cursor.execute("DELETE FROM sending_unexaminedmail WHERE received_id = ANY(%s)", [list(gone)])
    return jobs


def _within(rows: Sequence[ReceivedMail]) -> Sequence[ReceivedMail]:
    """The first ones, as far as memory is meant to hold them."""
    octets = 0
    for place, row in enumerate(rows):
        octets += row.size_bytes
        if place and octets > MAX_OCTETS:
            return rows[:place]
    return rows


def _mail_of(row: ReceivedMail) -> Inbound | None:
    mail = InboundMail.objects.filter(pk=row.mail_id).first()
    if mail is None:
        return None
    return Inbound(
        mail_id=mail.pk,
        mail_from=mail.mail_from,
        recipients=tuple(row.recipients),
        octets=bytes(mail.octets),
        peer=mail.peer,
        helo_name=mail.helo_name,
        tls=mail.tls,
    )


def _examined(job: _Job) -> Findings:
    if job.tries > MAX_TRIES:
        UNEXAMINABLE.inc()
        log.warning("inbound.unexaminable", received=job.row.pk)
        return unexamined(job.mail)
    try:
        return examine(job.mail)
    except Exception:
        UNEXAMINABLE.inc()
        log.exception("inbound.examine_raised", received=job.row.pk)
        return unexamined(job.mail)


def _settle(job: _Job, findings: Findings, now: datetime) -> None:
    """Write what was found, and what follows, if the lease still is ours."""
    row, message = job.row, findings.message
    row.from_address = clean(message.from_[0].address, 512) if message.from_ else ""
    row.subject, row.message_id = message.subject, message.message_id
    row.attachment_count = len(message.attachments)
    row.authentication, row.hints, row.examined_at = findings.authentication, list(findings.hints), now
    plan = _plan(job, findings, now)
    if isinstance(plan, timedelta):
        with connection.cursor() as cursor:
            cursor.execute(_GIVE_BACK, [now + plan, [row.pk]])
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_FENCE, [row.pk, job.tries])
        if not cursor.rowcount:
            return
        if plan is not None:
            pass_on.settle(row, plan, now)
        row.save(update_fields=_FOUND)
        emit_many(cursor, _events(row, message))
    if plan is not None:
        pass_on.tell(row, plan)
    EXAMINED.labels(findings.authentication["dmarc"]["result"]).inc()


def _plan(job: _Job, findings: Findings, now: datetime) -> pass_on.Plan | timedelta | None:
    """What becomes of a mail that is to be passed on; None for others."""
    if job.row.forward_to is None:
        return None
    return NotForwarded.BROKEN if job.tries > MAX_TRIES else pass_on.prepare(job.row, job.mail, findings, now)


def _events(row: ReceivedMail, message: Received) -> list[NewEvent]:
    """What the project is told: all of a mail, or where it went. Of a report that goes back, its forward has told already."""
    if row.forward_to is None:
        kind, payload = EventKind.INBOUND_RECEIVED, event_payload(row, message)
    else:
        kind, payload = EventKind.INBOUND_FORWARDED, {"inbound": received_object(row)}
    return [] if row.returns_send_id else [NewEvent(row.project_id, kind, "inbound", row.pk, payload)]
