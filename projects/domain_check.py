"""All that DNS decides about a domain, looked for at once because somebody asks: the domain, its new keys, its return path."""

from datetime import datetime

from projects.dkim_rotation import check_key
from projects.domain_status import recheck
from projects.models import DkimKey, DkimKeyState, Domain
from projects.return_path import check_return_path
from relay_project.web.errors import ApiError


def check_now(domain: Domain, now: datetime) -> Domain:
    """The domain after looking; by hand a warning can only get better. Raises ApiError 400 when it is gone."""
    domain = recheck(domain, now)
    for key in DkimKey.objects.filter(domain=domain, state=DkimKeyState.PENDING).defer("private_key"):
        key.domain = domain
        try:
            check_key(key, now)
        except ApiError:  # somebody else was faster
            continue
    if domain.return_path is not None:
        check_return_path(domain, now)
    return Domain.objects.select_related("project").get(pk=domain.pk)
