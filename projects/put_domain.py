"""A domain as somebody describes it: made where it is missing, given another key where its own is another."""

from datetime import datetime
from types import EllipsisType

from projects.access import Caller
from projects.dkim_rotation import add_key, has_key
from projects.domains import create_domain, domain_named
from projects.models import Domain, Project
from projects.return_path import set_return_path
from relay_project.web.errors import ApiError


def put_domain(
    project: Project,
    name: str,
    now: datetime,
    selector: str | None = None,
    private_key_pem: str | None = None,
    caller: Caller | None = None,
    return_path: str | EllipsisType | None = ...,
) -> Domain:
    """The project's domain of that name; saying the same twice does nothing the second time.

    A selector or key that the domain does not have, nor waits for, becomes a new key that waits for its record. None
    takes the return path away; `...` leaves it as it is. Raises Violations and ApiError as create_domain, add_key and
    set_return_path do.
    """
    domain = domain_named(project, name)
    if domain is None:
        domain = _make(project, name, now, selector, private_key_pem, caller)
    if (selector or private_key_pem) and not has_key(domain, selector, private_key_pem):
        add_key(domain, now, selector, private_key_pem, caller=caller)
    return domain if isinstance(return_path, EllipsisType) else set_return_path(domain, return_path, now, caller)


def _make(
    project: Project, name: str, now: datetime, selector: str | None, pem: str | None, caller: Caller | None
) -> Domain:
    try:
        return create_domain(project, name, selector, pem, now, caller)
    except ApiError:
        domain = domain_named(project, name)  # made by somebody else just now, or not a name at all
        if domain is None:
            raise
        return domain
