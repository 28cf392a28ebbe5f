"""Whether a domain may send: its DKIM record is looked for in DNS, and what was found moves its status.

    pending → active (found) · active → warning (not there) → active (found) or pending (still not there a day later)

Only a definite answer moves anything (lesson C21): a resolver that fails says nothing about the domain. The question is
asked outside of any transaction; what it found is settled in a short one. Staff suspend and reinstate.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from accounts import audit
from accounts.models import User
from projects.dkim_keys import current_key, dkim_host, public_value
from projects.domain_notices import tell_of_status
from projects.domains import delete_domain
from projects.events import EventKind, NewEvent, emit
from projects.models import DkimKey, Domain, DomainStatus
from projects.objects import domain_object, timestamp
from relay_project.mail.dkim import public_key_of_txt
from relay_project.mail.text import clean
from relay_project.net.resolver import NameNotFound, ResolverFailure, txt_records
from relay_project.web.errors import ApiError

PENDING_EVERY = timedelta(minutes=5)  # as the contract; an inconclusive check of an active one is repeated as soon
ACTIVE_EVERY = timedelta(days=1)  # as the contract
BATCH = 40  # domains a run, as the contract
MAX_FAILURES = 10  # of the resolver in one run; then it is the resolver that is ill, and waiting for it helps nobody
ABANDONED_AFTER = timedelta(days=14)  # as the contract
MAX_MESSAGE = 512  # characters, the column's width

NXDOMAIN = "DNS query failed with error: Non-existent domain (NXDOMAIN)"
NO_TXT = "No TXT records found for DKIM host"
NO_MATCH = "No valid DKIM record found"
NOT_PENDING = "You can only verify a domain that is in PENDING status."

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DkimResult:
    """What DNS said about a domain's record; not conclusive when the resolver failed."""

    verified: bool
    checked_at: datetime
    error_message: str | None = None
    conclusive: bool = True


def verify(domain: Domain, now: datetime) -> Domain:
    """Look for a pending domain's record, as its owner asks; the domain as it is then.

    Raises ApiError 400 when it is not pending, and 500 (the contract's) when the resolver fails.
    """
    if domain.status != DomainStatus.PENDING:
        raise ApiError(400, NOT_PENDING)
    domain, result = _check(domain, now, scheduled=False)
    if not result.conclusive:
        raise ApiError(500, f"DKIM verification failed due an internal error: {result.error_message}")
    return domain


def recheck(domain: Domain, now: datetime) -> Domain:
    """Look again whatever the status; by hand a domain in warning can only get better. Suspended ones stay so."""
    return _check(domain, now, scheduled=False)[0]


def recheck_due(now: datetime, limit: int = BATCH) -> int:
    """Look for the records of the domains whose turn it is, the longest unchecked first; returns how many.

    Pending ones every 5 minutes, active and warning ones daily. The instance domain is left to the health checks.
    A return of `limit` means that there may be more.
    """
    checked = failures = 0
    for domain in Domain.objects.filter(_due(now), project__is_system=False).order_by("dkim_checked_at", "id")[:limit]:
        result = _check(domain, now, scheduled=True)[1]
        checked += 1
        failures += not result.conclusive
        if failures >= MAX_FAILURES:
            log.warning("domains.resolver_fails", failures=failures, checked=checked, error=result.error_message)
            break
    return checked


def delete_abandoned(now: datetime, limit: int = BATCH) -> int:
    """Forget domains that have been pending for 14 days; returns how many.

    Not suspended ones, as the contract has it: they could then be registered anew. No mail history goes with them.
    """
    abandoned = Domain.objects.filter(
        status=DomainStatus.PENDING, status_changed_at__lte=now - ABANDONED_AFTER, project__is_system=False
    )
    deleted = 0
    for domain in abandoned.order_by("id")[:limit]:
        delete_domain(domain)
        deleted += 1
    return deleted


def suspend(domain: Domain, reason: str, now: datetime, actor: User | None, address: str | None = None) -> Domain:
    """Staff stop a domain from sending; its owner reads the reason. Emits domain.status.changed."""
    reason = clean(reason, MAX_MESSAGE - 20)
    with transaction.atomic():
        domain = locked(domain)
        audit.record(
            "domain.suspended",
            actor=actor,
            subject=domain,
            project_id=domain.project_id,
            address=address,
            detail={"reason": reason},
        )
        result = DkimResult(False, now, f"Suspended: {reason}" if reason else "Suspended")
        return move(domain, DomainStatus.SUSPENDED, result, now, tells=True)


