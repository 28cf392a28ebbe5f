"""Domains that a project sends from: registered, found, deleted. Mail that was sent from one outlives it."""

from datetime import UTC, datetime

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from projects.access import Caller, record_by
from projects.dkim_keys import check_private_key, check_selector, create_dkim_key, current_key, new_selector
from projects.events import EventKind, NewEvent, emit
from projects.models import DkimKey, Domain, DomainStatus, Project
from projects.objects import domain_object
from relay_project.mail.address import MAX_DOMAIN, InvalidDomain, normalise_domain
from relay_project.mail.dkim import generate_rsa_key
from relay_project.web.errors import ApiError, Violation, Violations, violation

NOT_A_DOMAIN = "This value is not a full domain name such as mail.example.com."
RESERVED = "This domain is reserved for this installation."
EXISTS = "Domain already exists"
NOT_FOUND = "Domain not found"
FOREIGN = "Domain does not belong to the project"
NEITHER = "Either id or domain must be provided."


def create_domain(
    project: Project,
    name: str,
    selector: str | None = None,
    private_key_pem: str | None = None,
    now: datetime | None = None,
    caller: Caller | None = None,
) -> Domain:
    """Register a domain, pending, with its own or a new key; emits domain.created.

    Raises Violations for a bad name, selector or key, and ApiError 400 when the project has it already.
    """
    name = check_name(project, name)
    selector = new_selector(now or datetime.now(UTC)) if selector is None else check_selector(selector)
    # made before the transaction: it takes a tenth of a second
    pem = generate_rsa_key() if private_key_pem is None else check_private_key(private_key_pem)
    try:
        with transaction.atomic():
            domain = Domain.objects.create(project=project, domain=name)
            key = create_dkim_key(domain, selector, pem)
            emit(_event(EventKind.DOMAIN_CREATED, domain, key))
            record_by(caller, "domain.created", domain, project, domain=name)
    except IntegrityError:
        raise ApiError(400, EXISTS) from None
    return domain


def check_name(project: Project, name: str) -> str:
    """The one spelling of a domain that a project may register; raises Violations, ApiError 400 when it has it."""
    normal = _normal(name)
    if normal is None:
        raise violation("domain", NOT_A_DOMAIN)
    if normal == settings.SIMULATOR_DOMAIN or (normal == settings.INSTANCE_DOMAIN and not project.is_system):
        raise violation("domain", RESERVED)
    if Domain.objects.filter(project=project, domain=normal).exists():
        raise ApiError(400, EXISTS)
    return normal


def domains_of(project: Project, search: str | None = None) -> QuerySet[Domain]:
    """A project's domains, the newest first; `search` is a part of the name."""
    domains = Domain.objects.filter(project=project).order_by("-id")
    return domains.filter(domain__contains=search.lower()) if search else domains


def domain_named(project: Project, name: str) -> Domain | None:
    """The project's domain of that name, however it is spelled."""
    normal = _normal(name)
    return None if normal is None else Domain.objects.filter(project=project, domain=normal).first()


def find_domain(project: Project, domain_id: int | None = None, name: str | None = None) -> Domain:
    """A project's domain by id or by name; raises Violations when neither is given, ApiError 400 otherwise.

    A name of another project's is simply not found: several projects may register the same.
    """
    if domain_id is None and not name:
        raise Violations([Violation("id", NEITHER), Violation("domain", NEITHER)])
    domain = domain_named(project, name or "") if domain_id is None else _with_id(domain_id)
    if domain is None:
        raise ApiError(400, NOT_FOUND)
    if domain.project_id != project.pk:
        raise ApiError(400, FOREIGN)
    return domain


def delete_domain(domain: Domain, caller: Caller | None = None) -> None:
    """Forget a domain and its keys, not its mail; emits domain.deleted. Raises ApiError 400."""
    with transaction.atomic():
        domain = Domain.objects.select_for_update(of=("self",)).select_related("project").get(pk=domain.pk)
        if domain.status == DomainStatus.SUSPENDED:
            raise ApiError(400, "Domain deletion failed: Suspended domains can not be deleted.")
        if domain.project.is_system and domain.domain == settings.INSTANCE_DOMAIN:
            raise ApiError(400, "Domain deletion failed: The instance domain can not be deleted.")
        emit(_event(EventKind.DOMAIN_DELETED, domain, current_key(domain)))
        record_by(caller, "domain.deleted", domain, domain.project, domain=domain.domain)
        domain.delete()


def _with_id(domain_id: int) -> Domain | None:
    return Domain.objects.filter(pk=domain_id).first()


def _normal(name: str) -> str | None:
    """The one spelling of a domain; None for what is none."""
    name = name.strip()
    if len(name) > MAX_DOMAIN + 1:  # U-labels only get longer, and IDNA is slow on long nonsense
        return None
    try:
        return normalise_domain(name)
    except InvalidDomain:
        return None


def _event(kind: EventKind, domain: Domain, key: DkimKey) -> NewEvent:
    return NewEvent(domain.project_id, kind, "domain", domain.pk, {"domain": domain_object(domain, key)})
