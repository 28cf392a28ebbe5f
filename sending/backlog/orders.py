"""Orders of staff over a queue's waiting mail: flush, reroute, purge.

An order is a row (Operation), carried out in steps: each locks a bounded stretch of waiting rows, changes what fits,
leaves what is in flight, and moves the order's place, all in one transaction. So an order survives whoever carries it
out, two may work at one without harm, and claims and settles never wait long. Pages do as much as fits into a moment and
leave the rest to housekeeping; commands go on to the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import structlog
from django.db import DatabaseError, connection, transaction
from django.db.backends.utils import CursorWrapper

from accounts import audit
from accounts.models import User
from ips import sites
from ips.models import HeldSite, SiteLimit
from queues.models import Queue
from relay_project import jobs
from relay_project.mail.text import clean
from sending.backlog.cancel import cancel_locked
from sending.backlog.stretch import Row, Wanted, lock_stretch, movable
from sending.models import Operation, OperationKind, Phase

log = structlog.get_logger()

MAX_REASON = 255  # characters, the column's
PAST = {"flush": "queue.flushed", "reroute": "queue.rerouted", "purge": "queue.purged"}


class OrderRefused(ValueError):
    """The order makes no sense; `field` is what is wrong with it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class By:
    """Who gives an order: a person, or the command line."""

    actor: User | None = None
    address: str | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """What shall be done to which waiting rows. `with_scheduled`: a flush hurries mail that was scheduled, too."""

    kind: OperationKind
    wanted: Wanted
    reason: str
    target: Queue | None = None
    with_scheduled: bool = False


def give(order: Order, by: By, now: datetime) -> Operation:
    """Write an order down, audited, and wake housekeeping for it; nothing is done yet. Raises OrderRefused."""
    _check(order)
    wanted = order.wanted
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT new_id()")
        operation = Operation.objects.create(
            kind=order.kind,
            queue_id=wanted.queue_id,
            target=order.target,
            project_id=wanted.project_id,
            domain=wanted.domain,
            site=wanted.site,
            with_scheduled=order.with_scheduled,
            reason=clean(order.reason, MAX_REASON).strip(),
            ordered_by=str(by.actor or by.label),
            until_id=cursor.fetchone()[0],
            ordered_at=now,
        )
        _audit(f"queue.{order.kind}_ordered", operation, by)
        if order.kind == OperationKind.FLUSH and wanted.project_id is None and not wanted.domain:
            open_slots(cursor, wanted, now)
            _end_back_offs(wanted, by, now)
        transaction.on_commit(lambda: jobs.wake(jobs.OPERATIONS, jobs.HOUSEKEEPING), robust=True)
    return operation


def _check(order: Order) -> None:
    if not order.reason.strip():
        raise OrderRefused("reason", "Say why; it is kept in the audit log.")
    if order.kind == OperationKind.REROUTE:
        if order.target is None:
            raise OrderRefused("to", "Name the queue that the mail shall go to.")
        if order.target.pk == order.wanted.queue_id:
            raise OrderRefused("to", f"The mail is in the queue {order.target} already.")
    elif order.target is not None:
        raise OrderRefused("to", "Only rerouted mail goes to another queue.")
    if order.with_scheduled and order.kind != OperationKind.FLUSH:
        raise OrderRefused("scheduled", "Only a flush can hurry scheduled mail.")


def run(operation: Operation, seconds: float) -> bool:
    """Carry an order out for as long; whether it has ended. The operation is refreshed."""
    deadline = monotonic() + seconds
    while step(operation.pk, datetime.now(UTC)):
        if monotonic() > deadline:
            break
    operation.refresh_from_db()
    return operation.ended_at is not None


def carry_on(seconds: float) -> bool:
    """Carry out whatever orders are open, the oldest first, for as long; whether none is left to go on with.

    One that fails keeps no other from being carried out; it is tried again with the next call.
    """
    deadline = monotonic() + seconds
    for operation in Operation.objects.filter(ended_at=None).order_by("id"):
        if monotonic() > deadline:
            return False
        try:
            has_ended = run(operation, deadline - monotonic())
        except DatabaseError:
            log.exception("order.failed", order=operation.pk, kind=operation.kind, queue=operation.queue_id)
            continue
        if not has_ended:
            return False
    return True


