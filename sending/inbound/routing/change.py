"""Receiving domains and routes: made, changed and deleted, each with its entry in the audit log."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts import audit
from projects.access import Caller, record_by
from projects.models import Domain, Project
from projects.models.domain import MAY_SEND
from relay_project.mail.address import (
    InvalidAddress,
    InvalidDomain,
    normalise_domain,
    parse_mailbox,
    suppression_key,
)
from relay_project.web.errors import ApiError, violation
from sending.inbound.addresses import Standing, standing_of
from sending.inbound.routing import match
from sending.inbound.routing.patterns import ALL, InvalidPattern, read_pattern
from sending.models import InboundRoute, ReceivingDomain, RouteAction

MAX_DOMAINS = 200  # of a project
MAX_ROUTES = 500  # of a domain: each address is held against all of them
MAX_PRIORITY = 1_000_000
MAX_DESCRIPTION = 255  # characters
MAX_FORWARD_TO = 10  # addresses: a mail that comes in is so many that leave

NOT_A_DOMAIN = "This value is not a full domain name such as in.example.com."
RESERVED = "This domain is reserved for this installation."
IS_RETURN_PATH = "Bounces come back by this domain. Choose another one, such as in.{domain}."
NOT_YOURS = "Add this domain, or one above it, under Domains and verify it first."
TAKEN = "Another project receives the mail of this domain."
EXISTS = "This project receives the mail of this domain already."
TOO_MANY_DOMAINS = f"A project receives mail for at most {MAX_DOMAINS} domains."
TOO_MANY_ROUTES = f"A domain has at most {MAX_ROUTES} routes."
NOT_RECEIVED = "This project does not receive the mail of this domain: add it as a receiving domain first."
ROUTE_EXISTS = "There is a route for this address already."
NO_FORWARD_TO = f"A route that forwards needs addresses to forward to, 1 to {MAX_FORWARD_TO}."
TOO_MANY_FORWARD_TO = f"Mail can be forwarded to at most {MAX_FORWARD_TO} addresses."
NOT_FORWARDING = "Only a route with the action forward has addresses to forward to."
NO_ADDRESS = "This value is not a valid email address."
OF_INSTALLATION = "This address belongs to this installation itself."
COMES_BACK = "Mail for this address would come back to this route."


_CHANGEABLE = ("priority", "action", "description", "is_enabled")


@dataclass(frozen=True, slots=True)
class RouteChange:
    """What to set of a route; None leaves it as it is."""

    address: str | None = None
    priority: int | None = None
    action: RouteAction | None = None
    description: str | None = None
    is_enabled: bool | None = None
    forward_to: tuple[str, ...] | None = None


def owns(project: Project, name: str) -> bool:
    """Whether the project may send from the domain or one above it, which is the proof that it is theirs."""
    names = match.names_above(name)
    return Domain.objects.filter(project=project, domain__in=names, status__in=MAY_SEND).exists()


def add_domain(
    project: Project, name: str, caller: Caller | None = None, *, catch_all: bool = False
) -> ReceivingDomain:
    """Receive a domain's mail; raises Violations at `domain`, and ApiError 400 for too many.

    Who cannot show any more that a domain is theirs gives way to who can.
    """
    name = _check_name(project, name)
    try:
        with transaction.atomic():
            Project.objects.select_for_update(no_key=True).get(pk=project.pk)
            if ReceivingDomain.objects.filter(project=project).count() >= MAX_DOMAINS:
                raise ApiError(400, TOO_MANY_DOMAINS)
            _make_way(project, name)
            row = ReceivingDomain.objects.create(project=project, domain=name)
            if catch_all:
                InboundRoute.objects.create(project=project, domain=row, pattern=ALL)
            record_by(caller, "receiving_domain.added", row, project, domain=name)
    except IntegrityError:
        raise violation("domain", TAKEN) from None
    match.forget()
    return row


def remove_domain(row: ReceivingDomain, caller: Caller | None = None) -> None:
    """Receive no more of its mail, and forget its routes. What came stays for its time."""
    with transaction.atomic():
        project = row.project
        record_by(caller, "receiving_domain.removed", row, project, domain=row.domain)
        ReceivingDomain.objects.filter(pk=row.pk).delete()
    match.forget()


def add_route(project: Project, wanted: RouteChange, caller: Caller | None = None) -> InboundRoute:
    """A new route; raises Violations at `address` and `forward_to`, and ApiError 400 for too many."""
    assert wanted.address is not None
    pattern, domain = _target(project, wanted.address)
    action = wanted.action or RouteAction.EVENT
    forward_to = _forward_to(action, wanted.forward_to, None)
    try:
        with transaction.atomic():
            ReceivingDomain.objects.select_for_update(no_key=True).get(pk=domain.pk)
            if InboundRoute.objects.filter(domain=domain).count() >= MAX_ROUTES:
                raise ApiError(400, TOO_MANY_ROUTES)
            route = InboundRoute.objects.create(
                project=project,
                domain=domain,
                pattern=pattern,
                priority=wanted.priority or 0,
                action=action,
                forward_to=forward_to,
                description=wanted.description or "",
                is_enabled=wanted.is_enabled is not False,
            )
            _check_circle(route)
            record_by(caller, "inbound_route.added", route, project, **_told(route))
    except ReceivingDomain.DoesNotExist:
        raise violation("address", NOT_RECEIVED) from None
    except IntegrityError:
        raise violation("address", ROUTE_EXISTS) from None
    match.forget()
    return route


def change_route(route: InboundRoute, wanted: RouteChange, caller: Caller | None = None) -> InboundRoute:
    """Change what is given; raises Violations at `address` and `forward_to`."""
    before = _told(route)
    if wanted.address is not None:
        route.pattern, route.domain = _target(route.project, wanted.address)
    for name in _CHANGEABLE:
        value = getattr(wanted, name)
        if value is not None:
            setattr(route, name, value)
    route.forward_to = _forward_to(RouteAction(route.action), wanted.forward_to, route.forward_to)
    after = _told(route)
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    if not changed:
        return route
    try:
        with transaction.atomic():
            route.save(update_fields=[*_CHANGEABLE, "pattern", "domain", "forward_to"])
            _check_circle(route)
            record_by(
                caller, "inbound_route.changed", route, route.project, **{"address": before["address"], **changed}
            )
    except IntegrityError:
        raise violation("address", ROUTE_EXISTS) from None
    match.forget()
    return route


def remove_route(route: InboundRoute, caller: Caller | None = None) -> None:
    """Delete it: what it took is refused from then on, unless another one fits."""
    with transaction.atomic():
        record_by(caller, "inbound_route.removed", route, route.project, **_told(route))
        InboundRoute.objects.filter(pk=route.pk).delete()
    match.forget()


def _check_name(project: Project, name: str) -> str:
    """The one spelling of a domain that the project may receive for."""
    try:
        name = normalise_domain(name.strip())
    except InvalidDomain:
        raise violation("domain", NOT_A_DOMAIN) from None
    if name in (settings.INSTANCE_DOMAIN, settings.SIMULATOR_DOMAIN):
        raise violation("domain", RESERVED)
    if not owns(project, name):
        raise violation("domain", NOT_YOURS)
    if Domain.objects.filter(return_path=name).exists():
        raise violation("domain", IS_RETURN_PATH.format(domain=name.partition(".")[2]))
    return name


def _make_way(project: Project, name: str) -> None:
    """Raises Violations where the domain is received already, unless by a project that has lost it."""
    held = ReceivingDomain.objects.select_related("project").filter(domain=name).first()
    if held is None:
        return
    if held.project_id == project.pk:
        raise violation("domain", EXISTS)
    if owns(held.project, name) and held.project.archived_at is None:
        raise violation("domain", TAKEN)
    audit.record("receiving_domain.lost", actor=None, subject=held, project_id=held.project_id, detail={"domain": name})
    held.delete()


def _target(project: Project, address: str) -> tuple[str, ReceivingDomain]:
    try:
        pattern, name = read_pattern(address)
    except InvalidPattern as wrong:
        raise violation("address", str(wrong)) from None
    domain = ReceivingDomain.objects.filter(project=project, domain=name).first()
    if domain is None:
        raise violation("address", NOT_RECEIVED)
    return pattern, domain


def _forward_to(action: RouteAction, wanted: Sequence[str] | None, had: list[str] | None) -> list[str] | None:
    """The addresses of a route, each once; None for one that does not forward."""
    if action is not RouteAction.FORWARD:
        if wanted:
            raise violation("forward_to", NOT_FORWARDING)
        return None
    if wanted is None and had:
        return had
    if not wanted:
        raise violation("forward_to", NO_FORWARD_TO)
    if len(wanted) > MAX_FORWARD_TO:
        raise violation("forward_to", TOO_MANY_FORWARD_TO)
    found: dict[str, str] = {}
    for place, text in enumerate(wanted):
        address = _destination(place, text)
        found.setdefault(suppression_key(address), address)
    return list(found.values())


def _destination(place: int, text: str) -> str:
    try:
        address = parse_mailbox(text.strip()).address
    except InvalidAddress:
        raise violation(f"forward_to[{place}]", NO_ADDRESS) from None
    if standing_of(address) is not Standing.FOREIGN:
        raise violation(f"forward_to[{place}]", OF_INSTALLATION)
    return address


def _check_circle(route: InboundRoute) -> None:
    """In the transaction that has saved it. What others change later shows when a mail comes (routing.forward)."""
    for place, address in enumerate(route.forward_to or ()):
        if match.comes_back(route.pk, [address]):
            raise violation(f"forward_to[{place}]", COMES_BACK)


def _told(route: InboundRoute) -> dict[str, Any]:
    """What the audit log says of it."""
    return {
        "address": str(route),
        "priority": route.priority,
        "route_action": str(route.action),
        "description": route.description,
        "is_enabled": route.is_enabled,
        **({"forward_to": route.forward_to} if route.forward_to else {}),
    }
