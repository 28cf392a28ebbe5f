"""A domain as somebody describes it: made where it is missing, given another key where its own is another."""

from datetime import datetime

from projects.access import Caller
from projects.dkim_rotation import add_key, has_key
from projects.domains import create_domain, domain_named
from projects.models import Domain, Project
from relay_project.web.errors import ApiError


def put_domain(
    project: Project,
    name: str,
    now: datetime,
    selector: str | None = None,
    private_key_pem: str | None = None,
    caller: Caller | None = None,
) -> Domain:
    """The project's domain of that name; saying the same twice does nothing the second time.

    A selector or key that the domain does not have, nor waits for, becomes a new key that waits for its record. Raises
    Violations and ApiError as create_domain and add_key do.
    """
    domain = domain_named(project, name)
    if domain is None:
        try:
            return create_domain(project, name, selector, private_key_pem, now, caller)
        except ApiError:
            domain = domain_named(project, name)  # made by somebody else just now, or not a name at all
            if domain is None:
                raise
    if (selector or private_key_pem) and not has_key(domain, selector, private_key_pem):
        add_key(domain, now, selector, private_key_pem, caller=caller)
    return domain