def stop(operation: Operation, by: By, now: datetime) -> bool:
    """Take back the rest of an order; what was done stays done. False when it had ended."""
    with transaction.atomic():
        locked = Operation.objects.select_for_update().filter(pk=operation.pk, ended_at=None).first()
        if locked is None:
            return False
        locked.ended_at = locked.stopped_at = now
        locked.save(update_fields=["ended_at", "stopped_at"])
        _audit("queue.order_stopped", locked, by)
    operation.refresh_from_db()
    return True


def step(operation_id: int, now: datetime) -> bool:
    """One stretch of an order, one transaction; False when it has ended. Another at the same order is waited for."""
    with transaction.atomic(), connection.cursor() as cursor:
        operation = Operation.objects.select_for_update().filter(pk=operation_id, ended_at=None).first()
        if operation is None:
            return False
        stretch = lock_stretch(cursor, wanted_of(operation), operation.after_id, operation.until_id, now)
        free = movable(stretch.rows)
        operation.left_in_flight += len(stretch.rows) - len(free)
        operation.done += _CARRY_OUT[OperationKind(operation.kind)](cursor, operation, free, now)
        if stretch.end is None:
            operation.ended_at = now
            _audit(PAST[operation.kind], operation, By(label=operation.ordered_by))
            log.info(
                "order.ended", order=operation.pk, kind=operation.kind, queue=operation.queue_id, done=operation.done
            )
        else:
            operation.after_id = stretch.end
        operation.save(update_fields=["after_id", "done", "left_in_flight", "left_scheduled", "ended_at"])
        return operation.ended_at is None


def wanted_of(operation: Operation) -> Wanted:
    """Which rows an order is about."""
    return Wanted(operation.queue_id, operation.project_id, operation.domain, operation.site)


# --- What is done to a stretch: rows are locked, in order, none is in flight ----------------------------------------

# Held rows hang on their site until its slot, unless one project's or domain's mail is meant: for a whole site the slot
# itself comes now (open_slots), and its mail follows at the site's pace, not all at once.
_FLUSH = """
UPDATE sending_waiting SET phase = 0, held_site_id = NULL, due_at = least(due_at, %(now)s)
 WHERE recipient_id = ANY(%(ids)s) AND attempt_id IS NULL
"""
# What was scheduled leaves earlier than its Date says, which nobody has seen yet. By id, as below.
_DATE_SENDS = """
UPDATE sending_send SET message_date = date_trunc('second', %(now)s::timestamptz)
 WHERE id = ANY(ARRAY(SELECT id FROM sending_send WHERE id = ANY(%(ids)s) AND id BETWEEN %(low)s AND %(high)s
                         AND message_date > %(now)s ORDER BY id FOR UPDATE)) AND id BETWEEN %(low)s AND %(high)s
"""
_REROUTE = """
UPDATE sending_waiting
   SET queue_id = %(target)s, lane = CASE WHEN lane = 0 THEN 0 ELSE %(target)s END, source_ip_id = NULL, held_site_id = NULL,
       phase = CASE WHEN phase = 2 THEN 0 ELSE phase END, due_at = CASE WHEN phase = 2 THEN %(now)s ELSE due_at END
 WHERE recipient_id = ANY(%(ids)s) AND attempt_id IS NULL
"""
# So that a later retry of what failed goes the same way. By id, as two orders at once would cross otherwise.
_REROUTE_SENDS = """
UPDATE sending_send SET queue_id = %(target)s
 WHERE id = ANY(ARRAY(SELECT id FROM sending_send WHERE id = ANY(%(ids)s) AND id BETWEEN %(low)s AND %(high)s
                       ORDER BY id FOR UPDATE)) AND id BETWEEN %(low)s AND %(high)s
"""


