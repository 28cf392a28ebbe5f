"""Notices to a project's people when something befalls a domain that they did not do themselves.

The event tells programs for certain, and the console shows the state.
"""

from django.conf import settings
from django.template.loader import render_to_string
from django.urls import reverse

from projects.models import Domain, DomainStatus
from projects.notices import tell_members
from projects.scopes import Scope

SUBJECTS = {
    (DomainStatus.PENDING, DomainStatus.ACTIVE): "{} is verified",
    (DomainStatus.ACTIVE, DomainStatus.WARNING): "The DKIM record of {} is missing",
    (DomainStatus.WARNING, DomainStatus.PENDING): "{} may no longer send",
}
SUSPENDED = "{} is suspended"
RETURN_PATH_LOST = "The return path of {} is gone"


def tell_of_status(domain: Domain, old: str) -> None:
    """Tell of a new status with the caller's transaction; of some changes nobody is told."""
    if domain.status == DomainStatus.SUSPENDED:
        _tell(domain, SUSPENDED, "suspended")
    elif subject := SUBJECTS.get((DomainStatus(old), DomainStatus(domain.status))):
        _tell(domain, subject, str(domain.status) if old != DomainStatus.WARNING else "ended")


def tell_of_return_path(domain: Domain) -> None:
    """Tell with the caller's transaction that a return path is used no more."""
    _tell(domain, RETURN_PATH_LOST, "return_path")


def _tell(domain: Domain, subject: str, what: str) -> None:
    link = settings.WEB_URL + reverse("console-domain", args=[domain.project_id, domain.pk])
    context = {"domain": domain, "what": what, "instance": settings.INSTANCE_DOMAIN, "link": link}
    text = render_to_string("projects/domain_notice.txt", context)
    about = f"domain {domain.pk} {what}"
    tell_members(domain.project, Scope.DOMAINS_WRITE, about, subject.format(domain.domain), text)
