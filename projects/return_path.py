"""A domain's own return path: a host below it that bounces come back by, so that SPF is aligned with the From domain.

    pending → active (its records are found) → pending (they are not any more)

The host is an alias (CNAME) of the instance domain, or has an MX and an SPF record of its own that lead there. It is
used only while it is active: a MAIL FROM whose domain does not exist is refused by many, so mail goes back to the
instance's return path at the first definite answer that the records are gone. A resolver that fails says nothing
(lesson C21); DNS is asked outside of any transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from dns.rdatatype import MX, TXT, RdataType

from projects.access import Caller, record_by
from projects.dkim_keys import current_key
from projects.domain_notices import tell_of_return_path
from projects.domain_status import BATCH, MAX_FAILURES, MAX_MESSAGE, locked
from projects.events import EventKind, NewEvent, emit
from projects.models import Domain, ReturnPathStatus
from projects.objects import domain_object
from relay_project.mail import spf
from relay_project.mail.address import InvalidDomain, normalise_domain
from relay_project.mail.text import clean
from relay_project.net.resolver import Answer, LookupFailed, NameNotFound, look_up_all, mx_hosts, txt_texts
from relay_project.web.errors import ApiError, violation

ACTIVE_EVERY = timedelta(hours=1)  # so long mail may leave with a return path that is gone
SOON = timedelta(minutes=5)  # after a resolver's failure, and at first for one that is awaited; then ever more rarely
STEADY = timedelta(days=1)  # of a return path that comes and goes nobody wants a mail an hour

NOT_BELOW = "This value is not a host name below the domain, such as bounces.{domain}."
OF_INSTANCE = "The instance domain is its own return path."
NONE_SET = "This domain has no return path of its own."

log = structlog.get_logger(__name__)

Outcome = Answer | LookupFailed


@dataclass(frozen=True, slots=True)
class ReturnPathResult:
    """What DNS says about a return path; not conclusive when the resolver failed. `found`: the records, in words."""

    verified: bool
    error_message: str | None = None
    conclusive: bool = True
    found: tuple[str, ...] = ()


def return_path_target() -> str:
    """What a return path is an alias of."""
    target: str = settings.INSTANCE_DOMAIN
    return target


def set_return_path(domain: Domain, host: str | None, now: datetime, caller: Caller | None = None) -> Domain:
    """Give a domain a return path of its own, which is used once its records are found, or take it away (None).

    Raises Violations at `return_path`, and ApiError 400 when the domain is gone.
    """
    host = None if host is None else _check_host(domain, host)
    with transaction.atomic():
        domain = locked(domain)
        if domain.return_path == host:
            return domain
        if host is not None and domain.project.is_system:
            raise violation("return_path", OF_INSTANCE)
        old = domain.return_path_status if domain.return_path is not None else None
        domain.return_path, domain.return_path_status = host, ReturnPathStatus.PENDING
        domain.return_path_changed_at = domain.return_path_due_at = None if host is None else now
        domain.return_path_checked_at = domain.return_path_error_message = None
        _save(domain)
        _tell(domain, old)
        record_by(caller, "domain.return_path_set", domain, domain.project, domain=domain.domain, return_path=host)
    return domain


def check_return_path(domain: Domain, now: datetime) -> tuple[Domain, ReturnPathResult]:
    """Look for a return path's records now, and settle; raises ApiError 400 where there is none."""
    host = domain.return_path
    if host is None:
        raise ApiError(400, NONE_SET)
    result = judge(host, *look_up_all(questions(host), settings.DNS_RESOLVERS or None))
    with transaction.atomic():
        domain = locked(domain)
        if domain.return_path == host:  # and not another one meanwhile
            _settle(domain, result, now)
    return domain, result


def check_due(now: datetime, limit: int = BATCH) -> int:
    """Look for the return paths whose turn it is, the longest due first; returns how many."""
    due = Domain.objects.filter(return_path__isnull=False, return_path_due_at__lte=now)
    checked = failures = 0
    for domain in due.order_by("return_path_due_at", "id")[:limit]:
        try:
            failures += not check_return_path(domain, now)[1].conclusive
        except ApiError:  # deleted, or taken away, meanwhile
            continue
        checked += 1
        if failures >= MAX_FAILURES:
            break
    return checked


def questions(host: str) -> list[tuple[str, RdataType]]:
    """What DNS is asked about a return path; `judge` takes the outcomes in this order."""
    return [(host, MX), (host, TXT), (return_path_target(), MX)]