def _flush(cursor: CursorWrapper, operation: Operation, rows: Sequence[Row], now: datetime) -> int:
    scheduled = [row for row in rows if row.is_scheduled]
    if not operation.with_scheduled:
        operation.left_scheduled += len(scheduled)
        rows = [row for row in rows if not row.is_scheduled]
    wanted = wanted_of(operation)
    moves_held = wanted.project_id is not None or bool(wanted.domain)
    late = [row for row in rows if row.phase == Phase.LATER or (moves_held and row.phase == Phase.HELD)]
    if late:
        cursor.execute(_FLUSH, {"ids": [row.recipient_id for row in late], "now": now})
        jobs.wake_on_commit(jobs.DRAIN, jobs.drain_queue(operation.queue_id))
    if sends := sorted({row.send_id for row in rows if row.is_scheduled}):
        cursor.execute(_DATE_SENDS, {"ids": sends, "low": sends[0], "high": sends[-1], "now": now})
    return sum(row.phase != Phase.DUE for row in rows)


def _reroute(cursor: CursorWrapper, operation: Operation, rows: Sequence[Row], now: datetime) -> int:
    if rows and operation.target_id is not None:
        values: dict[str, Any] = {"target": operation.target_id, "ids": [row.recipient_id for row in rows], "now": now}
        cursor.execute(_REROUTE, values)
        sends = sorted({row.send_id for row in rows})
        cursor.execute(_REROUTE_SENDS, {**values, "ids": sends, "low": sends[0], "high": sends[-1]})
        jobs.wake_on_commit(jobs.DRAIN, jobs.drain_queue(operation.target_id))
    return len(rows)


def _purge(cursor: CursorWrapper, operation: Operation, rows: Sequence[Row], now: datetime) -> int:
    return cancel_locked(cursor, [row.recipient_id for row in rows], operation.reason)


_CARRY_OUT: dict[OperationKind, Callable[[CursorWrapper, Operation, Sequence[Row], datetime], int]] = {
    OperationKind.FLUSH: _flush,
    OperationKind.REROUTE: _reroute,
    OperationKind.PURGE: _purge,
}


def open_slots(cursor: CursorWrapper, wanted: Wanted, now: datetime) -> int:
    """Let the next slot of a queue's held sites come now; returns of how many sites."""
    cursor.execute(
        """UPDATE ips_heldsite SET next_slot = %(now)s WHERE id = ANY(ARRAY(
             SELECT id FROM ips_heldsite WHERE queue_id = %(queue)s AND (%(site)s = '' OR site = %(site)s)
                AND next_slot > %(now)s FOR UPDATE SKIP LOCKED))""",
        {"now": now, "queue": wanted.queue_id, "site": wanted.site},
    )
    return int(cursor.rowcount)


def _end_back_offs(wanted: Wanted, by: By, now: datetime) -> None:
    """What a site asked for by its replies is no reason to wait any more; what was learned of its pace stays."""
    held = HeldSite.objects.filter(queue_id=wanted.queue_id).values("site")
    lessons = SiteLimit.objects.filter(site__in=held, back_off_until__gt=now).select_related("source_ip")
    for lesson in lessons.filter(site=wanted.site) if wanted.site else lessons:
        sites.flush(
            lesson.site,
            source_ip=lesson.source_ip,
            actor=by.actor,
            now=now,
            address=by.address,
            actor_label=by.label,
        )


def _audit(action: str, operation: Operation, by: By) -> None:
    detail = {
        "order": operation.pk,
        "reason": operation.reason,
        "to": operation.target.name if operation.target else None,
        "project": operation.project_id,
        "domain": operation.domain,
        "site": operation.site,
        "scheduled": operation.with_scheduled,
        "done": operation.done,
        "left_in_flight": operation.left_in_flight,
        "left_scheduled": operation.left_scheduled,
    }
    audit.record(
        action,
        actor=by.actor,
        actor_label=by.label,
        subject=operation.queue,
        project_id=operation.project_id,
        address=by.address,
        detail={
            key: value for key, value in detail.items() if value is not None and value is not False and value != ""
        },
    )
