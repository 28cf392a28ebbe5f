"""Staff as the caller of rules."""

from django.http import HttpRequest

from accounts import audit
from projects.access import Caller


def by_staff(request: HttpRequest) -> Caller:
    """Who acts in the staff admin: outside of the project, so without its scopes."""
    return Caller(frozenset(), user=audit.actor_of(request), address=audit.address_of(request) or "")