def judge(host: str, mx: Outcome, txt: Outcome, ours: Outcome) -> ReturnPathResult:
    """Whether bounces come back, and SPF passes, by that host; `ours` is the target's own MX."""
    target = return_path_target()
    found = _in_words(host, mx, txt)
    if any(isinstance(outcome, Answer) and outcome.canonical_name == target for outcome in (mx, txt)):
        return ReturnPathResult(True, found=found)
    failed = [outcome for outcome in (mx, txt) if isinstance(outcome, LookupFailed)]
    trouble = [failure for failure in failed if not isinstance(failure, NameNotFound)]
    if trouble:
        text = clean(f"The DNS resolver failed: {trouble[0].text}", MAX_MESSAGE)
        return ReturnPathResult(False, text, conclusive=False, found=found)
    if failed or not found:
        return ReturnPathResult(False, f"Nothing is found at {host}", found=found)
    hosts = {target, f"mx.{target}", *(mx_hosts(ours) if isinstance(ours, Answer) else ())}
    if not (isinstance(mx, Answer) and mx.records and hosts >= set(mx_hosts(mx))):
        return ReturnPathResult(False, f"{host} is no alias of {target}, and its MX leads elsewhere", found=found)
    if not _includes(txt_texts(txt) if isinstance(txt, Answer) else [], target):
        return ReturnPathResult(False, f"The SPF record of {host} does not include {target}", found=found)
    return ReturnPathResult(True, found=found)


def _includes(texts: Sequence[str], target: str) -> bool:
    try:
        text = spf.find_record(texts)
        return text is not None and target in spf.parse_record(text).includes
    except spf.InvalidRecord:
        return False


def _in_words(host: str, mx: Outcome, txt: Outcome) -> tuple[str, ...]:
    found = []
    aliases = {
        outcome.canonical_name
        for outcome in (mx, txt)
        if isinstance(outcome, Answer) and outcome.canonical_name != host
    }
    found += [f"CNAME {name}" for name in sorted(aliases)]
    if isinstance(mx, Answer):
        found += [f"MX {name}" for name in mx_hosts(mx)]
    if isinstance(txt, Answer):
        found += [f"TXT {text}" for text in txt_texts(txt)]
    return tuple(clean(text, MAX_MESSAGE) for text in found[:10])


def _check_host(domain: Domain, host: str) -> str:
    try:
        name = normalise_domain(host.strip()[:300])
    except InvalidDomain:
        name = ""
    if not name.endswith(f".{domain.domain}"):
        raise violation("return_path", NOT_BELOW.format(domain=domain.domain))
    return name


def _settle(domain: Domain, result: ReturnPathResult, now: datetime) -> None:
    old, since = domain.return_path_status, domain.return_path_changed_at
    domain.return_path_checked_at, domain.return_path_error_message = now, result.error_message
    if result.conclusive:
        domain.return_path_status = ReturnPathStatus.ACTIVE if result.verified else ReturnPathStatus.PENDING
    if domain.return_path_status != old:
        domain.return_path_changed_at = now
    domain.return_path_due_at = now + _wait(domain, result, now)
    _save(domain)
    if domain.return_path_status != old:
        log.info("domain.return_path_changed", domain_id=domain.pk, new=str(domain.return_path_status))
        _tell(domain, old)
        if old == ReturnPathStatus.ACTIVE and since is not None and now - since >= STEADY:
            tell_of_return_path(domain)


def _wait(domain: Domain, result: ReturnPathResult, now: datetime) -> timedelta:
    if not result.conclusive:
        return SOON
    if result.verified or domain.return_path_changed_at is None:
        return ACTIVE_EVERY
    return min(max((now - domain.return_path_changed_at) / 4, SOON), ACTIVE_EVERY)


def _save(domain: Domain) -> None:
    domain.save(
        update_fields=[
            "return_path",
            "return_path_status",
            "return_path_changed_at",
            "return_path_checked_at",
            "return_path_due_at",
            "return_path_error_message",
        ]
    )


def _tell(domain: Domain, old: str | None) -> None:
    """The event of a return path's new state; None stands for having none."""
    payload = {
        "domain": domain_object(domain, current_key(domain)),
        "old_status": None if old is None else str(old),
        "new_status": None if domain.return_path is None else str(domain.return_path_status),
    }
    emit(NewEvent(domain.project_id, EventKind.DOMAIN_RETURN_PATH_CHANGED, "domain", domain.pk, payload))