def reinstate(domain: Domain, now: datetime, actor: User | None, address: str | None = None) -> Domain:
    """Staff let a suspended domain back: pending, and due for a check at once. Raises ApiError 400 when it is not."""
    with transaction.atomic():
        domain = locked(domain)
        if domain.status != DomainStatus.SUSPENDED:
            raise ApiError(400, "Only a suspended domain can be reinstated.")
        audit.record("domain.reinstated", actor=actor, subject=domain, project_id=domain.project_id, address=address)
        is_instance = domain.project.is_system
        status = DomainStatus.ACTIVE if is_instance else DomainStatus.PENDING
        domain = move(domain, status, DkimResult(is_instance, now, conclusive=False), now)
        Domain.objects.filter(pk=domain.pk).update(dkim_checked_at=None)
        domain.dkim_checked_at = None
        return domain


def look_up(key: DkimKey, now: datetime) -> DkimResult:
    """Ask DNS for a key's record; never raises."""
    try:
        records = txt_records(dkim_host(key), settings.DNS_RESOLVERS or None)
    except NameNotFound:
        return DkimResult(False, now, NXDOMAIN)
    except ResolverFailure as failure:
        return DkimResult(False, now, clean(f"The DNS resolver failed: {failure.text}", MAX_MESSAGE), conclusive=False)
    if not records:
        return DkimResult(False, now, NO_TXT)
    if any(public_key_of_txt(record) == public_value(key) for record in records):
        return DkimResult(True, now)
    return DkimResult(False, now, NO_MATCH)


def next_status(status: str, result: DkimResult, scheduled: bool) -> DomainStatus:
    """Where a finding moves a domain; only the daily check (`scheduled`) takes the right to send away."""
    now = DomainStatus(status)
    if not result.conclusive or now == DomainStatus.SUSPENDED:
        return now
    if result.verified:
        return DomainStatus.ACTIVE
    if now == DomainStatus.ACTIVE:
        return DomainStatus.WARNING
    if now == DomainStatus.WARNING and scheduled:
        return DomainStatus.PENDING
    return now


def _due(now: datetime) -> Q:
    lately, yesterday = now - PENDING_EVERY, now - ACTIVE_EVERY
    unchecked = Q(dkim_checked_at__isnull=True)
    pending = Q(status=DomainStatus.PENDING) & (unchecked | Q(dkim_checked_at__lte=lately))
    kept = Q(status__in=[DomainStatus.ACTIVE, DomainStatus.WARNING]) & (unchecked | Q(dkim_checked_at__lte=yesterday))
    # an active domain with an error message is one whose last check was inconclusive
    again = Q(status=DomainStatus.ACTIVE, dkim_error_message__isnull=False, dkim_checked_at__lte=lately)
    return pending | kept | again


def _check(domain: Domain, now: datetime, scheduled: bool) -> tuple[Domain, DkimResult]:
    """Ask, then settle; a domain that was deleted, suspended or given another key in between stays so."""
    key = current_key(domain)
    result = look_up(key, now)
    with transaction.atomic():
        domain = locked(domain)
        if domain.status == DomainStatus.SUSPENDED or current_key(domain).pk != key.pk:
            return domain, result
        return move(domain, next_status(domain.status, result, scheduled), result, now, tells=scheduled), result


def locked(domain: Domain) -> Domain:
    """The row, locked until the transaction's end; raises ApiError 400 when it is gone."""
    locked = Domain.objects.select_for_update(of=("self",)).select_related("project").filter(pk=domain.pk).first()
    if locked is None:
        raise ApiError(400, "Domain not found")
    return locked


def move(domain: Domain, status: DomainStatus, result: DkimResult, now: datetime, tells: bool = False) -> Domain:
    """Write down a finding and, when it changes the status, the event, in the caller's transaction.

    `tells`: the project's people get mail, as nobody of them has just done it.
    """
    old = domain.status
    domain.dkim_checked_at = result.checked_at
    domain.dkim_error_message = result.error_message
    if result.conclusive:
        domain.failed_checks = 0 if result.verified else min(domain.failed_checks + 1, 32_767)
    if old != status:
        domain.status = status
        domain.status_changed_at = now
    domain.save(update_fields=["status", "status_changed_at", "dkim_checked_at", "dkim_error_message", "failed_checks"])
    if old != status:
        log.info("domain.status_changed", domain_id=domain.pk, project_id=domain.project_id, old=old, new=str(status))
        emit(_changed(domain, old, result))
        if tells:
            tell_of_status(domain, old)
    return domain


def _changed(domain: Domain, old: str, result: DkimResult) -> NewEvent:
    payload = {
        "domain": domain_object(domain, current_key(domain)),
        "old_status": str(old),
        "new_status": str(domain.status),
        "dkim_result": {
            "verified": result.verified,
            "checked_at": timestamp(result.checked_at),
            "error_message": result.error_message,
        },
    }
    return NewEvent(domain.project_id, EventKind.DOMAIN_STATUS_CHANGED, "domain", domain.pk, payload)
