"""New DKIM keys for a domain, without a moment in which mail is signed by a key whose record is not in DNS.

    pending → active (its record is found) → retiring (another took its place) → retired (the overlap is over)

A new key waits until its record is found; only then does it sign, in place of the key of its algorithm, or beside a key
of the other one. What the former key signed is on its way for as long as it is tried, so its record has to stay for an
overlap. Only a definite answer moves anything (lesson C21), and DNS is asked outside of any transaction.
"""

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from projects.access import Caller, record_by
from projects.dkim_keys import (
    algorithm_of,
    check_private_key,
    check_selector,
    create_waiting_key,
    current_key,
    generate_key,
    keys_of,
    new_selector,
)
from projects.domain_status import (
    BATCH,
    MAX_FAILURES,
    PENDING_EVERY,
    DkimResult,
    locked,
    look_up,
    move,
    next_status,
)
from projects.events import EventKind, NewEvent, emit
from projects.models import DkimAlgorithm, DkimKey, DkimKeyState, Domain, DomainStatus
from projects.objects import dkim_key_object, domain_object
from relay_project.mail.dkim import public_key_pem
from relay_project.web.errors import ApiError, violation

ABANDONED_AFTER = timedelta(days=14)  # as a domain's: a record that is not there by then will not come
MAX_KEYS = 50  # of a domain, retired ones included; a key a month for four years

ONE_WAITS = "This domain already has a key of this algorithm that waits for its record."
SELECTOR_TAKEN = "This domain has a key with this selector already."
KEY_TAKEN = "This domain has this key already."
TOO_MANY = f"This domain has {MAX_KEYS} keys. Delete retired ones first."
ONLY_ONE = "This key signs the domain's mail, and no other does. Add another key first."
STILL_NEEDED = "Mail that this key signed is still on its way. Its record must stay until the key is retired."
NOT_WAITING = "Only a key that waits for its record can be checked."
KEY_NOT_FOUND = "DKIM key not found"

log = structlog.get_logger(__name__)


def add_key(
    domain: Domain,
    now: datetime,
    selector: str | None = None,
    private_key_pem: str | None = None,
    algorithm: DkimAlgorithm = DkimAlgorithm.RSA,
    caller: Caller | None = None,
) -> DkimKey:
    """A new key of a domain, its own or a generated one, that signs once its record is found.

    Raises Violations for a bad selector or key, and ApiError 400 when one waits already.
    """
    selector = new_selector(now) if selector is None else check_selector(selector)
    pem = generate_key(algorithm) if private_key_pem is None else check_private_key(private_key_pem)
    with transaction.atomic():
        domain = locked(domain)
        _check_place(domain, selector, pem)
        key = create_waiting_key(domain, selector, pem)
        _tell(domain, key, old=None, new=DkimKeyState.PENDING)
        record_by(caller, "dkim_key.added", key, domain.project, domain=domain.domain, selector=selector)
    return key


def check_key(key: DkimKey, now: datetime) -> tuple[DkimKey, DkimResult]:
    """Look for a waiting key's record; found, it begins to sign. Raises ApiError 400 when it does not wait."""
    if key.state != DkimKeyState.PENDING:
        raise ApiError(400, NOT_WAITING)
    result = look_up(key, now)
    with transaction.atomic():
        domain = locked(key.domain)
        waiting = DkimKey.objects.filter(pk=key.pk, state=DkimKeyState.PENDING).first()
        if waiting is None:
            raise ApiError(400, NOT_WAITING)
        waiting.domain = domain
        waiting.checked_at, waiting.error_message = now, result.error_message
        waiting.save(update_fields=["checked_at", "error_message"])
        if result.verified:
            _activate(domain, waiting, result, now)
    return waiting, result


def check_waiting(now: datetime, limit: int = BATCH) -> int:
    """Look for the records of waiting keys whose turn it is, each every 5 minutes; returns how many."""
    due = Q(checked_at__isnull=True) | Q(checked_at__lte=now - PENDING_EVERY)
    waiting = DkimKey.objects.filter(due, state=DkimKeyState.PENDING).select_related("domain")
    checked = failures = 0
    for key in waiting.defer("private_key").order_by("checked_at", "id")[:limit]:
        try:
            failures += not check_key(key, now)[1].conclusive
        except ApiError:  # deleted meanwhile
            continue
        checked += 1
        if failures >= MAX_FAILURES:
            break
    return checked


def retire_due(now: datetime, limit: int = BATCH) -> int:
    """End the overlap of replaced keys, erasing their private halves; forget keys that waited in vain; how many."""
    over = DkimKey.objects.filter(state=DkimKeyState.RETIRING, retires_at__lte=now)
    in_vain = DkimKey.objects.filter(state=DkimKeyState.PENDING, created_at__lte=now - ABANDONED_AFTER)
    done = 0
    for found in (over, in_vain):
        for key in found.select_related("domain").defer("private_key").order_by("id")[:limit]:
            done += _end(key)
    return done


