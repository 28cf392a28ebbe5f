"""Mail to a project's people when something befalls a domain that they did not do themselves.

Best effort, after the commit: the event tells programs for certain, and the console shows the state.
"""

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string
from django.urls import reverse

from projects.models import Domain, DomainStatus, Membership
from projects.scopes import Scope

MOST = 50  # people of one project that are written to

SUBJECTS = {
    (DomainStatus.PENDING, DomainStatus.ACTIVE): "{} is verified",
    (DomainStatus.ACTIVE, DomainStatus.WARNING): "The DKIM record of {} is missing",
    (DomainStatus.WARNING, DomainStatus.PENDING): "{} may no longer send",
}
SUSPENDED = "{} is suspended"
RETURN_PATH_LOST = "The return path of {} is gone"

log = structlog.get_logger(__name__)


def tell_of_status(domain: Domain, old: str) -> None:
    """Tell of a new status once the caller's transaction is committed; of some changes nobody is told."""
    if domain.status == DomainStatus.SUSPENDED:
        _tell(domain, SUSPENDED, "suspended")
    elif subject := SUBJECTS.get((DomainStatus(old), DomainStatus(domain.status))):
        _tell(domain, subject, str(domain.status) if old != DomainStatus.WARNING else "ended")


def tell_of_return_path(domain: Domain) -> None:
    """Tell once the caller's transaction is committed that a return path is used no more."""
    _tell(domain, RETURN_PATH_LOST, "return_path")


def _tell(domain: Domain, subject: str, what: str) -> None:
    if domain.project.is_system:
        return
    link = settings.WEB_URL + reverse("console-domain", args=[domain.project_id, domain.pk])
    context = {"domain": domain, "what": what, "instance": settings.INSTANCE_DOMAIN, "link": link}
    text = render_to_string("projects/domain_notice.txt", context)
    project_id, domain_id = domain.project_id, domain.pk
    transaction.on_commit(lambda: _send(project_id, domain_id, subject.format(domain.domain), text), robust=True)


def _send(project_id: int, domain_id: int, subject: str, text: str) -> None:
    """A mail to each of those who can do something about it: nobody reads who the others are."""
    members = Membership.objects.filter(
        project_id=project_id, scopes__contains=[Scope.DOMAINS_WRITE.value], user__is_active=True
    )
    addresses = list(members.exclude(user__email=None).values_list("user__email", flat=True).order_by("id")[:MOST])
    for address in filter(None, addresses):
        try:
            EmailMessage(subject, text, to=[address]).send()
        except Exception as error:
            log.error("domain_notice_not_sent", domain_id=domain_id, exc_info=error)
