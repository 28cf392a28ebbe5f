"""What is made at first start: the system project, and the instance domain with its key, which signs all mail too."""

from dataclasses import dataclass

from django.conf import settings
from django.db import connection, transaction

from projects.dkim_keys import create_dkim_key
from projects.models import DkimKey, Domain, DomainStatus, Project, SendType
from relay_project.db.locks import FIRST_START, advisory_lock

SYSTEM_NAME = "System"
INSTANCE_SELECTOR = "default"  # as the contract: operators have published default._domainkey.<instance domain>


@dataclass(frozen=True, slots=True)
class Instance:
    """The installation's own tenant."""

    project: Project
    domain: Domain


def ensure_instance() -> Instance:
    """The system project and the instance domain, made where they are missing; any number of processes may call it.

    The instance domain is active without a check: its records are the operator's and are watched by health. Another
    INSTANCE_DOMAIN than before gets a domain and a key of its own; the old ones stay, for mail on its way.
    """
    with connection.cursor() as cursor, advisory_lock(cursor, FIRST_START), transaction.atomic():
        project, _ = Project.objects.get_or_create(
            is_system=True, defaults={"name": SYSTEM_NAME, "send_type": SendType.TRANSACTIONAL}
        )
        domain, _ = Domain.objects.get_or_create(
            project=project, domain=settings.INSTANCE_DOMAIN, defaults={"status": DomainStatus.ACTIVE}
        )
        if not DkimKey.objects.filter(domain=domain, is_current=True).exists():
            create_dkim_key(domain, INSTANCE_SELECTOR)
        return Instance(project, domain)


def instance_domain() -> Domain:
    """The domain that every mail is signed with as well; raises Domain.DoesNotExist before the first start."""
    return Domain.objects.get(project__is_system=True, domain=settings.INSTANCE_DOMAIN)