def drop_key(key: DkimKey, now: datetime, caller: Caller | None = None) -> None:
    """Give a key up: one that waits or is retired is deleted, one that signs retires. Raises ApiError 400."""
    with transaction.atomic():
        domain = locked(key.domain)
        found = DkimKey.objects.filter(pk=key.pk).first()
        if found is None:
            raise ApiError(404, KEY_NOT_FOUND)
        match found.state:
            case DkimKeyState.RETIRING:
                raise ApiError(400, STILL_NEEDED)
            case DkimKeyState.ACTIVE:
                _stop_signing(domain, found, now)
            case _:
                _delete(domain, found)
        record_by(caller, "dkim_key.dropped", found, domain.project, domain=domain.domain, selector=found.selector)


def find_key(domain: Domain, key_id: int) -> DkimKey:
    """A domain's key by its id; raises ApiError 404."""
    key = DkimKey.objects.filter(domain=domain, pk=key_id).defer("private_key").first()
    if key is None:
        raise ApiError(404, KEY_NOT_FOUND)
    key.domain = domain
    return key


def has_key(domain: Domain, selector: str | None, private_key_pem: str | None) -> bool:
    """Whether a domain has, or waits for, the key that somebody wants it to have; retired ones do not count."""
    keys = [key for key in keys_of(domain) if key.state in (DkimKeyState.ACTIVE, DkimKeyState.PENDING)]
    public = public_key_pem(check_private_key(private_key_pem)) if private_key_pem else None
    selector = check_selector(selector) if selector else None
    return any(
        (selector is None or key.selector == selector) and (public is None or key.public_key == public) for key in keys
    )


def _end(key: DkimKey) -> bool:
    """Retire a key, or forget one that waited; False when it is neither any more."""
    with transaction.atomic():
        domain = Domain.objects.select_for_update(of=("self",)).filter(pk=key.domain_id).first()
        now = DkimKey.objects.filter(pk=key.pk, state=key.state).defer("private_key").first()
        if domain is None or now is None:
            return False
        if now.state == DkimKeyState.PENDING:
            _delete(domain, now)
        else:
            _set(now, state=DkimKeyState.RETIRED, private_key="")
            _tell(domain, now, DkimKeyState.RETIRING, DkimKeyState.RETIRED)
        return True


def _check_place(domain: Domain, selector: str, pem: str) -> None:
    keys = DkimKey.objects.filter(domain=domain)
    if keys.count() >= MAX_KEYS:
        raise ApiError(400, TOO_MANY)
    if keys.filter(selector=selector).exists():
        raise violation("dkim_selector", SELECTOR_TAKEN)
    if keys.filter(public_key=public_key_pem(pem)).exists():
        raise violation("dkim_private_key", KEY_TAKEN)
    if keys.filter(state=DkimKeyState.PENDING, algorithm=algorithm_of(pem)).exists():
        raise ApiError(400, ONE_WAITS)


def _activate(domain: Domain, key: DkimKey, result: DkimResult, now: datetime) -> None:
    """The key signs from now on; the one whose place it takes retires. Its record is proof of the domain, too."""
    active = DkimKey.objects.filter(domain=domain, state=DkimKeyState.ACTIVE)
    replaced = active.filter(algorithm=key.algorithm).first()
    takes_over = replaced.is_current if replaced else key.algorithm == DkimAlgorithm.RSA
    if replaced:
        _retire(replaced, now)
    if takes_over:
        active.update(is_current=False)
    _set(key, state=DkimKeyState.ACTIVE, is_current=takes_over, activated_at=now)
    if replaced:
        _tell(domain, replaced, DkimKeyState.ACTIVE, DkimKeyState.RETIRING)
    _tell(domain, key, DkimKeyState.PENDING, DkimKeyState.ACTIVE)
    log.info("dkim_key.active", domain_id=domain.pk, project_id=domain.project_id, selector=key.selector)
    if takes_over and domain.status != DomainStatus.SUSPENDED:
        move(domain, next_status(domain.status, result, scheduled=False), result, now)


def _stop_signing(domain: Domain, key: DkimKey, now: datetime) -> None:
    other = DkimKey.objects.filter(domain=domain, state=DkimKeyState.ACTIVE).exclude(pk=key.pk).first()
    if other is None:
        raise ApiError(400, ONLY_ONE)
    was_current = key.is_current
    _retire(key, now)
    if was_current:
        _set(other, is_current=True)
    _tell(domain, key, DkimKeyState.ACTIVE, DkimKeyState.RETIRING)


def _retire(key: DkimKey, now: datetime) -> None:
    _set(key, state=DkimKeyState.RETIRING, is_current=False, retires_at=now + settings.DKIM_OVERLAP)


def _set(key: DkimKey, **fields: object) -> None:
    for name, value in fields.items():
        setattr(key, name, value)
    key.save(update_fields=list(fields))


def _delete(domain: Domain, key: DkimKey) -> None:
    _tell(domain, key, key.state, None)
    DkimKey.objects.filter(pk=key.pk).delete()


def _tell(domain: Domain, key: DkimKey, old: str | None, new: str | None) -> None:
    """The event of a key's new state; None stands for before it was, and after."""
    key.domain = domain
    payload = {
        "domain": domain_object(domain, current_key(domain)),
        "dkim_key": dkim_key_object(key),
        "old_state": None if old is None else str(old),
        "new_state": None if new is None else str(new),
    }
    emit(NewEvent(domain.project_id, EventKind.DOMAIN_DKIM_KEY_CHANGED, "domain", domain.pk, payload))
